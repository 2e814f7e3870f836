// The page of figures: what Prometheus on the same address answers, asked again every half minute.
"use strict";

const DAY = 86400;

async function ask(path, parameters) {
  const answer = await fetch(`/api/v1/${path}?${new URLSearchParams(parameters)}`);
  const body = await answer.json();
  if (body.status !== "success") throw new Error(`${path}: ${body.error}`);
  return body.data;
}

// [{labels, value}] of an expression, now.
async function now(query) {
  const data = await ask("query", { query });
  return data.result.map((r) => ({ labels: r.metric, value: Number(r.value[1]) }));
}

async function one(query) {
  const found = await now(query);
  return found.length ? found[0].value : NaN;
}

// Rows by label -> {column: value}, of one expression per column.
async function byLabels(names, columns) {
  const rows = new Map();
  for (const [column, query] of Object.entries(columns)) {
    for (const { labels, value } of await now(query)) {
      const key = names.map((name) => labels[name] ?? "");
      const row = rows.get(key.join("\n")) ?? Object.fromEntries(names.map((name, i) => [name, key[i]]));
      row[column] = value;
      rows.set(key.join("\n"), row);
    }
  }
  return [...rows.values()].sort((a, b) => names.reduce((d, n) => d || a[n].localeCompare(b[n]), 0));
}

function element(tag, content = [], attributes = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...[content].flat());
  return made;
}

const known = (value) => value !== undefined && !Number.isNaN(value);
const amount = (value) => (known(value) ? Math.round(value).toLocaleString("en") : "–");
const share = (value) => (known(value) ? `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %` : "–");
const bytes = (value) => (known(value) ? `${(value / 1e9).toPrecision(3)} GB` : "–");
const rate = (value) => (known(value) ? `${value.toPrecision(2)} /s` : "–");

function duration(seconds) {
  if (!known(seconds)) return "–";
  for (const [length, unit] of [[DAY, "days"], [3600, "h"], [60, "min"]])
    if (Math.abs(seconds) >= 2 * length) return `${Math.round(seconds / length)} ${unit}`;
  return seconds < 2 && seconds > 0 ? `${seconds.toPrecision(2)} s` : `${Math.round(seconds)} s`;
}

function marked(text, isBad, style = "bad") {
  return element("span", text, isBad ? { class: style } : {});
}

const listed = (elements) => elements.flatMap((e, i) => (i ? [", ", e] : [e]));

// `Words` between such marks are what one types.
const typed = (text) => text.split("`").map((part, i) => (i % 2 ? element("code", part) : part));

// head: [title, is a number] per column.
function table(head, rows, nothing) {
  if (!rows.length) return element("p", nothing, { class: "quiet" });
  const cell = (tag, content, number) => element(tag, content, number ? { class: "number" } : {});
  const titles = head.map(([title, number]) => cell("th", title, number));
  const lines = rows.map((row) => element("tr", row.map((content, i) => cell("td", content, head[i][1]))));
  return element("table", [element("thead", element("tr", titles)), element("tbody", lines)]);
}

// A line over the last day; where there are no figures it has a gap.
async function graph(title, query, form) {
  const end = Math.floor(Date.now() / 60000) * 60, step = 300;
  const data = await ask("query_range", { query, start: end - DAY, end, step });
  const points = (data.result[0]?.values ?? []).map(([t, v]) => [t, Number(v)]).filter(([, v]) => known(v));
  const most = Math.max(...points.map(([, v]) => v), 0);
  const place = ([t, v]) => `${t - end + DAY} ${100 - (95 * v) / (most || 1)}`;
  const line = points.map((p, i) => (i && p[0] - points[i - 1][0] <= step ? "L" : "M") + place(p) + (i ? "" : "h1"));
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", `0 0 ${DAY} 100`);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", title);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", line.join(""));
  drawing.append(path);
  const most_text = points.length ? `at most ${form(most)}` : "no figures yet";
  return element("figure", [
    element("figcaption", [element("span", `${title}, last 24 h`), element("span", most_text, { class: "quiet" })]),
    drawing,
  ]);
}

async function alerts() {
  const { alerts: all } = await ask("alerts", {});
  const firing = all.filter((a) => a.state === "firing");
  firing.sort((a, b) => a.labels.severity.localeCompare(b.labels.severity) || a.activeAt.localeCompare(b.activeAt));
  const verdict = document.getElementById("verdict");
  verdict.textContent = firing.length ? `${firing.length} firing` : "no alerts";
  verdict.className = firing.length ? "bad" : "good";
  document.title = (firing.length ? `(${firing.length}) ` : "") + document.querySelector("h1").textContent;
  const rows = firing.map((a) => [
    element("span", a.labels.severity, { class: a.labels.severity === "critical" ? "bad" : "warn" }),
    element("div", [
      element("b", a.annotations.summary),
      element("p", typed(a.annotations.description), { class: "quiet" }),
      element("a", a.labels.alertname, { href: a.annotations.runbook }),
    ]),
    duration(Date.now() / 1000 - Date.parse(a.activeAt) / 1000),
  ]);
  return [table([["severity"], ["what, and what to do"], ["for", true]], rows, "None is firing.")];
}

async function queue() {
  const found = await byLabels(["aoi", "campaign"], {
    waiting: 'sum by (aoi, campaign) (cbm_work_pieces{state="pending"})',
    claimed: 'sum by (aoi, campaign) (cbm_work_pieces{state="claimed"})',
    dead: 'sum by (aoi, campaign) (cbm_work_pieces{state="dead"})',
    oldest: 'max by (aoi, campaign) (cbm_work_oldest_seconds{state="pending"})',
    done: "cbm_done_pieces",
    signatures: "cbm_done_signatures",
  });
  const rows = found.map((r) => [
    `${r.aoi} ${r.campaign}`, amount(r.waiting ?? 0), duration(r.oldest), amount(r.claimed ?? 0),
    marked(amount(r.dead ?? 0), r.dead > 0), amount(r.done), amount(r.signatures),
  ]);
  const head = [["campaign"], ["waiting", true], ["oldest", true], ["in work", true], ["given up", true],
    ["scenes done in 24 h", true], ["signatures in 24 h", true]];
  return [table(head, rows, "There is no campaign, or the database does not answer.")];
}

const queueGraphs = () => Promise.all([
  graph("Scenes waiting", 'sum(cbm_work_pieces{state="pending"}) or on() (0 * max(pg_up))', amount),
  graph("Signatures per day", "sum(cbm_done_signatures)", amount),
]);

async function hosts() {
  const found = await byLabels(["instance"], {
    up: 'up{job="host"}',
    busy: '1 - avg by (instance) (rate(node_cpu_seconds_total{job="host", mode="idle"}[5m]))',
    memory: '1 - node_memory_MemAvailable_bytes{job="host"} / node_memory_MemTotal_bytes',
    certificate: "min by (instance) (cbm_certificate_not_after_seconds) - time()",
    failed: 'sum by (instance) (node_systemd_unit_state{job="host", state="failed"})',
  });
  const disks = await now("1 - node_filesystem_avail_bytes / node_filesystem_size_bytes");
  const rows = found.map((r) => [
    r.instance,
    marked(r.up ? "up" : "down", !r.up),
    share(r.busy), marked(share(r.memory), r.memory > 0.95),
    listed(disks.filter((d) => d.labels.instance === r.instance).map((d) =>
      marked(`${d.labels.mountpoint} ${share(d.value)}`, d.value > 0.9))),
    marked(amount(r.failed), r.failed > 0),
    marked(duration(r.certificate), r.certificate < 14 * DAY),
  ]);
  const head = [["host"], [""], ["processors", true], ["memory", true], ["disks"], ["failed services", true],
    ["certificate", true]];
  return [table(head, rows, "No host is watched.")];
}

const P95 = "histogram_quantile(0.95, sum by (le) (rate(cbm_api_request_seconds_bucket[10m])))";

async function api() {
  const up = await byLabels(["instance", "port"], { up: 'up{job="api"}' });
  const errors = 'sum(rate(cbm_api_requests_total{status=~"5.."}[1h])) / sum(rate(cbm_api_requests_total[1h]))';
  const rows = [
    ["answers", listed(up.map((r) => marked(`${r.instance} ${r.port} ${r.up ? "up" : "down"}`, !r.up)))],
    ["requests", rate(await one("sum(rate(cbm_api_requests_total[10m]))"))],
    ["19 of 20 answered within", duration(await one(P95))],
    ["errors of ours, last hour", share((await one(`${errors} or on() (0 * sum(cbm_api_requests_total))`)))],
  ];
  return [table([[""], ["", true]], rows, "")];
}

const apiGraphs = () => Promise.all([
  graph("Requests per second", "sum(rate(cbm_api_requests_total[10m]))", rate),
  graph("19 of 20 answered within", P95, duration),
]);

async function database() {
  const taken = "sum(pg_stat_activity_count)", backup = await one("time() - max(cbm_backup_last_success_seconds)");
  const drill = await one("time() - max(cbm_drill_last_success_seconds)"), up = await one("min(pg_up)");
  const ago = (age) => (known(age) ? `${duration(age)} ago` : "never, or unknown");
  const rows = [
    ["answers", marked(up === 1 ? "up" : "down", up !== 1)],
    ["connections", `${amount(await one(taken))} of ${amount(await one("max(pg_settings_max_connections)"))}`],
    ["size", bytes(await one('max(pg_database_size_bytes{datname="cbm"})'))],
    ["WAL files waiting for the archive", amount(await one("sum(cbm_wal_waiting_files)"))],
    ["last good backup", marked(ago(backup), !(backup < 26 * 3600))],
    ["last good restore drill", marked(ago(drill), !(drill < 9 * DAY), "warn")],
  ];
  return [table([[""], ["", true]], rows, "")];
}

const databaseGraphs = () => Promise.all([graph("Connections", "sum(pg_stat_activity_count)", amount)]);

async function swarm() {
  const nodes = await byLabels(["node"], { ready: "cbm_swarm_node_ready" });
  const services = await byLabels(["service"], {
    running: "cbm_swarm_service_running", desired: "cbm_swarm_service_desired",
  });
  const rows = [
    ...nodes.map((r) => ["node", r.node, marked(r.ready ? "ready" : "down", !r.ready)]),
    ...services.map((r) => ["service", r.service,
      marked(`${r.running} of ${r.desired} running`, r.running < r.desired)]),
  ];
  return [table([[""], ["name"], ["state"]], rows, "The swarm's manager tells nothing.")];
}

const PARTS = {
  alerts, queue, hosts, api, database, swarm,
  "queue-graphs": queueGraphs, "api-graphs": apiGraphs, "database-graphs": databaseGraphs,
};

async function refresh() {
  for (const [id, part] of Object.entries(PARTS)) {
    const place = document.getElementById(id);
    try {
      place.replaceChildren(...(await part()));
    } catch (error) {
      place.replaceChildren(element("p", `Prometheus does not answer: ${error.message}`, { class: "bad" }));
      if (id === "alerts") Object.assign(document.getElementById("verdict"),
        { textContent: "unknown", className: "bad" });
    }
  }
}

async function name() {
  const { yaml } = await ask("status/config", {});
  const stack = /^ +stack: (\S+)/m.exec(yaml)?.[1];
  if (stack) document.querySelector("h1").textContent = `CbM appliance ${stack}`;
}

name().catch(() => {});
refresh();
setInterval(refresh, 30000);

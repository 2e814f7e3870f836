// How far the extraction is; asks again by itself while the page is looked at.
import { ask } from "./api.js";
import { bars } from "./bars.js";
import { $, count, element, say } from "./dom.js";

const EVERY_MS = 15000;
const STATES = { done: "extracted", claimed: "at work", pending: "waiting", dead: "failed" };
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const MONTH = new Intl.DateTimeFormat("en-GB", { month: "short", year: "2-digit", timeZone: "UTC" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

async function refresh() {
  try {
    const { user, campaigns } = await ask("/page/progress");
    $("user").textContent = user;
    say($("message"), campaigns.length ? "" : "No campaign is open to you yet. Ask the operator of this service for the right to one.");
    $("campaigns").replaceChildren(...campaigns.map(section));
    $("fresh").textContent = `As of ${CLOCK.format(new Date())}; renewed every ${EVERY_MS / 1000} s`;
  } catch (error) {
    say($("message"), `${error.message} The figures below are those of the last answer.`, true);
  }
}

function section(campaign) {
  const { aoi, year, ptype, months, days } = campaign;
  const title = element("h2", { textContent: `${aoi.toUpperCase()} ${year}${ptype ? ` · ${ptype}` : ""}` });
  const body = months.length ? [figures(campaign), charts(months, days), ...failures(campaign)]
    : [element("p", { className: "note", textContent: "No scene has been queued for this campaign yet. Scenes join by themselves once they are registered and parcels are imported." })];
  return element("section", { className: "campaign" }, title, ...body);
}

function figures({ months, signatures, oldest, failures: told, retried }) {
  const sums = Object.fromEntries(Object.keys(STATES).map((name) => [name, months.reduce((sum, month) => sum + (month[name] ?? 0), 0)]));
  const all = Object.values(sums).reduce((sum, n) => sum + n, 0);
  const share = all ? Math.floor((sums.done / all) * 100) : 0;
  return element("dl", { className: "figures" },
    figure("Extracted", `${share} %`, `${count(sums.done)} of ${count(all)} scenes`),
    figure("Waiting", count(sums.pending), oldest ? `oldest for ${since(oldest)}` : "nothing waits"),
    figure("At work", count(sums.claimed), retried ? `${count(retried)} tried again after a failure` : "no retries"),
    figure("Failed", count(sums.dead), !sums.dead ? "none" : told ? "see the reasons below" : "operators see the reasons", sums.dead > 0),
    figure("Parcel statistics", count(signatures), "rows, one per parcel and scene"));
}

function figure(term, value, detail, bad = false) {
  const text = element("dd", {}, value, element("small", { textContent: detail }));
  return element("div", { className: bad ? "bad" : "" }, element("dt", { textContent: term }), text);
}

function since(moment) {
  const minutes = Math.max(0, Math.round((Date.now() - new Date(moment)) / 60000));
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 2880) return `${Math.round(minutes / 60)} h`;
  return `${Math.round(minutes / 1440)} days`;
}

function charts(months, days) {
  const byMonth = months.map(({ month, ...values }) => ({ label: MONTH.format(new Date(month)), values }));
  const byDay = days.map(({ day, rows }) => ({ label: DAY.format(new Date(day)), values: { done: rows } }));
  const key = element("ul", { className: "key" }, ...Object.entries(STATES).map(([name, label]) =>
    element("li", {}, element("i", { className: name }), label)));
  return element("div", { className: "charts" },
    element("figure", {}, element("h3", { textContent: "Scenes by month of acquisition" }), bars("Scenes by month of acquisition and state", byMonth, Object.keys(STATES)), key),
    element("figure", {}, element("h3", { textContent: "Rows written per day" }), byDay.length
      ? bars("Rows written per day, UTC", byDay, ["done"]) : element("p", { className: "note", textContent: "Nothing was written in the last 30 days." })));
}

function failures({ failures: failed }) {
  if (!failed?.length) return [];
  const head = element("tr", {}, ...["Reason", "Scenes", "For example"].map((text) => element("th", { scope: "col", textContent: text })));
  const lines = failed.map(({ reason, scenes, reference }) => element("tr", {},
    element("td", { className: "words", textContent: reason }), element("td", { textContent: count(scenes) }), element("td", { className: "words", textContent: reference })));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
  return [element("div", { className: "failures" }, element("h3", { textContent: "Failures" }), element("div", { className: "table-scroll", tabIndex: 0, role: "region", ariaLabel: "Failures" }, table))];
}

refresh();
setInterval(() => { if (!document.hidden) refresh(); }, EVERY_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

// The progress of the extraction; refreshes by itself while the page is visible.
import { getJson } from "./api.js";
import { bars } from "./bars.js";
import { $, count, element, setText } from "./dom.js";

const EVERY_MS = 15000;
const STATES = { done: "extracted", claimed: "at work", pending: "waiting", dead: "failed" };
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const MONTH = new Intl.DateTimeFormat("en-GB", { month: "short", year: "2-digit", timeZone: "UTC" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
const CENTS = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 3, maximumFractionDigits: 3 });
const LEDGER_EVERY_MS = 900_000;
const LEDGER_RETRY_MS = 60_000;
const FATES = {
  extracted: "Extracted", waiting: "Waiting", registered: "Without work", input: "To be made", dead: "Failed", missing: "Missing",
  offline: "Offline", absent: "Absent", unusable: "Unusable", unlisted: "Unlisted",
};
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const ledgers = new Map();
let ledgersDue = 0;

async function refresh() {
  try {
    const { user, campaigns, cost } = await getJson("/page/progress");
    $("user").textContent = user;
    setText($("message"), campaigns.length ? "" : "No campaign is open to you yet. Ask the operator of this service for the right to one.");
    $("campaigns").replaceChildren(...campaigns.map(section));
    $("cost").replaceChildren(...costs(cost));
    refreshLedgers(campaigns);
    $("fresh").textContent = `As of ${CLOCK.format(new Date())}; renewed every ${EVERY_MS / 1000} s`;
  } catch (error) {
    setText($("message"), `${error.message} The figures below are those of the last answer.`, true);
  }
}

function section(campaign) {
  const { aoi, year, ptype, months, days } = campaign;
  const title = element("h2", { textContent: `${aoi.toUpperCase()} ${year}${ptype ? ` · ${ptype}` : ""}` });
  const body = months.length ? [figures(campaign), charts(months, days), ...failures(campaign)]
    : [element("p", { className: "note", textContent: "No scene has been queued for this campaign yet. Scenes join by themselves once they are registered and parcels are imported." })];
  return element("section", { className: "campaign" }, title, ...body, ledgerOf(campaign));
}

const campaignParams = ({ aoi, year, ptype }) => ({ aoi, year, ptype });

/** The box of a campaign's completeness, which outlives the rest of its section. */
function ledgerOf(campaign) {
  const key = JSON.stringify(campaignParams(campaign));
  if (!ledgers.has(key)) ledgers.set(key, element("div", { className: "ledger" }));
  return ledgers.get(key);
}

/** Compare what sources list with what is here: slower than the rest, and rarely new. */
async function refreshLedgers(campaigns) {
  if (Date.now() < ledgersDue) return;
  ledgersDue = Date.now() + LEDGER_EVERY_MS;
  for (const campaign of campaigns) {
    const heading = element("h3", { textContent: "Completeness" });
    try {
      const ledger = await getJson("/page/completeness", campaignParams(campaign));
      ledgerOf(campaign).replaceChildren(heading, ...completeness(ledger));
    } catch (error) {
      ledgersDue = Date.now() + LEDGER_RETRY_MS;
      ledgerOf(campaign).replaceChildren(heading, element("p", { className: "note wrong", textContent: error.message }));
    }
  }
}

function completeness({ gaps, rows }) {
  if (!rows.length) {
    return [element("p", { className: "note", textContent: "No source is followed for this campaign, so what is missing cannot be said. The operator follows one with cbm-card sync." })];
  }
  const states = Object.keys(FATES).filter((state) => rows.some((row) => row[state]));
  const lacking = (row) => gaps.reduce((sum, state) => sum + row[state], 0);
  const head = element("tr", {}, ...["Month", "Kind", "Expected", ...states.map((state) => FATES[state]), "Where"].map((text) => element("th", { scope: "col", textContent: text })));
  const lines = months(rows).map((parts) => {
    const sum = (value) => parts.reduce((total, row) => total + value(row), 0);
    const cells = [MONTH.format(new Date(`${parts[0].month}-01`)), parts[0].kind, ...["expected", ...states].map((state) => count(sum((row) => row[state])))];
    const where = parts.filter(lacking).map((row) => `${row.place || "?"} ${count(lacking(row))}`).join(", ");
    return element("tr", { className: where ? "lacking" : "" }, ...cells.map((text) => element("td", { textContent: text })), element("td", { className: "words", textContent: where }));
  });
  const all = rows.reduce((total, row) => total + row.expected, 0);
  const lost = rows.reduce((total, row) => total + lacking(row), 0);
  const verdict = lost ? `Of ${count(all)} scenes that this campaign should have, ${count(lost)} are not here and not on their way; the last column says of which tiles or orbits.`
    : `All ${count(all)} scenes that this campaign should have are here or on their way.`;
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
  return [element("p", { className: lost ? "note wrong" : "quiet small", textContent: verdict }),
    element("div", { className: "table-scroll", tabIndex: 0, role: "region", ariaLabel: "Completeness" }, table)];
}

/** Rows of one month and kind together. */
function months(rows) {
  const parts = {};
  for (const row of rows) (parts[`${row.month} ${row.kind}`] ??= []).push(row);
  return Object.keys(parts).sort().map((key) => parts[key]);
}

function figures({ months, signatures, oldest, failures: reasons, retried }) {
  const sums = Object.fromEntries(Object.keys(STATES).map((name) => [name, months.reduce((sum, month) => sum + (month[name] ?? 0), 0)]));
  const all = Object.values(sums).reduce((sum, n) => sum + n, 0);
  const share = all ? Math.floor((sums.done / all) * 100) : 0;
  return element("dl", { className: "figures" },
    figure("Extracted", `${share} %`, `${count(sums.done)} of ${count(all)} scenes`),
    figure("Waiting", count(sums.pending), oldest ? `oldest for ${since(oldest)}` : "nothing waits"),
    figure("At work", count(sums.claimed), retried ? `${count(retried)} tried again after a failure` : "no retries"),
    figure("Failed", count(sums.dead), !sums.dead ? "none" : reasons ? "see the reasons below" : "operators see the reasons", sums.dead > 0),
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

function failures({ failures: reasons }) {
  if (!reasons?.length) return [];
  const head = element("tr", {}, ...["Reason", "Scenes", "For example"].map((text) => element("th", { scope: "col", textContent: text })));
  const lines = reasons.map(({ reason, scenes, reference }) => element("tr", {},
    element("td", { className: "words", textContent: reason }), element("td", { textContent: count(scenes) }), element("td", { className: "words", textContent: reference })));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
  return [element("div", { className: "failures" }, element("h3", { textContent: "Failures" }), element("div", { className: "table-scroll", tabIndex: 0, role: "region", ariaLabel: "Failures" }, table))];
}

/** The ledger that the operator's machine published, beside the public price; operators alone get it. */
function costs(ledger) {
  if (!ledger) return [];
  const { at, title, currency, parcels, year, parcel_year: each, public_price: price, remarks } = ledger;
  const head = element("tr", {}, ...["Part", `${currency} a year`, "ct a parcel-year", `${price.of}, ct (${price.currency})`].map((text) => element("th", { scope: "col", textContent: text })));
  const lines = Object.keys(year).map((part) => element("tr", {}, ...[part, count(Math.round(year[part])), CENTS.format(100 * each[part]), price.cents[part] ?? "–"].map((text) => element("td", { textContent: text }))));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
  return [element("section", { className: "campaign cost" },
    element("h2", { textContent: "Cost" }),
    element("p", { className: "quiet small", textContent: `Of ${title} with ${count(parcels)} parcels, as of ${MINUTE.format(new Date(at))} UTC` }),
    element("div", { className: "table-scroll", tabIndex: 0, role: "region", ariaLabel: "Cost" }, table),
    element("p", { className: "quiet small", textContent: [...remarks, "machines alone; the public price includes people and a margin"].join("; ") }))];
}

refresh();
setInterval(() => { if (!document.hidden) refresh(); }, EVERY_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

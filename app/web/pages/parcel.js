// The page to look at a parcel. Its address says what is shown, so that it can be sent to others.
import { address, ask } from "./api.js";
import { Chips } from "./chips.js";
import { $, choice, count, dayText, element, say } from "./dom.js";
import { ParcelMap } from "./map.js";
import { Plot, written } from "./plot.js";
import { isClear, observations, views } from "./series.js";

const PEERS = 10;
const PEERS_WITHIN_M = 2000;

const state = { campaign: null, code: null, view: null, series: {}, peers: [] };
let map;
let loading = new AbortController();

const plot = new Plot({
  box: $("plot"), legend: $("legend"), reading: $("reading"),
  chosen: ({ time }) => { if (!$("images").hidden) chips.showTime(time); },
});
const chips = new Chips(({ time }) => plot.mark(time));

async function begin() {
  const { user, campaigns, background, clear_classes } = await ask("/page/campaigns");
  $("user").textContent = user;
  if (!campaigns.length) {
    return tell("Nothing to look at yet", "No campaign is open to you. Ask the operator of this service for the right to one.", true);
  }
  state.campaigns = campaigns;
  state.background = background;
  state.clearClasses = clear_classes;
  $("campaign").replaceChildren(...campaigns.map((campaign, i) => element("option", { value: i, textContent: name(campaign) })));
  try {
    map = new ParcelMap({ box: $("map"), hint: $("map-hint"), chosen: choose });
  } catch {
    say($("map-hint"), "This browser cannot draw maps (WebGL is missing). Parcels can still be found by their id.", true);
  }
  await follow();
}

const name = ({ aoi, year, ptype }) => `${aoi.toUpperCase()} ${year}${ptype ? ` · ${ptype}` : ""}`;
const asked = ({ aoi, year, ptype }) => ({ aoi, year, ptype });

/** Show what the address says. */
async function follow() {
  const wanted = new URLSearchParams(location.search);
  const found = state.campaigns.find(({ aoi, year, ptype }) =>
    aoi === wanted.get("aoi") && String(year) === wanted.get("year") && ptype === (wanted.get("ptype") ?? ""));
  const campaign = found ?? state.campaigns[0];
  if (campaign !== state.campaign) showCampaign(campaign);
  const code = found && wanted.get("pid");
  if (code) await showParcel(code);
  else showNothing();
}

function showCampaign(campaign) {
  state.campaign = campaign;
  $("campaign").value = state.campaigns.indexOf(campaign);
  state.views = views(campaign.units);
  state.view = Object.keys(state.views)[0];
  choice($("views"), "view", Object.fromEntries(Object.entries(state.views).map(([key, { label }]) => [key, label])), state.view, (key) => {
    state.view = key;
    showSeries();
  });
  map?.showCampaign(campaign, state.background);
}

function showNothing() {
  loading.abort();
  state.code = null;
  document.title = "Parcels · Checks by Monitoring";
  tell("Choose a parcel", `Click one on the map, or find it by its id. With the keyboard: move the map with the arrow keys,
    zoom with + and −, and press Enter for the parcel in the middle.`);
  const { examples } = state.campaign;
  $("examples").hidden = !examples.length;
  $("examples").replaceChildren("For example ", ...examples.map((code) => {
    const button = element("button", { type: "button", textContent: code });
    button.addEventListener("click", () => choose(code));
    return button;
  }));
}

function tell(title, text, wrong = false) {
  $("parcel").hidden = true;
  $("message").hidden = false;
  $("message").classList.toggle("wrong", wrong);
  const [heading, paragraph] = $("message").children;
  heading.textContent = title;
  paragraph.textContent = text;
  $("examples").hidden = true;
}

function choose(code) {
  history.pushState(null, "", address("/", { ...asked(state.campaign), pid: code }));
  return showParcel(code);
}

async function showParcel(code) {
  loading.abort();
  loading = new AbortController();
  const { signal } = loading;
  const parcel = { ...asked(state.campaign), pid: code };
  Object.assign(state, { code, parcel, series: {}, peers: [] });
  $("code").value = code;
  try {
    const found = await ask("/query/parcelByID", { ...parcel, withGeometry: "True", wgs84: "True" }, signal);
    const [facts] = rowsOf(found);
    map?.showParcel(code, JSON.parse(facts.geom));
    describe(facts);
    $("panel").scrollTop = 0;
    await showSeries(signal);
    await showImages(signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 404) tell("No such parcel", `${name(state.campaign)} has no parcel ${code}. Check the id, or the campaign.`, true);
    else tell("The parcel cannot be shown", error.message, true);
  }
}

function rowsOf(columns) {
  const names = Object.keys(columns);
  return columns[names[0]].map((_, i) => Object.fromEntries(names.map((key) => [key, columns[key][i]])));
}

function describe({ pid, cropname, cropcode, area, clon, clat }) {
  document.title = `Parcel ${pid} · Checks by Monitoring`;
  $("parcel-campaign").textContent = `Parcel of ${name(state.campaign)}`;
  $("parcel-title").textContent = pid;
  const facts = {
    Crop: cropname || "not declared", "Crop code": cropcode || "–",
    Area: `${(area / 10000).toFixed(2)} ha`, Centre: `${clat.toFixed(5)}, ${clon.toFixed(5)}`,
  };
  $("facts").replaceChildren(...Object.entries(facts).map(([term, text]) =>
    element("div", {}, element("dt", { textContent: term }), element("dd", { textContent: text }))));
  $("message").hidden = true;
  $("parcel").hidden = false;
}

async function askSeries(asked, signal) {
  return observations(await ask("/query/parcelTimeSeries", asked, signal), state.clearClasses);
}

/** A kind's observations of the parcel, asked for once. */
function seriesOf(kind, signal) {
  state.series[kind] ??= askSeries({ ...state.parcel, tstype: kind }, signal);
  return state.series[kind];
}

async function showSeries(signal = loading.signal) {
  const view = state.views[state.view];
  if (!view) return noSeries("This campaign has no signatures yet. They come with its first extracted scene.");
  $("csv").href = address("/query/parcelTimeSeries", { ...state.parcel, tstype: view.kind, tsformat: "csv" });
  try {
    const series = await seriesOf(view.kind, signal);
    if (!series.length) return noSeries("There is no observation of this parcel yet.");
    state.shown = series;
    say($("series-message"), "");
    $("series").hidden = false;
    $("csv").hidden = false;
    $("clear-option").hidden = series.every(({ clear }) => clear == null);
    await showPeers(signal);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    delete state.series[view.kind];
    noSeries(error.message, true);
  }
}

function noSeries(text, wrong = false) {
  say($("series-message"), text, wrong);
  $("series").hidden = true;
  $("csv").hidden = true;
}

function draw(peers = []) {
  plot.show(state.views[state.view], state.shown, threshold(), peers);
  fillTable();
}

const threshold = () => $("clear").value / 100;

async function showPeers(signal = loading.signal) {
  draw();
  if (!$("peers").checked) {
    map?.showPeers([]);
    return say($("peers-note"), "");
  }
  say($("peers-note"), "Looking for peers …");
  try {
    const { pids } = await ask("/query/parcelPeers", { ...state.parcel, distance: PEERS_WITHIN_M, max: PEERS }, signal);
    map?.showPeers(pids);
    const { kind } = state.views[state.view];
    draw(await Promise.all(pids.map((pid) => askSeries({ ...state.parcel, pid, tstype: kind }, signal))));
    say($("peers-note"), pids.length ? `${count(pids.length)} nearest parcels of the same crop within ${PEERS_WITHIN_M / 1000} km, blue on the map.`
      : `No other parcel of this crop lies within ${PEERS_WITHIN_M / 1000} km.`);
  } catch (error) {
    if (error.name === "AbortError") return;
    say($("peers-note"), error.message, true);
  }
}

function fillTable() {
  const { digits } = state.views[state.view];
  const head = element("tr", {}, ...["Day (UTC)", ...plot.measures.map((measure) => measure.name), "Clear"].map((text) => element("th", { scope: "col", textContent: text })));
  const lines = state.shown.map((observation) => {
    const values = plot.measures.map(({ of }) => of(observation.means));
    const cells = [dayText(observation.time), ...values.map((value) => (value == null ? "–" : written(value, digits))),
      observation.clear == null ? "–" : `${Math.round(observation.clear * 100)} %`];
    return element("tr", { className: isClear(observation, threshold()) ? "" : "cloudy" }, ...cells.map((text) => element("td", { textContent: text })));
  });
  $("table").replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines)));
}

async function showImages(signal) {
  const series = state.campaign.units.s2 ? await seriesOf("s2", signal) : [];
  chips.show(state.parcel, series);
}

// Who is quicker than the campaigns' coming is answered when they are there.
const begun = begin().catch((error) => tell("The page cannot be shown", error.message, true));

$("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  await begun;
  const code = $("code").value.trim();
  if (code && state.campaign) choose(code);
});
$("campaign").addEventListener("change", () => {
  const campaign = state.campaigns[$("campaign").value];
  history.pushState(null, "", address("/", asked(campaign)));
  follow();
});
$("clear").addEventListener("input", () => {
  $("clear-value").textContent = `${$("clear").value} %`;
  draw(plot.peers);
});
$("peers").addEventListener("change", () => showPeers());
addEventListener("popstate", async () => {
  await begun;
  if (state.campaign) follow();
});

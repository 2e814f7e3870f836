// The page of a parcel. Its address holds the campaign and the parcel, so that it can be shared.
import { address, getJson } from "./api.js";
import { Chips } from "./chips.js";
import { $, choice, count, dayText, element, setText } from "./dom.js";
import { ParcelMap } from "./map.js";
import { Plot, formatValue } from "./plot.js";
import { isClear, observations, remarks, views } from "./series.js";

const PEERS = 10;
const PEERS_WITHIN_M = 2000;

const state = { campaign: null, code: null, view: null, series: {}, peers: [] };
let map;
let loading = new AbortController();

const plot = new Plot({
  box: $("plot"), legend: $("legend"), reading: $("reading"),
  onPick: ({ time }) => { if (!$("images").hidden) chips.showTime(time); },
});
const chips = new Chips(({ time }) => plot.mark(time));

async function begin() {
  const { user, campaigns, background, clear_classes, clear_share, composites } = await getJson("/page/campaigns");
  $("user").textContent = user;
  if (!campaigns.length) {
    return showMessage("Nothing to look at yet", "No campaign is open to you. Ask the operator of this service for the right to one.", true);
  }
  state.campaigns = campaigns;
  state.background = background;
  state.clearClasses = clear_classes;
  $("clear").value = Math.round(clear_share * 100);
  showThreshold();
  chips.setComposites(composites);
  $("campaign").replaceChildren(...campaigns.map((campaign, i) => element("option", { value: i, textContent: name(campaign) })));
  try {
    map = new ParcelMap({ box: $("map"), hint: $("map-hint"), onPick: choose });
  } catch {
    setText($("map-hint"), "This browser cannot draw maps (WebGL is missing). Search for parcels by their id.", true);
  }
  await follow();
}

const name = ({ aoi, year, ptype }) => `${aoi.toUpperCase()} ${year}${ptype ? ` · ${ptype}` : ""}`;
const campaignParams = ({ aoi, year, ptype }) => ({ aoi, year, ptype });

/** Show the campaign and parcel of the page's address. */
async function follow() {
  const wanted = new URLSearchParams(location.search);
  const match = state.campaigns.find(({ aoi, year, ptype }) =>
    aoi === wanted.get("aoi") && String(year) === wanted.get("year") && ptype === (wanted.get("ptype") ?? ""));
  const campaign = match ?? state.campaigns[0];
  if (campaign !== state.campaign) showCampaign(campaign);
  const code = match && wanted.get("pid");
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
  showMessage("Choose a parcel", `Click a parcel on the map, or search by id. With the keyboard: move the map with the arrow keys,
    zoom with + and −, and press Enter for the parcel in the middle.`);
  const { examples } = state.campaign;
  $("examples").hidden = !examples.length;
  $("examples").replaceChildren("For example ", ...examples.map((code) => {
    const button = element("button", { type: "button", textContent: code });
    button.addEventListener("click", () => choose(code));
    return button;
  }));
}

function showMessage(title, text, wrong = false) {
  $("parcel").hidden = true;
  $("message").hidden = false;
  $("message").classList.toggle("wrong", wrong);
  const [heading, paragraph] = $("message").children;
  heading.textContent = title;
  paragraph.textContent = text;
  $("examples").hidden = true;
}

function choose(code) {
  history.pushState(null, "", address("/", { ...campaignParams(state.campaign), pid: code }));
  return showParcel(code);
}

async function showParcel(code) {
  loading.abort();
  loading = new AbortController();
  const { signal } = loading;
  const parcel = { ...campaignParams(state.campaign), pid: code };
  Object.assign(state, { code, parcel, series: {}, peers: [] });
  $("code").value = code;
  try {
    const columns = await getJson("/query/parcelByID", { ...parcel, withGeometry: "True", wgs84: "True" }, signal);
    const [facts] = rowsOf(columns);
    map?.showParcel(code, JSON.parse(facts.geom));
    describe(facts);
    $("panel").scrollTop = 0;
    await showSeries(signal);
    await showImages(signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 404) showMessage("No such parcel", `${name(state.campaign)} has no parcel ${code}. Check the id, or the campaign.`, true);
    else showMessage("The parcel cannot be shown", error.message, true);
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

async function getSeries(params, signal) {
  return observations(await getJson("/query/parcelTimeSeries", params, signal), state.clearClasses);
}

/** The parcel's observations of a kind, with what to beware of; requested once. */
function seriesOf(kind, signal) {
  state.series[kind] ??= getJson("/query/parcelTimeSeries", { ...state.parcel, tstype: kind, flags: "True" }, signal)
    .then((columns) => Object.assign(observations(columns, state.clearClasses), { remarks: remarks(columns) }));
  return state.series[kind];
}

async function showSeries(signal = loading.signal) {
  const view = state.views[state.view];
  if (!view) return noSeries("This campaign has no signatures yet. They come with its first extracted scene.");
  $("csv").href = address("/query/parcelTimeSeries", { ...state.parcel, tstype: view.kind, flags: "True", tsformat: "csv" });
  try {
    const series = await seriesOf(view.kind, signal);
    if (!series.length) return noSeries("There is no observation of this parcel yet.");
    state.observations = series;
    setText($("series-message"), series.remarks.join(" "), true);
    $("series").hidden = false;
    $("csv").hidden = false;
    $("clear-option").hidden = !view.seesClouds;
    await showPeers(signal);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    delete state.series[view.kind];
    noSeries(error.message, true);
  }
}

function noSeries(text, wrong = false) {
  setText($("series-message"), text, wrong);
  $("series").hidden = true;
  $("csv").hidden = true;
}

function draw(peers = []) {
  plot.show(state.views[state.view], state.observations, threshold(), peers);
  fillTable();
}

/** The least clear share of the dates that count; null where there are no clouds. */
const threshold = () => (state.views[state.view].seesClouds ? $("clear").value / 100 : null);

function showThreshold() {
  $("clear-value").textContent = `${$("clear").value} %`;
}

async function showPeers(signal = loading.signal) {
  draw();
  if (!$("peers").checked) {
    map?.showPeers([]);
    return setText($("peers-note"), "");
  }
  setText($("peers-note"), "Looking for peers …");
  try {
    const { pids } = await getJson("/query/parcelPeers", { ...state.parcel, distance: PEERS_WITHIN_M, max: PEERS }, signal);
    map?.showPeers(pids);
    const { kind } = state.views[state.view];
    draw(await Promise.all(pids.map((pid) => getSeries({ ...state.parcel, pid, tstype: kind }, signal))));
    setText($("peers-note"), pids.length ? `${count(pids.length)} nearest parcels of the same crop within ${PEERS_WITHIN_M / 1000} km, blue on the map.`
      : `No other parcel of this crop lies within ${PEERS_WITHIN_M / 1000} km.`);
  } catch (error) {
    if (error.name === "AbortError") return;
    setText($("peers-note"), error.message, true);
  }
}

function fillTable() {
  const { digits } = state.views[state.view];
  const head = element("tr", {}, ...["Day (UTC)", ...plot.measures.map((measure) => measure.name), "Clear"].map((text) => element("th", { scope: "col", textContent: text })));
  const lines = state.observations.map((observation) => {
    const values = plot.measures.map(({ of }) => of(observation.means));
    const cells = [dayText(observation.time), ...values.map((value) => (value == null ? "–" : formatValue(value, digits))),
      observation.clear == null ? "–" : `${Math.round(observation.clear * 100)} %`];
    return element("tr", { className: isClear(observation, threshold()) ? "" : "cloudy" }, ...cells.map((text) => element("td", { textContent: text })));
  });
  $("table").replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines)));
}

async function showImages(signal) {
  const series = state.campaign.units.s2 ? await seriesOf("s2", signal) : [];
  chips.show(state.parcel, series);
}

// Events before the campaigns are loaded wait for them.
const started = begin().catch((error) => showMessage("The page cannot be shown", error.message, true));

$("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  await started;
  const code = $("code").value.trim();
  if (code && state.campaign) choose(code);
});
$("campaign").addEventListener("change", () => {
  const campaign = state.campaigns[$("campaign").value];
  history.pushState(null, "", address("/", campaignParams(campaign)));
  follow();
});
$("clear").addEventListener("input", () => {
  showThreshold();
  draw(plot.peers);
});
$("peers").addEventListener("change", () => showPeers());
addEventListener("popstate", async () => {
  await started;
  if (state.campaign) follow();
});

// Time series: observations out of columns, indices, decibels, clear share.

/**
 * Observations by time out of the API's columns: {time, clear, means: band -> mean or null}.
 * `clearClasses` are the SCL classes that show the ground.
 */
export function observations(columns, clearClasses) {
  const byTime = new Map();
  columns.date_part.forEach((time, i) => {
    if (!byTime.has(time)) byTime.set(time, { time, clear: clearShare(columns.hist?.[i], clearClasses), means: {} });
    byTime.get(time).means[columns.band[i]] = columns.mean[i];
  });
  return [...byTime.values()];
}

const FEW_PX = 10;
const [TOUCHED, TOUCHED_COARSE, UNBUFFERED, CUT] = [1, 2, 4, 8];

/** What to beware of in a parcel's series, in sentences, out of the API's columns of flags=True. */
export function remarks({ date_part, px, flags, layover = [], shadow = [] }) {
  const times = new Map(date_part.map((time, i) => [time, { px: px[i], flags: flags[i] }]));
  const rows = [...times.values()];
  if (!rows.length) return [];
  const most = Math.max(...rows.map((row) => row.px));
  const share = (bit) => rows.filter((row) => row.flags & bit).length;
  const sentences = [];
  if (share(TOUCHED)) sentences.push("No pixel has its centre in the parcel: values are those of the pixels that it touches, its neighbours' ground included.");
  else if (most < FEW_PX) sentences.push(`The parcel is small: it has ${most} pixel${most === 1 ? "" : "s"} only.`);
  if (!share(TOUCHED) && share(TOUCHED_COARSE)) sentences.push("In coarser bands no pixel has its centre in the parcel: their values are those of the pixels that it touches.");
  if (share(UNBUFFERED)) sentences.push("The campaign's buffer leaves nothing of the parcel: the whole parcel is used.");
  if (share(CUT)) sentences.push(`The edge of the image cuts the parcel on ${share(CUT)} of ${rows.length} days: values of these are of a part.`);
  const masked = Math.max(0, ...layover.map((share, i) => Math.min(1, share + shadow[i])));
  if (masked) sentences.push(`Up to ${Math.round(100 * masked)} % of the parcel lies in the radar's layover or shadow: values there are not the field's own.`);
  return sentences;
}

/** Share of clear pixels, 0 to 1, as the server's; null without a histogram: the date is neither clear nor cloudy. */
export function clearShare(hist, clearClasses) {
  if (!hist) return null;
  const sum = (classes) => classes.reduce((total, name) => total + (hist[name] ?? 0), 0);
  const all = sum(Object.keys(hist));
  return all ? sum(clearClasses) / all : null;
}

/** NDVI of the parcel's mean red and near infrared; no index is stored. */
export function ndvi({ B04, B08 }) {
  return B04 == null || B08 == null || B04 + B08 <= 0 ? null : (B08 - B04) / (B08 + B04);
}

export const decibel = (linear) => (linear > 0 ? 10 * Math.log10(linear) : null);

const S2_BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"];
const S1_BANDS = [["VV", "vv"], ["VH", "vh"]];
const UNITS = { dn: "digital number", reflectance: "reflectance", coherence: "coherence" };

function bandMeasures(names) {
  return names.map((name) => ({ name, colour: name.toLowerCase(), of: (means) => means[name] ?? null }));
}

function backscatter(unit) {
  const convert = unit.endsWith("_db") ? (value) => value ?? null : decibel;
  return S1_BANDS.map(([name, colour]) => ({ name, colour, of: (means) => convert(means[`${name}b`]) }));
}

function coherence() {
  return S1_BANDS.map(([name, colour]) => ({ name, colour, of: (means) => means[`${name}c`] ?? null }));
}

/** The plots of a campaign: name -> {label, kind, unit, digits, measures, compared, seesClouds}. */
export function views(kinds) {
  const all = {};
  if (kinds.s2) {
    const ndviMeasure = { name: "NDVI", colour: "ndvi", of: ndvi };
    all.ndvi = { label: "NDVI", kind: "s2", unit: "NDVI", digits: 3, measures: [ndviMeasure], compared: ndviMeasure, seesClouds: true };
    const bands = bandMeasures(S2_BANDS);
    const digits = kinds.s2 === "dn" ? 0 : 4;
    all.s2 = { label: "Sentinel-2 bands", kind: "s2", unit: UNITS[kinds.s2], digits, measures: bands, compared: bands[6], seesClouds: true };
  }
  if (kinds.bs) {
    const measures = backscatter(kinds.bs);
    const unit = `${kinds.bs.startsWith("sigma0") ? "σ⁰" : "γ⁰"} in dB`;
    all.bs = { label: "Sentinel-1", kind: "bs", unit, digits: 1, measures, compared: measures[1] };
  }
  for (const [kind, days] of [["c1d", 1], ["c6", 6], ["c12", 12]]) {
    if (!kinds[kind]) continue;
    const measures = coherence();
    all[kind] = { label: `Coherence, ${days} day${days > 1 ? "s" : ""}`, kind, unit: UNITS.coherence, digits: 2, measures, compared: measures[0] };
  }
  return all;
}

/** The measures of which there is at least one value. */
export function present(measures, series) {
  return measures.filter((measure) => series.some(({ means }) => measure.of(means) != null));
}

/** Whether enough of the parcel is known to be clear; without a threshold (radar) every date is good. */
export const isClear = ({ clear }, threshold) => threshold == null || (clear != null && clear >= threshold);

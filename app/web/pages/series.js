// What a time series means: observations out of columns, indices, decibels, clear share.

/**
 * Observations by time out of the API's columns: {time, clear, means: band -> mean or null}.
 * `clearClasses` are the SCL classes that show the ground, as the server counts them.
 */
export function observations(columns, clearClasses) {
  const found = new Map();
  columns.date_part.forEach((time, i) => {
    if (!found.has(time)) found.set(time, { time, clear: clearShare(columns.hist?.[i], clearClasses), means: {} });
    found.get(time).means[columns.band[i]] = columns.mean[i];
  });
  return [...found.values()];
}

/** Share of clear pixels, 0 to 1; null without a histogram. */
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
  const shown = unit.endsWith("_db") ? (value) => value ?? null : decibel;
  return S1_BANDS.map(([name, colour]) => ({ name, colour, of: (means) => shown(means[`${name}b`]) }));
}

function coherence() {
  return S1_BANDS.map(([name, colour]) => ({ name, colour, of: (means) => means[`${name}c`] ?? null }));
}

/** What can be plotted of a campaign: name -> {label, kind, unit, digits, measures, compared}. */
export function views(kinds) {
  const made = {};
  if (kinds.s2) {
    const ndviMeasure = { name: "NDVI", colour: "ndvi", of: ndvi };
    made.ndvi = { label: "NDVI", kind: "s2", unit: "NDVI", digits: 3, measures: [ndviMeasure], compared: ndviMeasure };
    const bands = bandMeasures(S2_BANDS);
    const digits = kinds.s2 === "dn" ? 0 : 4;
    made.s2 = { label: "Sentinel-2 bands", kind: "s2", unit: UNITS[kinds.s2], digits, measures: bands, compared: bands[6] };
  }
  if (kinds.bs) {
    const measures = backscatter(kinds.bs);
    const unit = `${kinds.bs.startsWith("sigma0") ? "σ⁰" : "γ⁰"} in dB`;
    made.bs = { label: "Sentinel-1", kind: "bs", unit, digits: 1, measures, compared: measures[1] };
  }
  for (const [kind, days] of [["c6", 6], ["c12", 12]]) {
    if (!kinds[kind]) continue;
    const measures = coherence();
    made[kind] = { label: `Coherence, ${days} days`, kind, unit: UNITS.coherence, digits: 2, measures, compared: measures[0] };
  }
  return made;
}

/** The measures of which there is at least one value. */
export function present(measures, series) {
  return measures.filter((measure) => series.some(({ means }) => measure.of(means) != null));
}

export const isClear = (observation, threshold) => observation.clear == null || observation.clear >= threshold;

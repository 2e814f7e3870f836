// Stacked bars over time, a drawing with texts for screen readers.
import { count, drawing } from "./dom.js";

const WIDTH = 480;
const HEIGHT = 170;
const LEFT = 44;
const BOTTOM = 22;
const TOP = 8;

/** `rows` are {label, values: name -> number}; `names` are stacked in their order, and are classes. */
export function bars(title, rows, names) {
  const totals = rows.map(({ values }) => names.reduce((sum, name) => sum + (values[name] ?? 0), 0));
  const most = roundUp(Math.max(...totals, 1));
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - BOTTOM - TOP);
  const step = (WIDTH - LEFT) / rows.length;
  const svg = drawing("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "bars", role: "img", "aria-label": title });
  svg.append(drawing("title", {}, title), ...[0, most / 2, most].flatMap((value) => level(value, y(value))));
  rows.forEach((row, i) => svg.append(...column(row, names, LEFT + i * step, step, y)));
  const every = Math.ceil((rows.length * 46) / (WIDTH - LEFT));
  rows.forEach(({ label }, i) => {
    if (i % every === 0) svg.append(drawing("text", { x: LEFT + (i + 0.5) * step, y: HEIGHT - 6, "text-anchor": "middle" }, label));
  });
  return svg;
}

function column({ label, values }, names, left, step, y) {
  const width = Math.min(step * 0.72, 40);
  let base = 0;
  return names.filter((name) => values[name]).map((name) => {
    const from = base;
    base += values[name];
    const box = { x: left + (step - width) / 2, width, y: y(base), height: Math.max(y(from) - y(base), 1), rx: 2, class: name };
    return drawing("rect", box, drawing("title", {}, `${label}: ${count(values[name])} ${name}`));
  });
}

function level(value, y) {
  return [
    drawing("line", { x1: LEFT, x2: WIDTH, y1: y, y2: y }),
    drawing("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, short(value)),
  ];
}

const SHORT = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 1 });
const short = (value) => SHORT.format(value);

function roundUp(number) {
  const unit = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 4, 6, 8, 10].map((step) => step * unit).find((step) => step >= number && (step >= 2 || unit > 1)) ?? 2;
}

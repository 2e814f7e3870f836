// The plot of a series: lines of clear dates, grey dots of the others, peers behind, a cursor that
// follows the pointer or the arrow keys.
import uPlot from "/static/vendor/uplot/uPlot.esm.js";
import { colour, count, dayText, element } from "./dom.js";
import { isClear, present } from "./series.js";

const FONT = "12px Inter, system-ui, sans-serif";

export class Plot {
  /** `onPick(observation)` is called for a click or Enter. */
  constructor({ box, legend, reading, onPick }) {
    Object.assign(this, { box, legend, reading, onPick, hidden: new Set() });
    box.addEventListener("keydown", (event) => this.#key(event));
    box.addEventListener("click", () => this.#pick());
    new ResizeObserver(() => this.drawn?.setSize(this.#size())).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** Show observations; `peers` are observations of other parcels, behind them. */
  show(view, series, threshold, peers = []) {
    Object.assign(this, { view, series, threshold, peers });
    this.measures = present(view.measures, series);
    this.#draw();
  }

  /** Mark the observation of the image. */
  mark(time) {
    this.marked = time;
    this.drawn?.redraw(false);
  }

  #draw() {
    this.drawn?.destroy();
    if (!this.view) return;
    const lines = this.#lines();
    const tables = lines.map(({ points }) => [points.map(([time]) => time), points.map(([, value]) => value)]);
    this.drawn = new uPlot(this.#options(lines), uPlot.join(tables), this.box);
    this.#drawLegend();
    this.#read();
  }

  #lines() {
    const { series, threshold, view } = this;
    const lines = this.peers.map((peer) => ({
      key: "peers", colour: colour("peer"), width: 1, alpha: 0.4,
      points: valued(peer.filter((o) => isClear(o, threshold)), view.compared),
    }));
    for (const measure of this.measures) {
      const own = { key: measure.name, colour: colour(measure.colour), width: 2 };
      lines.push({ ...own, points: valued(series.filter((o) => isClear(o, threshold)), measure) });
      lines.push({ ...own, colour: colour("cloudy"), dots: true, points: valued(series.filter((o) => !isClear(o, threshold)), measure) });
    }
    return lines.filter((line) => line.points.length || !line.dots);
  }

  #options(lines) {
    const axis = { stroke: colour("quiet"), font: FONT, grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
    const span = [this.series[0].time, this.series.at(-1).time];
    const room = Math.max((span[1] - span[0]) * 0.02, 86400);
    return {
      ...this.#size(),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      legend: { show: false },
      cursor: { x: false, y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { range: [span[0] - room, span[1] + room] }, y: { range: (_, low, high) => padded(low, high) } },
      axes: [
        { ...axis, space: 60, grid: { show: false }, values: (_, splits) => monthLabels(splits) },
        { ...axis, size: 52, label: this.view.unit, labelSize: 18, labelFont: FONT, labelGap: 2 },
      ],
      series: [{}, ...lines.map((line) => this.#line(line))],
      hooks: { setCursor: [() => this.#read()], draw: [(u) => this.#drawMarks(u)] },
    };
  }

  #line({ key, colour: stroke, width, alpha, dots }) {
    return {
      show: !this.hidden.has(key) && !(dots && this.hidden.has("cloudy")),
      stroke, width: dots ? 0 : width, alpha: alpha ?? 1, spanGaps: true,
      paths: dots ? () => null : undefined,
      points: { show: key !== "peers", size: dots ? 6 : 6, fill: dots ? colour("card") : stroke, stroke, width: 1.5 },
    };
  }

  #size() {
    return { width: this.box.clientWidth || 300, height: this.box.clientHeight };
  }

  #drawLegend() {
    const cloudy = this.series.some((o) => !isClear(o, this.threshold));
    const entries = this.measures.map(({ name, colour: ink }) => [name, name, ink]);
    if (cloudy) entries.push(["cloudy", "Not clear", "cloudy"]);
    if (this.peers.length) entries.push(["peers", `${this.peers.length} peers (${this.view.compared.name})`, "peer"]);
    this.legend.replaceChildren(...entries.map((entry) => this.#legendButton(...entry)));
  }

  #legendButton(key, label, ink) {
    const swatch = element("i");
    swatch.style.color = colour(ink);
    const button = element("button", { type: "button", ariaPressed: String(!this.hidden.has(key)) }, swatch, label);
    button.addEventListener("click", () => {
      if (!this.hidden.delete(key)) this.hidden.add(key);
      const place = [...this.legend.children].indexOf(button);
      this.#draw();
      this.legend.children[place].focus();
    });
    return button;
  }

  #key(event) {
    if (!this.drawn) return; // the series is still to come
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (event.key === "Enter" || event.key === " ") this.#pick();
    else if (event.key in steps) this.#moveTo(this.#step(steps[event.key]));
    else return;
    event.preventDefault();
  }

  #step(by) {
    const last = this.series.length - 1;
    if (!Number.isFinite(by)) return this.series[by < 0 ? 0 : last];
    const now = this.series.indexOf(this.#nearest());
    if (now < 0) return this.series[by < 0 ? last : 0];
    return this.series[Math.min(last, Math.max(0, now + by))];
  }

  #moveTo({ time }) {
    this.drawn.setCursor({ left: this.drawn.valToPos(time, "x"), top: 10 });
  }

  #pick() {
    const observation = this.#nearest();
    if (observation) this.onPick(observation);
  }

  /** The parcel's observation nearest to the cursor; undefined while there is no cursor. */
  #nearest() {
    const { left } = this.drawn?.cursor ?? {};
    if (!(left >= 0)) return undefined;
    const at = this.drawn.posToVal(left, "x");
    return this.series.reduce((best, o) => (Math.abs(o.time - at) < Math.abs(best.time - at) ? o : best));
  }

  #read() {
    if (!this.drawn) return;
    const observation = this.#nearest();
    this.reading.textContent = observation ? this.#words(observation) : "";
    if (observation?.time !== this.pointed) {
      this.pointed = observation?.time;
      this.drawn.redraw(false);
    }
  }

  #words({ time, means, clear }) {
    const values = this.measures
      .filter(({ name, of }) => !this.hidden.has(name) && of(means) != null)
      .map(({ name, of }) => `${name} ${formatValue(of(means), this.view.digits)}`);
    const sky = clear == null ? [] : [`${Math.round(clear * 100)} % clear`];
    return [dayText(time), ...values, ...sky].join(" · ");
  }

  #drawMarks(u) {
    for (const [time, ink, dash] of [[this.marked, "accent", []], [this.pointed, "quiet", [3, 3]]]) {
      if (time == null || !this.series.some((o) => o.time === time)) continue;
      const x = Math.round(u.valToPos(time, "x", true));
      u.ctx.save();
      u.ctx.strokeStyle = colour(ink);
      u.ctx.setLineDash(dash);
      u.ctx.beginPath();
      u.ctx.moveTo(x, u.bbox.top);
      u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
      u.ctx.stroke();
      u.ctx.restore();
    }
  }
}

export const formatValue = (value, digits) => (digits ? value.toFixed(digits) : count(Math.round(value)));

function valued(series, measure) {
  return series.map(({ time, means }) => [time, measure.of(means)]).filter(([, value]) => value != null);
}

function padded(low, high) {
  if (low == null) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - room, high + room];
}

const MONTH = new Intl.DateTimeFormat("en-GB", { month: "short", timeZone: "UTC" });

function monthLabels(splits) {
  let year;
  let day = null;
  return splits.map((seconds) => {
    const date = new Date(seconds * 1000);
    const text = `${date.getUTCDate() === 1 ? "" : `${date.getUTCDate()} `}${MONTH.format(date)}`;
    const repeated = day === text;
    day = text;
    const label = year === date.getUTCFullYear() ? text : `${text}\n${date.getUTCFullYear()}`;
    year = date.getUTCFullYear();
    return repeated ? "" : label;
  });
}

// The image of a day, beside the series.
import { getJson } from "./api.js";
import { $, choice, dayText, element, isoDay, setText } from "./dom.js";

const SIZE_M = 960;

export class Chips {
  /** `onDay(observation)` is called for each day that is shown. */
  constructor(onDay) {
    this.onDay = onDay;
    $("day").addEventListener("change", () => this.#turnTo($("day").selectedIndex));
    $("earlier").addEventListener("click", () => this.#turnTo(this.position - 1));
    $("later").addEventListener("click", () => this.#turnTo(this.position + 1));
  }

  /** Offer composites, bands joined by _ -> label; the first is shown. */
  setComposites(composites) {
    this.composites = composites;
    [this.composite] = Object.keys(composites);
    choice($("composites"), "composite", composites, this.composite, (bands) => {
      this.composite = bands;
      this.#load();
    });
  }

  /** Offer the days of a parcel's Sentinel-2 series and show the clearest of the last ones. */
  show(parcel, series) {
    Object.assign(this, { parcel, series });
    $("images").hidden = !series.length;
    if (!series.length) return;
    $("day").replaceChildren(...series.map(({ time, clear }) => {
      const sky = clear == null ? "" : ` · ${Math.round(clear * 100)} % clear`;
      return element("option", { textContent: dayText(time) + sky });
    }));
    this.#turnTo(clearest(series));
  }

  /** Show the image nearest to a time. */
  showTime(time) {
    const distances = this.series.map((observation) => Math.abs(observation.time - time));
    this.#turnTo(distances.indexOf(Math.min(...distances)));
  }

  #turnTo(position) {
    this.position = position;
    $("day").selectedIndex = position;
    $("earlier").disabled = position <= 0;
    $("later").disabled = position >= this.series.length - 1;
    this.onDay(this.series[position]);
    this.#load();
  }

  async #load() {
    this.waiting?.abort();
    const waiting = (this.waiting = new AbortController());
    const { time } = this.series[this.position];
    this.#frame(element("p", { textContent: "Reading the scene …" }), "", true);
    try {
      const day = isoDay(time);
      const params = { ...this.parcel, start_date: day, end_date: day, bands: this.composite, chipsize: SIZE_M, withGeometry: "True", format: "json" };
      const { chips } = await getJson("/query/chipsByParcelID", params, waiting.signal);
      if (!chips.length) return this.#frame(element("p", { textContent: "There is no image of this day." }));
      this.#frame(await image(chips[0], time), `${dayText(time)} · ${this.composites[this.composite]} (${this.composite.replaceAll("_", ", ")})`);
    } catch (error) {
      if (error.name !== "AbortError") this.#frame(element("p", { textContent: error.message }));
    }
  }

  #frame(content, caption = "", waiting = false) {
    $("chip").replaceChildren(content);
    $("chip").classList.toggle("waiting", waiting);
    $("chip").setAttribute("aria-busy", String(waiting));
    setText($("chip-caption"), caption);
  }
}

async function image(url, time) {
  const node = element("img", { src: url, alt: `Sentinel-2 image of the parcel, ${dayText(time)}` });
  try {
    await node.decode();
  } catch {
    throw new Error("The image could not be loaded.");
  }
  return node;
}

function clearest(series) {
  const best = Math.max(...series.map(({ clear }) => clear ?? 0));
  return series.findLastIndex(({ clear }) => (clear ?? 0) === best);
}

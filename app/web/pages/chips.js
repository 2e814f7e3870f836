// The image of a day, beside the series.
import { ask } from "./api.js";
import { $, choice, dayText, element, isoDay, say } from "./dom.js";

const SIZE_M = 960;
const COMPOSITES = { B04_B03_B02: "Natural", B08_B04_B03: "Infrared", B11_B08_B04: "Short-wave" };

export class Chips {
  /** `turned(observation)` hears which day is shown. */
  constructor(turned) {
    this.turned = turned;
    this.composite = "B08_B04_B03";
    choice($("composites"), "composite", COMPOSITES, this.composite, (bands) => {
      this.composite = bands;
      this.#load();
    });
    $("day").addEventListener("change", () => this.#turnTo($("day").selectedIndex));
    $("earlier").addEventListener("click", () => this.#turnTo(this.place - 1));
    $("later").addEventListener("click", () => this.#turnTo(this.place + 1));
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

  #turnTo(place) {
    this.place = place;
    $("day").selectedIndex = place;
    $("earlier").disabled = place <= 0;
    $("later").disabled = place >= this.series.length - 1;
    this.turned(this.series[place]);
    this.#load();
  }

  async #load() {
    this.waiting?.abort();
    const waiting = (this.waiting = new AbortController());
    const { time } = this.series[this.place];
    this.#frame(element("p", { textContent: "Reading the scene …" }), "", true);
    try {
      const day = isoDay(time);
      const asked = { ...this.parcel, start_date: day, end_date: day, bands: this.composite, chipsize: SIZE_M, withGeometry: "True", format: "json" };
      const { chips } = await ask("/query/chipsByParcelID", asked, waiting.signal);
      if (!chips.length) return this.#frame(element("p", { textContent: "There is no image of this day." }));
      this.#frame(await image(chips[0], time), `${dayText(time)} · ${COMPOSITES[this.composite]} (${this.composite.replaceAll("_", ", ")})`);
    } catch (error) {
      if (error.name !== "AbortError") this.#frame(element("p", { textContent: error.message }));
    }
  }

  #frame(content, caption = "", waiting = false) {
    $("chip").replaceChildren(content);
    $("chip").classList.toggle("waiting", waiting);
    $("chip").setAttribute("aria-busy", String(waiting));
    say($("chip-caption"), caption);
  }
}

async function image(url, time) {
  const made = element("img", { src: url, alt: `Sentinel-2 image of the parcel, ${dayText(time)}` });
  try {
    await made.decode();
  } catch {
    throw new Error("The image could not be loaded.");
  }
  return made;
}

function clearest(series) {
  const best = Math.max(...series.map(({ clear }) => clear ?? 0));
  return series.findLastIndex(({ clear }) => (clear ?? 0) === best);
}

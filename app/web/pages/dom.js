// Building what is shown: always by text, never by markup.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const made = Object.assign(document.createElement(name), rest);
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function drawing(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Buttons of which one is pressed, as radio buttons; `choices` is value -> label. */
export function choice(box, name, choices, chosen, changed) {
  box.replaceChildren(
    ...Object.entries(choices).map(([value, label]) => {
      const input = element("input", { type: "radio", name, value, checked: value === chosen });
      input.addEventListener("change", () => changed(value));
      return element("label", {}, input, label);
    }),
  );
}

export function say(box, text, wrong = false) {
  box.textContent = text ?? "";
  box.hidden = !text;
  box.classList.toggle("wrong", wrong);
}

export const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const WHOLE = new Intl.NumberFormat("en-GB");

export const dayText = (seconds) => DAY.format(seconds * 1000);
export const isoDay = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);
export const count = (number) => WHOLE.format(number);

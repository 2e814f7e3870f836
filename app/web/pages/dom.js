// DOM nodes: always built of text, never of markup.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const node = Object.assign(document.createElement(name), rest);
  Object.assign(node.dataset, dataset);
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function drawing(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Radio buttons; `choices` is value -> label. */
export function choice(box, name, choices, current, onChange) {
  box.replaceChildren(
    ...Object.entries(choices).map(([value, label]) => {
      const input = element("input", { type: "radio", name, value, checked: value === current });
      input.addEventListener("change", () => onChange(value));
      return element("label", {}, input, label);
    }),
  );
}

/** Show a text, or hide the box without one. */
export function setText(box, text, wrong = false) {
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

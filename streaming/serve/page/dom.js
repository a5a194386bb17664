/** Elements, text and numbers. Text from outside enters the page here only, and as text nodes. */

/** Return an element: of its attributes true is there and false is not, and strings are text. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "boolean") element.toggleAttribute(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Show an element with this text; hide it where there is none. */
export function say(element, text = "") {
  element.textContent = text;
  element.hidden = !text;
}

/** Tell those who cannot see the page. */
export function announce(text) {
  byId("said").textContent = text;
}

export const count = (number) => number.toLocaleString("en");
export const tokens = (number) => `${count(number)} token${number === 1 ? "" : "s"}`;
export const percent = (part, whole) => `${((100 * part) / (whole || 1)).toFixed(1)} %`;

export function seconds(value) {
  if (value < 0.0995) return `${Math.round(1000 * value)} ms`;
  return `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

/** Return a time of the clip as m:ss.s or h:mm:ss.s, without tenths where there are none. */
export function clock(value) {
  const tenths = Math.round(value * 10);
  const [hours, minutes] = [Math.floor(tenths / 36000), Math.floor(tenths / 600) % 60];
  const rest = (tenths % 600) / 10;
  const tail = `${rest < 10 ? "0" : ""}${rest}`;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(value, 1)) / 3), 3);
  return `${(value / 1000 ** power).toPrecision(3).replace(/\.?0+$/, "")} ${units[power]}`;
}

// Making and finding elements. User-written text goes in as text only, never as markup.

export const $ = (id) => document.getElementById(id);

/** An element with properties (`class` and `aria-...` are attributes), handlers (`onclick`) and children (elements or text). */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, properties);
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** The same for a drawing; every property is an attribute. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function fill(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class" || name.startsWith("aria-") || name === "list") element.setAttribute(name, value);
    else element[name] = value;
  }
}

/** One clear line, or nothing. */
export function say(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

/** `text` cut at `limit` characters. */
export function shorten(text, limit) {
  const characters = [...text.replace(/\s+/g, " ").trim()];
  return characters.length <= limit ? characters.join("") : `${characters.slice(0, limit - 1).join("").trimEnd()}…`;
}

export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** Seconds for reading: 0.4 ms, 12 ms, 1.25 s. */
export function seconds(s) {
  return s < 0.001 ? `${(s * 1000).toFixed(1)} ms` : s < 1 ? `${Math.round(s * 1000)} ms` : `${s.toFixed(s < 10 ? 2 : 1)} s`;
}

/** Lights an element up by a share of 0..1; 0 puts it out. The style sheet does the rest. */
export function light(element, share) {
  element.classList.toggle("lit", share > 0);
  element.style.setProperty("--share", Math.min(1, share).toFixed(3));
}

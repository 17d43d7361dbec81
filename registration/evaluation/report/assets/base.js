// Elements, numbers and the data of the cohort: what every other part uses.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("cohort").textContent);
const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, listeners (functions under on...) and children; text is always text, never markup. */
function el(tag, attributes = {}, ...children) {
  return dressed(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return dressed(document.createElementNS(SVG, tag), attributes, children);
}

function dressed(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function replace(node, ...children) {
  node.replaceChildren(...children.flat().filter(Boolean));
}

const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const MINUS = "\u2212";

/** A figure with the digits of its metric; small ones that are not 0 keep two significant digits, large ones no others. */
function told(value, digits) {
  if (!known(value)) return "\u2013";
  const small = value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits;
  const large = Math.abs(value) >= 1000;
  const text = small ? value.toPrecision(2) : large ? value.toFixed(0) : value.toFixed(digits);
  return text.replace("-", MINUS);
}

function signed(value, digits) {
  if (!known(value)) return "\u2013";
  return (value > 0 ? "+" : "") + told(value, digits);
}

/** Three significant digits for intensities and the like. */
function brief(value) {
  if (!known(value)) return "\u2013";
  const size = Math.abs(value);
  const text = size >= 100 ? value.toFixed(0) : size >= 1 || size === 0 ? value.toFixed(1) : value.toPrecision(2);
  return text.replace("-", MINUS);
}

const titled = (metric) => (metric.unit ? `${metric.title} (${metric.unit})` : metric.title);

function sorted(values) {
  return values.filter(known).sort((a, b) => a - b);
}

/** Linear interpolation between the sorted values, as NumPy does it. */
function quantile(ordered, share) {
  if (!ordered.length) return NaN;
  const place = share * (ordered.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, ordered.length - 1);
  return ordered[low] + (place - low) * (ordered[high] - ordered[low]);
}

function mean(values) {
  const all = values.filter(known);
  return all.length ? all.reduce((sum, value) => sum + value, 0) / all.length : NaN;
}

/** Round steps for an axis from low to high. */
function ticks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  const decade = 10 ** Math.floor(Math.log10(raw));
  const step = decade * ([1, 2, 5, 10].find((m) => m * decade >= raw) || 10);
  const result = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) result.push(n * step);
  return { values: result, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

const tip = {
  show(text, x, y) {
    const node = $("tip");
    node.textContent = text;
    node.hidden = false;
    const box = node.getBoundingClientRect();
    node.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 4))}px`;
    node.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - box.height - 4))}px`;
  },
  hide() {
    $("tip").hidden = true;
  },
};

// Making and changing elements. Text only ever becomes text: no markup is parsed anywhere on this page.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `el("p", {class: "x", text: "y", onclick: f, data: {a: 1}}, child, ...)`. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** An SVG element with its attributes. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Set a node's text, and leave the page alone where it is the same. */
export function put(node, text) {
  const words = String(text);
  if (node.boardText !== words) {
    node.boardText = words;
    node.textContent = words;
  }
}

/** Set an attribute, or take it away with null, only where that changes something. */
export function mark(node, name, value) {
  if (value === null || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else {
    const words = value === true ? "" : String(value);
    if (node.getAttribute(name) !== words) node.setAttribute(name, words);
  }
}

/** Set a style property, only where that changes something. */
export function style(node, name, value) {
  if (node.style.getPropertyValue(name) !== value) node.style.setProperty(name, value);
}

/** Show or hide. */
export function show(node, shown) {
  if (node.hidden === Boolean(shown)) node.hidden = !shown;
}

/** Bring a list's children up to date by key, making and dropping only what has to be. */
export function sync(parent, items, { key, make, fill }) {
  const kept = parent.boardItems ?? new Map();
  const next = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const node = kept.get(name) ?? make(item);
    next.set(name, node);
    fill?.(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const [name, node] of kept) if (!next.has(name)) node.remove();
  parent.boardItems = next;
}

/** A canvas made sharp for this screen; returns its context and size in CSS pixels, or null while unseen. */
export function sharp(canvas) {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return null;
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== across || canvas.height !== down) {
    canvas.width = across;
    canvas.height = down;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

/** A colour of the style sheet, for canvases. Read anew when the scheme changes. */
export function tone(name) {
  let value = tones.get(name);
  if (value === undefined) {
    value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    tones.set(name, value);
  }
  return value;
}

const tones = new Map();
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => tones.clear());

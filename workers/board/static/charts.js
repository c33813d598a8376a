// Curves over time on a canvas: lines or stacked areas, with the values under the pointer.

import { el, put, sharp, show, style, tone } from "./dom.js";
import { clock } from "./format.js";

const EDGE = { left: 58, right: 10, top: 10, bottom: 22 };

/** A chart. `series` = [{name, tone, dash}], `stacked` areas or lines, `format` of a value, `most` it can be. */
export class Chart {
  constructor({ title, series, stacked = false, format, unit, most = Infinity }) {
    this.most = most;
    this.series = series;
    this.stacked = stacked;
    this.format = format;
    this.data = null;
    this.pointer = null;
    this.canvas = el("canvas", { class: "chart", role: "img", tabindex: "0", "aria-label": title });
    this.readout = el("output", { class: "readout chart-readout", hidden: true });
    this.newest = el("span", { class: "chart-newest" });
    const legend = series.map((entry) =>
      el("li", { class: "legend-item" }, el("span", { class: "swatch", data: { tone: entry.tone, dash: entry.dash ? "yes" : "no" } }), entry.name),
    );
    this.title = title;
    this.node = el(
      "figure",
      { class: "chart-box" },
      el("figcaption", {}, el("span", { class: "chart-title", text: title }), el("span", { class: "unit", text: unit }), this.newest),
      el("div", { class: "frame" }, this.canvas, this.readout),
      el("ul", { class: "legend" }, legend),
    );
    this.canvas.addEventListener("pointermove", (event) => {
      this.pointer = event.clientX - this.canvas.getBoundingClientRect().left;
      this.draw();
    });
    this.canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.draw();
    });
    this.canvas.addEventListener("blur", () => this.canvas.dispatchEvent(new Event("pointerleave")));
    this.canvas.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || !this.data?.t.length) return;
      event.preventDefault();
      event.stopPropagation();
      const room = this.canvas.clientWidth - EDGE.left - EDGE.right;
      const step = room / Math.max(1, this.data.t.length - 1);
      this.pointer = Math.max(EDGE.left, Math.min(EDGE.left + room, (this.pointer ?? EDGE.left + room) + by * step));
      this.draw();
    });
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.canvas);
  }

  /** Stop watching. */
  close() {
    this.watch.disconnect();
  }

  /** `t` in ms, `values` one list a series; null where nothing was. */
  set(t, values) {
    this.data = { t, values };
    const last = values.map((list) => list[list.length - 1]);
    const words = this.series.map((entry, index) => `${entry.name} ${this.format(last[index])}`).join(", ");
    put(this.newest, t.length ? words : "nothing yet");
    this.canvas.setAttribute("aria-label", `${this.title}; newest: ${words}`);
    this.draw();
  }

  layers() {
    const { values } = this.data;
    if (!this.stacked) return values;
    const sums = [];
    values.forEach((list, index) => {
      sums.push(list.map((value, at) => (value ?? 0) + (index ? sums[index - 1][at] : 0)));
    });
    return sums;
  }

  draw() {
    if (!this.data) return;
    const room = sharp(this.canvas);
    if (!room) return;
    const { pen, width, height } = room;
    const layers = this.layers();
    const top = topOf(layers.flat(), this.most);
    const { t } = this.data;
    const [from, to] = [t[0] ?? 0, t[t.length - 1] ?? 1];
    const x = (at) => EDGE.left + ((at - from) / Math.max(1, to - from)) * (width - EDGE.left - EDGE.right);
    const y = (value) => height - EDGE.bottom - (Math.min(value, top) / top) * (height - EDGE.top - EDGE.bottom);
    this.grid(pen, width, height, top, y, from, to, x);
    if (t.length) {
      const order = this.stacked ? [...layers.keys()].reverse() : layers.keys();
      for (const index of order) this.layer(pen, layers[index], this.series[index], t, x, y, height);
    }
    this.clipped(pen, layers, t, top, x);
    this.point(pen, t, x, width, height);
  }

  // What is higher than the axis stands at its end with a sign and its value: it is cut, not left out.
  clipped(pen, layers, t, top, x) {
    pen.font = "600 12px system-ui, sans-serif";
    pen.textBaseline = "top";
    pen.fillStyle = tone("ink");
    let free = -Infinity;
    for (const { at, value } of peaks(layers, top)) {
      const place = x(t[at]);
      pen.beginPath();
      pen.moveTo(place, 1);
      pen.lineTo(place - 5, EDGE.top);
      pen.lineTo(place + 5, EDGE.top);
      pen.fill();
      const words = this.format(value);
      const long = pen.measureText(words).width + 14;
      const left = place + 8 + long > this.canvas.clientWidth ? place - 8 - long : place + 8;
      if (left < free) continue;
      free = left + long;
      pen.textAlign = "left";
      pen.fillText(words, left, 0);
    }
  }

  grid(pen, width, height, top, y, from, to, x) {
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = tone("soft");
    pen.strokeStyle = tone("line");
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const share of [0, 0.5, 1]) {
      const level = Math.round(y(top * share)) + 0.5;
      pen.beginPath();
      pen.moveTo(EDGE.left, level);
      pen.lineTo(width - EDGE.right, level);
      pen.stroke();
      pen.fillText(this.format(top * share), EDGE.left - 6, level);
    }
    pen.textBaseline = "alphabetic";
    const marks = width > 420 ? 4 : 2;
    for (let index = 0; index <= marks && to > from; index += 1) {
      const at = from + ((to - from) * index) / marks;
      pen.textAlign = index === 0 ? "left" : index === marks ? "right" : "center";
      pen.fillText(clock(at).slice(0, 5), x(at), height - 5);
    }
  }

  layer(pen, values, look, t, x, y, height) {
    pen.beginPath();
    let open = false;
    values.forEach((value, index) => {
      if (value === null || !Number.isFinite(value)) {
        open = false;
        return;
      }
      if (open) pen.lineTo(x(t[index]), y(value));
      else pen.moveTo(x(t[index]), y(value));
      open = true;
    });
    if (this.stacked) {
      pen.lineTo(x(t[t.length - 1]), height - EDGE.bottom);
      pen.lineTo(x(t[0]), height - EDGE.bottom);
      pen.closePath();
      pen.fillStyle = tone(look.tone);
      pen.fill();
    } else {
      pen.setLineDash(look.dash ? [6, 4] : []);
      pen.lineWidth = 2;
      pen.lineJoin = "round";
      pen.strokeStyle = tone(look.tone);
      pen.stroke();
      pen.setLineDash([]);
    }
  }

  point(pen, t, x, width, height) {
    const inside = this.pointer !== null && t.length > 0;
    show(this.readout, inside);
    if (!inside) return;
    let index = 0;
    while (index < t.length - 1 && x(t[index + 1]) <= this.pointer + 2) index += 1;
    const place = x(t[index]);
    pen.fillStyle = tone("ink");
    pen.fillRect(place - 0.5, EDGE.top, 1, height - EDGE.top - EDGE.bottom);
    const values = this.series.map((entry, at) => `${entry.name} ${this.format(this.data.values[at][index])}`);
    put(this.readout, `${clock(t[index])}  ${values.join("  ")}`);
    style(this.readout, "left", `${Math.max(110, Math.min(width - 110, place))}px`);
    style(this.readout, "top", "0px");
  }
}

const ENOUGH = 10;
const SPIKE = 2.5;

/** The top of an axis: above all values, unless a few of them are so high that nothing could be told of the
 * others; never above `most`, as 100 for a share. */
export function topOf(values, most = Infinity) {
  const known = values.filter((value) => value !== null && Number.isFinite(value)).sort((a, b) => a - b);
  if (!known.length) return Math.min(1, most);
  const high = known[known.length - 1];
  const usual = known[Math.floor(0.9 * (known.length - 1))];
  const spiked = known.length >= ENOUGH && usual > 0 && high > SPIKE * usual;
  return Math.min(nice(spiked ? 1.4 * usual : high), most);
}

/** Of values above the top of the axis, the highest of each stretch: [{at, value}]. */
export function peaks(layers, top) {
  const found = [];
  const count = layers[0]?.length ?? 0;
  let open = null;
  for (let at = 0; at < count; at += 1) {
    const value = Math.max(...layers.map((list) => list[at] ?? -Infinity));
    if (value > top) {
      if (!open) found.push((open = { at, value }));
      else if (value > open.value) Object.assign(open, { at, value });
    } else {
      open = null;
    }
  }
  return found;
}

/** The next round number above a value, for the top of an axis. */
export function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 5, 7.5, 10, 15].find((step) => step * power >= value * 1.02) * power;
}

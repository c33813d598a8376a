// The scores of recorded parts against the threshold, and the slider that tries another one out.

import { get, query } from "./api.js";
import { el, mark, put, sharp, show, tone } from "./dom.js";
import { percent, score, whole } from "./format.js";
import { Scores } from "./whatif.js";

const BINS = 90;
const EDGE = { left: 46, right: 10, top: 40, bottom: 24 };
const STEPS = 2000;

/** The histogram with its filters, slider and sentence. */
export class Histogram {
  constructor() {
    this.scores = new Scores([]);
    this.threshold = null;
    this.tried = null;
    this.log = true;
    this.span = [0, 1];
    this.wanted = {};
    this.canvas = el("canvas", { class: "chart tall", role: "img", "aria-label": "Histogram of scores" });
    this.slider = el("input", { type: "range", min: "0", max: String(STEPS), step: "1", id: "what-if", "aria-describedby": "what-if-says" });
    this.slider.addEventListener("input", () => this.try(this.valueOf(Number(this.slider.value))));
    this.number = el("input", { type: "number", step: "any", id: "what-if-number", "aria-label": "Threshold to try" });
    this.number.addEventListener("change", () => this.number.value !== "" && this.try(Number(this.number.value)));
    this.says = el("p", { class: "what-if-says", id: "what-if-says", "aria-live": "polite" });
    this.back = el("button", { type: "button", class: "quiet", text: "Back to the threshold in service", onclick: () => this.reset() });
    this.axis = el("input", { type: "checkbox", id: "log-axis" });
    this.axis.checked = true;
    this.axis.addEventListener("change", () => {
      this.log = this.axis.checked;
      this.draw();
    });
    this.mode = el("select", { id: "scores-mode" }, ["FUSED", "RGB", "DEPTH"].map((mode) => el("option", { value: mode, text: mode })));
    this.product = el("select", { id: "scores-product" });
    this.picked = false;
    this.product.addEventListener("change", () => (this.picked = true));
    for (const field of [this.mode, this.product]) field.addEventListener("change", () => this.load());
    this.node = el(
      "section",
      { class: "card what-if", "aria-label": "Scores and threshold" },
      el("div", { class: "card-head" }, el("h2", { text: "Scores against the threshold" }),
        el("div", { class: "filters" },
          el("label", { for: "scores-product", text: "Product" }), this.product,
          el("label", { for: "scores-mode", text: "Mode" }), this.mode,
          el("label", { class: "check" }, this.axis, "Logarithmic counts"))),
      this.canvas,
      el("div", { class: "what-if-row" }, el("label", { for: "what-if", text: "What if the threshold were" }), this.number, this.back),
      this.slider,
      this.says,
    );
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.canvas);
  }

  /** Stop watching. */
  close() {
    this.watch.disconnect();
  }

  /** Say which products there are, the one that runs first, and which station is meant. */
  choose(products, station) {
    const names = products;
    if (this.wanted.station !== station) this.picked = false;
    // What was chosen by hand stays; else it is what runs, and the list changes only with that or its members.
    const said = [names[0], ...[...names].sort()].join("\n");
    if (this.product.boardSaid !== said) {
      this.product.boardSaid = said;
      const before = this.product.value;
      this.product.replaceChildren(...names.map((name) => el("option", { value: name, text: name })));
      if (this.picked && names.includes(before)) this.product.value = before;
    }
    const changed = this.wanted.station !== station || this.wanted.product !== this.product.value;
    this.wanted = { station, product: this.product.value };
    if (changed) this.load();
  }

  /** Read the recorded scores again. */
  async load() {
    const asked = { product: this.product.value, mode: this.mode.value, station: this.wanted.station };
    if (!asked.product) return;
    const key = JSON.stringify(asked);
    this.asked = key;
    try {
      const found = await get(`api/scores?${query(asked)}`);
      if (this.asked !== key) return; // something else was chosen meanwhile
      const fresh = this.shown !== key;
      this.shown = key;
      this.scores = new Scores(found.scores);
      this.threshold = found.threshold;
      if (fresh) this.tried = null;
      this.update();
    } catch (error) {
      put(this.says, `The scores cannot be read: ${error.message}.`);
    }
  }

  valueOf(step) {
    const [low, high] = this.span;
    return low + ((high - low) * step) / STEPS;
  }

  /** Try a threshold out. Nothing on the line changes by it. */
  try(threshold) {
    this.tried = threshold;
    this.update();
  }

  reset() {
    this.tried = null;
    this.update();
  }

  update() {
    this.span = this.scores.span(this.threshold);
    const at = this.tried ?? this.threshold;
    const [low, high] = this.span;
    const there = this.scores.count > 0 && at !== null;
    if (document.activeElement !== this.slider || this.tried === null) {
      this.slider.value = String(Math.round(((at - low) / (high - low)) * STEPS));
    }
    if (document.activeElement !== this.number) this.number.value = there ? String(Number(at.toPrecision(4))) : "";
    for (const node of [this.slider, this.number]) mark(node, "disabled", !there);
    mark(this.back, "disabled", this.tried === null);
    put(this.says, this.sentence());
    mark(this.slider, "aria-valuetext", there ? `threshold ${score(at)}, ${percent(this.scores.above(at), this.scores.count)} rejected` : null);
    this.draw();
  }

  sentence() {
    const all = this.scores.count;
    if (!all || this.threshold === null) return "No scores of this product and mode have been recorded yet.";
    const now = this.scores.above(this.threshold);
    const last = `the last ${whole(all)} parts`;
    if (this.tried === null) return `At the threshold in service, ${score(this.threshold)}: ${percent(now, all)} of ${last} rejected (${whole(now)}).`;
    const then = this.scores.above(this.tried);
    return (
      `At threshold ${score(this.tried)}: ${percent(then, all)} of ${last} rejected (${whole(then)}). ` +
      `In service is ${score(this.threshold)}: ${percent(now, all)} (${whole(now)}). Trying changes nothing on the line.`
    );
  }

  draw() {
    const room = sharp(this.canvas);
    if (!room) return;
    const { pen, width, height } = room;
    const [low, high] = this.span;
    const x = (value) => EDGE.left + ((value - low) / (high - low)) * (width - EDGE.left - EDGE.right);
    const count = Math.max(20, Math.min(BINS, Math.floor(width / 8)));
    const bins = this.scores.bins(low, high, count);
    const most = Math.max(1, ...bins);
    const shareOf = (value) => (this.log ? Math.log1p(value) / Math.log1p(most) : value / most);
    const floor = height - EDGE.bottom;
    const y = (value) => floor - shareOf(value) * (floor - EDGE.top);
    this.axes(pen, width, height, most, x, y);
    const at = this.tried ?? this.threshold ?? Infinity;
    const step = (width - EDGE.left - EDGE.right) / count;
    bins.forEach((value, index) => {
      if (!value) return;
      const middle = low + ((index + 0.5) / count) * (high - low);
      const over = middle > at;
      pen.fillStyle = tone(over ? "reject" : "pass");
      const top = Math.min(y(value), floor - 2);
      pen.fillRect(EDGE.left + index * step, top, Math.max(1, step - 1), floor - top);
    });
    if (this.threshold !== null && this.scores.count) {
      this.line(pen, x(this.threshold), height, [5, 4], `in service ${score(this.threshold)}`, width);
      if (this.tried !== null) this.line(pen, x(this.tried), height, [], `tried ${score(this.tried)}`, width);
    }
    this.canvas.setAttribute("aria-label", `Histogram of ${this.scores.count} scores. ${this.sentence()}`);
    show(this.canvas, true);
  }

  axes(pen, width, height, most, x, y) {
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = tone("soft");
    pen.strokeStyle = tone("line");
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    const marks = this.log ? [1, 10, 100, 1000, 10000].filter((value) => value <= most) : [most / 2, most];
    for (const value of [0, ...marks]) {
      const level = Math.round(y(value)) + 0.5;
      pen.beginPath();
      pen.moveTo(EDGE.left, level);
      pen.lineTo(width - EDGE.right, level);
      pen.stroke();
      pen.fillText(whole(value), EDGE.left - 6, level);
    }
    pen.textBaseline = "alphabetic";
    pen.textAlign = "center";
    const [low, high] = this.span;
    const ticks = width > 420 ? 6 : 3;
    for (let index = 0; index <= ticks; index += 1) {
      const value = low + ((high - low) * index) / ticks;
      pen.textAlign = index === 0 ? "left" : index === ticks ? "right" : "center";
      pen.fillText(index === ticks ? `≥ ${score(value)}` : score(value), x(value), height - 6);
    }
  }

  line(pen, at, height, dash, words, width) {
    pen.strokeStyle = tone("ink");
    pen.lineWidth = 2;
    pen.setLineDash(dash);
    pen.beginPath();
    const low = dash.length > 0 ? 32 : 16;
    pen.moveTo(at, low + 2);
    pen.lineTo(at, height - EDGE.bottom);
    pen.stroke();
    pen.setLineDash([]);
    pen.fillStyle = tone("ink");
    pen.font = "600 12px system-ui, sans-serif";
    const long = pen.measureText(words).width;
    pen.textAlign = at + long / 2 > width ? "right" : "center";
    pen.textBaseline = "alphabetic";
    pen.fillText(words, Math.max(long / 2, Math.min(width - 2, at)), low - 3);
  }
}

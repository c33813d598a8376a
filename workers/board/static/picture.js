// A part's picture: colour or depth below, heat above, boxes of defects, and the score under the pointer.

import { partPath, picture, query } from "./api.js";
import { el, mark, put, sharp, show, style } from "./dom.js";
import { score } from "./format.js";
import { HeatMap, heatColour } from "./heat.js";
import { seenWords } from "./words.js";

// Okabe and Ito's colours; the words beside each box say it again, and so does how its line is drawn.
const BOXES = {
  "colour-only": { colour: "#e69f00", dash: [9, 5] },
  "shape-only": { colour: "#56b4e9", dash: [2, 4] },
  both: { colour: "#ffffff", dash: [] },
};
const STEP = 0.01;

/** What a person likes to see; kept while the page is open, whichever part is shown. */
export const liking = { base: "rgb", opacity: 0.85, heat: true, boxes: true };

// All parts of a product on one scale, so that two of them can be compared.
const reachQuery = (reach) => (reach ? `?${query({ near: reach.near, far: reach.far })}` : "");

/** Load everything of a part that is to be drawn. Gives what is there; `gone` says why nothing is. */
export async function loadPictures(row, info, signal) {
  const path = `api/part/${partPath(row.part)}`;
  const raw = { signal, colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const names = ["rgb", "depth", "heat"];
  const wants = [
    info.images.rgb ? picture(`${path}/rgb`, { signal }) : null,
    info.images.depth ? picture(`${path}/depth.png${reachQuery(info.images.depth_reach)}`, { signal }) : null,
    info.images.heatmap ? picture(`${path}/heatmap.png`, raw) : null,
  ];
  const found = { row, rgb: null, depth: null, heat: null, reach: info.images.depth_reach, gone: info.why ?? "" };
  // All of them to their ends: one that fails must not leave the others' failures to nobody.
  const ends = await Promise.allSettled(wants);
  ends.forEach(({ value, reason }, index) => {
    if (value) found[names[index]] = value;
    else if (reason) found.gone = reason.message;
  });
  signal?.throwIfAborted();
  if (found.heat) found.heat = new HeatMap(found.heat, info.images.heatmap, row.threshold ?? 0);
  return found;
}

/** The picture with its controls. */
export class PartPicture {
  constructor() {
    this.shown = null;
    this.probe = null;
    this.canvas = el("canvas", {
      class: "picture",
      tabindex: "0",
      role: "img",
      "aria-label": "Picture of the part. Arrow keys move the probe.",
    });
    this.readout = el("output", { class: "readout", hidden: true });
    this.missing = el("p", { class: "missing", hidden: true });
    this.frame = el("div", { class: "frame" }, this.canvas, this.readout, this.missing);
    this.bases = {
      rgb: this.baseButton("rgb", "Colour"),
      depth: this.baseButton("depth", "Depth"),
    };
    this.slider = el("input", { type: "range", min: "0", max: "100", value: String(100 * liking.opacity), id: "opacity" });
    this.slider.addEventListener("input", () => {
      liking.opacity = Number(this.slider.value) / 100;
      this.draw();
    });
    this.boxes = el("input", { type: "checkbox", id: "boxes" });
    this.boxes.checked = liking.boxes;
    this.boxes.addEventListener("change", () => {
      liking.boxes = this.boxes.checked;
      this.draw();
    });
    this.scale = el("canvas", { class: "scale", role: "img", "aria-label": "Scale of the heat: the middle is the threshold" });
    this.reach = el("p", { class: "reach", hidden: true }, el("span", { text: "Depth" }), (this.near = el("span")), el("span", { class: "reach-bar", "aria-hidden": "true" }), (this.far = el("span")));
    this.controls = el(
      "div",
      { class: "picture-controls" },
      el("label", { class: "slide", for: "opacity" }, el("span", { text: "Heat" }), this.slider),
      el("label", { class: "check" }, this.boxes, "Boxes of defects"),
      this.scale,
      this.reach,
    );
    const bases = el("div", { class: "bases", role: "group", "aria-label": "Picture under the heat" }, this.bases.rgb, this.bases.depth);
    this.node = el("section", { class: "picture-box", "aria-label": "Pictures" }, this.frame, bases, this.controls);
    this.listen();
  }

  baseButton(base, word) {
    const small = el("canvas", { class: "base-small", "aria-hidden": "true" });
    const button = el("button", { type: "button", class: "base", "aria-pressed": "false", onclick: () => this.setBase(base) });
    button.append(small, el("span", { text: word }));
    button.boardSmall = small;
    return button;
  }

  listen() {
    const move = (event) => {
      const box = this.canvas.getBoundingClientRect();
      this.setProbe({ x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height });
    };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerdown", move);
    this.canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.setProbe(null));
    this.canvas.addEventListener("blur", () => this.setProbe(null));
    this.canvas.addEventListener("keydown", (event) => {
      const [right, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
      if (!right && !down) return;
      event.preventDefault();
      event.stopPropagation();
      const from = this.probe ?? this.shown?.heat?.peak() ?? { x: 0.5, y: 0.5 };
      const held = (value) => Math.max(0, Math.min(0.9999, value));
      this.setProbe({ x: held(from.x + right * STEP), y: held(from.y + down * STEP) });
    });
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.frame);
  }

  /** Stop watching. */
  close() {
    this.watch.disconnect();
  }

  /** Choose what lies under the heat: "rgb" or "depth". */
  setBase(base) {
    liking.base = base;
    this.draw();
  }

  /** Change how much of the heat covers the picture, by a share. */
  changeOpacity(by) {
    liking.opacity = Math.max(0, Math.min(1, liking.opacity + by));
    this.slider.value = String(Math.round(100 * liking.opacity));
    this.draw();
  }

  /** Show or hide the boxes. */
  toggleBoxes() {
    this.boxes.click();
  }

  /** Show what `loadPictures` gave, or nothing and why. */
  set(found, why = "") {
    this.shown = found;
    const there = found && (found.rgb || found.depth || found.heat);
    show(this.missing, !there);
    put(this.missing, why || found?.gone || "No picture of this part is kept any more.");
    for (const name of ["rgb", "depth"]) {
      mark(this.bases[name], "disabled", found?.[name] ? null : true);
      small(this.bases[name].boardSmall, found?.[name] ?? null);
    }
    mark(this.slider, "disabled", found?.heat ? null : true);
    const base = this.base();
    style(this.frame, "--ratio", base ? String(base.width / base.height) : "1");
    this.draw();
  }

  base() {
    const shown = this.shown;
    if (!shown) return null;
    return shown[liking.base] ?? shown.rgb ?? shown.depth ?? shown.heat?.picture() ?? null;
  }

  setProbe(probe) {
    this.probe = probe && probe.x >= 0 && probe.x < 1 && probe.y >= 0 && probe.y < 1 ? probe : null;
    this.draw();
  }

  /** Draw all of it. */
  draw() {
    const base = this.base();
    for (const [name, button] of Object.entries(this.bases)) {
      mark(button, "aria-pressed", base && this.shown[name] === base ? "true" : "false");
    }
    this.drawReach(base);
    const room = sharp(this.canvas);
    if (!room || !base) {
      show(this.readout, false);
      return;
    }
    const { pen, width, height } = room;
    const { heat, row } = this.shown;
    const covered = heat && liking.opacity > 0;
    // Colours of the part fade a little under the heat, so that the two cannot be mistaken for each other.
    pen.filter = covered ? `saturate(${1 - 0.75 * liking.opacity}) brightness(${1 - 0.25 * liking.opacity})` : "none";
    pen.imageSmoothingQuality = "high";
    pen.drawImage(base, 0, 0, width, height);
    pen.filter = "none";
    if (covered) this.drawHeat(pen, heat, width, height);
    if (liking.boxes) this.drawBoxes(pen, row, width, height);
    this.drawProbe(pen, width, height);
    this.drawScale(row);
  }

  drawHeat(pen, heat, width, height) {
    pen.save();
    pen.globalAlpha = liking.opacity;
    pen.drawImage(heat.picture(), 0, 0, width, height);
    pen.globalAlpha = Math.min(1, 0.3 + liking.opacity);
    pen.scale(width / heat.width, height / heat.height);
    const scale = heat.width / width;
    pen.strokeStyle = "#000";
    pen.lineWidth = 3 * scale;
    pen.stroke(heat.contour());
    pen.strokeStyle = "#fff";
    pen.lineWidth = 1.2 * scale;
    pen.stroke(heat.contour());
    pen.restore();
  }

  // Boxes are in pixels of the inspected picture: of depth where only depth was inspected.
  drawBoxes(pen, row, width, height) {
    const inspected = (row.mode === "DEPTH" ? this.shown.depth : this.shown.rgb) ?? this.base();
    const across = width / inspected.width;
    const down = height / inspected.height;
    pen.font = "600 13px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const region of [...row.regions].reverse()) {
      const look = BOXES[region.seen_by] ?? { colour: "#ccbec8", dash: [] };
      const box = [region.x * across - 4, region.y * down - 4, region.width * across + 8, region.height * down + 8];
      pen.setLineDash([]);
      pen.lineWidth = 5;
      pen.strokeStyle = "rgba(0,0,0,.75)";
      pen.strokeRect(...box);
      pen.setLineDash(look.dash);
      pen.lineWidth = 2.4;
      pen.strokeStyle = look.colour;
      pen.strokeRect(...box);
      pen.setLineDash([]);
      const words = `${region.seen_by ? seenWords(region.seen_by) : "defect"} ${score(region.score)}`;
      const long = pen.measureText(words).width + 12;
      const left = Math.max(2, Math.min(box[0] - 1, width - long - 2));
      const top = box[1] >= 26 ? box[1] - 24 : Math.min(height - 24, box[1] + box[3] + 4);
      pen.fillStyle = "rgba(0,0,0,.82)";
      pen.fillRect(left, top, long, 21);
      pen.fillStyle = look.colour;
      pen.fillText(words, left + 6, top + 11);
    }
  }

  drawProbe(pen, width, height) {
    const { heat, row } = this.shown;
    const value = this.probe && heat ? heat.at(this.probe.x, this.probe.y) : null;
    show(this.readout, this.probe !== null && this.shown !== null);
    if (!this.probe) return;
    const [x, y] = [this.probe.x * width, this.probe.y * height];
    for (const [line, colour] of [[3.5, "rgba(0,0,0,.8)"], [1.5, "#fff"]]) {
      pen.lineWidth = line;
      pen.strokeStyle = colour;
      pen.beginPath();
      pen.arc(x, y, 8, 0, 2 * Math.PI);
      pen.stroke();
    }
    let words = "no heatmap is kept of this part";
    if (value !== null) {
      const over = row.threshold !== null && value > row.threshold;
      // The map ends at its own scale: what was higher reads as its end.
      words = `${score(value)}${value >= heat.high ? " or more," : ""} ${over ? "over" : "under"} the threshold ${score(row.threshold)}`;
      mark(this.readout, "data-over", over ? "yes" : "no");
    }
    put(this.readout, words);
    // Beside the place and not on it; to the side that has more room.
    const right = x < width / 2;
    style(this.readout, "left", `${right ? x + 18 : x - 18}px`);
    style(this.readout, "top", `${Math.min(height - 36, y + 12)}px`);
    style(this.readout, "transform", right ? "none" : "translateX(-100%)");
  }

  // What light and dark mean, in the unit of the sensor, while depth is what is seen.
  drawReach(base) {
    const reach = this.shown?.reach;
    const seen = Boolean(reach && base && base === this.shown.depth);
    show(this.reach, seen);
    if (!seen) return;
    const [near, far] = reach.shown;
    const places = reach.unit === "counts" ? 0 : Math.max(0, Math.min(3, 2 - Math.floor(Math.log10(Math.max(1e-3, far - near)))));
    put(this.near, `near ${near.toFixed(places)} ${reach.unit}`);
    put(this.far, `far ${far.toFixed(places)} ${reach.unit}`);
  }

  drawScale(row) {
    show(this.scale, Boolean(this.shown.heat));
    const room = this.shown.heat ? sharp(this.scale) : null;
    if (!room) return;
    const { pen, width } = room;
    for (let x = 0; x < width; x += 1) {
      pen.fillStyle = `rgb(${heatColour(x / width).join(" ")})`;
      pen.fillRect(x, 0, 1.5, 12);
    }
    pen.fillStyle = "#fff";
    pen.fillRect(width / 2 - 1, 0, 2, 12);
    pen.fillStyle = getComputedStyle(this.scale).color;
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "top";
    const marks = [["0", 0, "left"], [`threshold ${score(row.threshold)}`, width / 2, "center"], [`${score(2 * row.threshold)}`, width, "right"]];
    for (const [words, x, align] of marks) {
      pen.textAlign = align;
      pen.fillText(words, x, 17);
    }
  }
}

// Without an image it is empty: what another part looked like is not to stay.
function small(canvas, image) {
  const [width, height] = [400, 300];
  canvas.width = width;
  canvas.height = height;
  if (!image) return;
  const share = Math.max(width / image.width, height / image.height);
  const [across, down] = [image.width * share, image.height * share];
  canvas.getContext("2d").drawImage(image, (width - across) / 2, (height - down) / 2, across, down);
}

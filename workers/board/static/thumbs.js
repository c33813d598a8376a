// Small pictures of the last parts: a few a second for the whole page, however many stations there are.

import { partPath, picture } from "./api.js";
import { model } from "./model.js";

const AT_ONCE = 2;
const SHARE = 8; // of the time, one in this many is spent on pictures
const AGAIN_MS = 1500;
const SIDES = [160, 480]; // of a wall of many tiles, of one of few

const wanted = new Map(); // station -> {row, canvas, done}
const loaded = new Map(); // station -> {part, at}
let running = 0;
let nextAt = 0;

/** Ask for the picture of a row on a canvas; only the newest of a station is ever loaded. */
export function wantThumb(row, canvas, done) {
  const last = loaded.get(row.station);
  if (last?.part === row.part && last.canvas === canvas) return;
  wanted.set(row.station, { row, canvas, done });
  pump();
}

/** Forget everything, as when the view is closed. */
export function dropThumbs() {
  wanted.clear();
  loaded.clear();
}

function pump() {
  const at = performance.now();
  if (running >= AT_ONCE || !wanted.size || document.hidden) return;
  if (at < nextAt) {
    if (!pump.timer) {
      pump.timer = setTimeout(() => {
        pump.timer = 0;
        pump();
      }, nextAt - at);
    }
    return;
  }
  const next = choose(at);
  if (!next) return;
  wanted.delete(next.row.station);
  load(next);
  pump();
}

function choose(at) {
  // What was not passed first, then the station that has waited longest.
  let best = null;
  let rank = -Infinity;
  for (const entry of wanted.values()) {
    const last = loaded.get(entry.row.station);
    const age = last && last.canvas === entry.canvas ? at - last.at : 1e9;
    if (age < AGAIN_MS && entry.row.decision === "PASS") continue;
    const value = age + (entry.row.decision === "PASS" ? 0 : 5000);
    if (value > rank) [best, rank] = [entry, value];
  }
  return best;
}

async function load({ row, canvas, done }) {
  running += 1;
  const started = performance.now();
  loaded.set(row.station, { part: row.part, canvas, at: started });
  try {
    const path = `api/part/${partPath(row.part)}/rgb`;
    const side = canvas.clientWidth > 1.4 * SIDES[0] ? SIDES[1] : SIDES[0];
    const image = await picture(path, { resizeWidth: side, resizeQuality: "medium" });
    draw(canvas, image, side);
    image.close();
    done(row, true);
  } catch {
    done(row, false);
  } finally {
    running -= 1;
    const took = performance.now() - started;
    nextAt = performance.now() + Math.min(1000, (took * SHARE) / 4 / AT_ONCE);
    if (model.fresh) pump();
  }
}

function draw(canvas, image, across) {
  const side = Math.min(image.width, image.height);
  if (canvas.width !== across) canvas.width = canvas.height = across;
  const pen = canvas.getContext("2d");
  const [left, top] = [(image.width - side) / 2, (image.height - side) / 2];
  pen.drawImage(image, left, top, side, side, 0, 0, across, across);
}

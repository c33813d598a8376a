// One station's tile: the last decision large, what it rests on, and how the station has been doing.

import { el, mark, put, sharp, show, style, tone } from "./dom.js";
import { percent, rate, score, since, span } from "./format.js";
import { model, now, persistent, shares, silence } from "./model.js";
import { lamp, setLamp, setShape, shape } from "./shapes.js";
import { wantThumb } from "./thumbs.js";
import { driftsWords, faultWords, NAMES, SENSORS, shortWhy } from "./words.js";

const STRIP = 36;

/** The tile's element, empty. */
export function makeTile(name) {
  const link = el("a", { class: "tile-name", href: `#/station/${encodeURIComponent(name)}`, text: name });
  const thumb = el("canvas", { class: "thumb", width: 160, height: 160, "aria-hidden": "true" });
  const thumbMark = shape("PASS");
  const sign = shape("PASS");
  const parts = {
    link,
    thumb,
    thumbMark,
    sign,
    thumbBox: el("div", { class: "thumb-box", data: { empty: "yes" } }, thumb, thumbMark),
    product: el("span", { class: "tile-product" }),
    word: el("span", { class: "word" }),
    why: el("span", { class: "why" }),
    fill: el("span", { class: "bar-fill" }),
    figures: el("span", { class: "bar-figures" }),
    lamps: { rgb: lamp("unknown"), depth: lamp("unknown") },
    lampWord: el("span", { class: "lamp-word" }),
    strip: el("canvas", { class: "strip", "aria-hidden": "true" }),
    rate: el("span", { class: "tile-rate" }),
    share: el("span", { class: "tile-share" }),
    drift: el("span", { class: "tile-drift", hidden: true }),
    trouble: el("span", { class: "tile-drift", hidden: true }),
  };
  parts.verdict = el("p", { class: "tile-verdict" }, sign, el("span", { class: "words" }, parts.word, parts.why));
  parts.bar = el("div", { class: "bar" }, parts.fill, el("span", { class: "bar-threshold" }));
  const tile = el(
    "li",
    { class: "tile" },
    el(
      "div",
      { class: "tile-in" },
      el("h2", { class: "tile-head" }, link, parts.product),
      el("div", { class: "tile-mid" }, parts.thumbBox, parts.verdict),
      el("div", { class: "tile-bar" }, parts.bar, parts.figures),
      el("p", { class: "tile-lamps" }, parts.lamps.rgb, parts.lamps.depth, parts.lampWord, parts.drift),
      parts.strip,
      el("p", { class: "tile-foot" }, parts.rate, parts.share, parts.trouble),
    ),
  );
  tile.boardParts = parts;
  return tile;
}

/** Bring a tile up to date. */
export function fillTile(tile, found) {
  const parts = tile.boardParts;
  const row = found.latest;
  const info = found.info;
  const product = row?.product ?? info?.product ?? "";
  const due = info?.product_due;
  put(parts.product, due && due !== product ? `${product} → ${due}` : product);
  fillVerdict(tile, parts, found, row);
  fillBar(parts, row);
  fillLamps(parts, info, row);
  fillFoot(parts, info, found);
  drawStrip(parts.strip, found.rows);
  // Of a part that is missing there is no picture to ask for.
  if (row && row.decision !== "MISSING" && model.fresh && !silence(found)) {
    wantThumb(row, parts.thumb, (of, there) => {
      mark(parts.thumbBox, "data-empty", there ? "no" : "yes");
      setShape(parts.thumbMark, of.decision);
      mark(parts.thumbBox, "data-decision", of.decision);
    });
  }
}

function fillVerdict(tile, parts, found, row) {
  const stale = !model.fresh;
  const quiet = stale ? 0 : silence(found);
  const known = row && NAMES.includes(row.decision) ? row.decision : "ERROR";
  setShape(parts.sign, row && !quiet && !stale ? known : "QUIET");
  mark(tile, "data-decision", row ? known : "NONE");
  mark(tile, "data-quiet", quiet > 0 || !row);
  if (!row) {
    put(parts.word, "no part yet");
    put(parts.why, "");
  } else if (quiet || stale) {
    // What was true once must never look as if it were true now.
    put(parts.word, stale ? `was ${row.decision}` : `no part for ${span(quiet)}`);
    put(parts.why, stale ? `at ${since(row.decided_at, now())}` : `last: ${row.decision}`);
  } else {
    put(parts.word, row.decision);
    put(parts.why, shortWhy(row));
  }
}

function fillBar(parts, row) {
  const scored = row && row.score !== null && row.threshold;
  mark(parts.bar, "data-scored", scored ? "yes" : "no");
  // The threshold is in the middle; what is twice as high fills the bar.
  const share = scored ? Math.max(0.02, Math.min(1, row.score / row.threshold / 2)) : 0;
  style(parts.fill, "transform", `scaleX(${share.toFixed(3)})`);
  mark(parts.bar, "data-over", scored && row.score > row.threshold);
  put(parts.figures, scored ? `${score(row.score)} of ${score(row.threshold)}` : "not scored");
}

/** A station's sensors in words: what verdicts rest on, and what is wrong since when. */
export function sensorWords(sensors, mode) {
  if (model.state?.sinks?.redis === false) {
    return { head: "Sensors not known", short: "Sensors not known", told: "", why: "Redis is away", level: "suspect" };
  }
  const ill = Object.entries(sensors ?? {}).filter(([, sensor]) => sensor.state !== "up");
  const out = ill.filter(([, sensor]) => sensor.state === "down" || sensor.state === "recovering");
  const names = out.map(([name]) => name);
  let head = { FUSED: "Fused", RGB: "RGB only", DEPTH: "Depth only" }[mode] ?? "No sensor";
  if (names.length === 2) head = "No sensor";
  else if (names[0] === "depth") head = "RGB only";
  else if (names[0] === "rgb") head = "Depth only";
  const told = (out.length ? out : ill).map(([name, sensor]) => {
    const from = sensor.since ? ` since ${since(sensor.since, now())}` : "";
    return `${SENSORS[name]} ${sensor.state}${from}`;
  });
  const why = ill.map(([name, sensor]) => (sensor.why ? `${SENSORS[name]} ${faultWords(sensor.why)}` : "")).filter(Boolean);
  const level = out.length ? "down" : ill.length ? "suspect" : "up";
  const from = Math.min(...out.map(([, sensor]) => sensor.since ?? Infinity));
  let short = head;
  if (level === "down" && Number.isFinite(from)) short = `${head} since ${since(from, now())}`;
  if (level === "suspect") short = `${head}, ${ill.map(([name]) => SENSORS[name]).join(" and ")} suspect`;
  return { head, short, told: told.join(", "), why: why.join("; "), level };
}

function fillLamps(parts, info, row) {
  const words = sensorWords(info?.sensors, row?.mode ?? info?.mode);
  const told = model.state?.sinks?.redis !== false;
  for (const name of ["rgb", "depth"]) setLamp(parts.lamps[name], (told && info?.sensors?.[name]?.state) || "unknown");
  put(parts.lampWord, words.short);
  mark(parts.lampWord.parentElement, "data-level", words.level);
  mark(parts.lampWord.parentElement, "title", [words.told, words.why].filter(Boolean).join(": ") || null);
}

function fillFoot(parts, info, found) {
  const share = shares(info);
  put(parts.rate, model.fresh ? `${rate(info?.rate)}/s` : "–/s");
  put(parts.share, `${percent(share.rejected, share.scored)} rejected`);
  mark(parts.share, "title", `${share.rejected} of ${share.scored} scored parts of the last 10 minutes`);
  const often = persistent(found);
  show(parts.trouble, often !== null);
  // Of parts that are not scored no share can be told, and there is no room for both.
  show(parts.share, often === null);
  put(parts.trouble, often ? `▲ ${often.held} of ${often.all} not passed` : "");
  const drift = driftsWords(info);
  show(parts.drift, drift !== "");
  put(parts.drift, drift && `▲ ${drift}`);
  mark(parts.drift, "title", parts.drift.textContent || null);
}

/** The last parts as marks: a low one for a PASS, tall ones for the rest, told apart by form. */
export function drawStrip(canvas, rows) {
  const newest = rows[rows.length - 1];
  const said = `${newest?.part} ${rows.length} ${canvas.clientWidth} ${tone("ink")}`;
  if (canvas.boardSaid === said) return;
  const room = sharp(canvas);
  if (!room) return;
  canvas.boardSaid = said;
  const { pen, width, height } = room;
  const step = width / STRIP;
  const shown = rows.slice(-STRIP);
  shown.forEach((row, index) => {
    const left = width - (shown.length - index) * step;
    const thick = Math.max(2, step - 2);
    pen.fillStyle = tone(row.decision.toLowerCase()) || tone("soft");
    if (row.decision === "PASS") pen.fillRect(left, height * 0.62, thick, height * 0.38);
    else if (row.decision === "REJECT") pen.fillRect(left, 0, thick, height);
    else {
      // In two pieces: not a defect, and not good.
      pen.fillRect(left, 0, thick, height * 0.36);
      pen.fillRect(left, height * 0.62, thick, height * 0.38);
    }
  });
}

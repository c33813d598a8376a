// One station or one part: follow the newest part, or stay with one and look at it closely.

import { get, partPath } from "./api.js";
import { el, mark, put, show, sync } from "./dom.js";
import { clock, moment, partWords, percent, rate, span } from "./format.js";
import { takeBack } from "./labels.js";
import { after, model, now, shares, silence } from "./model.js";
import { ask } from "./paint.js";
import { liking, loadPictures, PartPicture } from "./picture.js";
import { setShape, shape } from "./shapes.js";
import { partLink } from "./ticker.js";
import { sensorWords } from "./tile.js";
import { verdictPanel } from "./verdict.js";
import { driftsWords, labelWords } from "./words.js";

const AGAIN_MS = 700; // between two parts while following: longer than an eye needs to see one
const HEAT_MS = 5000;
const STRIP = 40;
const LATE_MS = 3000; // a newer part that is fetched for so long makes the one shown old

let view = null;

function mount(main, name, words) {
  const picture = new PartPicture();
  view = {
    picture,
    title: el("span"),
    which: el("span", { class: "which" }),
    status: el("p", { class: "station-status" }),
    panel: el("aside", { class: "panel", "aria-label": "Verdict" }),
    strip: el("ol", { class: "parts-strip", "aria-label": "Recent parts of this station" }),
    follow: el("button", { type: "button", class: "quiet", onclick: toggleFollow }),
    old: el("p", { class: "old-note", hidden: true }),
    abort: null,
    loading: false,
    begunAt: 0,
    loadedAt: 0,
    shown: null,
  };
  const step = (by, label, sign) =>
    el("button", { type: "button", class: "quiet", "aria-label": label, title: label, text: sign, onclick: () => stepBy(by) });
  main.append(
    el("div", { class: "part-head" }, el("div", {}, el("h1", {}, view.title, view.which), view.status), el("div", { class: "part-steps" }, step(-1, "Previous part", "←"), view.follow, step(1, "Next part", "→"))),
    view.old,
    el("div", { class: "part-body" }, picture.node, view.panel),
    view.strip,
  );
  turn(name, words);
  return () => {
    view.abort?.abort();
    picture.close();
    view = null;
  };
}

/** Go to another station or part without building the view anew. */
function turn(name, words) {
  if (!view || !words[0]) return false;
  view.abort?.abort();
  view.station = words[0];
  view.pinned = name === "part" ? words.slice(0, 3).join("/") : null;
  view.loading = false;
  view.loadedAt = 0;
  if (!view.pinned || view.shown?.part !== view.pinned) view.tried = null;
  put(view.title, view.station);
  // Nothing of another station may stand under this one's name.
  if (view.shown?.station !== view.station) empty(found()?.latest || view.pinned ? "" : `No part of ${view.station} is known here.`);
  ask();
  return true;
}

function empty(why, picture = why) {
  view.shown = null;
  view.picture.set(null, picture || " ");
  view.panel.replaceChildren(el("p", { class: "empty", text: why }));
}

const found = () => model.stations.get(view.station);

function wanted() {
  if (view.pinned) return view.pinned;
  return found()?.latest?.part ?? null;
}

function paint() {
  if (!view) return;
  const part = wanted();
  const due = view.pinned || performance.now() - view.loadedAt >= AGAIN_MS;
  if (part && part !== view.tried && !view.loading && due) load(part);
  paintHead();
  const rows = [...(found()?.rows ?? [])].reverse().slice(0, STRIP);
  sync(view.strip, rows, { key: (row) => row.part + (row.label ?? ""), make: stripItem, fill: stripFill });
}

function stripItem(row) {
  const link = el("a", { href: partLink(row), class: "strip-part", data: { decision: row.decision }, title: `${row.decision}, ${clock(row.decided_at)}` });
  link.append(shape(row.decision), el("span", { text: row.decision }), el("small", { text: `#${row.trigger}` }));
  return el("li", {}, link);
}

function stripFill(node, row) {
  mark(node.firstElementChild, "aria-current", row.part === view.shown?.part ? "true" : null);
}

function paintHead() {
  const station = found();
  put(view.follow, view.pinned ? "Follow the newest" : "Stay with this part");
  mark(view.follow, "aria-pressed", view.pinned ? "false" : "true");
  const share = shares(station?.info);
  const sensors = sensorWords(station?.info?.sensors, station?.latest?.mode);
  const quiet = station ? silence(station) : 0;
  const drift = driftsWords(station?.info);
  const facts = [
    station ? [sensors.head, sensors.told].filter(Boolean).join(" · ") : "",
    quiet ? `no part for ${span(quiet)}` : `${rate(station?.info?.rate)} parts/s`,
    `${percent(share.rejected, share.scored)} rejected of ${share.scored} scored in 10 min`,
    drift ? `▲ ${drift}` : "",
    station?.info?.product_due && station.info.product_due !== station.info.product ? `next product: ${station.info.product_due}` : "",
  ];
  put(view.status, station ? facts.filter(Boolean).join("   ·   ") : "This station has not sent anything lately.");
  const row = view.shown;
  const late = view.loading && performance.now() - view.begunAt > LATE_MS && view.tried !== row?.part;
  const aged = row && !view.pinned && (!station || quiet > 0 || late || !model.fresh);
  mark(view.panel, "data-old", aged ? "" : null);
  show(view.old, aged);
  const which = late ? "a newer part is on its way here; this one is" : "this is the last part,";
  if (aged) put(view.old, `Not live: ${which} ${span(now() - row.decided_at)} old.`);
  put(view.which, row ? `#${row.trigger} of ${moment(row.captured_at)}${view.pinned ? ", kept here" : ""}` : "");
  // A screen must not go on saying PASS of a part that is long gone.
  const word = view.panel.querySelector(".verdict-word");
  if (row && word) {
    put(word, aged ? `was ${row.decision}` : row.decision);
    setShape(view.panel.querySelector(".verdict .shape"), aged ? "QUIET" : row.decision);
    document.title = `${aged ? "was " : ""}${row.decision} ${row.station} – Crosscheck`;
  }
}

async function load(part) {
  view.abort?.abort();
  const abort = new AbortController();
  const mine = view;
  mine.abort = abort;
  mine.loading = true;
  mine.begunAt = performance.now();
  mine.tried = part;
  try {
    const info = await get(`api/part/${partPath(part)}`, { signal: abort.signal });
    const pictures = await loadPictures(info.row, info, abort.signal);
    if (mine !== view || abort.signal.aborted) return;
    display(info.row, pictures);
    // The heatmap is stored behind its verdict: who looks at once looks again.
    const young = now() - info.row.decided_at < HEAT_MS;
    if (young && info.row.mode && info.row.decision !== "PASS" && !pictures.heat) setTimeout(() => lookAgain(mine, part), AGAIN_MS);
  } catch (error) {
    if (error.name === "AbortError" || mine !== view) return;
    const row = found()?.rows.find((other) => other.part === part);
    if (row) display(row, null, error.message);
    else if (mine.pinned) empty(`Nothing is known of part ${partWords(part)}.`, error.message);
  } finally {
    if (mine.abort === abort) {
      mine.loading = false;
      mine.loadedAt = performance.now();
      // Something newer may have come meanwhile.
      if (!mine.pinned) setTimeout(ask, AGAIN_MS);
    }
  }
}

function lookAgain(mine, part) {
  if (mine !== view || view.shown?.part !== part || wanted() !== part) return;
  view.tried = null;
  ask();
}

// Picture and words change together: a PASS must never stand beside the picture of another part.
function display(row, pictures, why) {
  view.shown = row;
  view.pictures = pictures;
  view.picture.set(pictures ?? { row, rgb: null, depth: null, heat: null }, why);
  const openness = view.panel.querySelector("details")?.open ?? false;
  view.panel.replaceChildren(verdictPanel(row), labelled(row) ?? "");
  const details = view.panel.querySelector("details");
  if (details) details.open = openness;
  ask();
}

/** A label may be taken back long after it was given, by whoever may act. */
function labelled(row) {
  if (!row.label || !model.state?.signed_in) return null;
  const told = el("p", { class: "told", role: "status" });
  const back = async () => {
    try {
      const free = await takeBack(row, true);
      if (view?.shown?.part === row.part) display(free, view.pictures);
    } catch (error) {
      put(told, `Not taken back: ${error.message}.`);
    }
  };
  return el("section", { class: "take-back" }, el("button", { type: "button", class: "quiet", text: `Take back the label ${labelWords(row.label)}`, onclick: back }), told);
}

function stepBy(by) {
  const rows = found()?.rows ?? [];
  const part = view.shown?.part;
  let at = rows.findIndex((row) => row.part === part);
  if (at < 0 && view.shown) at = rows.findIndex((row) => after(row, view.shown)) - (by > 0 ? 1 : 0);
  const next = rows[at + by];
  if (next) location.hash = partLink(next);
}

function toggleFollow() {
  if (view.pinned) location.hash = `#/station/${encodeURIComponent(view.station)}`;
  else if (view.shown) location.hash = partLink(view.shown);
}

function toggleHeat() {
  view.picture.changeOpacity(liking.opacity > 0 ? -1 : 0.85);
}

export const parts = {
  mount,
  turn,
  paint,
  keys: [
    ["ArrowLeft", "Previous part", () => stepBy(-1)],
    ["ArrowRight", "Next part", () => stepBy(1)],
    [" ", "Stay with this part, or follow the newest", toggleFollow],
    ["c", "Colour under the heat", () => view.picture.setBase("rgb")],
    ["d", "Depth under the heat", () => view.picture.setBase("depth")],
    ["h", "Heat on or off", toggleHeat],
    ["[", "Less heat", () => view.picture.changeOpacity(-0.1)],
    ["]", "More heat", () => view.picture.changeOpacity(0.1)],
    ["b", "Boxes of defects on or off", () => view.picture.toggleBoxes()],
  ],
};

// The wall: a tile a station, as many as fit, and the newest verdicts along the bottom.

import { el, mark, put, style, sync } from "./dom.js";
import { percent, rate, whole } from "./format.js";
import { model, shares, silence, trouble } from "./model.js";
import { dropThumbs } from "./thumbs.js";
import { chip } from "./ticker.js";
import { fillTile, makeTile } from "./tile.js";

const CHIPS = 14;
const SORT_MS = 3000;
const GAP = 8;
const LEAST = { width: 196, height: 136 };
const MOST = { width: 1400, height: 920 };
const STORED = "board.trouble-first";

let grid;
let chips;
let summary;
let empty;
let troubleFirst = localStorage.getItem(STORED) === "yes";
let order = [];
let sortedAt = -SORT_MS;

function mount(main) {
  const box = el("input", { type: "checkbox", id: "trouble-first" });
  box.checked = troubleFirst;
  box.addEventListener("change", () => {
    troubleFirst = box.checked;
    localStorage.setItem(STORED, troubleFirst ? "yes" : "no");
    sortedAt = -SORT_MS;
    paint();
  });
  summary = {
    running: el("strong"),
    trouble: el("strong"),
    rejected: el("strong"),
    held: el("strong"),
  };
  const facts = el(
    "p",
    { class: "facts" },
    el("span", {}, summary.running, " stations running"),
    el("span", {}, summary.trouble, " with trouble"),
    el("span", {}, summary.rejected, " rejected"),
    el("span", {}, summary.held, " held back, last 10 min"),
  );
  grid = el("ul", { class: "tiles", "aria-label": "Stations" });
  empty = el("p", { class: "empty", text: "No station has sent anything yet." });
  chips = el("ol", { class: "chips", "aria-label": "Newest verdicts" });
  main.append(
    el("h1", { class: "unseen", text: "Stations" }),
    el("div", { class: "bar-top" }, facts, el("label", { class: "check" }, box, "Trouble first")),
    grid,
    empty,
    chips,
  );
  order = [];
  window.addEventListener("resize", fit);
  return () => {
    window.removeEventListener("resize", fit);
    dropThumbs();
  };
}

/** As many columns as let every tile fit; where they do not fit, tiles of the least height, and scrolling. */
function fit() {
  const count = Math.max(1, order.length);
  const width = grid.clientWidth;
  const height = window.innerHeight - grid.getBoundingClientRect().top - window.scrollY - chips.offsetHeight - 16;
  let best = null;
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const across = (width - GAP * (columns - 1)) / columns;
    const down = Math.min(MOST.height, (height - GAP * (rows - 1)) / rows);
    if (across < LEAST.width || down < LEAST.height) continue;
    const size = Math.min(across / 1.45, down);
    if (!best || size > best.size) best = { size, columns, down };
  }
  mark(grid, "data-fits", best ? "yes" : "no");
  const columns = best?.columns ?? Math.max(1, Math.floor((width + GAP) / (LEAST.width + 30 + GAP)));
  style(grid, "--columns", String(columns));
  style(grid, "--tile-height", `${Math.floor(best?.down ?? (width < 480 ? 172 : 168))}px`);
  style(grid, "--tile-most", `${MOST.width}px`);
}

function sorted(all) {
  const at = performance.now();
  const names = new Set(order);
  if (at - sortedAt < SORT_MS && order.length === all.length && all.every((found) => names.has(found.name))) {
    // Tiles that jump with every verdict cannot be read.
    return order.map((name) => model.stations.get(name));
  }
  sortedAt = at;
  const byName = all.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  if (!troubleFirst) return byName;
  const ranks = new Map(byName.map((found) => [found, trouble(found)]));
  return byName.sort((a, b) => ranks.get(b) - ranks.get(a));
}

function paint() {
  const all = sorted([...model.stations.values()]);
  const changed = all.length !== order.length;
  order = all.map((found) => found.name);
  sync(grid, all, { key: (found) => found.name, make: (found) => makeTile(found.name), fill: fillTile });
  mark(empty, "hidden", all.length > 0 || !model.state);
  if (changed) fit();
  paintSummary(all);
  sync(chips, model.rows.slice(0, CHIPS), { key: (row) => row.part, make: (row) => el("li", {}, chip(row)) });
}

function paintSummary(all) {
  const totals = { all: 0, scored: 0, rejected: 0, held: 0 };
  let running = 0;
  let troubled = 0;
  for (const found of all) {
    const share = shares(found.info);
    totals.all += share.all;
    totals.scored += share.scored;
    totals.rejected += share.rejected;
    totals.held += share.all - share.rejected - share.passed;
    if (found.latest && !silence(found)) running += 1;
    if (trouble(found) >= 300) troubled += 1;
  }
  put(summary.running, `${running} of ${all.length}`);
  put(summary.trouble, whole(troubled));
  mark(summary.trouble.parentElement, "data-some", troubled > 0);
  put(summary.rejected, percent(totals.rejected, totals.scored));
  put(summary.held, percent(totals.held, totals.all));
  mark(summary.running.parentElement, "title", `${rate(model.state?.verdicts_per_s)} verdicts a second`);
}

/** Move the focus among the tiles as they lie. */
function walk(right, down) {
  const links = [...grid.querySelectorAll(".tile-name")];
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  const columns = Number(grid.style.getPropertyValue("--columns")) || 1;
  const next = at < 0 ? 0 : Math.max(0, Math.min(links.length - 1, at + right + down * columns));
  links[next].focus();
}

function toggleTrouble() {
  document.getElementById("trouble-first").click();
}

export const stations = {
  mount,
  paint,
  keys: [
    ["ArrowLeft", "Tile to the left", () => walk(-1, 0)],
    ["ArrowRight", "Tile to the right", () => walk(1, 0)],
    ["ArrowUp", "Tile above", () => walk(0, -1)],
    ["ArrowDown", "Tile below", () => walk(0, 1)],
    ["Enter", "Open the station of the tile", null],
    ["t", "Trouble first, on or off", toggleTrouble],
  ],
};

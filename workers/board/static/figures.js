// How the line has been doing: throughput, latency, rejects, and the scores against the threshold.

import { get, query } from "./api.js";
import { Chart } from "./charts.js";
import { el, mark, put, style, sync } from "./dom.js";
import { millis, percent, rate, whole } from "./format.js";
import { Histogram } from "./histogram.js";
import { model, shares, silence } from "./model.js";
import { shape } from "./shapes.js";
import { DECISIONS, NAMES } from "./words.js";

const AGAIN_MS = 5000;
const SCORES_MS = 15_000;

let view = null;
let station = "";

function mount(main) {
  const field = el("select", { id: "figures-station" });
  field.addEventListener("change", () => {
    station = field.value;
    view.asked = view.scored = 0;
    paint();
  });
  view = {
    field,
    asked: 0,
    scored: 0,
    throughput: new Chart({
      title: "Throughput",
      unit: "verdicts a second",
      stacked: true,
      series: [
        { name: "rejected", tone: "reject" },
        { name: "not rejected", tone: "pass" },
      ],
      format: (value) => rate(value ?? null),
    }),
    latency: new Chart({
      title: "Latency",
      unit: "captured to decided",
      series: [
        { name: "p50", tone: "ink" },
        { name: "p95", tone: "review", dash: true },
      ],
      format: millis,
    }),
    rejects: new Chart({
      title: "Rejected",
      unit: "share of scored parts",
      most: 100,
      series: [{ name: "rejected", tone: "reject" }],
      format: (value) => (value === null || value === undefined ? "–" : `${value.toFixed(value >= 10 || value === 0 ? 0 : 1)} %`),
    }),
    histogram: new Histogram(),
    table: el("tbody"),
    note: el("p", { class: "note" }),
  };
  main.append(
    el("div", { class: "view-head" }, el("h1", { text: "Figures" }), el("div", { class: "filters" }, el("label", { for: "figures-station", text: "Station" }), field)),
    el("div", { class: "charts" }, view.throughput.node, view.latency.node, view.rejects.node),
    view.histogram.node,
    el("section", { class: "card" }, el("h2", { text: "Decisions of the last ten minutes" }), decisionTable(), view.note),
  );
  return () => {
    for (const part of [view.throughput, view.latency, view.rejects, view.histogram]) part.close();
    view = null;
  };
}

function decisionTable() {
  const heads = ["Station", "Decisions", ...NAMES, "Rejected", "False rejects"];
  const numbers = new Set([...NAMES, "Rejected", "False rejects"]);
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Decisions by station" },
    el(
      "table",
      { class: "list decisions" },
      el("thead", {}, el("tr", {}, heads.map((text) => el("th", { scope: "col", class: numbers.has(text) ? "number" : null }, DECISIONS[text] ? shape(text) : null, text)))),
      view.table,
    ),
  );
}

function makeLine(found) {
  const bar = el("div", { class: "stack", "aria-hidden": "true" }, NAMES.map((name) => el("span", { data: { decision: name } })));
  const cells = NAMES.map(() => el("td", { class: "number" }));
  const parts = { bar, cells, share: el("td", { class: "number" }), wrong: el("td", { class: "number" }) };
  const name = found.total ? el("strong", { text: found.name }) : el("a", { href: `#/station/${encodeURIComponent(found.name)}`, text: found.name });
  const line = el("tr", { class: found.total ? "total" : null }, el("th", { scope: "row" }, name), el("td", { class: "stack-cell" }, bar), cells, parts.share, parts.wrong);
  line.boardParts = parts;
  return line;
}

function fillLine(line, found) {
  const { bar, cells, share, wrong } = line.boardParts;
  const { counts, scored, rejected } = shares(found.info);
  NAMES.forEach((name, index) => {
    style(bar.children[index], "flex-grow", String(counts[name] ?? 0));
    put(cells[index], whole(counts[name] ?? 0));
    mark(cells[index], "data-none", counts[name] ? null : "");
  });
  put(share, percent(rejected, scored));
  const labelled = found.info?.false_rejects;
  put(wrong, labelled?.labelled ? `${percent(labelled.false, labelled.labelled)} (${labelled.false} of ${labelled.labelled})` : "not reviewed");
}

function total(all) {
  const counts = {};
  const wrong = { labelled: 0, false: 0 };
  for (const found of all) {
    for (const [name, count] of Object.entries(found.info?.counts ?? {})) counts[name] = (counts[name] ?? 0) + count;
    wrong.labelled += found.info?.false_rejects?.labelled ?? 0;
    wrong.false += found.info?.false_rejects?.false ?? 0;
  }
  return { name: "All stations", total: true, info: { counts, false_rejects: wrong } };
}

function paint() {
  if (!view || !model.state) return;
  const all = [...model.stations.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  chooseStation(all.map((found) => found.name));
  const shown = station ? all.filter((found) => found.name === station) : all;
  sync(view.table, shown.length > 1 ? [total(shown), ...shown] : shown, { key: (found) => (found.total ? " total" : found.name), make: makeLine, fill: fillLine });
  put(view.note, "False rejects: of the rejects that somebody has reviewed.");
  view.histogram.choose(products(shown), station);
  const at = performance.now();
  if (!view.scored || at - view.scored > SCORES_MS) {
    view.scored = at;
    view.histogram.load();
  }
  if (!view.asked || at - view.asked > AGAIN_MS) {
    view.asked = at;
    load();
  }
}

/** The products of these stations, what runs now first: by how many stations, then by which came last. */
function products(shown) {
  const ranks = new Map();
  for (const found of shown) {
    if (found.info?.product && !ranks.has(found.info.product)) ranks.set(found.info.product, [0, 0]);
    const { latest } = found;
    if (!latest) continue;
    const [stations, last] = ranks.get(latest.product) ?? [0, 0];
    ranks.set(latest.product, [stations + (silence(found) ? 0 : 1), Math.max(last, latest.decided_at)]);
  }
  return [...ranks].sort(([a, [n, at]], [b, [m, bt]]) => m - n || bt - at || (a < b ? -1 : 1)).map(([name]) => name);
}

function chooseStation(names) {
  const said = names.join("\n");
  if (view.field.boardSaid === said) return;
  view.field.boardSaid = said;
  view.field.replaceChildren(el("option", { value: "", text: "all stations" }), ...names.map((name) => el("option", { value: name, text: name })));
  if (!names.includes(station)) station = "";
  view.field.value = station;
}

async function load() {
  const mine = view;
  try {
    const { t, step_s, verdicts, scored, rejected, p50, p95 } = await get(`api/series?${query({ station })}`);
    if (mine !== view) return;
    const each = (list) => list.map((value) => (value ?? 0) / step_s);
    const others = verdicts.map((count, index) => count - (rejected[index] ?? 0));
    view.throughput.set(t, [each(rejected), each(others)]);
    view.latency.set(t, [p50, p95]);
    view.rejects.set(t, [scored.map((count, index) => (count ? (100 * (rejected[index] ?? 0)) / count : null))]);
  } catch (error) {
    if (mine === view) put(view.note, `The curves cannot be read: ${error.message}.`);
  }
}

export const figures = {
  mount,
  paint,
  keys: [
    ["s", "Choose a station", () => document.getElementById("figures-station").focus()],
    ["w", "Try another threshold", () => document.getElementById("what-if").focus()],
  ],
};

// Verdicts as they come: chips along the wall, and a view with the last three hundred.

import { el, mark, put, sync } from "./dom.js";
import { clock, millis, partWords, score } from "./format.js";
import { model, stats } from "./model.js";
import { shape } from "./shapes.js";
import { modeWords, NAMES, shortWhy } from "./words.js";

const MOST = 120;
const NUMBERS = new Set(["Score", "Decided", "Latency"]);
let body;
let counted;
let held = null; // what was there when somebody stopped the list
let hold;
const choice = { decision: "", station: "" };
let stationField;

/** The address of a part. */
export const partLink = (row) => `#/part/${row.part.split("/").map(encodeURIComponent).join("/")}`;

/** A verdict as a small link: shape, word, station. */
export function chip(row) {
  return el(
    "a",
    { class: "chip", href: partLink(row), data: { decision: row.decision }, title: `${partWords(row.part)}: ${row.decision}` },
    shape(row.decision),
    el("span", { class: "chip-word", text: row.decision }),
    el("span", { class: "chip-station", text: row.station }),
  );
}

function mount(main) {
  held = null;
  const decision = el("select", { id: "ticker-decision" });
  decision.append(el("option", { value: "", text: "every decision" }), el("option", { value: "held", text: "all that did not pass" }));
  decision.append(...NAMES.map((name) => el("option", { value: name, text: name })));
  decision.value = choice.decision;
  decision.addEventListener("change", () => {
    choice.decision = decision.value;
    paint();
  });
  stationField = el("input", { id: "ticker-station", type: "search", placeholder: "every station", value: choice.station });
  stationField.addEventListener("input", () => {
    choice.station = stationField.value.trim();
    paint();
  });
  hold = el("button", { type: "button", class: "quiet", text: "Hold", onclick: toggle, "aria-pressed": "false" });
  counted = el("p", { class: "note" });
  body = el("tbody");
  const heads = ["Decision", "Station", "Part", "Score", "Why", "Mode", "Decided", "Latency"];
  main.append(
    el("h1", { text: "Verdicts" }),
    el(
      "div",
      { class: "filters" },
      el("label", { for: "ticker-decision", text: "Show" }),
      decision,
      el("label", { for: "ticker-station", text: "Station" }),
      stationField,
      hold,
      counted,
    ),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Verdicts" },
      el(
        "table",
        { class: "list" },
        el("thead", {}, el("tr", {}, heads.map((text) => el("th", { scope: "col", class: NUMBERS.has(text) ? "number" : null, text })))),
        body,
      ),
    ),
  );
}

function toggle() {
  held = held ? null : [...model.rows];
  mark(hold, "aria-pressed", held ? "true" : "false");
  put(hold, held ? "Go on" : "Hold");
  paint();
}

function wanted(row) {
  if (choice.station && !row.station.toLowerCase().includes(choice.station.toLowerCase())) return false;
  if (choice.decision === "held") return row.decision !== "PASS";
  return !choice.decision || row.decision === choice.decision;
}

function line(row) {
  const cells = [
    el("td", {}, el("span", { class: "badge", data: { decision: row.decision } }, shape(row.decision), row.decision)),
    el("td", { text: row.station }),
    el("td", {}, el("a", { href: partLink(row), text: `#${row.trigger}` })),
    el("td", { class: "number", text: row.score === null ? "–" : `${score(row.score)} / ${score(row.threshold)}` }),
    el("td", { class: "wide", text: shortWhy(row) }),
    el("td", { text: modeWords(row.mode) }),
    el("td", { class: "number", text: clock(row.decided_at) }),
    el("td", { class: "number", text: millis(row.latency_ms) }),
  ];
  return el("tr", { data: { decision: row.decision } }, cells);
}

function paint() {
  const rows = (held ?? model.rows).filter(wanted).slice(0, MOST);
  sync(body, rows, { key: (row) => row.part, make: line });
  const skipped = stats.skipped ? `, ${stats.skipped} left out because they came faster than this page is sent them` : "";
  put(counted, `${stats.received} verdicts since this page was opened${skipped}.`);
}

export const ticker = {
  mount,
  paint,
  keys: [
    ["h", "Hold the list, or let it go on", toggle],
    ["s", "Choose a station", () => stationField.focus()],
  ],
};

// A verdict in words and bars: what, why, by how much, on what evidence, how fast, by whom.

import { el } from "./dom.js";
import { clock, millis, percent, runWords, score } from "./format.js";
import { shape } from "./shapes.js";
import { branchWords, DECISIONS, degradedWords, groundWords, labelWords, modeWords, reasonWords, seenWords } from "./words.js";

/** The big decision with its sentence. */
export function verdictHead(row, was) {
  const say = DECISIONS[row.decision]?.say ?? "not passed";
  return el(
    "div",
    { class: "verdict", data: { decision: row.decision } },
    shape(row.decision),
    el("div", {}, el("p", { class: "verdict-word", text: was ? `was ${row.decision}` : row.decision }), el("p", { class: "verdict-say", text: say })),
  );
}

/** Why, one sentence an item. */
export function whyList(row) {
  const items = [];
  const reason = reasonWords(row.reason);
  if (row.score !== null && row.threshold !== null) {
    const over = row.score > row.threshold;
    const times = row.threshold > 0 ? `, ${(row.score / row.threshold).toFixed(1)} times it` : "";
    items.push(
      over
        ? `Its score ${score(row.score)} is above the threshold ${score(row.threshold)}${times}.`
        : row.pass_limit < row.threshold
          ? `Its score ${score(row.score)} is ${row.score > row.pass_limit ? "above" : "not above"} the pass limit ${score(row.pass_limit)} and not above the reject limit ${score(row.threshold)}.`
          : `Its score ${score(row.score)} is not above the threshold ${score(row.threshold)}.`,
    );
  }
  if (reason?.say) items.push(reason.say);
  if (reason?.details) items.push(reason.details);
  const seen = [...new Set((row.regions ?? []).map((region) => region.seen_by).filter(Boolean))];
  const count = row.regions?.length ?? 0;
  if (count) {
    const by = seen.length ? `, seen by ${seen.map(seenWords).join(" and ")}` : "";
    items.push(`${count} defect region${count > 1 ? "s" : ""}${by}.`);
  }
  for (const code of row.degraded ?? []) items.push(`${upper(degradedWords(code))} (${code}).`);
  return el("ul", { class: "why-list" }, items.map((text) => el("li", { text })));
}

const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A bar with the threshold marked in its middle. */
export function scoreBar(value, threshold, words) {
  const scored = value !== null && value !== undefined && threshold > 0;
  const fill = el("span", { class: "bar-fill" });
  fill.style.transform = `scaleX(${scored ? Math.max(0.01, Math.min(1, value / threshold / 2)).toFixed(3) : 0})`;
  const bar = el("div", { class: "bar", data: { scored: scored ? "yes" : "no" } }, fill, el("span", { class: "bar-threshold" }));
  if (scored && value > threshold) bar.setAttribute("data-over", "");
  return el("div", { class: "bar-row" }, el("span", { class: "bar-name", text: words }), bar, el("span", { class: "number", text: score(value) }));
}

function branches(row) {
  const found = Object.entries(row.branches ?? {}).sort((a, b) => b[1] - a[1]);
  if (!found.length) return null;
  const bars = found.map(([name, value]) => scoreBar(value, row.threshold, branchWords(name)));
  return el("section", {}, el("h2", { class: "sub", text: "Branches, against the threshold" }), scoreBar(row.score, row.threshold, "all together"), bars);
}

function timings(row) {
  const found = Object.entries(row.timings ?? {});
  if (!found.length) return null;
  const all = found.reduce((sum, [, value]) => Math.max(sum, value), 0.001);
  const lines = found.map(([name, value]) => {
    const fill = el("span", { class: "bar-fill plain" });
    fill.style.transform = `scaleX(${Math.max(0.01, value / all).toFixed(3)})`;
    return el("div", { class: "bar-row" }, el("span", { class: "bar-name", text: name }), el("div", { class: "bar thin" }, fill), el("span", { class: "number", text: millis(value) }));
  });
  return el("details", {}, el("summary", { text: "Where the time went" }), lines);
}

function facts(row) {
  const pairs = [
    ["Product", row.product],
    ["Captured", clock(row.captured_at)],
    ["Decided", `${clock(row.decided_at)}, ${millis(row.latency_ms)} after`],
    ["Rests on", modeWords(row.mode)],
    ["Read", row.mode ? percent(row.coverage, 1) : null],
    ["Part found", row.foreground ? groundWords(row.foreground) : null],
    ["Bundle", row.bundle],
    ["Worker", row.worker],
    ["Run", runWords(row.run)],
    ["Label", row.label ? `${labelWords(row.label)}${row.labelled_by ? ` by ${row.labelled_by}` : ""}` : null],
  ];
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "facts-list" }, shown.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: String(value) })]));
}

// Whole numbers as commands and logs want them.
function key(row) {
  return el("details", {}, el("summary", { text: "Its key, for commands and logs" }), el("code", { class: "part-key", text: row.part }));
}

/** Everything about a verdict. */
export function verdictPanel(row, was = false) {
  return el("div", { class: "verdict-panel" }, verdictHead(row, was), whyList(row), branches(row), facts(row), timings(row), key(row));
}

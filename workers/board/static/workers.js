// Who does the work: workers and what they hold, dead letters, and candidates compared with what is in service.

import { get } from "./api.js";
import { el, mark, put, show, sync } from "./dom.js";
import { clock, partWords, percent, score, since, span, whole } from "./format.js";
import { model, now } from "./model.js";

const GONE_MS = 15_000;
const SHADOW_MS = 5000;
const NUMBERS = new Set(["Lag", "Held", "Answered", "Dead letters"]);
let view = null;

function table(label, heads, body) {
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", { class: "list" }, el("thead", {}, el("tr", {}, heads.map((text) => el("th", { scope: "col", class: NUMBERS.has(text) ? "number" : null, text })))), body),
  );
}

function mount(main) {
  view = {
    workers: el("tbody"),
    none: el("p", { class: "empty", text: "No worker has been heard of. Verdicts need at least one." }),
    letters: el("tbody"),
    lettersTotal: el("p", { class: "note" }),
    shadows: el("div", { class: "shadows" }),
    noShadow: el("p", { class: "empty", text: "No candidate runs beside a model in service." }),
    asked: 0,
  };
  main.append(
    el("h1", { text: "Workers" }),
    el("section", { class: "card" }, el("h2", { text: "Workers" }), table("Workers", ["Worker", "Seen", "State", "Partitions", "Lag", "Held", "Answered", "Dead letters", "Bundles"], view.workers), view.none),
    el("section", { class: "card" }, el("h2", { text: "Candidates in the shadow" }), view.shadows, view.noShadow),
    el("section", { class: "card" }, el("h2", { text: "Dead letters" }), view.lettersTotal, table("Dead letters", ["When", "Reason", "Station", "Part", "Partition/offset"], view.letters)),
  );
  return () => {
    view = null;
  };
}

function workerLine() {
  const cells = Array.from({ length: 8 }, (_, index) => el("td", { class: index > 2 && index < 7 ? "number" : null }));
  const line = el("tr", {}, el("th", { scope: "row" }), cells);
  return line;
}

function fillWorker(line, worker) {
  const [name, seen, state, partitions, lag, held, answered, dead, bundles] = line.children;
  const age = now() - worker.at;
  const gone = age > GONE_MS;
  put(name, worker.name);
  put(seen, `${span(age)} ago`);
  put(state, gone ? "✕ silent" : worker.paused ? "❚❚ paused: its bound is reached" : "● working");
  mark(line, "data-state", gone ? "gone" : worker.paused ? "paused" : "up");
  put(partitions, worker.partitions.length ? worker.partitions.join(", ") : "none");
  put(lag, whole(worker.lag));
  put(held, whole(worker.held));
  put(answered, whole(worker.answered));
  put(dead, whole(worker.dead_letters));
  put(bundles, (worker.bundles ?? []).join(", ") || "–");
}

function letterLine(letter) {
  const cells = [
    el("td", { text: letter.at ? clock(letter.at) : "–" }),
    el("td", { text: letter.reason ?? "–" }),
    el("td", { text: letter.station ?? "–" }),
    el("td", { text: letter.part ? partWords(letter.part) : "–", title: letter.part }),
    el("td", { text: `${letter.partition}/${letter.offset}` }),
  ];
  return el("tr", {}, cells);
}

function shadowCard(entry) {
  const pair = (words, value) => [el("dt", { text: words }), el("dd", { text: value })];
  const recent = (entry.recent ?? []).slice(0, 8).map((row) =>
    el("li", {}, row.part ? el("a", { href: `#/part/${row.part}`, text: partWords(row.part), title: row.part }) : null, ` ${shadowWords(row)}`),
  );
  return el(
    "article",
    { class: "shadow" },
    el("h3", { text: `${entry.product}: ${entry.candidate} beside ${entry.active}` }),
    el(
      "dl",
      { class: "facts-list" },
      pair("Run", runs(entry) ? "goes on" : `has ended, ${since(entry.at, now())}`),
      pair("Parts compared", whole(entry.count)),
      pair("Same decision", `${percent(entry.agree, entry.count)} (${whole(entry.agree)})`),
      pair("In service passes, candidate rejects", whole(entry.active_pass_candidate_reject)),
      pair("In service rejects, candidate passes", whole(entry.active_reject_candidate_pass)),
    ),
    recent.length ? el("ul", { class: "why-list" }, recent) : null,
  );
}

// One that was killed says nothing of its end: its last word grows old.
const runs = (entry) => entry.running && now() - entry.at < GONE_MS;

function shadowWords(row) {
  const say = (decision, ratio) => (ratio === null ? decision : `${decision} at ${score(ratio)} of its threshold`);
  return `${say(row.active, row.active_ratio)} → ${say(row.candidate, row.candidate_ratio)}`;
}

function paint() {
  if (!view || !model.state) return;
  const { workers: known, dead_letters: letters } = model.state;
  sync(view.workers, known, { key: (worker) => worker.name, make: workerLine, fill: fillWorker });
  show(view.none, known.length === 0);
  show(view.workers.parentElement.parentElement, known.length > 0);
  put(view.lettersTotal, letters.total ? `${whole(letters.total)} records could not be read; the newest:` : "Every record could be read.");
  show(view.letters.parentElement.parentElement, letters.recent.length > 0);
  sync(view.letters, letters.recent.slice(0, 30), { key: (letter) => `${letter.partition}/${letter.offset}`, make: letterLine });
  if (!view.asked || performance.now() - view.asked > SHADOW_MS) {
    view.asked = performance.now();
    loadShadows();
  }
}

async function loadShadows() {
  const mine = view;
  try {
    const { products } = await get("api/shadow");
    if (mine !== view) return;
    const said = JSON.stringify([products, products.map(runs)]);
    if (view.shadowSaid !== said) {
      view.shadowSaid = said;
      view.shadows.replaceChildren(...products.map(shadowCard));
    }
    show(view.noShadow, products.length === 0);
  } catch (error) {
    if (mine === view && error.status !== 404) put(view.noShadow, `Cannot be read: ${error.message}.`);
  }
}

export const workers = { mount, paint, keys: [] };

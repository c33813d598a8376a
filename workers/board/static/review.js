// The review queue: somebody who knows parts says whether a reject was right. One key a part.

import { get, partPath, post } from "./api.js";
import { el, mark, put, show, sync } from "./dom.js";
import { clock, whole } from "./format.js";
import { signIn } from "./login.js";
import { model, relabel } from "./model.js";
import { ask } from "./paint.js";
import { takeBack } from "./labels.js";
import { loadPictures, PartPicture, liking } from "./picture.js";
import { shape } from "./shapes.js";
import { verdictPanel } from "./verdict.js";
import { labelWords } from "./words.js";

const LIMIT = 50;
const AGAIN_MS = 4000;
let view = null;

function mount(main) {
  const picture = new PartPicture();
  const act = (key, words, more, label, kind) =>
    el("button", { type: "button", class: `act ${kind}`, onclick: () => say(label) }, el("kbd", { text: key }), el("span", {}, words, el("span", { class: "act-more", text: `: ${more}` })));
  view = {
    picture,
    queue: [],
    done: [], // labelled here, newest last: what can be taken back
    at: null, // the part that is open
    skipped: new Set(),
    asked: 0,
    list: el("ol", { class: "queue", "aria-label": "Parts waiting for review" }),
    waiting: el("p", { class: "note" }),
    panel: el("div", { class: "panel-in" }),
    note: el("input", { type: "text", id: "note", maxlength: "500", placeholder: "What is it? (optional)", autocomplete: "off" }),
    told: el("p", { class: "told", role: "status", "aria-live": "polite" }),
    conflict: el("div", { class: "conflict", role: "alert", hidden: true }),
    locked: el("p", { class: "locked", hidden: true }),
    empty: el("p", { class: "empty", text: "Nothing waits for review." }),
    actions: el("div", { class: "acts" }),
    undo: el("button", { type: "button", class: "quiet", onclick: undo }, el("kbd", { text: "U" }), "Take back the last"),
  };
  view.actions.append(
    act("T", "True reject", "it has a defect", "true-reject", "true"),
    act("F", "False reject", "it is good", "false-reject", "false"),
    el("button", { type: "button", class: "act skip-part", onclick: skip }, el("kbd", { text: "S" }), "Skip"),
  );
  view.note.addEventListener("keydown", (event) => {
    if (event.key === "Enter") view.note.blur();
  });
  view.work = el(
    "div",
    { class: "part-body" },
    picture.node,
    el("aside", { class: "panel", "aria-label": "Review" }, view.conflict, view.actions, el("label", { for: "note", class: "note-label" }, "Note ", el("kbd", { text: "N" })), view.note, view.told, view.undo, view.panel),
  );
  main.append(el("div", { class: "view-head" }, el("h1", { text: "Review" }), view.waiting), view.locked, el("div", { class: "review-body" }, view.list, el("div", { class: "review-main" }, view.empty, view.work)));
  load();
  return () => {
    view.abort?.abort();
    picture.close();
    view = null;
  };
}

async function load() {
  const mine = view;
  mine.asked = performance.now();
  try {
    const { waiting, rows } = await get(`api/review?limit=${LIMIT}`);
    if (mine !== view) return;
    // The part that is open stays where it is, whatever comes in meanwhile.
    const open = view.queue.find((row) => row.part === view.at);
    view.queue = rows.filter((row) => !view.skipped.has(row.part));
    if (open && !open.label && !view.queue.some((row) => row.part === open.part)) view.queue.unshift(open);
    view.count = waiting;
    if (!view.at) go(view.queue[0]);
    paint();
  } catch (error) {
    if (mine === view) put(view.waiting, `The queue cannot be read: ${error.message}.`);
  }
}

function item(row) {
  const open = el("button", { type: "button", class: "queue-part", data: { decision: row.decision }, onclick: () => go(row) });
  open.append(shape(row.decision), el("span", { class: "queue-name", text: `${row.station} #${row.trigger}` }), el("small", { text: `${clock(row.decided_at)} ${row.product}` }));
  return el("li", {}, open);
}

function paint() {
  if (!view) return;
  if (performance.now() - view.asked > AGAIN_MS && model.fresh) load();
  const { signed_in: signed, can_sign_in: can } = model.state ?? {};
  sync(view.list, view.queue, { key: (row) => row.part, make: item, fill: (node, row) => mark(node.firstElementChild, "aria-current", row.part === view.at ? "true" : null) });
  const count = view.count ?? model.state?.review?.waiting ?? 0;
  put(view.waiting, count ? `${whole(count)} rejects and reviews without a label${count > view.queue.length ? `, the newest ${view.queue.length} below` : ""}` : "");
  show(view.empty, !view.at);
  show(view.work, Boolean(view.at));
  show(view.locked, model.state && !signed);
  if (model.state && !signed && view.locked.boardCan !== can) {
    view.locked.boardCan = can;
    view.locked.replaceChildren(
      can ? "Read only. To label parts, " : "Read only: this board was started without a token, so nobody can label here.",
      can ? el("button", { type: "button", class: "link-button", text: "sign in", onclick: signIn }) : "",
      can ? " (L)." : "",
    );
  }
  for (const button of view.actions.children) if (!button.classList.contains("skip-part")) mark(button, "disabled", !signed);
  mark(view.note, "disabled", !signed);
  mark(view.undo, "disabled", !signed || !view.done.length);
}

async function go(row) {
  view.abort?.abort();
  const mine = view;
  view.at = row?.part ?? null;
  view.row = row ?? null;
  show(view.conflict, false);
  view.note.value = "";
  paint();
  if (!row) return;
  view.panel.replaceChildren(verdictPanel(row));
  view.picture.set(null, "Loading");
  const abort = new AbortController();
  view.abort = abort;
  try {
    const info = await get(`api/part/${partPath(row.part)}`, { signal: abort.signal });
    const pictures = await loadPictures(info.row, info, abort.signal);
    if (mine !== view || view.at !== row.part) return;
    view.row = info.row;
    view.panel.replaceChildren(verdictPanel(info.row));
    view.picture.set(pictures);
    if (info.row.label) tell(`Labelled ${labelWords(info.row.label)}${info.row.labelled_by ? ` by ${info.row.labelled_by}` : ""}.`);
  } catch (error) {
    if (error.name !== "AbortError" && mine === view && view.at === row.part) view.picture.set(null, error.message);
  }
}

const tell = (words) => put(view.told, words);

/** A key that was pressed before anybody was signed in: asked for again, neither done in silence nor lost. */
async function signInAndConfirm(row, label) {
  const mine = view;
  if (!(await signIn()) || mine !== view) return;
  if (view.at !== row.part) {
    tell(`${row.station} #${row.trigger} is not labelled: another part is open now.`);
    return;
  }
  const yes = el("button", { type: "button", class: "act confirm", text: `Yes, ${labelWords(label)}`, onclick: () => say(label) });
  view.conflict.replaceChildren(
    el("p", { text: `You chose “${labelWords(label)}” for ${row.station} #${row.trigger} before you were signed in. Label it so?` }),
    yes,
    el("button", { type: "button", class: "quiet", text: "No", onclick: () => show(view.conflict, false) }),
  );
  show(view.conflict, true);
  yes.focus();
}

async function say(label, replace = false) {
  const row = view.row;
  if (!row || view.saying) return;
  if (!model.state?.signed_in) {
    await signInAndConfirm(row, label);
    return;
  }
  view.saying = true;
  const mine = view;
  try {
    const body = { label, note: view.note.value.trim() };
    if (replace) body.replace = true;
    const answer = await post(`api/review/${partPath(row.part)}`, body);
    const labelled = { ...row, ...answer.row, label };
    relabel(labelled);
    if (mine !== view) return;
    view.done = [...view.done.filter((done) => done.part !== row.part), labelled];
    tell(`${row.station} #${row.trigger}: ${labelWords(label)}.`);
    leave(row);
  } catch (error) {
    if (mine === view) refused(error, label, row);
  } finally {
    mine.saying = false;
    ask();
  }
}

function refused(error, label, row) {
  if (error.status === 401) {
    tell("You are not signed in any more.");
    if (model.state) model.state.signed_in = false;
    signInAndConfirm(row, label);
  } else if (error.status === 409) {
    const { label: other, by, note } = error.body;
    const who = `Meanwhile labelled ${labelWords(other ?? "otherwise")}${by ? ` by ${by}` : ""}${note ? `: “${note}”` : ""}.`;
    view.conflict.replaceChildren(
      el("p", { text: who }),
      el("button", { type: "button", class: "quiet", text: `Replace by ${labelWords(label)}`, onclick: () => say(label, true) }),
      el("button", { type: "button", class: "quiet", text: "Let it stand", onclick: () => leave(view.row) }),
    );
    show(view.conflict, true);
  } else {
    tell(`Not labelled: ${error.message}.`);
  }
}

/** Take a part off the queue and open the next one. */
function leave(row) {
  const at = Math.max(0, view.queue.findIndex((other) => other.part === row.part));
  const there = view.queue.some((other) => other.part === row.part);
  view.queue = view.queue.filter((other) => other.part !== row.part);
  if (there && view.count) view.count -= 1;
  go(view.queue[Math.min(at, view.queue.length - 1)]);
}

function skip() {
  if (!view.row) return;
  view.skipped.add(view.row.part);
  tell(`${view.row.station} #${view.row.trigger} skipped; it stays in the queue of others.`);
  leave(view.row);
}

async function undo() {
  const last = view.done[view.done.length - 1];
  if (!last || view.saying || !model.state?.signed_in) return;
  view.saying = true;
  const mine = view;
  try {
    const row = await takeBack(last);
    if (mine !== view) return;
    view.done = view.done.filter((done) => done.part !== last.part);
    view.queue = [row, ...view.queue.filter((other) => other.part !== row.part)];
    if (view.count !== undefined) view.count += 1;
    go(row);
    tell(`${row.station} #${row.trigger}: the label ${labelWords(last.label)} is taken back; the part waits again.`);
  } catch (error) {
    if (mine === view) tell(`Not taken back: ${error.message}.`);
  } finally {
    mine.saying = false;
    ask();
  }
}

function walk(by) {
  const at = view.queue.findIndex((row) => row.part === view.at);
  const next = view.queue[Math.max(0, Math.min(view.queue.length - 1, at + by))];
  if (next && next.part !== view.at) go(next);
}

export const review = {
  mount,
  paint,
  keys: [
    ["t", "True reject: the part has a defect", () => say("true-reject")],
    ["f", "False reject: the part is good", () => say("false-reject")],
    ["s", "Skip this part", skip],
    ["u", "Take back the last label", undo],
    ["n", "Write a note", () => view.note.focus()],
    ["ArrowLeft", "Newer part", () => walk(-1)],
    ["ArrowRight", "Older part", () => walk(1)],
    ["c", "Colour under the heat", () => view.picture.setBase("rgb")],
    ["d", "Depth under the heat", () => view.picture.setBase("depth")],
    ["h", "Heat on or off", () => view.picture.changeOpacity(liking.opacity > 0 ? -1 : 0.85)],
    ["b", "Boxes on or off", () => view.picture.toggleBoxes()],
  ],
};

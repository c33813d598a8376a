// The board's page: which view is open, the header, and the mark that says whether all of it is live.

import { el, mark, put, show } from "./dom.js";
import { clock, rate, span } from "./format.js";
import { boardKeys, startKeys, viewKeys } from "./keys.js";
import { paintLogin, signIn, startLogin } from "./login.js";
import { model, now, stats } from "./model.js";
import { onPaint } from "./paint.js";
import { connect, link } from "./stream.js";
import { figures } from "./figures.js";
import { parts } from "./parts.js";
import { review } from "./review.js";
import { stations } from "./stations.js";
import { ticker } from "./ticker.js";
import { workers } from "./workers.js";

const VIEWS = [
  { name: "", tab: "Stations", view: stations },
  { name: "verdicts", tab: "Verdicts", view: ticker },
  { name: "figures", tab: "Figures", view: figures },
  { name: "review", tab: "Review", view: review },
  { name: "workers", tab: "Workers", view: workers },
  { name: "station", tab: null, view: parts },
  { name: "part", tab: null, view: parts },
];
const main = document.getElementById("view");
const tabs = new Map();
let open = null;
let close = null;

function route() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const found = VIEWS.find((view) => view.name === name) ?? VIEWS[0];
  const current = open;
  open = found;
  document.title = `${found.tab ?? rest[0]} – Crosscheck`;
  for (const [view, tab] of tabs) mark(tab, "aria-current", view === found ? "page" : null);
  if (current?.view === found.view && found.view.turn?.(name, rest)) return;
  close?.();
  main.replaceChildren();
  main.className = `view view-${found.name || "stations"}`;
  viewKeys(found.tab ?? "Station and part", found.view.keys ?? []);
  const unmount = found.view.mount(main, name, rest);
  const stop = onPaint(found.view.paint);
  close = () => {
    stop();
    unmount?.();
  };
  // At once, so that the next key finds what it is about.
  if (model.state) found.view.paint();
  window.scrollTo(0, 0);
  if (current) main.focus({ preventScroll: true });
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function startTabs() {
  const nav = document.getElementById("tabs");
  VIEWS.filter((view) => view.tab).forEach((view, index) => {
    const tab = el("a", { href: `#/${view.name}`, class: "tab" }, el("span", { text: view.tab }));
    if (view.name === "review") tab.append(el("span", { class: "count", id: "review-count", hidden: true }));
    tabs.set(view, tab);
    nav.append(tab);
    boardKeys([[String(index + 1), view.tab, () => (location.hash = `#/${view.name}`)]]);
  });
  boardKeys([
    ["Escape", "Back to the stations", () => (location.hash = "#/")],
    ["l", "Sign in", signIn],
  ]);
}

const SAY = { live: "live", wait: "connecting", old: "OLD DATA" };
const parts_of_header = Object.fromEntries(
  ["pulse", "link", "link-word", "clock", "banner", "review-count"].map((id) => [id, () => document.getElementById(id)]),
);

function paintHeader() {
  const node = (id) => parts_of_header[id]();
  const state = link();
  mark(node("link"), "data-state", state.state);
  put(node("link-word"), SAY[state.state]);
  mark(document.body, "data-link", state.state);
  put(node("clock"), clock(now()));
  put(node("pulse"), model.state && state.state === "live" ? `${rate(model.state.verdicts_per_s)} verdicts/s` : "");
  const old = state.state === "old";
  show(node("banner"), old);
  if (old) {
    // The age is for the eye; a screen reader would be told anew every second.
    const age = state.from ? ` What you see is from ${clock(state.from)}, ${span(state.age)} ago.` : "";
    const words = `Not live. ${state.say}`;
    if (node("banner").boardSay !== words) {
      node("banner").boardSay = words;
      node("banner").replaceChildren(el("strong", { text: words }), el("span", { "aria-hidden": "true" }));
    }
    put(node("banner").lastChild, age);
  }
  const waiting = model.state?.review?.waiting ?? 0;
  show(node("review-count"), waiting > 0);
  put(node("review-count"), waiting > 999 ? "999+" : waiting);
  paintLogin();
}

startTabs();
startKeys();
startLogin();
window.addEventListener("hashchange", route);
onPaint(paintHeader);
route();
connect();

// What the page says of itself: how many verdicts came, were painted, and how late.
window.crosscheckBoard = stats;

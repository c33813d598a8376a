// The keyboard: one table for the whole board, one for the view that is open, and a sheet that shows both.

import { el } from "./dom.js";

const board = [];
let view = { title: "", keys: [] };

/** Keys that work everywhere: [key, what it does, function]. */
export function boardKeys(keys) {
  board.push(...keys);
}

/** Keys of the open view. */
export function viewKeys(title, keys) {
  view = { title, keys };
}

const NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "Space", Escape: "Esc" };

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]")) return;
  const target = event.target;
  const typing = target.matches?.("input:not([type=checkbox]):not([type=radio]), textarea, select");
  if (typing) {
    if (event.key === "Escape") target.blur();
    return;
  }
  // Space and Enter belong to the button that has the focus.
  if ((event.key === " " || event.key === "Enter") && target.matches?.("button, a, summary, input")) return;
  const found = [...view.keys, ...board].find(([key]) => key === event.key || key === event.key.toLowerCase());
  if (found?.[2]) {
    event.preventDefault();
    found[2](event);
  }
}

function table(title, keys) {
  const rows = keys
    .filter(([, what]) => what)
    .map(([key, what]) => el("tr", {}, el("td", {}, el("kbd", { text: NAMES[key] ?? key })), el("td", { text: what })));
  return rows.length ? [el("h3", { text: title }), el("table", { class: "keys" }, el("tbody", {}, rows))] : [];
}

/** Start listening; `?` and the button open the sheet. */
export function startKeys() {
  const sheet = document.getElementById("sheet");
  const body = document.getElementById("sheet-body");
  const open = () => {
    body.replaceChildren(...table(view.title, view.keys), ...table("Everywhere", board));
    sheet.showModal();
  };
  board.push(["?", "This sheet", open]);
  document.getElementById("help").addEventListener("click", open);
  document.getElementById("sheet-close").addEventListener("click", () => sheet.close());
  document.addEventListener("keydown", pressed);
}

// What the page knows: bounded, whatever comes in and however long it stays open.

import { DECISIONS } from "./words.js";

const ROWS_A_STATION = 60;
const ROWS_OF_ALL = 300;
const DELAYS = 16384;
const OFFSETS = 30;

/** Counters that a person or a test may read: what came, what was painted, how late. */
export const stats = {
  received: 0,
  skipped: 0,
  shown: 0,
  paints: 0,
  delays: new Float32Array(DELAYS),
};

export const model = {
  state: null, // the newest /api/state
  stations: new Map(), // name -> {info, rows: oldest first, latest, heard: when that came, by performance.now()}
  rows: [], // of all stations, newest first
  fresh: false, // whether what is shown is live
  broken: "", // why it is not
  last: 0, // when the board last told anything, in its own time
};

const offsets = [];
const unpainted = [];

/** The board's time, in ms: ages must not depend on the clock of the machine that shows them. */
export const now = () => Date.now() + (offsets.length ? Math.max(...offsets) : 0);

/** Whether part a comes after part b of the same station. Triggers exceed what a number holds exactly. */
export function after(a, b) {
  return order(a, b) > 0;
}

const compare = (a, b) => (a.length - b.length) || (a < b ? -1 : Number(a > b));
// Runs are told apart by time: an agent that starts anew with its clock set back gives a lower one.
const order = (a, b) => (a.run === b.run ? compare(a.trigger, b.trigger) : a.decided_at - b.decided_at || compare(a.run, b.run));

function station(name) {
  let found = model.stations.get(name);
  if (!found) {
    found = { name, info: null, rows: [], latest: null, heard: 0 };
    model.stations.set(name, found);
  }
  return found;
}

/** Take a new /api/state. */
export function takeState(state) {
  if (offsets.push(state.now - Date.now()) > OFFSETS) offsets.shift();
  model.state = state;
  model.last = state.now;
  const named = new Set();
  for (const info of state.stations) {
    named.add(info.name);
    const found = station(info.name);
    found.info = info;
    // Not counted as a verdict that came: those come by themselves, in a moment or before.
    if (info.last && (!found.latest || after(info.last, found.latest))) lead(found, info.last);
  }
  for (const name of model.stations.keys()) if (!named.has(name)) model.stations.delete(name);
}

/** Take verdicts as they come, oldest first; `live` is false of those that were there before the page was. */
export function takeRows(rows, skipped, live) {
  for (const row of rows) {
    if (!keep(station(row.station), row)) continue;
    model.rows.unshift(row);
    if (!live) continue;
    stats.received += 1;
    unpainted.push(row.decided_at);
  }
  if (model.rows.length > ROWS_OF_ALL) model.rows.length = ROWS_OF_ALL;
  if (unpainted.length > DELAYS) {
    // A hidden page paints nothing: what nobody could see is said to be skipped.
    stats.skipped += unpainted.splice(0, unpainted.length - DELAYS).length;
  }
  stats.skipped += skipped ?? 0;
}

// Mostly the newest; one that was late takes its place in order. False where it was there already, as after
// the connection was made anew.
function keep(found, row) {
  const at = found.rows.findIndex((other) => other.part === row.part);
  if (at >= 0) found.rows[at] = row;
  else {
    let place = found.rows.length;
    while (place > 0 && order(found.rows[place - 1], row) > 0) place -= 1;
    found.rows.splice(place, 0, row);
    if (found.rows.length > ROWS_A_STATION) found.rows.shift();
  }
  const newest = found.rows[found.rows.length - 1];
  if (!found.latest || !after(found.latest, newest)) lead(found, newest);
  return at < 0;
}

function lead(found, row) {
  if (found.latest?.part !== row.part) found.heard = performance.now();
  found.latest = row;
}

/** A row got a label: every copy of it says so. */
export function relabel(row) {
  const found = model.stations.get(row.station);
  for (const list of [found?.rows ?? [], model.rows]) {
    const at = list.findIndex((other) => other.part === row.part);
    if (at >= 0) list[at] = row;
  }
  if (found?.latest?.part === row.part) found.latest = row;
}

/** What was taken is on the screen now. */
export function painted() {
  const at = now();
  stats.paints += 1;
  for (const decided of unpainted) {
    stats.delays[stats.shown % DELAYS] = at - decided;
    stats.shown += 1;
  }
  unpainted.length = 0;
}

/** Parts of a station's ten minutes by decision; a share of rejects is of those that were scored. */
export function shares(info) {
  const counts = info?.counts ?? {};
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const [passed, rejected] = [counts.PASS ?? 0, counts.REJECT ?? 0];
  return { all, scored: passed + rejected + (counts.REVIEW ?? 0), rejected, passed, counts };
}

const SILENT_MS = 10_000;

/** How long a station has given no part, in ms, once that is longer than its own pace explains; else 0. */
export function silence(found) {
  const latest = found.latest;
  if (!latest) return 0;
  const rows = found.rows;
  const pace = rows.length > 1 ? (latest.decided_at - rows[0].decided_at) / (rows.length - 1) : 0;
  // A worker whose clock is ahead must not make its last part look new for as long.
  const age = Math.max(now() - latest.decided_at, performance.now() - found.heard);
  return age > Math.max(SILENT_MS, Math.min(5 * pace, 120_000)) ? age : 0;
}

const LOOKED_AT = 12;
const PERSISTS = 3;

/** Of a station's last parts, how many did not pass, where that is no single one but how it is: half of them
 * or more, and three at least. Null where it is not so. */
export function persistent(found) {
  const recent = found.rows.slice(-LOOKED_AT);
  const held = recent.filter((row) => row.decision !== "PASS").length;
  return held >= PERSISTS && 2 * held >= recent.length ? { held, all: recent.length } : null;
}

/** How much a station needs somebody: higher is worse, for "trouble first". */
export function trouble(found) {
  const sensors = Object.values(found.info?.sensors ?? {});
  const recent = found.rows.slice(-12);
  const worst = recent.reduce((most, row) => Math.max(most, DECISIONS[row.decision]?.trouble ?? 3), 0);
  const rejects = recent.filter((row) => row.decision !== "PASS").length;
  let rank = 0;
  if (!found.latest || silence(found)) rank += 700;
  if (sensors.some((sensor) => sensor.state === "down" || sensor.state === "recovering")) rank += 300;
  if (persistent(found)) rank += 300;
  if (found.info?.drift?.length) rank += 60;
  if (sensors.some((sensor) => sensor.state === "suspect")) rank += 40;
  return rank + worst * 10 + rejects * 5;
}

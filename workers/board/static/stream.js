// The board's events, and whether what is on the screen is still true.

import { get } from "./api.js";
import { model, now, takeRows, takeState } from "./model.js";
import { ask } from "./paint.js";

const QUIET_MS = 3500; // a state comes every second
const CHECK_MS = 500;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5000;

let source = null;
let heard = 0;
let first = true;
let retry = FIRST_RETRY_MS;
let retryAt = 0;

/** Connect, and stay connected. */
export function connect() {
  open();
  setInterval(check, CHECK_MS);
  document.addEventListener("visibilitychange", check);
  window.addEventListener("online", reopen);
  window.addEventListener("offline", () => lost("This device is offline."));
}

/** Ask for the state at once, as after signing in. */
export async function refresh() {
  try {
    take(await get("api/state"));
  } catch {
    check();
  }
}

/** Drop the connection and make a new one. */
export function reopen() {
  retryAt = 0;
  source?.close();
  open();
}

function open() {
  source = new EventSource("api/events");
  heard = performance.now();
  first = true;
  source.addEventListener("state", (event) => take(JSON.parse(event.data)));
  source.addEventListener("verdicts", (event) => {
    const { rows, skipped } = JSON.parse(event.data);
    alive();
    takeRows(rows, skipped, !first);
    first = false;
    ask();
  });
  source.addEventListener("error", () => {
    source.close();
    lost("The board does not answer.");
  });
}

function take(state) {
  alive();
  takeState(state);
  const away = [];
  if (state.sinks && !state.sinks.kafka) away.push("Kafka is away: new verdicts do not come through.");
  if (state.sinks && !state.sinks.redis) away.push("Redis is away: sensors, workers and labels are as they last were.");
  model.broken = away.join(" ");
  model.fresh = away.length === 0;
  ask();
}

function alive() {
  heard = performance.now();
  retry = FIRST_RETRY_MS;
  retryAt = 0;
}

function lost(why) {
  if (model.fresh || !model.broken) model.broken = why;
  model.fresh = false;
  if (!retryAt) {
    retryAt = performance.now() + retry;
    retry = Math.min(LAST_RETRY_MS, 2 * retry);
  }
  ask();
}

function check() {
  const at = performance.now();
  if (retryAt) {
    if (at >= retryAt) {
      retryAt = 0;
      open();
    }
  } else if (at - heard > QUIET_MS) {
    source.close();
    lost("The board has gone quiet.");
  }
}

/** What the connection is like: "live", "old" or "wait", for the page's mark and its banner. */
export function link() {
  if (!model.state) return { state: model.broken ? "old" : "wait", say: model.broken };
  if (model.fresh) return { state: "live", say: "" };
  return { state: "old", say: model.broken, from: model.last, age: now() - model.last };
}

// Numbers, times and durations as a person reads them.

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** 14:03:22 */
export const clock = (ms) => CLOCK.format(ms);

/** 14:03, or 3 Nov 14:03 when it is not of the last 18 hours. */
export function since(ms, now) {
  const minute = MINUTE.format(ms);
  return now - ms > 18 * 3600e3 ? `${DAY.format(ms)} ${minute}` : minute;
}

/** 3 Nov 2026, 14:03:22 */
export const moment = (ms) => `${DATE.format(ms)}, ${CLOCK.format(ms)}`;

const RUN_FROM = 946_684_800_000; // the year 2000: a run that is named by a time is later

/** A run, which its agent names by the nanosecond of its start: when that was. Other numbers stay as they are. */
export function runWords(run) {
  const at = Number(run) / 1e6;
  return at >= RUN_FROM && at < 1e13 ? moment(at) : `run ${run}`;
}

/** STATION/RUN/TRIGGER as a person says it: press-1 #41, run of 3 Nov 2026, 14:03:22 */
export function partWords(part) {
  const [station, run, trigger] = part.split("/");
  return trigger === undefined ? part : `${station} #${trigger}, run of ${runWords(run).replace(/^run /, "")}`;
}

/** 12 s, 3 min, 2 h 05, 4 days */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")}`;
  return `${Math.floor(hours / 24)} days`;
}

/** 12,345 */
export const whole = (value) => (value === null || value === undefined ? "–" : WHOLE.format(value));

/** A score or threshold. */
export function score(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2);
}

/** A rate of parts or verdicts. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 20 || value === 0 ? value.toFixed(0) : value.toFixed(1);
}

/** A share as a percentage that never rounds something to nothing: 1.2 %, <0.1 %. */
export function percent(part, all) {
  if (!all) return "–";
  const value = (100 * part) / all;
  if (part > 0 && value < 0.1) return "<0.1 %";
  if (part < all && value > 99.9) return ">99.9 %";
  return `${value.toFixed(value >= 99.95 || value === 0 ? 0 : 1)} %`;
}

/** Milliseconds. */
export function millis(value) {
  if (value === null || value === undefined) return "–";
  return value >= 10_000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(value < 10 && value > 0 ? 1 : 0)} ms`;
}

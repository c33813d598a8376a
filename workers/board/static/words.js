// What codes mean, in the words of somebody at the line.

/** By decision: what it says to a person, and how far it is from normal (0 = all is well). */
export const DECISIONS = {
  PASS: { say: "good: the gate may open", trouble: 0 },
  REJECT: { say: "defect: the gate stays closed", trouble: 3 },
  REVIEW: { say: "scored, but not to be trusted alone: not passed", trouble: 2 },
  STALE: { say: "too late for its gate: not passed", trouble: 2 },
  ERROR: { say: "could not be scored: not passed", trouble: 3 },
  MISSING: { say: "the line saw a part, and no picture came: not passed", trouble: 3 },
};
export const NAMES = Object.keys(DECISIONS);

/** Sensors in the words of the line. */
export const SENSORS = { rgb: "colour", depth: "depth" };

const REASONS = {
  coverage: "Too little of the part could be read to trust a good score.",
  between: "Its score is above every good part seen so far, or above what is likely for good parts, and below what they cannot reach: a person decides. Where it is good, say so, and its like will pass.",
  degraded: "Only part of the evidence was there, and this mode may not pass a part by itself.",
  deadline: "Its deadline was gone when it reached the worker.",
  "shed: late-first": "It could not be in time any more and gave way to parts that could.",
  attempts: "It has ended its workers before and is not tried again.",
  clock_offset: "The clock of its station is too far from the worker's: synchronise both.",
  future_run: "The clock of its agent was ahead when it began: set it right and start the agent again.",
  no_part: "No part was found on the belt.",
  no_reading: "No sensor gave anything that could be read.",
  not_finite: "The model gave no finite number.",
  product: "No model is in service for this product.",
  size: "The pictures have another size than those the model was taught on.",
  digest: "Its pictures were damaged on the way.",
  malformed: "Its message was damaged on the way.",
  field: "Its message has a field that is missing or wrong.",
  version: "Its message has a version this worker does not know.",
  too_large: "Its message is larger than allowed.",
  image: "Its picture could not be decoded.",
  model: "The model failed on it.",
  bundle: "The model's bundle could not be used.",
  notice: "Its station told that the pictures are gone.",
  gap: "Its records were deleted before anybody read them.",
  station: "Its station is not calibrated as the model needs it.",
  depth: "Its depth picture could not be used.",
  sample: "Its pictures do not fit each other.",
  parked: "Its station sends too much that cannot be read: its agent is to be looked at.",
  undecodable: "Its message could not be decoded.",
  record_too_large: "Its message is larger than the brokers take.",
};

const FAULTS = {
  absent: "was not there",
  missing: "gave no picture",
  frozen: "repeats the same picture",
  double: "repeats the picture of the part just before: the photo-eye may have bounced",
  size: "has another picture size than before",
  skew: "was captured at another time than its partner",
  few: "gave far fewer readings than usual",
  range: "reads an unusual distance",
  plane: "sees the belt where it does not lie",
  invalid: "gave hardly any readings",
  constant: "gave the same value everywhere",
  load: "was left out because of the load",
  recovering: "is recovering and not yet used",
  down: "is down",
};

const OTHERS = { "belt:off": "the belt lies elsewhere than when the station was calibrated" };

/** A code of `degraded`, such as depth:frozen, as a sentence's end. */
export function degradedWords(code) {
  if (OTHERS[code]) return OTHERS[code];
  const [name, fault] = code.split(":");
  return SENSORS[name] ? `${SENSORS[name]} ${FAULTS[fault] ?? fault ?? "is not used"}` : code;
}

/** Why a sensor is not well. */
export const faultWords = (why) => (why ? (FAULTS[why] ?? why) : "");

/** The reason of a verdict: a sentence, and the code's own details where it has any. */
export function reasonWords(reason) {
  if (!reason) return null;
  if (REASONS[reason]) return { say: REASONS[reason], details: "" };
  const [code, ...rest] = reason.split(": ");
  return { say: REASONS[code] ?? "", details: REASONS[code] ? rest.join(": ") : reason };
}

/** One line that says why, for a tile or a list. */
export function shortWhy(row) {
  if (row.reason) {
    const code = row.reason.split(":")[0];
    const short = { between: "between the limits", coverage: "too little was read", degraded: modeWords(row.mode), deadline: "too late" };
    return short[code] ?? (reasonWords(row.reason).say || code.replaceAll("_", " "));
  }
  if (row.decision === "REJECT") {
    const seen = row.regions?.[0]?.seen_by;
    return seen ? `seen by ${seenWords(seen)}` : "over the threshold";
  }
  return row.mode === "FUSED" ? "both sensors" : modeWords(row.mode);
}

/** What the score rests on. */
export function modeWords(mode) {
  return { FUSED: "Fused", RGB: "RGB only", DEPTH: "Depth only" }[mode] ?? "not scored";
}

/** Which sensors show a region. */
export function seenWords(label) {
  return { "colour-only": "colour only", "shape-only": "shape only", both: "both sensors" }[label] ?? label;
}

const BRANCHES = {
  colour: "colour",
  retrieval: "colour against good patches",
  geometry: "shape against good geometry",
  rgb_to_depth: "shape from colour",
  depth_to_rgb: "colour from shape",
  dents: "dents",
};
/** A scoring branch. */
export const branchWords = (name) => BRANCHES[name] ?? name.replaceAll("_", " ");

const GROUNDS = {
  depth: "by its own depth",
  silhouette: "by the station's last good outline",
  region: "by the taught region",
  belt: "by the belt's colour",
  frame: "the whole picture was inspected",
};
/** What told the part from the belt. */
export const groundWords = (name) => GROUNDS[name] ?? name;

/** A warning of drift. */
function driftWords(kind) {
  const words = { scores: "scores drift", brightness: "brightness drifts", belt: "belt has moved" };
  return words[kind] ?? `${kind} drifts`;
}

/** All that a station is warned of, each kind once: scores may drift in several modes. */
export const driftsWords = (info) => [...new Set((info?.drift ?? []).map((entry) => driftWords(entry.kind)))].join(", ");

/** A person's label. */
export function labelWords(label) {
  return { "true-reject": "true reject", "false-reject": "false reject" }[label] ?? label;
}

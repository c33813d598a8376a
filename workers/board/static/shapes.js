// One shape a decision, so that it reads without colour; drawn in one colour, by the text around it.

import { svg } from "./dom.js";

const SIGNS = {
  PASS: ["M12 2.500a9.500 9.500 0 1 0 0 19a9.500 9.500 0 0 0 0-19", "m7.500 12.500 3.200 3.200 6-6.800"],
  REJECT: ["M8.200 2.500h7.600l5.700 5.700v7.600l-5.700 5.700H8.200l-5.700-5.700V8.200z", "m8.500 8.500 7 7m0-7-7 7"],
  REVIEW: ["M12 3 22 20.500H2z", "M12 9.500v5.200m0 2.500v.6"],
  STALE: ["M5.500 2.500h13M5.500 21.500h13M7 2.500c0 6 4.200 6.500 4.200 9.500S7 15.500 7 21.500m10-19c0 6-4.200 6.500-4.200 9.500s4.200 3.500 4.200 9.500", ""],
  ERROR: ["M12 2 22 12 12 22 2 12z", "M12 7v6.200m0 2.600v.6"],
  // No decision: nothing is known of now.
  QUIET: ["M12 2.500a9.500 9.500 0 1 0 0 19a9.500 9.500 0 0 0 0-19", "M9.200 8v8m5.600-8v8"],
  MISSING: ["M3 3h18v18H3z", "M9.200 9.400c.2-3.600 5.800-3.400 5.600.2-.1 2-2.700 2.300-2.700 4.400m0 2.600v.6"],
};

const DASHED = new Set(["MISSING", "QUIET"]);

/** The shape of a decision as an SVG, hidden from screen readers: its word stands beside it. */
export function shape(decision) {
  const node = svg("svg", { viewBox: "0 0 24 24", class: "shape", "aria-hidden": "true" });
  setShape(node, decision);
  return node;
}

/** Turn a shape into that of another decision. */
export function setShape(node, decision) {
  if (node.boardDecision === decision) return;
  node.boardDecision = decision;
  const [outline, sign] = SIGNS[decision] ?? SIGNS.MISSING;
  const outer = svg("path", { d: outline, class: DASHED.has(decision) ? "outline dashed" : "outline" });
  node.replaceChildren(outer, svg("path", { d: sign, class: "sign" }));
}

const LAMPS = {
  up: ["M6 1.500a4.500 4.500 0 1 0 0 9a4.500 4.500 0 0 0 0-9", "full"],
  suspect: ["M6 1.500a4.500 4.500 0 1 0 0 9z", "half"],
  recovering: ["M6 4a2 2 0 1 0 0 4a2 2 0 0 0 0-4", "core"],
  down: ["m3 3 6 6m0-6-6 6", "cross"],
  unknown: ["M4 6h4", "cross"],
};

/** A sensor's lamp: full, half, a core, or crossed out. */
export function lamp(state) {
  const node = svg("svg", { viewBox: "0 0 12 12", class: "lamp", "aria-hidden": "true" });
  setLamp(node, state);
  return node;
}

/** Turn a lamp to another state. */
export function setLamp(node, state) {
  if (node.boardState === state) return;
  node.boardState = state;
  node.dataset.state = state;
  const [inner, kind] = LAMPS[state] ?? LAMPS.unknown;
  const ring = svg("path", { d: "M6 1.200a4.800 4.800 0 1 0 0 9.600a4.800 4.800 0 0 0 0-9.600", class: "ring" });
  node.replaceChildren(ring, svg("path", { d: inner, class: `inner ${kind}` }));
}

// Painting: a few times a second at most, in the browser's own frames, and only after something has changed.

import { painted } from "./model.js";

const EVERY_MS = 250;
const painters = new Set();
let asked = false;
let last = -EVERY_MS;

/** Call `paint` with every frame that the board draws, until the returned function is called. */
export function onPaint(paint) {
  painters.add(paint);
  ask();
  return () => painters.delete(paint);
}

/** Something has changed: paint soon. */
export function ask() {
  if (asked) return;
  asked = true;
  const wait = EVERY_MS - (performance.now() - last);
  if (wait > 0) setTimeout(() => requestAnimationFrame(run), wait);
  else requestAnimationFrame(run);
}

function run() {
  asked = false;
  last = performance.now();
  for (const paint of painters) {
    try {
      paint();
    } catch (error) {
      // One view that fails must not stop the others, nor the mark of old data.
      console.error(error);
    }
  }
  // Behind this frame: what was changed is on the screen by then.
  setTimeout(painted, 0);
}

// Ages go on when nothing comes in, above all then.
setInterval(ask, 1000);

// The heatmap: bytes to scores, scores to colours, and the line where the threshold is crossed.

const KNEE = 0.35; // share of the way to the threshold at which heat begins to show
// Inferno, told apart by lightness alone; the middle is the threshold on every picture.
const STOPS = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85],
  [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
];

/** A colour of the scale, 0 to 1, as [red, green, blue]. */
export function heatColour(share) {
  const place = Math.max(0, Math.min(1, share)) * (STOPS.length - 1);
  const index = Math.min(STOPS.length - 2, Math.floor(place));
  const rest = place - index;
  return STOPS[index].map((from, channel) => Math.round(from + (STOPS[index + 1][channel] - from) * rest));
}

/** How much of the heat's colour covers the picture at a level, 1 being the threshold. */
export const heatCover = (level) => 0.9 * Math.max(0, Math.min(1, (level - KNEE) / (1 - KNEE)));

/** A map of local scores, read from the grey picture that the board serves. */
export class HeatMap {
  constructor(image, { low, high }, threshold) {
    this.width = image.width;
    this.height = image.height;
    this.threshold = threshold;
    this.low = low;
    this.high = high;
    const canvas = new OffscreenCanvas(image.width, image.height);
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const pixels = pen.getImageData(0, 0, image.width, image.height).data;
    this.bytes = new Uint8Array(image.width * image.height);
    for (let index = 0; index < this.bytes.length; index += 1) this.bytes[index] = pixels[4 * index];
  }

  /** The score of a byte. */
  value(byte) {
    return this.low + (byte / 255) * (this.high - this.low);
  }

  /** The local score at a place, both 0 to 1 across the picture; null outside. */
  at(x, y) {
    if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return null;
    return this.value(this.bytes[Math.floor(y * this.height) * this.width + Math.floor(x * this.width)]);
  }

  /** Where the map is highest, 0 to 1 each. */
  peak() {
    let best = 0;
    for (let index = 1; index < this.bytes.length; index += 1) if (this.bytes[index] > this.bytes[best]) best = index;
    return { x: ((best % this.width) + 0.5) / this.width, y: (Math.floor(best / this.width) + 0.5) / this.height };
  }

  /** The map in colours, transparent where nothing is to be seen; made once. */
  picture() {
    if (this.canvas) return this.canvas;
    const table = new Uint8ClampedArray(256 * 4);
    const scale = this.threshold > 0 ? this.threshold : Math.max(1e-6, this.high);
    for (let byte = 0; byte < 256; byte += 1) {
      const level = this.value(byte) / scale;
      table.set([...heatColour(level / 2), Math.round(255 * heatCover(level))], 4 * byte);
    }
    this.canvas = new OffscreenCanvas(this.width, this.height);
    const pen = this.canvas.getContext("2d");
    const image = pen.createImageData(this.width, this.height);
    for (let index = 0; index < this.bytes.length; index += 1) {
      image.data.set(table.subarray(4 * this.bytes[index], 4 * this.bytes[index] + 4), 4 * index);
    }
    pen.putImageData(image, 0, 0);
    return this.canvas;
  }

  /** The line at the threshold as a path in pixels of the map; made once. */
  contour() {
    if (this.line) return this.line;
    this.line = new Path2D();
    const span = this.high - this.low;
    if (!(span > 0) || !(this.threshold > 0)) return this.line;
    const limit = (255 * (this.threshold - this.low)) / span;
    const { width, height, bytes } = this;
    for (let y = 0; y < height - 1; y += 1) {
      for (let x = 0; x < width - 1; x += 1) {
        const at = y * width + x;
        this.cell(x + 0.5, y + 0.5, [bytes[at], bytes[at + 1], bytes[at + width + 1], bytes[at + width]], limit);
      }
    }
    return this.line;
  }

  // One square of four neighbours: the line enters and leaves where its edges cross the limit.
  cell(x, y, corners, limit) {
    const inside = corners.map((value) => value > limit);
    if (inside.every(Boolean) || !inside.some(Boolean)) return;
    const places = [[0, 0], [1, 0], [1, 1], [0, 1]];
    const crossings = [];
    for (let edge = 0; edge < 4; edge += 1) {
      const next = (edge + 1) % 4;
      if (inside[edge] === inside[next]) continue;
      const share = (limit - corners[edge]) / (corners[next] - corners[edge]);
      const [from, to] = [places[edge], places[next]];
      crossings.push([x + from[0] + (to[0] - from[0]) * share, y + from[1] + (to[1] - from[1]) * share]);
    }
    for (let index = 0; index + 1 < crossings.length; index += 2) {
      this.line.moveTo(...crossings[index]);
      this.line.lineTo(...crossings[index + 1]);
    }
  }
}

// What another threshold would have done to the scores that were recorded. Plain arithmetic, no page.

/** Scores in order; counts above any threshold are then two look-ups away. */
export class Scores {
  constructor(scores) {
    this.sorted = Float64Array.from(scores).sort();
  }

  get count() {
    return this.sorted.length;
  }

  /** How many are above a threshold: as on the line, a score that equals it is not a defect. */
  above(threshold) {
    let [low, high] = [0, this.sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.sorted[middle] > threshold) high = middle;
      else low = middle + 1;
    }
    return this.sorted.length - low;
  }

  /** The score below which a share of them lies. */
  quantile(share) {
    if (!this.count) return 0;
    return this.sorted[Math.min(this.count - 1, Math.floor(share * this.count))];
  }

  /** What the axis spans: the threshold with room to both sides, and all but the far tail. */
  span(threshold) {
    if (!this.count) return [0, 1];
    const most = this.sorted[this.count - 1];
    const high = Math.max(Math.min(most, Math.max(this.quantile(0.995), 0)), (threshold ?? 0) * 1.6) || most || 1;
    const low = Math.min(0, this.sorted[0]);
    return [low, high > low ? high * 1.04 : low + 1];
  }

  /** Counts in equal steps; what lies beyond the span is in the last one. */
  bins(low, high, count) {
    const bins = new Array(count).fill(0);
    for (const score of this.sorted) {
      const place = Math.floor(((score - low) / (high - low)) * count);
      bins[Math.max(0, Math.min(count - 1, place))] += 1;
    }
    return bins;
  }
}

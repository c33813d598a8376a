"""How long the pixel metrics of a category take, how much memory, and how far they are from exact.

    python tests/bench/metrics.py [--frames 120] [--sides 224,400,512] [--json FILE]

Maps are made up: a smooth noise with bumps at the defects. Exact is one sort of all scores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tracemalloc
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from inference.metrics import interval, resample
from inference.pixels import LIMITS, Outline, PixelCounts

Map = NDArray[np.float32]
console = Console(width=130)


def frame(number: int, side: int) -> tuple[Map, NDArray[np.bool_]]:
    """A map of 256 pixels a side, as the inspector gives it, and a mask of ``side``; a third is good."""
    rng = np.random.default_rng(number)
    noise = cv2.GaussianBlur(rng.standard_normal((256, 256), dtype=np.float32), (0, 0), 3)
    values = np.asarray(noise / noise.std(), np.float32)
    mask = np.zeros((256, 256), np.uint8)
    if number % 3:
        for _ in range(int(rng.integers(1, 4))):
            centre = tuple(int(v) for v in rng.integers(30, 226, 2))
            cv2.circle(mask, centre, int(rng.integers(3, 16)), 1, -1)
        values += cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 4) * np.float32(rng.uniform(1, 6))
    full = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
    return values, full > 0


def exact(maps: list[Map], masks: list[NDArray[np.bool_]]) -> dict[str, float]:
    """Every distinct score as a threshold, by one sort of all pixels at the size of the masks."""
    scores = np.concatenate(
        [
            cv2.resize(m, k.shape[::-1], interpolation=cv2.INTER_LINEAR).ravel()
            for m, k in zip(maps, masks, strict=True)
        ]
    )
    good = np.concatenate([~mask.ravel() for mask in masks])
    cover = np.zeros(scores.size)
    start = 0
    for mask in masks:
        outline = Outline.of(mask)
        cover[start + outline.place] = outline.weight
        start += mask.size
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)
    passed, caught = np.cumsum(good[order])[ends], np.cumsum(~good[order])[ends]
    rate, hit = np.append(0, passed / passed[-1]), np.append(0, caught / caught[-1])
    covered = np.cumsum(cover[order])[ends]
    overlap = np.append(0, covered / covered[-1])
    found = {"auroc": float(np.trapezoid(hit, rate))}
    found["ap"] = float((np.diff(caught, prepend=0) * caught / (caught + passed)).sum() / caught[-1])
    for limit in LIMITS:
        inside = rate <= limit
        x = np.append(rate[inside], limit)
        y = np.append(overlap[inside], np.interp(limit, rate, overlap))
        found[f"aupro_{round(100 * limit):02d}"] = float(np.trapezoid(y, x) / limit)
    return found


def measure(frames: int, side: int, bootstrap: int) -> dict[str, Any]:
    """One row: seconds of each stage, memory that the counts keep, and differences from exact."""
    pairs = [frame(number, side) for number in range(frames)]
    maps, masks = [values for values, _ in pairs], [mask for _, mask in pairs]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    counts = PixelCounts()
    for values, mask in pairs:
        counts.add(values, Outline.of(mask))
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    counts = PixelCounts()
    times = [perf_counter()]
    outlines = [Outline.of(mask) for mask in masks]
    times.append(perf_counter())
    for values, outline in zip(maps, outlines, strict=True):
        counts.add(values, outline)
    times.append(perf_counter())
    figures = counts.figures()
    times.append(perf_counter())
    groups = [str(number) for number in range(frames)]
    weights = resample(groups, [bool(mask.any()) for mask in masks], bootstrap, 0)
    area, precision, overlap = counts.resampled(weights)
    spread = {"auroc": interval(area), "ap": interval(precision)}
    spread |= {f"aupro_{round(100 * limit):02d}": interval(overlap[limit]) for limit in LIMITS}
    times.append(perf_counter())
    truth = exact(maps, masks)
    times.append(perf_counter())
    found = {"auroc": figures.auroc, "ap": figures.ap}
    found |= {f"aupro_{round(100 * limit):02d}": figures.aupro[limit] for limit in LIMITS}
    return {
        "frames": frames,
        "side": side,
        "megapixels": frames * side * side / 1e6,
        "seconds": dict(
            zip(("outline", "count", "figures", "intervals", "exact"), np.diff(times).tolist(), strict=True)
        ),
        "kept_mb": kept / 1e6,
        "maps_mb": sum(mask.size * 4 for mask in masks) / 1e6,
        "figures": found,
        "bound": figures.error,
        "off": {name: abs(found[name] - truth[name]) for name in found},
        "interval": spread,
    }


def main() -> int:
    """Print the table; 1 when a figure is further from exact than its bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--sides", default="224,400,512")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows = [measure(args.frames, int(side), args.bootstrap) for side in args.sides.split(",")]
    table = Table(title=f"pixel metrics of {args.frames} frames, one row of the evaluation")
    headings = (
        "side",
        "Mpx",
        "outline s",
        "count s",
        "figures s",
        "intervals s",
        "one sort s",
        "kept MB",
        "maps MB",
    )
    for heading in (*headings, "@1 %", "off", "bound"):
        table.add_column(heading, justify="right")
    for row in rows:
        seconds = row["seconds"]
        table.add_row(
            str(row["side"]),
            f"{row['megapixels']:.0f}",
            *(f"{seconds[name]:.2f}" for name in ("outline", "count", "figures", "intervals", "exact")),
            f"{row['kept_mb']:.0f}",
            f"{row['maps_mb']:.0f}",
            f"{row['figures']['aupro_01']:.4f}",
            f"{row['off']['aupro_01']:.1e}",
            f"{row['bound']['aupro_01']:.1e}",
        )
    console.print(table)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=2))
    return int(any(row["off"][name] > row["bound"][name] + 1e-9 for row in rows for name in row["off"]))


if __name__ == "__main__":
    sys.exit(main())

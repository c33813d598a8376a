"""How fast a frame is inspected, by profile, grid, precision and batch size, and where its time goes.

    python tests/bench/inspector.py --json inspector.json
    python tests/bench/inspector.py --quick                 tiny networks: does everything run?

1. Compact: a rendered product is taught in a temporary folder and inspected, fused, on one core and on all.
2. Reference, random weights: the native grids, and beside them, taking turns with them and at the same
   precision, the published arithmetic (farthest points, every pixel of the full grid through every head).
3. On a GPU, where there is one: batches, with what the device's peaks would allow.

On one core floors are judged by processor time, which is the clock's on an idle machine and hardly changes on
a busy one. Memory is the peak above what was resident before the call; weights were. Exit code 1 when a floor
is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from tests.bench import compact_case, gpu_case, reference_case
from tests.bench.paired import Timed, cores, machine, ratios, take_turns

COMPACT_MS = 25.0
REFERENCE_RATIO = 6.0
GPU_FPS = {"reference": 400.0, "compact fused": 2000.0}
GPU_BATCH = 32

console = Console(width=150)


@dataclass(frozen=True, slots=True)
class Floor:
    """Something that must hold.

    Attributes:
        met: None where it could not be measured.
    """

    name: str
    needed: str
    found: str
    met: bool | None

    def to_json(self) -> dict[str, Any]:
        """Stable keys."""
        return {"name": self.name, "needed": self.needed, "found": self.found, "met": self.met}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--quick", action="store_true", help="tiny networks, few rounds: floors say nothing")
    parser.add_argument("--rounds", type=int, help="of compact (default 40)")
    parser.add_argument("--reference-rounds", type=int, help="of reference (default 3)")
    parser.add_argument("--batches", type=int, nargs="+", help="of compact (default 1 8 32)")
    parser.add_argument("--reference-batches", type=int, nargs="+", help="of reference, CPU (default 1)")
    parser.add_argument("--skip", choices=("compact", "reference"), action="append", default=[])
    parser.add_argument("--peak-float32", type=float, default=67.0, help="GPU, 10^12 operations/s (H100: 67)")
    parser.add_argument("--peak-bfloat16", type=float, default=989.0, help="the same (H100, dense: 989)")
    parser.add_argument("--peak-bytes", type=float, default=3.35, help="GPU, 10^12 bytes/s (H100: 3.35)")
    return parser.parse_args(arguments)


def runtimes() -> list[str]:
    """What can run the compact profile's colour network here."""
    try:
        import openvino  # noqa: F401
    except ImportError:
        return ["torch"]
    return ["torch", "openvino"]


def parts(args: argparse.Namespace) -> list[tuple[str, int | None]]:
    """What of the machine is used: one core, then all of them where there are more."""
    whole: list[tuple[str, int | None]] = [("all cores", None)]
    alone = args.quick or len(os.sched_getaffinity(0)) == 1
    return [("one core", 1), *([] if alone else whole)]


def compact(args: argparse.Namespace) -> dict[str, list[Timed]]:
    """The compact profile on one core and on all."""
    dataset = compact_case.product(size=128 if args.quick else 256, train=8 if args.quick else 24)
    frames = compact_case.samples(dataset)
    batches = args.batches or ([1] if args.quick else [1, 8, 32])
    rounds = args.rounds or (2 if args.quick else 40)
    found: dict[str, list[Timed]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bundles = {
            precision: compact_case.taught(dataset, Path(folder), precision, bank=64 if args.quick else None)
            for precision in (["float32"] if args.quick else ["float32", "bfloat16"])
        }
        for name, count in parts(args):
            with cores(count) as given:
                # Frames side by side, each on one thread, are what a worker does.
                torch.set_num_threads(1)
                chosen = [
                    case
                    for precision, bundle in bundles.items()
                    for case in compact_case.cases(
                        bundle, frames, runtimes(), batches, precision=precision, parallel=given
                    )
                ]
                found[f"compact, {name}"] = take_turns(chosen, rounds)
    return found


def reference(args: argparse.Namespace) -> dict[str, list[Timed]]:
    """The reference profile and the published arithmetic on one core and on all."""
    sizes = reference_case.TINY if args.quick else reference_case.PUBLISHED
    frames = compact_case.samples(compact_case.product(size=256, train=8))
    batches = args.reference_batches or [1]
    rounds = args.reference_rounds or (2 if args.quick else 3)
    cases = reference_case.cases(frames, sizes, ("float32", "bfloat16"), batches)
    found: dict[str, list[Timed]] = {}
    for name, count in parts(args):
        with cores(count):
            found[f"reference, {name}"] = take_turns(cases, rounds)
    return found


def floors(found: dict[str, list[Timed]], gpu: Sequence[gpu_case.GpuRow] | None) -> list[Floor]:
    """What must hold, and whether it does."""
    out: list[Floor] = []
    for one in found.get("compact, one core", []):
        labels = one.case.labels
        if (labels["runtime"], labels["precision"], labels["batch"]) == ("torch", "float32", 1):
            shown = f"{one.processor:.1f} ms ({one.middle:.1f} by the clock)"
            fast = one.processor < COMPACT_MS
            out.append(Floor("compact, fused, one core", f"< {COMPACT_MS:g} ms a frame", shown, fast))
    rows = found.get("reference, one core", [])
    for slow in (one for one in rows if one.case.labels["profile"] == "published"):
        for one in rows:
            labels = one.case.labels
            same = labels["precision"] == slow.case.labels["precision"]
            if labels["profile"] != "reference" or not same or labels["batch"] != 1:
                continue
            each = ratios(slow, one)
            shown = f"{median(each):.1f} x (least {min(each):.1f})"
            name = f"reference {labels['grid']} {labels['precision']}, one core"
            faster = median(each) >= REFERENCE_RATIO
            out.append(Floor(name, f">= {REFERENCE_RATIO:g} x published", shown, faster))
    for profile, needed in GPU_FPS.items():
        best = [one.fps for one in gpu or [] if one.name.startswith(profile) and one.batch == GPU_BATCH]
        shown = f"{max(best):.0f}" if best else "not run"
        met = max(best) >= needed if best else None
        out.append(Floor(f"{profile} on one H100, batch {GPU_BATCH}", f">= {needed:g} frames/s", shown, met))
    return out


def show(title: str, rows: Sequence[Timed]) -> None:
    """One table: a row a case, a column a stage."""
    stages = list(dict.fromkeys(name for one in rows for name in one.stage_middles()))
    table = Table(title=f"{title}: ms a frame", title_justify="left")
    for heading in ("", "median", "least", "processor", "frames/s", "work MB", *stages):
        table.add_column(heading, justify="left" if not heading else "right")
    for one in rows:
        split = one.stage_middles()
        cells = (f"{split[name]:.2f}" if name in split else "-" for name in stages)
        memory = "-" if one.work_mb is None else f"{one.work_mb:.0f}"
        times = (one.middle, one.least, one.processor, 1e3 / one.middle)
        numbers = (*(f"{value:.2f}" for value in times), memory)
        table.add_row(one.case.name, *numbers, *cells)
    console.print(table)


def show_gpu(rows: Sequence[gpu_case.GpuRow], args: argparse.Namespace) -> None:
    """GPU rows with their ceilings."""
    peaks = f"{args.peak_float32:g} and {args.peak_bfloat16:g} T operations/s, {args.peak_bytes:g} TB/s"
    table = Table(title=f"GPU (ceilings at {peaks})", title_justify="left")
    for heading in ("", "batch", "frames/s", "operations allow", "bytes allow", "memory MB"):
        table.add_column(heading, justify="left" if not heading else "right")
    for one in rows:
        limits = ("-", "-") if one.ceilings is None else tuple(f"{value:.0f}" for value in one.ceilings)
        table.add_row(one.name, str(one.batch), f"{one.fps:.0f}", *limits, f"{one.memory_mb:.0f}")
    console.print(table)


def on_gpu(args: argparse.Namespace) -> list[gpu_case.GpuRow] | None:
    """Rows of the GPU; None where there is none."""
    if not torch.cuda.is_available():
        console.print("GPU: not run, this machine has none (or torch cannot use it)")
        return None
    sizes = reference_case.TINY if args.quick else reference_case.PUBLISHED
    dataset = compact_case.product(size=256, train=8 if args.quick else 24)
    frames = compact_case.samples(dataset)
    batches = (1, 8) if args.quick else (1, 8, GPU_BATCH, 128)
    rounds = 3 if args.quick else 20
    peaks = {"float32": args.peak_float32, "bfloat16": args.peak_bfloat16}
    found = gpu_case.rows(frames, sizes, batches, rounds, tera_operations=peaks, tera_bytes=args.peak_bytes)
    with tempfile.TemporaryDirectory() as folder:
        for precision in peaks:
            bundle = compact_case.taught(dataset, Path(folder), precision, bank=64 if args.quick else None)
            found += gpu_case.compact_rows(bundle, frames, batches, rounds, precision)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 when a floor is missed."""
    args = parse(arguments)
    about = machine()
    console.print(", ".join(f"{key}: {value}" for key, value in about.items()))
    found: dict[str, list[Timed]] = {}
    if "compact" not in args.skip:
        found |= compact(args)
    if "reference" not in args.skip:
        found |= reference(args)
    for title, rows in found.items():
        show(title, rows)
    gpu = on_gpu(args)
    if gpu is not None:
        show_gpu(gpu, args)
    judged = floors(found, gpu)
    table = Table(title="floors" + (" (tiny networks: they say nothing)" if args.quick else ""))
    for heading in ("", "needed", "found", ""):
        table.add_column(heading)
    for one in judged:
        verdict = "not measured" if one.met is None or args.quick else "met" if one.met else "NOT MET"
        table.add_row(one.name, one.needed, one.found, verdict)
    console.print(table)
    if args.json is not None:
        report = {
            "machine": about,
            "quick": args.quick,
            "cpu": {title: [one.to_json() for one in rows] for title, rows in found.items()},
            "gpu": None if gpu is None else [one.to_json() for one in gpu],
            "floors": [one.to_json() for one in judged],
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if not args.quick and any(one.met is False for one in judged) else 0


if __name__ == "__main__":
    sys.exit(main())

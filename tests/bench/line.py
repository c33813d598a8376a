"""How fast one worker is, and how late: real Kafka, real Redis, one worker process, on two cores.

    python tests/bench/line.py --json line.json

1. A burst finds what the worker can do, and where each of its milliseconds goes.
2. Open-loop runs find the highest rate it sustains: all verdicts come and the backlog does not grow.
3. At half that rate: capture to verdict, counted from the schedule, so that a slow sender hides nothing.
4. At the sustained rate: resident memory at frame 1,000 and frame 5,000.
5. A short run with factory frames, 2448 x 2048 colour and 1280 x 1024 depth, in tiles.

Exit code 1 when a floor is missed or a verdict is lost.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from compose.services import Endpoints, Services
from tests.bench import material as materials
from tests.bench import tables
from tests.bench.figures import Memory, Run, StageRow, stage_rows
from tests.bench.material import Material
from tests.bench.rig import WARM_FRAMES, BenchError, Line, WorkerOptions, pinned
from workers.commands import console

FLOOR_FPS = 12.0
FLOOR_SIZE = (256, 256)
FLOOR_DRIFT = 0.05
BURST_RATE = 150.0
BURST_FRAMES = 500
LARGE_BURST_RATE = 8.0
STEP = 0.95
TRIES = 6


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a burst showed.

    Attributes:
        run: the burst.
        frame_ms: what one frame takes.
        rows: the stage table.
    """

    run: Run
    frame_ms: float
    rows: list[StageRow]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--seconds", type=float, default=30.0, help="of an open-loop run (default 30)")
    parser.add_argument("--frames", type=int, default=1000, help="at half the rate (default 1000)")
    parser.add_argument(
        "--memory", type=int, default=5000, help="last frame of the memory run; 0 leaves it out"
    )
    parser.add_argument("--large", type=int, default=40, help="factory frames; 0 leaves them out")
    parser.add_argument("--size", type=int, default=256, help="pixels of the synthetic parts (default 256)")
    parser.add_argument("--pool", type=int, default=64, help="different frames (default 64)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="train and validation frames of this folder instead"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep bundles and frames here between runs")
    parser.add_argument("--cores", type=int, default=2, help="processors for everything together (default 2)")
    parser.add_argument("--threads", type=int, help="frames the worker scores at once")
    parser.add_argument("--max-batch", type=int, help="of the worker")
    parser.add_argument("--max-delay-ms", type=float, help="of the worker")
    args = parser.parse_args()
    if args.memory and args.memory <= 1000:
        parser.error("--memory: above 1000, or 0")
    return args


def main() -> int:
    """The whole benchmark; its exit code."""
    args = parse()
    say = console.out.print
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        cores = stack.enter_context(pinned(args.cores))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crosscheck-bench-")))
        kept: Path = args.keep or folder
        torch.set_num_threads(len(cores))
        with console.progress() as report:
            if args.data is not None:
                small = materials.replayed(kept / "folder", args.data, pool=args.pool, report=report)
            else:
                small = materials.small(kept / f"{args.size}", size=args.size, pool=args.pool, report=report)
            large = None
            if args.large:
                large = materials.large(kept / "large", pool=6, report=report)
        services = Services(folder / "services")
        stack.callback(services.down)
        ends = services.up(on_progress=lambda text: console.err.print(f"[dim]{text}[/dim]"))
        options = WorkerOptions(
            threads=args.threads, max_batch=args.max_batch, max_delay_ms=args.max_delay_ms
        )
        say(
            f"{processor()}, {len(cores)} cores for all processes, load {load:.1f} before the start; "
            f"Python {platform.python_version()}, torch {torch.__version__}\n"
        )
        report_small, checks = measure_small(ends, small, options, args)
        figures: dict[str, Any] = {
            "machine": {"processor": processor(), "cores": len(cores), "load_before": load},
            "torch": torch.__version__,
            "frames": report_small,
        }
        if large is not None:
            figures["large"], faults = measure_large(ends, large, options, args.large)
            checks.append(("all verdicts, large frames", "fused, none lost", faults or "yes", not faults))
    say(tables.floors(checks))
    figures["floors"] = [
        {"name": name, "wanted": wanted, "found": found, "pass": good} for name, wanted, found, good in checks
    ]
    console.write_json(args.json, figures)
    return console.OK if all(good for *_, good in checks) else console.BROKEN_PROMISE


def measure_small(
    ends: Endpoints, material: Material, options: WorkerOptions, args: argparse.Namespace
) -> tuple[dict[str, Any], list[tuple[str, str, str, bool]]]:
    """Steps 1 to 4; the figures and the floors."""
    say = console.out.print
    burst = capacity(ends, material, options, BURST_RATE, BURST_FRAMES)
    runs = [("burst", burst.run)]
    with Line(ends, material, options) as line:
        note(f"worker process {line.worker.pid}")
        rate, held = STEP * burst.run.throughput, None
        for _ in range(TRIES):
            note(f"open loop at {rate:.2f}/s for {args.seconds:.0f} s")
            run = line.offer(rate=rate, count=max(40, round(rate * args.seconds)))
            runs.append(("open loop", run))
            if run.holds:
                held = run
                break
            rate *= STEP
        if held is None:
            raise BenchError(f"the backlog grew at every rate down to {rate / STEP:.1f} frames a second")
        note(f"{args.frames} frames at {rate / 2:.2f}/s")
        half = line.offer(rate=rate / 2, count=args.frames)
        runs.append(("half of it", half))
        left = args.memory - line.reader.count
        if left > 0:
            note(f"{left} frames at {rate:.2f}/s for the memory")
            runs.append(("to the last frame", line.offer(rate=rate, count=left)))
            time.sleep(0.5)
    memory = Memory.of(line.memory, 1000, args.memory) if args.memory else None

    say(tables.rates(f"fused, {material.title}, {sizes(material)}", runs))
    say(f"sustained: [bold]{rate:.1f} frames/s[/bold]\n")
    say(
        tables.latencies(
            f"latency at {rate / 2:.1f} frames/s",
            [
                ("verdict on the result topic", half.latency()),
                ("verdict in the gate's stream", half.gate_latency()),
            ],
        )
    )
    say(tables.legs(half.split()))
    say(tables.stages("a saturated worker, frame by frame", burst.rows, burst.frame_ms))
    checks: list[tuple[str, str, str, bool]] = []
    if material.rgb == FLOOR_SIZE:
        wanted = f"at least {FLOOR_FPS:.0f} frames/s"
        checks.append(("sustained, fused, 256 x 256", wanted, f"{rate:.1f}", rate >= FLOOR_FPS))
    if memory is not None:
        say(tables.memory(memory))
        wanted, found = f"within {100 * FLOOR_DRIFT:.0f} %", f"{100 * memory.drift:+.1f} %"
        name = f"memory, frame {memory.first} to {memory.last}"
        checks.append((name, wanted, found, abs(memory.drift) <= FLOOR_DRIFT))
    faults = sorted({fault for _, run in runs for fault in run.faults})
    if line.reader.duplicates:
        faults.append(f"{line.reader.duplicates} verdicts twice")
    checks.append(("all verdicts", "fused, none lost", ", ".join(faults) or "yes", not faults))
    return {
        "size": material.title,
        "rgb_bytes": material.rgb_bytes,
        "depth_bytes": material.depth_bytes,
        "capacity_fps": burst.run.throughput,
        "sustained_fps": rate,
        "half_rate": half.to_json(),
        "runs": [{"name": name} | run.to_json() for name, run in runs],
        "stages_ms": {row.name: row.wall_ms for row in burst.rows},
        "stages_cpu_ms": {row.name: row.cpu_ms for row in burst.rows if row.cpu_ms is not None},
        "memory": None if memory is None else memory.to_json(),
    }, checks


def measure_large(
    ends: Endpoints, material: Material, options: WorkerOptions, count: int
) -> tuple[dict[str, Any], str]:
    """Step 5; the figures, and what went wrong."""
    say = console.out.print
    burst = capacity(ends, material, options, LARGE_BURST_RATE, max(32, count // 2))
    half_rate = burst.run.throughput / 2
    with Line(ends, material, options) as line:
        note(f"{count} factory frames at {half_rate:.2f}/s")
        half = line.offer(rate=half_rate, count=count)
    runs = [("burst", burst.run), ("half of it", half)]
    say(tables.rates(f"fused, {material.title}, {sizes(material)}", runs))
    say(
        tables.latencies(
            f"latency at {half_rate:.2f} frames/s",
            [
                ("verdict on the result topic", half.latency()),
                ("verdict in the gate's stream", half.gate_latency()),
            ],
        )
    )
    say(tables.stages("a saturated worker, factory frame by frame", burst.rows, burst.frame_ms))
    faults = sorted({fault for _, run in runs for fault in run.faults})
    return {
        "size": material.title,
        "rgb_bytes": material.rgb_bytes,
        "depth_bytes": material.depth_bytes,
        "capacity_fps": burst.run.throughput,
        "half_rate": half.to_json(),
        "stages_ms": {row.name: row.wall_ms for row in burst.rows},
    }, ", ".join(faults)


def capacity(
    ends: Endpoints, material: Material, options: WorkerOptions, rate: float, count: int
) -> Capacity:
    """A worker of its own, offered more than it can do."""
    note(f"burst of {count} frames, {material.title}")
    with Line(ends, material, options) as line:
        run = line.offer(rate=rate, count=count)
    frame_ms = 1e3 / run.throughput
    return Capacity(run, frame_ms, stage_rows(line.stages, count + WARM_FRAMES, frame_ms))


def sizes(material: Material) -> str:
    """Encoded sizes in words."""
    return f"{material.rgb_bytes / 1e3:.0f} kB colour + {material.depth_bytes / 1e3:.0f} kB depth"


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def note(text: str) -> None:
    """What is being done, on standard error."""
    Console(stderr=True).print(f"[dim]{text}[/dim]")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(console.BROKEN_PROMISE)

"""Bundles that take over under load: real Kafka and Redis, worker processes, small real bundles.

    python tests/bench/activation.py --json activation.json

Three versions of a product are taught on different normals, so that each scores every frame otherwise. Frames
flow at a fixed rate; on the way three versions are activated and one activation is rolled back, as an
operator would do it. Then every verdict is held against the bundle that it names: its digest is that of the
manifest, and its score is, to the last bit, what this bundle gives this frame alone.

Exit code 1 when a part was lost, a verdict conflicts, or a score is not its bundle's.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from compose.services import Services
from tests.bench.activating import PRODUCT, ActivationLine, Counted, activation_line, make
from tests.bench.line import processor
from workers.commands import console
from workers.commands.models import activate, roll_back

WAIT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """One change of bundles.

    Attributes:
        what: in words.
        at: when it was asked for, nanoseconds since the epoch.
        seconds: until every worker judged by it.
        old_after: verdicts of parts captured after it was asked for that still name the bundle before.
        first_s: from asking to the first verdict that names it.
    """

    what: str
    bundle: str
    at: int
    seconds: float
    old_after: int = 0
    first_s: float = 0.0


def ask(line: ActivationLine, what: str, version: str | None) -> Swap:
    """Activate a version, or go back where none is given; wait until every worker has it."""
    at = time.time_ns()
    if version is None:
        code = roll_back(line.settings, PRODUCT, wait_s=WAIT_S)
    else:
        code = activate(line.settings, PRODUCT, version, wait_s=WAIT_S)
    assert code == console.OK, f"{what}: a worker did not take it over"
    seconds = (time.time_ns() - at) / 1e9
    return Swap(what=what, bundle="" if version is None else f"{PRODUCT}/{version}", at=at, seconds=seconds)


def run(line: ActivationLine, *, frames: int, rate: float, workers: int) -> tuple[list[Swap], Counted]:
    """Send the frames, swap on the way, and count."""
    for number in range(workers):
        line.start_worker(f"w{number}")
    for number in range(workers):
        line.wait_serving(f"w{number}", f"{PRODUCT}/3")
    line.send(rate, frames)
    swaps = []
    for step, (what, version) in enumerate(
        [("activate 1", "1"), ("activate 2", "2"), ("activate 3", "3"), ("roll back", None)], 1
    ):
        line.wait_sent(frames * step // 5)
        swaps.append(ask(line, what, version))
    line.wait_sent(frames)
    line.finish()
    counted = line.count()
    return [_followed(swap, counted, line) for swap in swaps], counted


def _followed(swap: Swap, counted: Counted, line: ActivationLine) -> Swap:
    bundle = swap.bundle or f"{PRODUCT}/2"
    sent = dict(line.sent)
    until = swap.at + round(60e9)
    after = [v for p, v in counted.verdicts.items() if swap.at <= sent[p] < until]
    named = [v for v in counted.verdicts.values() if v.bundle == bundle and v.decided_at >= swap.at]
    first = min((v.decided_at for v in named), default=swap.at)
    old = [v for v in after if v.bundle != bundle and v.decided_at < swap.at + round(swap.seconds * 1e9)]
    return Swap(
        what=swap.what,
        bundle=bundle,
        at=swap.at,
        seconds=swap.seconds,
        old_after=len(old),
        first_s=(first - swap.at) / 1e9,
    )


def latencies(line: ActivationLine, counted: Counted, swaps: list[Swap]) -> tuple[list[float], list[float]]:
    """Capture to verdict in milliseconds: of parts captured while a bundle was loaded, and of the others."""
    within: list[float] = []
    other: list[float] = []
    for part, at in line.sent:
        verdict = counted.verdicts.get(part)
        if verdict is not None:
            busy = any(swap.at <= at <= swap.at + swap.seconds * 1e9 for swap in swaps)
            (within if busy else other).append((verdict.decided_at - at) / 1e6)
    return within, other


def quantiles(values: list[float]) -> str:
    """p50, p95, p99 and the most, in milliseconds."""
    if not values:
        return "-"
    found = np.percentile(values, [50, 95, 99, 100])
    return " / ".join(f"{value:.0f}" for value in found) + f" ms ({len(values)} parts)"


def main() -> int:
    """The whole measurement; its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=25.0, help="frames a second")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", type=int, default=192, help="pixels of the synthetic parts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crosscheck-bench-")))
        console.err.print("[dim]teaching three versions[/dim]")
        material = make(folder, size=args.size)
        services = Services(folder / "services")
        stack.callback(services.down)
        ends = services.up(on_progress=lambda text: console.err.print(f"[dim]{text}[/dim]"))
        line = stack.enter_context(
            activation_line(folder, material, ends.kafka, ends.redis_url, f"act-{time.time_ns()}")
        )
        console.out.print(
            f"{processor()}, load {load:.1f} before the start; Python {platform.python_version()},"
            f" torch {torch.__version__}; {args.frames} frames of {args.size} pixels at {args.rate:g}/s,"
            f" {args.workers} workers\n"
        )
        swaps, counted = run(line, frames=args.frames, rate=args.rate, workers=args.workers)
        within, other = latencies(line, counted, swaps)
    _print(swaps, counted, within, other)
    console.write_json(
        args.json,
        {
            "frames": args.frames,
            "rate": args.rate,
            "workers": args.workers,
            "swaps": [asdict(swap) for swap in swaps],
            "by_bundle": dict(counted.by_bundle),
            "repeated": counted.repeated,
            "lost": counted.lost,
            "broken": counted.broken,
            "latency_while_loading_ms": within,
            "latency_else_ms": other,
        },
    )
    return console.BROKEN_PROMISE if counted.broken else console.OK


def _print(swaps: list[Swap], counted: Counted, within: list[float], other: list[float]) -> None:
    table = Table()
    headings = (
        "asked",
        "judges then",
        "every worker after",
        "first verdict after",
        "by the old one meanwhile",
    )
    for heading in headings:
        table.add_column(heading)
    for swap in swaps:
        table.add_row(
            swap.what, swap.bundle, f"{swap.seconds:.1f} s", f"{swap.first_s:.1f} s", str(swap.old_after)
        )
    console.out.print(table)
    by = ", ".join(f"{count} by {bundle}" for bundle, count in sorted(counted.by_bundle.items()))
    console.out.print(f"parts {counted.parts}: {by}")
    console.out.print(
        f"lost {counted.lost}  conflicting {counted.conflicting}  repeated {counted.repeated}"
        f"  not scored {counted.unscored}  without a known bundle {counted.unnamed}"
        f"  not their bundle's score {counted.wrong}"
    )
    console.out.print(f"capture to verdict p50 / p95 / p99 / max while a bundle loads: {quantiles(within)}")
    console.out.print(f"                                             else: {quantiles(other)}")


if __name__ == "__main__":
    sys.exit(main())

"""Scheduling only: 1, 2 and 4 workers share eight stations, and one joins, leaves, dies.

    python tests/bench/scale.py --json scale.json

Real Kafka, real Redis, real worker processes; in place of the model a stand-in that sleeps for a fixed time a
frame, so that workers scale beyond the cores of this machine. What is measured is what lies around the model:
how a group shares its partitions, and for how long a partition waits when it is shared anew. It says nothing
about how fast a model is.

1. For each number of workers: a backlog on all stations; frames a second of all and of each, and how uneven.
2. Two workers under a steady load: a third joins, it leaves (SIGTERM), one of the others dies (SIGKILL). For
   each: the longest time that a partition saw no verdict.

Exit code 1 when a part has no verdict, or a worker that was told to stop had to be killed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from compose.services import Endpoints, Services
from schemas.part import PartKey
from schemas.wire import decode_verdict
from tests.e2e.processes import wait_until
from tests.faults.crew import Crew, Nursery
from tests.faults.shots import Stamp, pictures
from tests.faults.traffic import Traffic
from workers.bus.base import TopicPartition
from workers.bus.kafka import KafkaBus
from workers.topics import StationMap, TopicPlan

STATIONS = 8
WORKERS = (1, 2, 4)
DEADLINE_S = 900.0
"""Long enough that no part is STALE: the stand-in sees every one."""
_SETTLE_S = 60.0
_STEADY_S = 4.0
_WATCH_S = 14.0
"""Of a change: above the session of a dead worker (6 s) and what comes after it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One verdict as the topic has it; ``at``: nanoseconds since the epoch when it was decided."""

    part: PartKey
    worker: str
    at: int


@dataclass(frozen=True, slots=True)
class Sharing:
    """How so many workers shared a backlog.

    Attributes:
        fps: verdicts a second of all of them, while all had work.
        each: of the slowest and of the fastest worker.
        imbalance: parts of the busiest worker by the mean; 1 is even.
    """

    workers: int
    parts: int
    lost: int
    fps: float
    each: tuple[float, float]
    imbalance: float


@dataclass(frozen=True, slots=True)
class Pause:
    """One change of the group: for how long partitions waited, milliseconds.

    Attributes:
        usual: the longest wait of any partition before it.
        stayed: of any partition that kept its worker.
        moved: how many have another worker afterwards.
        median, longest: the waits of those.
    """

    what: str
    usual: float
    stayed: float
    moved: int
    median: float
    longest: float
    lost: int


class Reader(threading.Thread):
    """Reads every partition of the result topic; a verdict that is repeated counts once."""

    def __init__(self, kafka: str, topic: str) -> None:
        super().__init__(name="verdicts", daemon=True)
        self._bus = KafkaBus(kafka)
        self._consumer = self._bus.consumer(None, max_poll_records=500)
        self._consumer.assign({TopicPartition(topic, number) for number in range(STATIONS)})
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._seen: dict[PartKey, Seen] = {}

    def run(self) -> None:
        while not self._done.is_set():
            for record in self._consumer.poll(0.2):
                verdict = decode_verdict(record.value)
                with self._lock:
                    self._seen.setdefault(
                        verdict.part, Seen(verdict.part, verdict.worker, verdict.decided_at)
                    )

    def seen(self) -> list[Seen]:
        """What has come so far."""
        with self._lock:
            return list(self._seen.values())

    def stop(self) -> None:
        """End the thread and let go of the broker."""
        self._done.set()
        self.join(10)
        self._bus.close()


class Line:
    """Topics, traffic, a crew of stand-ins and a reader, for one measurement."""

    def __init__(
        self, ends: Endpoints, nursery: Nursery, folder: Path, *, cost_s: float, rate: float
    ) -> None:
        prefix = f"scale-{time.time_ns()}"
        stations = StationMap({f"{prefix}.s{number}": number for number in range(STATIONS)})
        self.partitions = set(range(STATIONS))
        self._bus = KafkaBus(ends.kafka)
        TopicPlan(stations, frames_per_second=50, frame_bytes=20_000, prefix=prefix).apply(self._bus)
        settings = {
            "kafka": ends.kafka,
            "redis": ends.redis_url,
            "topic_prefix": prefix,
            "group": f"{prefix}.workers",
            "max_batch": 4,
            "threads": 1,
        }
        # Every frame is stamped as one that takes `slow_s`.
        self.crew = Crew(nursery, folder, settings, slow_s=cost_s, poll_interval_s=60.0, prefix=prefix)
        self.crew.supervised = False
        self.traffic = Traffic(
            self._bus,
            stations,
            [picture.stamped(Stamp.SLOW) for picture in pictures(real=False, count=8)],
            topic=f"{prefix}.frames",
            log_of=lambda name: folder / f"{name}.jsonl",
            rate=rate,
            deadline_s=DEADLINE_S,
        )
        self.reader = Reader(ends.kafka, f"{prefix}.verdicts")
        self.reader.start()

    def settle(self, seats: Sequence[int]) -> None:
        """Start workers on these seats and wait until the group has shared its partitions."""
        for seat in seats:
            self.crew.start(seat)
        wait_until(lambda: len(self.crew.living()) >= len(seats), _SETTLE_S, "workers running")
        self.crew.wait_settled(self.partitions, _SETTLE_S)

    def drain(self, timeout: float) -> int:
        """Wait until every part that was sent has its verdict; how many never came."""
        self.traffic.settle(30.0)
        until = time.monotonic() + timeout
        while (open_ := len(self.traffic.parts) - len(self.reader.seen())) > 0 and time.monotonic() < until:
            time.sleep(0.1)
        return open_

    def close(self) -> int:
        """Stop everything; how many workers did not end by themselves."""
        self.traffic.close()
        killed = len(self.crew.stop())
        self.reader.stop()
        self._bus.close()
        return killed


def share(line: Line, workers: int, parts: int) -> Sharing:
    """A backlog of ``parts`` over all stations, shared by so many workers."""
    line.settle(range(workers))
    names = list(line.traffic.stations)
    for number in range(parts):
        line.traffic.send(names[number % len(names)])
    lost = line.drain(timeout=300.0)
    return sharing(line.reader.seen(), workers, parts, lost)


def sharing(seen: Sequence[Seen], workers: int, parts: int, lost: int) -> Sharing:
    """Rates over the middle of the backlog, where every worker has work."""
    times = sorted(each.at for each in seen)
    first, last = times[len(times) // 10], times[len(times) * 9 // 10]
    seconds = (last - first) / 1e9
    middle = Counter(each.worker for each in seen if first <= each.at < last)
    rates = sorted(count / seconds for count in middle.values())
    rates = [0.0] * (workers - len(rates)) + rates
    counts = Counter(each.worker for each in seen)
    return Sharing(
        workers=workers,
        parts=parts,
        lost=lost,
        fps=sum(rates),
        each=(rates[0], rates[-1]),
        imbalance=max(counts.values()) * workers / len(seen),
    )


def changes(line: Line, say: Callable[[str], None]) -> list[Pause]:
    """A third worker joins, leaves, and one of the first two dies, under a steady load."""
    line.settle((0, 1))
    line.traffic.start()
    found: list[Pause] = []

    def change(what: str, act: Callable[[], object]) -> None:
        say(what)
        time.sleep(_STEADY_S)
        at = time.time_ns()
        act()
        time.sleep(_WATCH_S)
        line.crew.wait_settled(line.partitions, _SETTLE_S)
        found.append(pause(what, line.reader.seen(), at, STATIONS))

    def kill() -> None:
        member = line.crew.members.pop(1)
        member.signal(signal.SIGKILL)

    change("a third joins", lambda: line.crew.start(2))
    change("it leaves (SIGTERM)", lambda: line.crew.retire(2))
    change("one of two dies (SIGKILL)", kill)
    line.traffic.pause()
    lost = line.drain(timeout=120.0)
    return [Pause(**{**asdict(each), "lost": lost}) for each in found]


def pause(what: str, seen: Sequence[Seen], at: int, stations: int) -> Pause:
    """The longest waits of each station's verdicts before and after the moment ``at``."""
    names = sorted({each.part.station for each in seen})
    assert len(names) == stations, f"verdicts of {len(names)} stations of {stations}"
    before, stayed = [0.0], [0.0]
    moved: list[float] = []
    for name in names:
        own = sorted((each for each in seen if each.part.station == name), key=lambda each: each.at)
        early = [each for each in own if at - _STEADY_S * 1e9 <= each.at < at]
        # From the last before it: the wait that the change made begins there.
        late = early[-1:] + [each for each in own if at <= each.at < at + _WATCH_S * 1e9]
        before.append(longest(early))
        same = bool(late) and late[0].worker == late[-1].worker
        (stayed if same else moved).append(longest(late))
    moved.sort()
    return Pause(
        what=what,
        usual=max(before),
        stayed=max(stayed),
        moved=len(moved),
        median=moved[len(moved) // 2] if moved else 0.0,
        longest=moved[-1] if moved else 0.0,
        lost=0,
    )


def longest(seen: Sequence[Seen]) -> float:
    """The longest time between two neighbours, milliseconds; 0 where there are no two."""
    return max(((b.at - a.at) / 1e6 for a, b in pairwise(seen)), default=0.0)


def tables(found: Sequence[Sharing], pauses: Sequence[Pause], cost_ms: float) -> tuple[Table, Table]:
    """Both as they are printed."""
    title = (
        f"scheduling only: {STATIONS} stations, a stand-in of {cost_ms:g} ms a frame, {os.cpu_count()} cores"
    )
    rates = Table(title=title, title_justify="left")
    for heading in ("workers", "parts", "lost", "frames/s", "of one worker", "of the ideal", "imbalance"):
        rates.add_column(heading, justify="right")
    for each in found:
        ideal = each.workers * 1000 / cost_ms
        rates.add_row(
            str(each.workers),
            str(each.parts),
            str(each.lost),
            f"{each.fps:.1f}",
            f"{each.each[0]:.1f} to {each.each[1]:.1f}",
            f"{100 * each.fps / ideal:.0f} %",
            f"{each.imbalance:.2f}",
        )
    waits = Table(title="the longest time a partition saw no verdict, ms", title_justify="left")
    for heading in ("change", "before it", "kept its worker", "moved", "median", "longest", "lost"):
        waits.add_column(heading, justify="left" if heading == "change" else "right")
    for row in pauses:
        numbers = (row.usual, row.stayed, row.moved, row.median, row.longest, row.lost)
        waits.add_row(row.what, *(f"{number:.0f}" for number in numbers))
    return rates, waits


def main() -> int:
    """Measure, print, and say what was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cost-ms", type=float, default=40.0, help="what the stand-in takes for a frame")
    parser.add_argument("--parts", type=int, default=400, help="of the backlog, for each worker")
    parser.add_argument("--rate", type=float, default=2.0, help="parts a second of a station, under change")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    err = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="crosscheck-scale-") as name:
        folder = Path(name)
        services = Services(folder / "services")
        ends = services.up(on_progress=lambda text: err.print(f"[dim]{text}[/dim]"))
        nursery = Nursery(folder)
        # The stand-in sleeps 2 ms for every frame before it looks at the stamp.
        cost_s = args.cost_ms / 1000 - 0.002
        found, killed = [], 0
        try:
            for workers in WORKERS:
                err.print(f"[dim]{workers} workers[/dim]")
                line = Line(ends, nursery, folder, cost_s=cost_s, rate=args.rate)
                try:
                    found.append(share(line, workers, args.parts * workers))
                finally:
                    killed += line.close()
            line = Line(ends, nursery, folder, cost_s=cost_s, rate=args.rate)
            try:
                pauses = changes(line, lambda text: err.print(f"[dim]{text}[/dim]"))
            finally:
                killed += line.close()
        finally:
            nursery.close()
            services.down(delete=True)
    out = Console()
    for table in tables(found, pauses, args.cost_ms):
        out.print(table)
    lost = sum(each.lost for each in found) + (pauses[-1].lost if pauses else 0)
    out.print(f"lost {lost}, workers that had to be killed {killed}")
    if args.json is not None:
        value: dict[str, Any] = {
            "what": "scheduling only",
            "cores": os.cpu_count(),
            "cost_ms": args.cost_ms,
            "sharing": [asdict(each) for each in found],
            "pauses": [asdict(each) for each in pauses],
            "lost": lost,
        }
        args.json.write_text(json.dumps(value, indent=2) + "\n")
    return 1 if lost or killed else 0


if __name__ == "__main__":
    sys.exit(main())

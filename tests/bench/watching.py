"""What it costs to be watched: microseconds of the loop a part, and of a scrape.

    python tests/bench/watching.py

The observers run on the loop's own thread, so their time is the line's. A scrape runs on another thread, but
takes the interpreter from the loop, five milliseconds at a time: while it computes the loop runs at half
speed.

Times are of the processor, so that what else the machine does matters little.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import fakeredis

from schemas.part import PartKey
from schemas.verdict import Decision, Mode, Verdict
from tests.workers.frames import START, frame, pending
from workers.clock import ManualClock
from workers.drift.watch import DriftWatch
from workers.stages import StageTimes
from workers.steps.condition import SensorState
from workers.steps.flow import Flow
from workers.steps.looking import Look
from workers.steps.observing import Observer
from workers.steps.publishing import Outcome
from workers.store.verdicts import VerdictStore
from workers.telemetry.assembly import Assembly
from workers.telemetry.worker import AnswerTally, LoopCollector
from workers.vitals import Report, Vitals
from workers.watchdog import Watchdog

BATCH = 8
BATCHES = 2_000
ROUNDS = 7
LOOK = Look("ab" * 32, brightness=100.0, distance=5000.0, shift=1.0)


def outcomes(stations: int) -> list[list[Outcome]]:
    """Batches of answers, station after station."""
    one = pending(frame(0))
    made = []
    for number in range(max(BATCHES, stations // BATCH)):
        batch = []
        for place in range(BATCH):
            count = number * BATCH + place
            verdict = Verdict(
                part=PartKey(f"line-{count % stations}", 1, count),
                product="cap",
                decision=Decision.PASS if count % 10 else Decision.REJECT,
                captured_at=START,
                decided_at=START + 30_000_000 + count,
                deadline=START + 10**9,
                worker="w1",
                mode=Mode.FUSED,
                score=0.5 if count % 10 else 2.0,
                threshold=1.0,
                bundle="cap/1",
                bundle_hash="ab" * 32,
            )
            batch.append(Outcome.of(one, verdict, look=LOOK))
        made.append(batch)
    return made


def per_part(observer: Observer, batches: list[list[Outcome]]) -> float:
    """Microseconds a part: the median of some rounds."""
    parts = [pending(frame(0))] * BATCH
    took = []
    for _ in range(ROUNDS):
        begin = time.thread_time()
        for batch in batches:
            observer.batched(parts, 1.0)
            observer.answered(batch)
        took.append((time.thread_time() - begin) / (len(batches) * BATCH) * 1e6)
    return statistics.median(took)


def median_ms(call: Callable[[], object]) -> float:
    """Milliseconds of one call: the median of some."""
    took = []
    for _ in range(ROUNDS):
        begin = time.thread_time()
        call()
        took.append((time.thread_time() - begin) * 1e3)
    return statistics.median(took)


def scrape_of(stations: int, batches: list[list[Outcome]]) -> tuple[float, int]:
    """Milliseconds and bytes of one scrape of a worker with so many stations."""
    clock = ManualClock(START)
    store = VerdictStore(fakeredis.FakeRedis())
    vitals = Vitals("w1", store, clock, Watchdog(stall_s=30, clock=clock))
    names = [f"line-{number}" for number in range(stations)]
    vitals.last = Report(
        answered=0,
        held=0,
        held_bytes=0,
        paused=False,
        partitions=tuple(range(stations)),
        dead_letters=0,
        sensors={(name, sensor): SensorState.UP for name in names for sensor in ("rgb", "depth")},
        clocks=dict.fromkeys(names, 0.001),
        untrusted=(),
    )
    tally, watch = AnswerTally(), Assembly("worker", None)
    for batch in batches:
        tally.answered(batch)
    watch.collect(tally, LoopCollector(StageTimes(clock), vitals, Flow(max_parts=64, max_bytes=1)))
    return median_ms(lambda: watch.registry.render(None)), len(watch.registry.render(None)[0])


def main() -> None:
    """Print the figures."""
    few = outcomes(40)
    print(f"metrics, 40 stations: {per_part(AnswerTally(), few):.2f} us a part")
    drift = DriftWatch(VerdictStore(fakeredis.FakeRedis()), "w1")
    print(f"drift, 40 stations: {per_part(drift, few):.2f} us a part")
    for stations in (1, 40, 1000):
        took, size = scrape_of(stations, outcomes(stations))
        print(f"one scrape, {stations} stations: {took:.1f} ms, {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

"""Where each millisecond of the loop goes, summed over a process's life."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import thread_time

from workers.clock import Clock

IDLE = "idle"
"""Polls that brought nothing: waiting for frames, or for a batch to be due."""
POLL = "poll"
OPEN = "open"
DECODE = "decode"
INSPECT = "inspect"
STORE = "store"
PUBLISH = "publish"
COMMIT = "commit"
STAGES = (IDLE, POLL, OPEN, DECODE, INSPECT, STORE, PUBLISH, COMMIT)
"""Every stage name, in the order of the loop."""


@dataclass(slots=True)
class StageTotal:
    """Seconds spent in one stage, those of them that the loop's own thread computed, and how often it was
    entered. What is no computing is waiting: for a record, an answer, another thread."""

    seconds: float = 0.0
    cpu: float = 0.0
    count: int = 0


@dataclass(slots=True)
class Stage:
    """The stage that is being timed."""

    name: str


class StageTimes:
    """Sums per stage. ``add`` also takes the inspector's own stages, as ``inspect.NAME``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.totals: dict[str, StageTotal] = {name: StageTotal() for name in STAGES}

    def add(self, name: str, seconds: float, cpu: float = 0.0) -> None:
        """Count one entry of ``seconds``."""
        total = self.totals.setdefault(name, StageTotal())
        total.seconds += seconds
        total.cpu += cpu
        total.count += 1

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time the body of a with statement, which may still rename the stage."""
        stage = Stage(name)
        start, worked = self._clock.monotonic(), thread_time()
        try:
            yield stage
        finally:
            self.add(stage.name, self._clock.monotonic() - start, thread_time() - worked)

    def to_json(self) -> dict[str, dict[str, float]]:
        """``{stage: {"seconds": s, "cpu": s, "count": n}}``."""
        return {
            name: {"seconds": t.seconds, "cpu": t.cpu, "count": t.count} for name, t in self.totals.items()
        }

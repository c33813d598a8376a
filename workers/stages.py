"""Where each millisecond of the loop goes, summed over a process's life."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from workers.clock import Clock

POLL = "poll"
OPEN = "open"
DECODE = "decode"
INSPECT = "inspect"
STORE = "store"
PUBLISH = "publish"
COMMIT = "commit"
STAGES = (POLL, OPEN, DECODE, INSPECT, STORE, PUBLISH, COMMIT)
"""Every stage name, in the order of the loop."""


@dataclass(slots=True)
class StageTotal:
    """Seconds spent in one stage and how often it was entered."""

    seconds: float = 0.0
    count: int = 0


class StageTimes:
    """Sums per stage. ``add`` also takes the inspector's own stages, as ``inspect.NAME``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.totals: dict[str, StageTotal] = {name: StageTotal() for name in STAGES}

    def add(self, name: str, seconds: float) -> None:
        """Count one entry of ``seconds``."""
        total = self.totals.setdefault(name, StageTotal())
        total.seconds += seconds
        total.count += 1

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body of a with statement."""
        start = self._clock.monotonic()
        try:
            yield
        finally:
            self.add(name, self._clock.monotonic() - start)

    def to_json(self) -> dict[str, dict[str, float]]:
        """``{stage: {"seconds": s, "count": n}}``."""
        return {name: {"seconds": t.seconds, "count": t.count} for name, t in self.totals.items()}

"""What a worker says of itself: its heartbeat in Redis, and to the watchdog where its partitions stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from workers.bus.base import Consumer
from workers.clock import Clock
from workers.errors import BusError, StoreError
from workers.steps.offsets import OffsetTracker
from workers.store.verdicts import VerdictStore
from workers.watchdog import Watchdog

log = structlog.get_logger(__name__)

BEAT_S = 2.0

State = Mapping[str, str | int | float]


class Vitals:
    """Of one worker. One thread calls it, once in every turn of the loop."""

    def __init__(self, worker: str, store: VerdictStore, clock: Clock, watchdog: Watchdog) -> None:
        self._worker = worker
        self._store = store
        self._clock = clock
        self._watchdog = watchdog
        self._next_beat = 0.0

    def beat(self, state: Callable[[], State]) -> None:
        """Write the heartbeat, every ``BEAT_S`` seconds."""
        now = self._clock.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_S
        try:
            self._store.beat(self._worker, {"at": self._clock.now(), **state()})
        except StoreError as error:
            # The heartbeat tells; it does not decide. The next verdict will find Redis away by itself.
            log.warning("worker.beat_failed", error=str(error))

    def look_for_lag(self, consumer: Consumer, offsets: OffsetTracker) -> None:
        """Tell the watchdog, now and then, from where each partition is undecided and where it ends."""
        if not self._watchdog.due_for_lag_check(self._clock.monotonic()):
            return
        places = consumer.assignment()
        try:
            ends = consumer.end_offsets(places) if places else {}
        except BusError as error:
            log.warning("worker.lag_unknown", error=str(error))
            self._watchdog.turned(paused=True)
            ends = {}
        stands = {}
        for place, end in ends.items():
            oldest = offsets.undecided(place)
            at = consumer.position(place) if oldest is None else oldest
            if at is not None:
                stands[place] = (at, end)
        self._watchdog.lags(stands)

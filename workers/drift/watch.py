"""Drift beside the loop: an observer that only notes, and a thread of its own that counts and writes.

The loop spends a few microseconds a part: one record of numbers in a bounded queue. Everything else, Redis
included, happens on the thread, every few seconds. Should it fall behind, the oldest notes are let go: what
drift tells is of the last parts anyway.

A station moves between workers. Its state is in Redis, with the name of who wrote it; a worker that finds
another name takes up that state, and goes on from there with the parts it has seen since its last look.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import structlog

from schemas.verdict import Mode
from workers.clock import Clock, SystemClock
from workers.drift.reading import READINGS, DriftReading
from workers.drift.series import Seen
from workers.drift.station import StationDrift
from workers.drift.window import Pace
from workers.errors import StoreError
from workers.steps.pending import PendingPart
from workers.steps.publishing import Outcome
from workers.store import keys
from workers.store.connection import guarded
from workers.store.verdicts import VerdictStore

log = structlog.get_logger(__name__)

EVERY_S = 10.0
"""Seconds between two looks at what was noted, and so between two writes."""
NOTED = 20_000
"""Parts between two looks, at most."""
STATIONS = 1000
"""Stations that one worker follows, at most; the one that was longest not seen goes."""
TTL_S = 7 * 86_400
OLD_S = 600.0
"""A station without a part for so long is not on this worker's mind any more."""


class DriftWatch:
    """Follows every station of one worker. An observer of the loop; see the module.

    Args:
        store: where states and readings are kept.
        worker: its name.
        clock: whose ``now`` readings carry.
    """

    def __init__(
        self, store: VerdictStore, worker: str, *, clock: Clock | None = None, pace: Pace | None = None
    ) -> None:
        self._store = store
        self._worker = worker
        self._clock = clock or SystemClock()
        self._pace = pace
        self._noted: deque[Seen] = deque(maxlen=NOTED)
        self._stations: dict[str, StationDrift] = {}
        self._unread: set[str] = set()
        self.readings: dict[str, tuple[DriftReading, ...]] = {}
        """By station, as of the last look; replaced and never changed, so that any thread may read it."""

    # On the loop's thread.

    def batched(self, parts: Sequence[PendingPart], now: float) -> None:
        """Nothing: drift is about answers."""

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        """Note every part that was scored for the first time."""
        for outcome in outcomes:
            seen = _seen(outcome)
            if seen is not None:
                self._noted.append(seen)

    # On the watch's own.

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look every ``EVERY_S`` on a thread of its own meanwhile, and once at the end."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,), name="drift", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=2.0)

    def _run(self, stop: threading.Event) -> None:
        ended = False
        while not ended:
            ended = stop.wait(EVERY_S)
            try:
                self.look()
            except Exception as error:  # whatever it is: the line goes on, and the next look begins anew
                log.error("drift.failed", error=repr(error))
                self._stations.clear()
                self._unread.clear()

    def look(self) -> None:
        """Count what was noted, tell of warnings that began or ended, and keep the state."""
        now = self._clock.now()
        noted = self._drained()
        names = list(dict.fromkeys(seen.station for seen in noted))
        if names:
            self._recall(names)
        for seen in noted:
            for reading in self._stations[seen.station].see(seen, now):
                _tell(reading)
        # A station that went to another worker is told of there: here its last word grows old.
        kept = {name: found for name, found in self.readings.items() if _fresh(found, now)}
        self.readings = kept | {name: tuple(self._stations[name].readings(now)) for name in names}
        if names:
            self._keep(names)

    def _drained(self) -> list[Seen]:
        out = []
        while self._noted:
            out.append(self._noted.popleft())
        return out

    def _recall(self, names: Sequence[str]) -> None:
        """Take up what another worker has written of these stations since this one did."""
        found: list[list[bytes | None]] | None = None
        try:
            with guarded(self._store.client, "read drift"):
                pipe = self._store.client.pipeline(transaction=False)
                for name in names:
                    pipe.hmget(keys.drift(name), ["by", "state"])
                found = cast("list[list[bytes | None]]", pipe.execute())
        except StoreError as error:
            log.warning("drift.not_read", error=str(error))
        for at, name in enumerate(names):
            by, state = (None, None) if found is None else found[at]
            known = self._stations.pop(name, None)
            new, theirs = known is None, by is not None and by != self._worker.encode()
            if known is None or theirs or (state is not None and name in self._unread):
                known = StationDrift(name, state, pace=self._pace)
            self._stations[name] = known  # behind the others: the first is the one longest not seen
            if found is not None:
                self._unread.discard(name)
            elif new:
                # Counted here alone until Redis is back; what is there is then taken up.
                self._unread.add(name)
        while len(self._stations) > max(STATIONS, len(names)):
            self._unread.discard(gone := next(iter(self._stations)))
            del self._stations[gone]

    def _keep(self, names: Iterable[str]) -> None:
        try:
            with guarded(self._store.client, "write drift"):
                pipe = self._store.client.pipeline(transaction=False)
                for name in names:
                    readings = json.dumps([one.to_map() for one in self.readings[name]])
                    values: dict[str, Any] = {
                        "by": self._worker,
                        "state": self._stations[name].state(),
                        READINGS: readings,
                    }
                    pipe.hset(keys.drift(name), mapping=values)
                    pipe.expire(keys.drift(name), TTL_S)
                pipe.execute()
        except StoreError as error:
            log.warning("drift.not_kept", error=str(error))


def _fresh(readings: Sequence[DriftReading], now: int) -> bool:
    return any(now - one.at < OLD_S * 1e9 for one in readings)


def _seen(outcome: Outcome) -> Seen | None:
    verdict, look = outcome.verdict, outcome.look
    if verdict is None or look is None or outcome.standing is not None or outcome.belated:
        return None
    mode, score = verdict.mode, verdict.score
    if mode is None or score is None:
        return None
    return Seen(
        verdict.part.station,
        verdict.product,
        look.bundle,
        Mode(mode),
        score,
        look.brightness,
        look.distance,
        look.shift,
        look.tolerance,
        look.sketches,
    )


def _tell(reading: DriftReading) -> None:
    numbers = {
        name: round(value, 4)
        for name, value in (
            ("value", reading.value),
            ("limit", reading.limit),
            ("psi", reading.psi),
            ("shift", reading.shift),
        )
        if value is not None
    }
    tell = log.warning if reading.warning else log.info
    tell(
        "drift.warning" if reading.warning else "drift.over",
        station=reading.station,
        product=reading.product,
        kind=reading.kind,
        mode=reading.mode,
        against=reading.reference,
        parts=reading.parts,
        **numbers,
    )

"""What a worker says of itself: its heartbeat in Redis, and to the watchdog where its partitions stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from workers.bus.base import Consumer
from workers.clock import Clock
from workers.errors import BusError, StoreError
from workers.load import LoadWatch
from workers.steps.condition import SensorState
from workers.steps.offsets import OffsetTracker
from workers.store.verdicts import VerdictStore
from workers.watchdog import Watchdog

log = structlog.get_logger(__name__)

BEAT_S = 2.0
LAG_S = 4.0
"""How often the broker is asked where partitions end, at most."""
ANSWER_S = 10.0
"""The broker's answer may take so long without the worker counting as stuck."""
ASK_AGAIN = 3
"""After an answer that was none, so many times what it took pass before the next question: one that takes
seconds leaves the loop its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a worker is at one moment.

    Attributes:
        answered: parts and records answered since it started.
        held: parts read and not answered.
        held_bytes: their records and images.
        paused: whether its partitions are paused.
        partitions: those it holds, by number.
        dead_letters: records it could not read since it started.
        parked: stations (and "partition N") with too many of those, which are not judged now.
        sensors: the state of each sensor, by station and sensor.
        clocks: by station, seconds by which its worst agent's clock is ahead of ours.
        untrusted: stations whose deadlines are refused.
        bundles: those it judges by, NAME/VERSION@HASH with the first twelve digits of the manifest's digest.
        swaps: bundles asked for since it started, by product and by how that ended: "done" or "failed".
        due: by station, ``issued_at`` of the newest PRODUCT command that it acts on.
        refused: what it was told to activate and does not serve, "NAME/VERSION: why".
        lag: records of its partitions that are not decided; None while the broker has not said.
        line: prefix of the topics it works on, for several lines may share one Redis.
    """

    answered: int
    held: int
    held_bytes: int
    paused: bool
    partitions: tuple[int, ...]
    dead_letters: int
    sensors: Mapping[tuple[str, str], SensorState]
    clocks: Mapping[str, float]
    untrusted: tuple[str, ...]
    parked: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()
    swaps: Mapping[tuple[str, str], int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    due: Mapping[str, int] = field(default_factory=dict)
    lag: int | None = None
    line: str = ""

    def to_map(self) -> dict[str, str | int | float]:
        """As the heartbeat in Redis has it: short texts, and of the sensors those that are not up."""
        lag: dict[str, str | int | float] = {} if self.lag is None else {"lag": self.lag}
        wrong = {key: state for key, state in self.sensors.items() if state is not SensorState.UP}
        return {
            "answered": self.answered,
            "held": self.held,
            "held_bytes": self.held_bytes,
            "paused": int(self.paused),
            "partitions": ",".join(map(str, sorted(self.partitions))),
            "dead_letters": self.dead_letters,
            "sensors": ",".join(
                f"{station}:{name}:{state.value}" for (station, name), state in wrong.items()
            ),
            "clocks": ",".join(f"{station}:{offset:.3f}" for station, offset in self.clocks.items()),
            "untrusted": ",".join(self.untrusted),
            "parked": ",".join(sorted(self.parked)),
            "bundles": ",".join(self.bundles),
            "swaps": ",".join(f"{product}:{result}:{n}" for (product, result), n in self.swaps.items()),
            "refused": "\n".join(self.refused),
            "due": ",".join(f"{station}:{issued_at}" for station, issued_at in self.due.items()),
            "line": self.line,
            **lag,
        }


class Vitals:
    """Of one worker. One thread calls it, once in every turn of the loop."""

    def __init__(self, worker: str, store: VerdictStore, clock: Clock, watchdog: Watchdog) -> None:
        self._worker = worker
        self._store = store
        self._clock = clock
        self._watchdog = watchdog
        self._next_beat = 0.0
        self._next_lag = 0.0
        self._load = LoadWatch()
        self.last: Report | None = None
        """What the last heartbeat said; read from any thread."""
        self.lags: Mapping[int, int] | None = None
        """Records that are not decided, by partition, as the broker last said; None where it did not. It is
        replaced, never changed, so that any thread may read it."""

    def beat(self, report: Callable[[], Report]) -> None:
        """Write the heartbeat, every ``BEAT_S`` seconds."""
        now = self._clock.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_S
        self.last = replace(report(), lag=None if self.lags is None else sum(self.lags.values()))
        try:
            self._store.beat(self._worker, {"at": self._clock.now(), **self.last.to_map()})
        except StoreError as error:
            # The heartbeat tells; it does not decide. The next verdict will find Redis away by itself.
            log.warning("worker.beat_failed", error=str(error))

    def soon(self) -> None:
        """Something changed that others wait for: the next turn's heartbeat is due."""
        self._next_beat = 0.0

    def look_for_lag(self, consumer: Consumer, offsets: OffsetTracker, answered: int = 0) -> None:
        """See, now and then, from where each partition is undecided and where it ends; tell the watchdog.

        Args:
            answered: since the worker began, to say how fast it is.
        """
        now = self._clock.monotonic()
        if now < self._next_lag:
            return
        self._next_lag = now + min(LAG_S, self._watchdog.lag_check_s)
        places = consumer.assignment()
        self._watchdog.busy(ANSWER_S, excuses=False)
        try:
            ends = consumer.end_offsets(places) if places else {}
        except BusError as error:
            log.warning("worker.lag_unknown", error=str(error))
            self._watchdog.turned(paused=True)
            asked = self._clock.monotonic()
            self._next_lag = max(self._next_lag, asked + ASK_AGAIN * (asked - now))
            self.lags = None
            self._watchdog.lags({})
            return
        stands = {}
        for place, end in ends.items():
            oldest = offsets.undecided(place)
            at = consumer.position(place) if oldest is None else oldest
            if at is not None:
                stands[place] = (at, end)
        self.lags = {place.partition: max(0, end - at) for place, (at, end) in stands.items()}
        self._load.looked(self.lags, answered, self._clock.monotonic())
        self._watchdog.lags(stands)

"""Whether another agent makes the parts of this station: its heartbeats say so, and ours say it to others.

Two agents that both see the same trigger name it twice. So who comes second is refused at its start, and
where neither came first (both started at once, or the broker was away), both raise an alarm. An agent that
only adds a sensor to the parts of another one makes no parts itself, and is no rival.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from schemas.errors import SchemaError
from schemas.heartbeat import Heartbeat
from schemas.wire import decode_heartbeat
from workers.bus.base import Bus, Consumer, TopicPartition
from workers.bus.partitions import partitions_of
from workers.capture import events
from workers.clock import Clock
from workers.errors import BusError, OffsetGap, StationTaken

_log = structlog.get_logger(__name__)

FREE_AFTER_S = 3.0
"""An agent that beats every second and was not heard for so long is gone: its station is free."""
_LATELY_MS = 10_000
_TAIL = 2_000
_READ_S = 5.0
_MAX_BEAT_BYTES = 4096
_RETRY_S = 30.0

Key = tuple[str, int]
"""(agent, run): names alone may be the same in two containers."""


@dataclass(frozen=True, slots=True)
class Other:
    """Another agent that makes parts of the station. ``heard``: monotonic seconds of its last beat."""

    agent: str
    run: int
    heard: float

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.run // 1_000_000_000, UTC)
        return f"agent {self.agent}, since {since:%Y-%m-%d %H:%M:%S} UTC"


class Others:
    """The other agents of one station. One thread at a time calls it.

    Args:
        bus: the bus, or None while there is none yet.
        topic: where agents beat.
        ours: whether a beat of this run is our own.
    """

    def __init__(
        self,
        bus: Callable[[], Bus | None],
        topic: str,
        station: str,
        ours: Callable[[int], bool],
        clock: Clock,
    ) -> None:
        self._bus = bus
        self._topic = topic
        self._station = station
        self._ours = ours
        self._clock = clock
        self._consumer: Consumer | None = None
        self._retry_at = 0.0
        self._said = False
        self._heard: dict[Key, Other] = {}
        self.now: tuple[Other, ...] = ()
        """Those heard within the last ``FREE_AFTER_S`` seconds; read from any thread."""

    def refuse_second(self) -> None:
        """At the start: an agent that beat lately has ``FREE_AFTER_S`` seconds to do it again.

        Raises:
            StationTaken: it did. Where the topic cannot be read nothing is known, and that is logged.
        """
        try:
            lately = self._lately()
            until = self._clock.monotonic() + FREE_AFTER_S
            while lately and (left := until - self._clock.monotonic()) > 0:
                for beat, _ in self._read(min(left, 0.5)):
                    if (beat.agent, beat.run) in lately:
                        other = Other(beat.agent, beat.run, 0.0)
                        self.close()
                        raise StationTaken(self._station, str(other), FREE_AFTER_S)
        except BusError as error:
            self._cannot(error)

    def look(self) -> None:
        """Read what was beaten since the last call; an agent that was not heard before is an alarm. Hardly
        waits, and raises nothing."""
        now = self._clock.monotonic()
        if now < self._retry_at or self._bus() is None:
            return
        try:
            beats = self._read(0.05)
        except BusError as error:
            self._cannot(error)
            beats = []
        now = self._clock.monotonic()
        for beat, _ in beats:
            key = (beat.agent, beat.run)
            other = Other(beat.agent, beat.run, now)
            if key not in self._heard:
                _log.error(
                    events.STATION_SHARED,
                    station=self._station,
                    other=str(other),
                    fix="stop one of the two: each trigger is a part twice",
                )
            self._heard[key] = other
        for key in [key for key, other in self._heard.items() if now - other.heard > FREE_AFTER_S]:
            del self._heard[key]
        self.now = tuple(self._heard.values())

    @property
    def trouble(self) -> str | None:
        """In one line, who else makes parts of the station; None where nobody does."""
        if not self.now:
            return None
        return f"station {self._station}: {self.now[0]}, makes its parts too: stop one of the two"

    def _lately(self) -> set[Key]:
        bus = self._bus()
        if bus is None or bus.partitions(self._topic) is None:
            return set()
        consumer, places = self._open(bus)
        ends = consumer.end_offsets(places)
        begins = consumer.beginning_offsets(places)
        for place, end in ends.items():
            consumer.seek(place, max(begins.get(place, 0), end - _TAIL))
        found: set[Key] = set()
        until = self._clock.monotonic() + _READ_S
        while self._clock.monotonic() < until and any(
            (consumer.position(place) or 0) < end for place, end in ends.items()
        ):
            for beat, sent_ms in self._read(0.2):
                if abs(self._clock.now() // 1_000_000 - sent_ms) < _LATELY_MS:
                    found.add((beat.agent, beat.run))
        return found

    def _read(self, timeout: float) -> list[tuple[Heartbeat, int]]:
        """The beats of others who make parts of the station, each with its record's time in milliseconds."""
        consumer = self._consumer
        if consumer is None:
            bus = self._bus()
            if bus is None:
                return []
            consumer, _ = self._open(bus)
        try:
            records = consumer.poll(timeout)
        except OffsetGap as gap:
            consumer.seek(TopicPartition(gap.topic, gap.partition), gap.end)
            return []
        found = []
        for record in records:
            try:
                beat = decode_heartbeat(record.value, _MAX_BEAT_BYTES)
            except SchemaError:
                continue  # the workers say it
            if beat.station == self._station and beat.triggers > 0 and not self._ours(beat.run):
                found.append((beat, record.timestamp_ms))
        return found

    def _open(self, bus: Bus) -> tuple[Consumer, set[TopicPartition]]:
        places = partitions_of(bus, self._topic)
        consumer = bus.consumer(None, start="latest", name=f"others-{self._station}")
        consumer.assign(places)
        self._consumer = consumer
        return consumer, places

    def _cannot(self, error: BusError) -> None:
        # The consumer is kept: it finds its broker again by itself.
        self._retry_at = self._clock.monotonic() + _RETRY_S
        if not self._said:
            self._said = True
            _log.warning(events.OTHERS_UNKNOWN, station=self._station, error=str(error))

    def close(self) -> None:
        """Let go of the broker."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(BusError):
                consumer.close()

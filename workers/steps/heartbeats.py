"""The agents' heartbeats, read beside the loop so that neither waits for the other."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from schemas.errors import SchemaError
from schemas.heartbeat import Heartbeat
from schemas.wire import decode_heartbeat
from workers.bus.base import Bus, Consumer, Record, TopicPartition
from workers.bus.partitions import partitions_of
from workers.clock import Clock
from workers.errors import BusError, OffsetGap
from workers.steps.clocks import AgentClocks
from workers.steps.listening import Listener

log = structlog.get_logger(__name__)

STALL_S = 2.0
"""Between two polls; what was read after a longer pause may have lain here, and is no witness of the time."""
MAX_WAITING = 10_000
MAX_BEAT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Heard:
    """A heartbeat, and the monotonic seconds when it was read."""

    beat: Heartbeat
    at: float


class HeartbeatReader:
    """Reads the heartbeat topic from now on, outside any group. One thread owns it."""

    def __init__(self, bus: Bus, topic: str, clock: Clock) -> None:
        self._bus = bus
        self._topic = topic
        self._clock = clock
        self._consumer: Consumer | None = None
        self._places: set[TopicPartition] = set()
        self._polled = 0.0

    def read(self, timeout: float) -> list[Heard]:
        """The heartbeats that came, waiting up to ``timeout`` seconds for the first.

        Raises:
            BusError: the broker is away, or there is no such topic.
        """
        consumer = self._open()
        before = self._clock.monotonic()
        stalled = before - self._polled > STALL_S
        try:
            records = consumer.poll(timeout)
        except OffsetGap as gap:
            consumer.seek(TopicPartition(gap.topic, gap.partition), gap.end)
            return []
        self._polled = self._clock.monotonic()
        # The process may have been stopped inside the poll as well as before it.
        if stalled or self._polled - before > timeout + STALL_S:
            for place, end in consumer.end_offsets(self._places).items():
                consumer.seek(place, end)
            return []
        return [Heard(beat, self._polled) for record in records if (beat := _beat(record)) is not None]

    def _open(self) -> Consumer:
        if self._consumer is not None:
            return self._consumer
        self._places = partitions_of(self._bus, self._topic)
        consumer = self._bus.consumer(None, start="latest", name="heartbeats")
        consumer.assign(self._places)
        self._consumer, self._polled = consumer, self._clock.monotonic()
        return consumer

    def close(self) -> None:
        """Let go of the broker; ``read`` would begin anew."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.close()
            except BusError as error:
                log.warning("worker.heartbeats_close_failed", error=str(error))


def _beat(record: Record) -> Heartbeat | None:
    try:
        return decode_heartbeat(record.value, MAX_BEAT_BYTES)
    except SchemaError as error:
        # Not a part, so no verdict hangs on it; whoever sends it is told apart by the log.
        log.warning("worker.heartbeat_unreadable", reason=error.reason, offset=record.offset)
        return None


class HeartbeatListener:
    """Listens to the agents' heartbeats."""

    def __init__(self, bus: Bus, topic: str, clock: Clock) -> None:
        self._listener = Listener(
            HeartbeatReader(bus, topic, clock), clock, what="heartbeats", most=MAX_WAITING
        )

    def start(self) -> None:
        """Begin to listen."""
        self._listener.start()

    def drain(self, clocks: AgentClocks) -> int:
        """Hand over what was heard since the last call; returns how many beats. Never waits."""
        heard = self._listener.drain()
        for one in heard:
            clocks.heard(one.beat, one.at)
        return len(heard)

    def close(self) -> None:
        """Stop listening, within a poll. Closing twice is allowed."""
        self._listener.close()

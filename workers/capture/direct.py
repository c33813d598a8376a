"""From the camera to the broker with nothing between them but the producer's window."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from schemas.part import PartKey
from schemas.wire import encode
from workers.bus.base import Bus, Delivery, TopicPartition
from workers.capture import events
from workers.capture.entry import Entry
from workers.capture.log import AgentLog
from workers.clock import Clock
from workers.errors import BusError, RecordTooLarge

_log = structlog.get_logger(__name__)

TOO_LARGE = "its frame is larger than the broker takes"
_PREPARE_S = 5.0


class Undelivered:
    """The delivery of a frame that was never accepted: known at once, and never good."""

    def __init__(self, error: BusError) -> None:
        self._error = error

    def done(self) -> bool:
        """True."""
        return True

    def wait(self, timeout: float) -> tuple[TopicPartition, int]:
        """Raises the BusError that says why."""
        raise self._error


@dataclass(frozen=True, slots=True)
class _Open:
    entry: Entry
    part: PartKey
    sensors: str
    """Empty for a notice."""
    delivery: Delivery


class Direct:
    """Sends on the caller's thread and forgets what the broker does not take.

    Args:
        connect: opens the bus.
        place: the station's partition of the frames topic.
        owns_bus: close the bus when closing.
        max_block_s, max_in_flight_bytes, delivery_timeout_s: as for ``Publisher``.

    Attributes:
        published, failed: frames that the broker has, and those that it will not have.
        notices: notices that it has.
    """

    dropped = 0
    buffered = 0

    def __init__(
        self,
        connect: Callable[[], Bus],
        place: TopicPartition,
        *,
        owns_bus: bool,
        log: AgentLog | None,
        clock: Clock,
        max_block_s: float,
        max_in_flight_bytes: int,
        delivery_timeout_s: float,
    ) -> None:
        self._place = place
        self._owns_bus = owns_bus
        self._log = log
        self._clock = clock
        self.bus: Bus | None = connect()
        self._producer = self.bus.producer(
            max_in_flight_bytes=max_in_flight_bytes,
            max_block=max_block_s,
            delivery_timeout=delivery_timeout_s,
        )
        # Where the partition is takes longer to learn than a frame may wait: the first one would be lost. A
        # broker that is away now may be back by then; if not, each frame says so.
        with suppress(BusError):
            self._producer.prepare(place, _PREPARE_S)
        self._lock = threading.Lock()
        self._open: deque[_Open] = deque()
        self.published = 0
        self.failed = 0
        self.notices = 0

    def reach(self) -> Bus | None:
        """The bus."""
        return self.bus

    def post(self, entry: Entry, value: bytes | None) -> Delivery:
        """Send a frame, or notices where ``value`` is None."""
        if value is not None:
            delivery = self._send(entry, entry.part, value, entry.sensors)
        else:
            delivery = self._tell(entry)
        self._reap()
        return delivery

    def _tell(self, entry: Entry) -> Delivery:
        for notice in entry.notices():
            delivery = self._send(entry, notice.part, encode(notice), "")
        return delivery

    def _send(self, entry: Entry, part: PartKey, message: bytes, sensors: str) -> Delivery:
        topic, partition = self._place.topic, self._place.partition
        try:
            delivery = self._producer.send(topic, message, key=str(part).encode(), partition=partition)
        except BusError as error:
            if sensors:
                self._fail(part, error)
            return Undelivered(error)
        with self._lock:
            self._open.append(_Open(entry, part, sensors, delivery))
        return delivery

    def _fail(self, part: PartKey, error: BusError) -> None:
        with self._lock:
            self.failed += 1
        _log.error(events.FRAME_FAILED, part=str(part), error=str(error))
        if self._log is not None:
            self._log.failed(part, self._clock.now(), str(error))

    def _reap(self) -> None:
        """Count what has become of earlier sends, without waiting."""
        with self._lock:
            done: list[_Open] = []
            left: deque[_Open] = deque()
            for item in self._open:
                (done if item.delivery.done() else left).append(item)
            self._open = left
        for item in done:
            try:
                item.delivery.wait(0.0)
            except BusError as error:
                if item.sensors:
                    self._fail(item.part, error)
                    if isinstance(error, RecordTooLarge):
                        # The topic takes less than it said: nobody is to wait for this frame.
                        self._tell(item.entry.without_images(TOO_LARGE))
                continue
            with self._lock:
                self.published += bool(item.sensors)
                self.notices += not item.sensors
            if self._log is not None and item.sensors:
                self._log.sent(item.part, self._clock.now(), item.sensors)

    def waiting(self) -> int:
        """Records whose outcome is not known yet."""
        with self._lock:
            return len(self._open)

    def flush(self, timeout_s: float) -> int:
        """Wait until the outcome of everything is known; how many records are open then."""
        with suppress(BusError):
            self._producer.flush(timeout_s)
        self._reap()
        return self.waiting()

    def close(self, timeout_s: float) -> int:
        """Flush and let go of the broker; what is open then has failed. How many records that is."""
        self._producer.close(timeout_s)
        self._reap()
        with self._lock:
            left, self._open = list(self._open), deque()
        for item in (item for item in left if item.sensors):
            self._fail(
                item.part, BusError(f"part {item.part}: closed before the broker had acknowledged its frame")
            )
        if self._owns_bus and self.bus is not None:
            self.bus.close()
        return len(left)


def opener(bus: Bus | str | Callable[[], Bus]) -> Callable[[], Bus]:
    """What opens the bus that was named."""
    if isinstance(bus, str):
        servers = bus

        def connect() -> Bus:
            from workers.bus.kafka import KafkaBus  # only those who name a broker need its client

            return KafkaBus(servers)

        return connect
    if callable(bus):
        return bus
    given = bus
    return lambda: given

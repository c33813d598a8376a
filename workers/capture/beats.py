"""The agent's heartbeat: once a second, that it lives, what time it has, and what it holds back."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import structlog

from schemas.heartbeat import Heartbeat
from schemas.wire import encode
from workers.bus.base import Bus, Delivery, Producer, TopicPartition
from workers.capture import events
from workers.clock import Clock, SystemClock
from workers.errors import BusError

_log = structlog.get_logger(__name__)

# A beat that arrives late reads as a clock that is behind: one that is not taken at once is given up.
_DELIVERY_S = 0.5
_SILENT_S = 5.0
"""Well past its delivery time-out a beat is known to be there or lost, unless its producer is stuck."""
_MAX_BLOCK_S = 0.2
_BYTES = 16 * 1024
_LOOK_AGAIN = 30


def agent_name() -> str:
    """The name of this process in heartbeats: host and pid."""
    return f"{socket.gethostname()}-{os.getpid()}"[:128]


class Beats:
    """Sends ``state()`` every ``every_s`` seconds on a thread and a producer of its own.

    Only one beat is ever on its way: while the broker does not answer, the next ones are skipped, not queued.
    An installation without the topic is said once and looked at again every half minute.

    Args:
        bus: the bus, or None while there is none yet.
        topic: its one partition is written to.
        state: makes the beat for the time given, integer nanoseconds since the epoch.
        beside: called after each beat, on the same thread.
    """

    def __init__(
        self,
        bus: Callable[[], Bus | None],
        topic: str,
        state: Callable[[int], Heartbeat],
        *,
        beside: Callable[[], None] | None = None,
        every_s: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        self._bus = bus
        self._place = TopicPartition(topic, 0)
        self._state = state
        self._beside = beside
        self._every = every_s
        self._clock: Clock = clock or SystemClock()
        self._producer: Producer | None = None
        self._open: Delivery | None = None
        self._opened = 0.0
        self._skip = 0
        self._said = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="capture-beats", daemon=True)
        self.sent = 0
        """Beats that were handed to the bus."""

    def beat(self) -> bool:
        """Send one beat, unless an earlier one is still on its way; whether one was sent."""
        if self._skip > 0:
            self._skip -= 1
            return False
        if self._open is not None and not self._open.done():
            self._give_up()
            return False
        try:
            producer = self._ready()
            if producer is None:
                return False
            message = encode(self._state(self._clock.now()))
            self._open = producer.send(self._place.topic, message, partition=self._place.partition, key=None)
        except BusError:
            return False
        self._opened = self._clock.monotonic()
        self.sent += 1
        return True

    def _give_up(self) -> None:
        """Let go of a producer that never says what became of a beat: the next one is to have another."""
        if self._clock.monotonic() - self._opened < _SILENT_S:
            return
        producer, self._producer, self._open = self._producer, None, None
        if producer is not None:
            with suppress(BusError):
                producer.close(0.0)

    def _ready(self) -> Producer | None:
        if self._producer is not None:
            return self._producer
        bus = self._bus()
        if bus is None:
            return None
        if bus.partitions(self._place.topic) is None:
            self._skip = _LOOK_AGAIN
            if not self._said:
                self._said = True
                _log.warning(
                    events.NO_HEARTBEATS, topic=self._place.topic, fix="make it with `crosscheck topics`"
                )
            return None
        producer = bus.producer(
            max_in_flight_bytes=_BYTES, max_block=_MAX_BLOCK_S, delivery_timeout=_DELIVERY_S, linger=0.0
        )
        self._producer = producer
        # The first beat is not to spend its time on finding the partition.
        with suppress(BusError):
            producer.prepare(self._place, 1.0)
        return producer

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self.beat()
                if self._beside is not None:
                    self._beside()
            except Exception as error:  # a heartbeat is never worth the line it speaks of
                _log.error(events.NO_HEARTBEATS, error=f"{type(error).__name__}: {error}")
                self._skip = _LOOK_AGAIN
            self._stopping.wait(self._every)

    def close(self) -> None:
        """Stop; the beat on its way may be lost."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5.0)
        if self._producer is not None:
            self._producer.close(0.0)

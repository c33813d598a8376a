"""The agents' heartbeats, read beside the loop so that neither waits for the other."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import structlog

from schemas.errors import SchemaError
from schemas.heartbeat import Heartbeat
from schemas.wire import decode_heartbeat
from workers.bus.base import Bus, Consumer, Record, TopicPartition
from workers.clock import Clock, SystemClock
from workers.errors import BusError, OffsetGap
from workers.steps.clocks import AgentClocks

log = structlog.get_logger(__name__)

POLL_S = 0.5
RETRY_S = 1.0
"""After a first failure; twice as long after each further one, up to ``MAX_RETRY_S``."""
MAX_RETRY_S = 15.0
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
        count = self._bus.partitions(self._topic)
        if not count:
            raise BusError(f"{self._topic} does not exist: create it with `crosscheck topics`")
        consumer = self._bus.consumer(None, start="latest", name="heartbeats")
        self._places = {TopicPartition(self._topic, index) for index in range(count)}
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
    """A thread that reads heartbeats, and what it has heard, for the loop to fetch.

    A broker that is away disturbs nobody: the thread tries again. Where the clock is set by hand no thread
    runs, since its polls would move that clock: ``drain`` then reads, without waiting.
    """

    def __init__(self, bus: Bus, topic: str, clock: Clock) -> None:
        self._reader = HeartbeatReader(bus, topic, clock)
        self._clock = clock
        self._heard: deque[Heard] = deque(maxlen=MAX_WAITING)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_read = 0.0
        self._away = False

    def start(self) -> None:
        """Begin to listen."""
        if isinstance(self._clock, SystemClock) and self._thread is None:
            self._thread = threading.Thread(target=self._listen, name="heartbeats", daemon=True)
            self._thread.start()

    def drain(self, clocks: AgentClocks) -> int:
        """Hand over what was heard since the last call; returns how many beats. Never waits."""
        if self._thread is None and not isinstance(self._clock, SystemClock):
            now = self._clock.monotonic()
            if now >= self._next_read:
                self._next_read = now + POLL_S
                self._read(0.0)
        count = 0
        while self._heard:
            heard = self._heard.popleft()
            clocks.heard(heard.beat, heard.at)
            count += 1
        return count

    def close(self) -> None:
        """Stop listening, within a poll. Closing twice is allowed."""
        self._stop.set()
        if self._thread is None:
            self._reader.close()
        else:
            # A thread that hangs on a broker that is away is left to itself: it owns its consumer.
            self._thread.join(2 * POLL_S + RETRY_S)

    def _listen(self) -> None:
        pause = RETRY_S
        while not self._stop.is_set():
            if self._read(POLL_S):
                pause = RETRY_S
            else:
                self._stop.wait(pause)
                pause = min(2 * pause, MAX_RETRY_S)
        self._reader.close()

    def _read(self, timeout: float) -> bool:
        try:
            self._heard.extend(self._reader.read(timeout))
        except Exception as error:  # whatever it is, a thread that ends unseen would watch no clock any more
            if not self._away:
                log.warning("worker.heartbeats_away", kind=type(error).__name__, error=str(error))
            self._away = True
            self._reader.close()
            return False
        if self._away:
            log.info("worker.heartbeats_back")
        self._away = False
        return True

"""One topic read from some way back to now and on, on a thread of its own, outside any group."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from workers.bus.base import Bus, Consumer, Record, TopicPartition
from workers.bus.partitions import partitions_of
from workers.errors import BusError, OffsetGap

log = structlog.get_logger(__name__)

POLL_S = 0.2
RETRY_S = 1.0
"""After a first failure; twice as long after each further one, up to ``MAX_RETRY_S``."""
MAX_RETRY_S = 10.0
MOST_HISTORY = 50_000
"""Records of a topic that are read from before, however many partitions it has: some ten seconds of work."""
NEW_PARTITIONS_S = 30.0
"""How often the topic is asked whether it has grown."""

Take = Callable[[Record, bool], None]
"""Called with each record, and whether it came after the tail had begun (it is no history)."""


class Tail:
    """Reads a topic and hands its records on. A broker that is away, retention that overtakes it and a topic
    that was made anew end it as little as a record that cannot be read.

    Args:
        bus: gives the broker, or raises BusError while it is away.
        topic: its full name.
        take: called on the tail's thread; what it raises is logged.
        history: about how many records of each partition are read from before, ``MOST_HISTORY`` of all.
        needed: whether it is worth a warning that the topic does not exist.
    """

    def __init__(
        self, bus: Callable[[], Bus], topic: str, take: Take, *, history: int, needed: bool = True
    ) -> None:
        self.topic = topic
        self._bus = bus
        self._take = take
        self._history = history
        self._needed = needed
        self._consumer: Consumer | None = None
        self._live: dict[TopicPartition, int] = {}
        self._next: dict[TopicPartition, int] = {}
        self._look_again = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: str | None = "not read yet"
        """Why nothing is read at present; None while the topic is being read."""
        self.kept: int = 0
        """Records that the topic held when it was opened, and those read since."""

    def start(self) -> None:
        """Begin to read."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"board-{self.topic}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it does within a poll."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait for its end. A thread that hangs on a broker that is away is left to itself."""
        if self._thread is not None:
            self._thread.join(timeout)

    def read(self, timeout: float) -> int:
        """One poll; returns how many records came.

        Raises:
            BusError: the broker is away, or there is no such topic.
        """
        consumer = self._open()
        try:
            records = consumer.poll(timeout)
        except OffsetGap as gap:
            place = TopicPartition(gap.topic, gap.partition)
            # Before the beginning: retention was faster. Behind the end: the topic is another by now.
            consumer.seek(place, gap.beginning)
            self._next[place] = gap.beginning
            return 0
        for record in records:
            self._next[record.source] = record.offset + 1
            live = record.offset >= self._live.get(record.source, 0)
            self.kept += live
            try:
                self._take(record, live)
            except Exception:  # one record must not end the view of all others
                log.exception("board.record_failed", topic=self.topic, offset=record.offset)
        self._grow(consumer)
        return len(records)

    def _open(self) -> Consumer:
        if self._consumer is not None:
            return self._consumer
        bus = self._bus()
        places = partitions_of(bus, self.topic)
        consumer = bus.consumer(None, max_poll_records=500, name="board")
        try:
            consumer.assign(places)
            begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
            history = min(self._history, max(1, MOST_HISTORY // len(places)))
            first = not self._next
            for place in places:
                if first:
                    at = max(begins[place], ends[place] - history)
                    self._live[place] = ends[place]
                else:
                    # Read on after an outage where it was. Of a partition that was added, and of a topic that
                    # was made anew or has lost what was to be read next, everything is new.
                    at = self._next.get(place, begins[place])
                    at = at if begins[place] <= at <= ends[place] else begins[place]
                self._next[place] = at
                consumer.seek(place, at)
        except BaseException:
            consumer.close()
            raise
        self.kept = max(self.kept, sum(ends[place] - begins[place] for place in places))
        self._consumer, self._look_again = consumer, time.monotonic() + NEW_PARTITIONS_S
        return consumer

    def _grow(self, consumer: Consumer) -> None:
        if time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + NEW_PARTITIONS_S
        if (self._bus().partitions(self.topic) or 0) > len(consumer.assignment()):
            self.close()

    def _run(self) -> None:
        pause = RETRY_S
        while not self._stop.is_set():
            try:
                self.read(POLL_S)
            except Exception as error:  # whatever it is, a thread that ends unseen would show an old line
                self._fail(error)
                self._stop.wait(pause)
                pause = min(2 * pause, MAX_RETRY_S)
            else:
                if self.failure is not None:
                    log.info("board.reading", topic=self.topic)
                self.failure, pause = None, RETRY_S
        self.close()

    def _fail(self, error: Exception) -> None:
        said = str(error) or type(error).__name__
        if said != self.failure and self._needed:
            log.warning("board.topic_away", topic=self.topic, kind=type(error).__name__, error=said)
        self.failure = said
        self.close()

    def close(self) -> None:
        """Let go of the broker; ``read`` goes on where it was."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.close()
            except BusError as error:
                log.warning("board.close_failed", topic=self.topic, error=str(error))

"""How far the archive is behind its topics: asked of the broker now and then, on the sink's own thread."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from workers.bus.base import Consumer, TopicPartition
from workers.clock import Clock
from workers.errors import BusError

log = structlog.get_logger(__name__)

ASK_S = 10.0
AGAIN = 3
"""After an answer that was none, so many times what it took pass before the next question."""


class Lag:
    """Records on the topics that are not in the archive.

    Args:
        filed: the first offset of a partition that is not in the archive; None where that is not known.
    """

    def __init__(
        self, consumer: Consumer, clock: Clock, filed: Callable[[TopicPartition], int | None]
    ) -> None:
        self._consumer = consumer
        self._clock = clock
        self._filed = filed
        self._next = 0.0
        self.records: int | None = None
        """Over all partitions of this process; None where the broker has not said. Any thread may read it."""

    def look(self) -> None:
        """Ask, every ``ASK_S`` seconds."""
        now = self._clock.monotonic()
        if now < self._next:
            return
        self._next = now + ASK_S
        places = self._consumer.assignment()
        try:
            ends = self._consumer.end_offsets(places) if places else {}
        except BusError as error:
            log.warning("archive.lag_unknown", error=str(error))
            asked = self._clock.monotonic()
            self._next = max(self._next, asked + AGAIN * (asked - now))
            self.records = None
            return
        behind = 0
        for place, end in ends.items():
            at = self._filed(place)
            at = self._consumer.position(place) if at is None else at
            behind += 0 if at is None else max(0, end - at)
        self.records = behind

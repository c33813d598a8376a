"""How much is let in: partitions are paused while too much is held or a sink is away; polling goes on."""

from __future__ import annotations

import structlog

from workers.bus.base import Consumer, TopicPartition

log = structlog.get_logger(__name__)


class Flow:
    """The pause of one worker. One thread calls it.

    Args:
        max_parts, max_bytes: held beyond these, what is assigned is paused; below half of both it goes on.
    """

    def __init__(self, *, max_parts: int, max_bytes: int) -> None:
        self._max_parts = max_parts
        self._max_bytes = max_bytes
        self.paused = False
        self._tell = log.info

    def assigned(self, consumer: Consumer, partitions: set[TopicPartition]) -> None:
        """A pause that is in force holds for partitions just gained too: they come unpaused."""
        if self.paused:
            consumer.pause(partitions)

    def balance(self, consumer: Consumer, *, held: int, size: int) -> None:
        """Pause or resume by what is held: parts, and their bytes."""
        if not self.paused and (held >= self._max_parts or size >= self._max_bytes):
            self.pause(consumer, "full")
        elif self.paused and held <= self._max_parts // 2 and size <= self._max_bytes // 2:
            self.paused = False
            consumer.resume(consumer.assignment())
            self._tell("worker.resumed")

    def pause(self, consumer: Consumer, why: str, *, routine: bool = False) -> None:
        """Pause what is assigned, if it is not paused already; a routine pause is told to nobody."""
        if self.paused:
            return
        self.paused = True
        consumer.pause(consumer.assignment())
        self._tell = log.debug if routine else log.info
        self._tell("worker.paused", why=why)

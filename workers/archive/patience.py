"""Waiting for a store or a broker that is away, without losing our place in the group."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import TypeVar

import structlog

from workers.bus.base import Consumer, Record, TopicPartition
from workers.clock import Clock
from workers.errors import ArchiveError, BusError
from workers.pulse import Pulse

log = structlog.get_logger(__name__)

T = TypeVar("T")

RETRY_S = 1.0
TELL_S = 30.0
STILL_S = 120.0
"""A turn of the sink's loop takes this long at most: one that seals a shift reads all of its indexes."""


class Abandoned(Exception):
    """Told to stop while the store is away: what is in hand is read again by the next process."""


class Patience:
    """Calls again until it works; partitions are paused meanwhile, polling goes on.

    Attributes:
        waiting: records that came although everything was paused, to be taken later.
        stop: once set, nothing is waited for any more.
        away: what is waited for at this moment, in the words of its error; None where nothing is.
        pulse: told of every try.
    """

    def __init__(self, consumer: Consumer, clock: Clock, where: str) -> None:
        self._consumer = consumer
        self._clock = clock
        self._where = where
        self._paused = False
        self._told_at: float | None = None
        self.waiting: list[Record] = []
        self.stop: Event | None = None
        self.away: str | None = None
        self.pulse = Pulse(STILL_S, clock)

    def gained(self, partitions: set[TopicPartition]) -> None:
        """A pause that is in force holds for new partitions too."""
        if self._paused:
            self._consumer.pause(partitions)

    def __call__(self, call: Callable[[], T]) -> T:
        """Call until the store and the broker answer.

        Raises:
            Abandoned: told to stop before they did.
        """
        while True:
            try:
                result = call()
            except (ArchiveError, BusError) as error:
                if not error.retriable:
                    raise
                self.away = str(error)
                self.pulse.turned()
                self._tell(error)
                if self.stop is not None and self.stop.is_set():
                    raise Abandoned from error
                self._hold()
            else:
                self.away = None
                if self._told_at is not None:
                    self._told_at = None
                    log.info("archive.back", to=self._where)
                if self._paused:
                    self._paused = False
                    self._consumer.resume(self._consumer.assignment())
                return result

    def _tell(self, error: ArchiveError | BusError) -> None:
        now = self._clock.monotonic()
        if self._told_at is None or now - self._told_at >= TELL_S:
            self._told_at = now
            log.error("archive.away", error=str(error))

    def _hold(self) -> None:
        if not self._paused:
            self._paused = True
            self._consumer.pause(self._consumer.assignment())
        if self.stop is None:
            self._clock.sleep(RETRY_S)
        else:
            self.stop.wait(RETRY_S)
        try:
            self.waiting += self._consumer.poll(0.0)
        except BusError as error:
            log.warning("archive.poll_failed", error=str(error))

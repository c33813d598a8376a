"""Waiting for a sink that is away: the line is paused meanwhile, and polling keeps our place in the group."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import TypeVar

import structlog

from workers.clock import Clock
from workers.errors import BusError, StoreError

log = structlog.get_logger(__name__)

T = TypeVar("T")

RETRY_S = 0.5
TELL_EVERY = 60


class Abandoned(Exception):
    """Told to stop while a sink is away: what is in hand is left, uncommitted, to the next worker."""


class Patience:
    """Repeats a call until Redis and Kafka answer. Nothing is dropped and nothing is committed meanwhile.

    Args:
        wait: called before each repetition; pauses the line, lets time pass and polls.
        leave_after_s: once told to stop, the sinks have this long to come back.
    """

    def __init__(self, clock: Clock, wait: Callable[[], None], leave_after_s: float) -> None:
        self._clock = clock
        self._wait = wait
        self._leave_after = leave_after_s
        self._leave_by: float | None = None
        self.stop: Event | None = None
        """Set by whoever wants the worker to end."""

    def call(self, call: Callable[[], T]) -> T:
        """What ``call`` returns, however long its sinks take.

        Raises:
            Abandoned: they did not answer for ``leave_after_s`` after the worker was told to stop.
            StoreError, BusError: one that trying again does not mend.
        """
        tries = 0
        while True:
            try:
                result = call()
            except (StoreError, BusError) as error:
                if not error.retriable:
                    raise
                # Told at once and then now and then: an outage of hours is one event, not thousands.
                if tries % TELL_EVERY == 0:
                    log.error("worker.sink_down", error=str(error), tries=tries + 1)
                tries += 1
                if self._must_leave():
                    raise Abandoned from error
                self._wait()
            else:
                if tries:
                    log.info("worker.sink_back", tries=tries)
                return result

    def _must_leave(self) -> bool:
        if self.stop is None or not self.stop.is_set():
            return False
        now = self._clock.monotonic()
        if self._leave_by is None:
            self._leave_by = now + self._leave_after
        return now >= self._leave_by

"""Kafka and Redis as the board has them: opened when they answer, and never waited for at the start."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from workers.bus.base import Bus
from workers.errors import ServiceError
from workers.store.verdicts import VerdictStore

T = TypeVar("T")

RETRY_S = 1.0


class Sink(Generic[T]):
    """Something that may be away when it is first asked for. Safe to share between threads.

    Args:
        opens: makes it; raises ServiceError while it is away.
        retry_s: how long after a failure it is not tried again.
    """

    def __init__(self, opens: Callable[[], T], *, retry_s: float = RETRY_S) -> None:
        self._opens = opens
        self._retry = retry_s
        self._lock = threading.Lock()
        self._made: T | None = None
        self._failure: ServiceError | None = None
        self._again = 0.0

    @classmethod
    def of(cls, made: T) -> Sink[T]:
        """A sink that is there already."""
        return cls(lambda: made)

    def get(self) -> T:
        """The sink. One that failed to open is tried again after a while, not by every caller.

        Raises:
            ServiceError: it is away.
        """
        if self._made is not None:
            return self._made
        with self._lock:
            if self._made is None:
                if self._failure is not None and time.monotonic() < self._again:
                    raise self._failure
                try:
                    self._made = self._opens()
                except ServiceError as error:
                    self._failure, self._again = error, time.monotonic() + self._retry
                    raise
            return self._made

    def made(self) -> T | None:
        """The sink, if it was ever opened."""
        return self._made


Kafka = Sink[Bus]
Redis = Sink[VerdictStore]

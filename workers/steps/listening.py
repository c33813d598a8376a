"""A topic read beside the loop, so that neither waits for the other."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar

import structlog

from workers.clock import Clock, SystemClock

log = structlog.get_logger(__name__)

T = TypeVar("T")

POLL_S = 0.5
RETRY_S = 1.0
"""After a first failure; twice as long after each further one, up to ``MAX_RETRY_S``."""
MAX_RETRY_S = 15.0


class Reader(Protocol[T]):
    """Reads one topic. One thread at a time uses it."""

    def read(self, timeout: float) -> list[T]:
        """What came, waiting up to ``timeout`` seconds for the first. Raises BusError."""
        ...

    def close(self) -> None:
        """Let go of the broker; ``read`` would begin anew."""
        ...


class Listener(Generic[T]):
    """A thread that reads, and what it has heard, for the loop to fetch.

    A broker that is away disturbs nobody: the thread tries again. Where the clock is set by hand no thread
    runs, since its polls would move that clock: ``drain`` then reads, without waiting.

    Args:
        what: is read; names the thread and the events ``worker.WHAT_away`` and ``worker.WHAT_back``.
        most: how much is kept for a loop that does not fetch it, the newest; None is all of it.
    """

    def __init__(self, reader: Reader[T], clock: Clock, *, what: str, most: int | None = None) -> None:
        self._reader = reader
        self._clock = clock
        self._what = what
        self._heard: deque[T] = deque(maxlen=most)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_read = 0.0
        self._away = False

    def start(self) -> None:
        """Begin to listen."""
        if isinstance(self._clock, SystemClock) and self._thread is None:
            self._thread = threading.Thread(target=self._listen, name=self._what, daemon=True)
            self._thread.start()

    def drain(self) -> list[T]:
        """What was heard since the last call. Never waits."""
        if self._thread is None and not isinstance(self._clock, SystemClock):
            now = self._clock.monotonic()
            if now >= self._next_read:
                self._next_read = now + POLL_S
                self._read(0.0)
        found = []
        while self._heard:
            found.append(self._heard.popleft())
        return found

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
        except Exception as error:  # whatever it is, a thread that ends unseen would hear nothing any more
            if not self._away:
                log.warning(f"worker.{self._what}_away", kind=type(error).__name__, error=str(error))
            self._away = True
            self._reader.close()
            return False
        if self._away:
            log.info(f"worker.{self._what}_back")
        self._away = False
        return True

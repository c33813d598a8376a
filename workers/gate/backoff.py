"""When to try again after nobody has answered."""

from __future__ import annotations

from workers.clock import Clock


class Backoff:
    """Waits that double from ``first_s`` to ``most_s``; asking never blocks.

    Args:
        first_s, most_s: seconds after the first failure, and at most.
    """

    def __init__(self, clock: Clock, *, first_s: float = 0.1, most_s: float = 2.0) -> None:
        self._clock = clock
        self._first = first_s
        self._most = most_s
        self._wait = 0.0
        self._until: float | None = None

    def left_s(self) -> float:
        """Seconds to go before the next try; 0 when it may be made now."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock.monotonic())

    def failed(self) -> None:
        """Nobody answered: wait, longer than the last time."""
        self._wait = self._first if self._wait == 0 else min(self._most, 2 * self._wait)
        self._until = self._clock.monotonic() + self._wait

    def answered(self) -> None:
        """Somebody did: the next failure begins with the short wait."""
        self._wait, self._until = 0.0, None

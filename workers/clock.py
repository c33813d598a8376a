"""Time as a parameter: real in a process, set by hand in a test."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two times: the wall's, which travels in messages, and a monotonic one for waits and durations."""

    def now(self) -> int:
        """Integer nanoseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)


class ManualClock:
    """Time that moves only when it is told to; both clocks move together."""

    def __init__(self, start: int = 1_700_000_000_000_000_000) -> None:
        self._now = start
        self._origin = start

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._origin) / 1e9

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        # At least one: a wait for the last fraction of a nanosecond must still end.
        self._now += max(round(seconds * 1e9), 1 if seconds > 0 else 0)

"""The turns of a loop that has no watchdog, for whoever asks whether it moves."""

from __future__ import annotations

from workers.clock import Clock, SystemClock


class Pulse:
    """A loop stands still where its last turn is too long ago. Any thread may ask.

    Args:
        limit_s: how long one turn may take, seconds.
    """

    def __init__(self, limit_s: float, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._limit = limit_s
        self._turned = self._clock.monotonic()

    def turned(self) -> None:
        """The loop has come round."""
        self._turned = self._clock.monotonic()

    def trouble(self) -> str | None:
        """Why the loop does not count as moving, or None."""
        age = self._clock.monotonic() - self._turned
        return None if age <= self._limit else f"the loop has not turned for {age:.0f} s"

"""Whether somebody set the wall clock: due moments are wall times, and set back they open too late."""

from __future__ import annotations

from workers.clock import Clock

SET_S = 0.05
"""A step of more than this, seconds, is a clock that was set; what runs a little fast stays far below it."""
AHEAD_NS = 250_000_000
"""The clock of whoever saw a part may be ahead of ours by so much."""
_READ_S = 0.005


class WallWatch:
    """Compares the wall clock with the monotonic one, from one call to the next."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead: int | None = None

    def ahead(self, at: int) -> float | None:
        """By how many seconds ``at`` (nanoseconds since the epoch) lies in the future; None where clocks may
        differ by as much."""
        ahead = at - self._clock.now()
        return ahead / 1e9 if ahead > AHEAD_NS else None

    def stepped(self) -> float | None:
        """By how many seconds the wall clock was set since the last call; None where it was not."""
        before = self._clock.monotonic()
        wall = self._clock.now()
        if self._clock.monotonic() - before > _READ_S:
            return None  # put aside between the two readings: the next call looks again
        ahead = wall - round(before * 1e9)
        known, self._ahead = self._ahead, ahead
        if known is None or abs(ahead - known) <= SET_S * 1e9:
            return None
        return (ahead - known) / 1e9

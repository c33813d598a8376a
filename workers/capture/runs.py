"""The runs of one agent: each names its parts, so none is used twice and none lies in the future."""

from __future__ import annotations

from collections.abc import Iterable

from workers.clock import Clock

MAX_AHEAD_NS = 250_000_000
"""A run that begins so much after now belongs to a clock that was wrong; workers allow as much by default."""


class Runs:
    """Begins runs: the moment of their begin, nanoseconds since the epoch.

    Args:
        known: runs of the station that this agent's log has.
    """

    def __init__(self, known: Iterable[int], clock: Clock) -> None:
        self._known = set(known)
        self._own: set[int] = set()
        self._clock = clock
        self.current = self.begin()

    def has(self, run: int) -> bool:
        """Whether this very process began the run: one that only the log knows may be another's."""
        return run in self._own

    @property
    def ahead(self) -> bool:
        """Whether the current run begins after now: the clock was ahead then and has been set right since."""
        return self.current > self._clock.now() + MAX_AHEAD_NS

    def begin(self) -> int:
        """A run that no part had before: later than all others, unless a clock that was ahead began one.

        A run from the future is refused by the workers, so one more like it would be of no use.
        """
        now = self._clock.now()
        run = max([now, *(run + 1 for run in self._known if run <= now + MAX_AHEAD_NS)])
        while run in self._known:
            run += 1
        self._known.add(run)
        self._own.add(run)
        self.current = run
        return run

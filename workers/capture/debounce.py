"""A photo-eye that bounces: one part, several edges."""

from __future__ import annotations

from workers.errors import SettingsError


class Debounce:
    """Tells the edges of a part from the bounces behind them.

    Time or way, whichever is given, counts from the edge that was taken: an eye that never comes to rest does
    not keep a later part from being seen.

    Args:
        seconds: an edge so soon after one that was taken is a bounce; 0 takes all.
        counts: so is one within so many encoder counts, where the position is known: a part that stands at
            the eye may make it bounce for long.

    Raises:
        SettingsError: below 0, or longer than any bounce.
    """

    def __init__(self, seconds: float = 0.0, counts: int = 0) -> None:
        if not 0 <= seconds <= 60:
            raise SettingsError(f"debounce (--debounce) {seconds:g} s: use seconds, from 0 to 60")
        if counts < 0:
            raise SettingsError(f"debounce {counts} encoder counts: use 0 or more")
        self._ns = round(seconds * 1e9)
        self._counts = counts
        self._at: int | None = None
        self._position: int | None = None
        self.bounces = 0
        """Edges that were bounces."""

    def takes(self, at: int, position: int | None = None) -> bool:
        """Whether the edge is a part of its own.

        Args:
            at: when it came, integer nanoseconds since the epoch. A clock that was set back takes it.
            position: of the belt then, encoder counts, where it is known.
        """
        soon = self._at is not None and 0 <= at - self._at < self._ns
        near = (
            position is not None
            and self._position is not None
            and abs(position - self._position) < self._counts
        )
        if soon or near:
            self.bounces += 1
            return False
        self._at, self._position = at, position
        return True

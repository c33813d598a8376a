"""A warning that neither flickers nor comes of one block: on after several, off only well below its limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

RAISE_AFTER = 3
"""Blocks in a row above the limit."""
CLEAR_AFTER = 10
"""Blocks in a row well below it."""
CLEAR = 0.7
"""Of the limit: that is well below."""


@dataclass(slots=True)
class Alarm:
    """Of one series. ``since`` is nanoseconds since the epoch, None while it does not warn."""

    since: int | None = None
    run: int = 0

    @property
    def on(self) -> bool:
        """Whether it warns."""
        return self.since is not None

    def see(self, excess: float, now: int) -> bool:
        """One more block; ``excess`` is value / limit. Returns whether the warning began or ended with it."""
        if self.since is None:
            self.run = self.run + 1 if excess > 1.0 else 0
            if self.run < RAISE_AFTER:
                return False
            self.since, self.run = now, 0
            return True
        self.run = self.run + 1 if excess < CLEAR else 0
        if self.run < CLEAR_AFTER:
            return False
        self.since, self.run = None, 0
        return True

    def to_map(self) -> dict[str, Any]:
        """Plain values."""
        return {"since": self.since, "run": self.run}

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> Self:
        """Back from :meth:`to_map`. Raises ValueError, KeyError or TypeError: written by something else."""
        since = values["since"]
        return cls(None if since is None else int(since), int(values["run"]))

"""How bright a station's pictures are, and where its belt is, against a reference.

A block of parts gives one number, its median, so that parts that are missing or odd do not count. The window
is the mean of the last blocks, and what they differ by says how far off it may be by chance. Beyond chance
and beyond a floor under which no model minds, it warns.

The reference is the bundle's until the station has seen enough parts to be its own: two stations of one
bundle need not be alike, and what is asked is whether one of them changes. Whether what it is like suits the
bundle is asked of its scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any, Literal, Self

import numpy as np
from scipy import special

from inference.sketch import Level
from workers.drift.window import BlockWindow, Pace, finite

ALPHA = 1e-5
"""Chance that one look at a level that did not change is above its limit."""
BRIGHTNESS_FLOOR = 0.03
"""Share of the brightness."""
DISTANCE_FLOOR = 0.001
"""Share of the distance: half a millimetre at half a metre."""
_Z = float(-special.ndtri(ALPHA / 2.0))


@dataclass(frozen=True, slots=True)
class LevelDrift:
    """One look at a level.

    Attributes:
        change: against the reference, in the level's own unit.
        limit: the change at which it warns.
        against: what the reference is.
        base: the reference.
    """

    change: float
    limit: float
    against: Literal["bundle", "station"]
    base: float

    @property
    def excess(self) -> float:
        """The change in limits."""
        return abs(self.change) / self.limit


@dataclass(slots=True)
class LevelSeries:
    """One level of one station.

    Attributes:
        taught: the bundle's; None where it has none.
        floor: smallest change that matters, in the level's unit; negative: that share of the reference.
        exact: whether ``taught`` is known of this very station, so that it learns none of its own.
        own: mean of the station's first parts, and the variance of their blocks; None until they were seen.
    """

    taught: Level | None
    floor: float
    exact: bool = False
    pace: Pace = field(default_factory=Pace)
    own: tuple[float, float] | None = None
    _window: BlockWindow = field(init=False)
    _block: list[float] = field(default_factory=list)
    _first: list[float] = field(default_factory=list)
    _variances: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def __post_init__(self) -> None:
        self._window = BlockWindow(1, self.pace)

    def add(self, value: float) -> bool:
        """One part. Returns whether a block is full: then look."""
        self._block.append(value)
        if len(self._block) < self.pace.block:
            return False
        middle, self._block = median(self._block), []
        self._window.add(np.array([middle]), middle)
        if self.own is None and not self.exact:
            self._first.append(middle)
            if self._window.ready:
                self._variances[0] += self._window.variance()
                self._variances[1] += 1.0
            if len(self._first) * self.pace.block >= self.pace.learn:
                self._learn()
        return True

    @property
    def parts(self) -> int:
        """Parts in the window, weighed by age."""
        return round(self._window.parts)

    @property
    def learning(self) -> bool:
        """Whether there is nothing yet to measure against."""
        return self.taught is None and self.own is None

    def look(self) -> LevelDrift | None:
        """The window against the reference; None while too few parts were seen, or there is none."""
        if not self._window.ready:
            return None
        window = self._window
        now = float(window.sums[0]) / window.weight
        if self.own is not None:
            # As blocks differed at first: a change makes them differ, and would excuse itself if asked.
            base, variance = self.own
            blocks = self.pace.learn / self.pace.block
            return self._against("station", now, base, variance * (1 / window.blocks + 1 / blocks))
        if self.taught is None:
            return None
        doubt = window.variance() / window.blocks
        # A station is off by as much as a lot is: the bundle cannot ask for more of one that it may not know.
        spread = 0.0 if self.exact else self.taught.deviation**2
        return self._against("bundle", now, self.taught.mean, doubt + spread)

    def _against(
        self, name: Literal["bundle", "station"], now: float, base: float, variance: float
    ) -> LevelDrift:
        floor = self.floor if self.floor > 0 else -self.floor * abs(base)
        return LevelDrift(now - base, max(floor, _Z * math.sqrt(variance), 1e-9), name, base)

    def _learn(self) -> None:
        first, self._first = self._first, []
        total, looks = self._variances
        if looks:
            self.own = fmean(first), total / looks

    def to_map(self) -> dict[str, Any]:
        """Plain values: some hundred numbers."""
        return {
            "window": self._window.to_map(),
            "block": [round(value, 4) for value in self._block],
            "first": [round(value, 4) for value in self._first],
            "variances": list(self._variances),
            "own": None if self.own is None else list(self.own),
        }

    def restore(self, values: Mapping[str, Any]) -> Self:
        """Take the state that :meth:`to_map` gave.

        Raises ValueError, KeyError or TypeError: written by something else.
        """
        self._window = BlockWindow.from_map(values["window"], 1, self.pace)
        self._block = [finite(value) for value in values["block"]][: self.pace.block - 1]
        self._first = [finite(value) for value in values["first"]][: self.pace.learn // self.pace.block]
        total, looks = (max(0.0, finite(value)) for value in values["variances"])
        self._variances = [total, looks]
        own = values["own"]
        self.own = None if own is None else (finite(own[0]), max(0.0, finite(own[1])))
        return self

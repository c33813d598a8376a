"""How far apart the records of one part come in, a station, and so how long the first waits for the last."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, isfinite

LEAST_PAIRS = 16
"""Pairs seen before their skew says how long to wait."""
WINDOW = 128
QUANTILE = 0.98
MARGIN = 1.5
FLOOR_S = 0.010
"""Added to what is usual: the poll that brings the second record has its own pace."""
HOLD = 64
"""Pairs for which one that came too late keeps the wait above its own skew."""
MAX_STATIONS = 1024


@dataclass(slots=True)
class _Station:
    samples: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    usual: float | None = None
    held: float = 0.0
    hold: int = 0


@dataclass(slots=True)
class Skews:
    """The waiting time of each station, learnt from pairs and from halves that came too late.

    Halves that came too late count: with a wait that is too short no pair would ever be complete, and what is
    learnt from complete pairs alone could never grow again.

    Attributes:
        longest: seconds, the wait while little is known and the bound on it ever after.
    """

    longest: float
    _stations: OrderedDict[str, _Station] = field(default_factory=OrderedDict)

    def wait(self, station: str) -> float:
        """Seconds that the first record of a part waits for the last, at most ``longest``."""
        known = self._stations.get(station)
        if known is None or known.usual is None:
            return self.longest
        return min(self.longest, max(_waited(known.usual), known.held if known.hold else 0.0))

    def saw(self, station: str, skew: float) -> None:
        """A pair whose records came ``skew`` seconds apart."""
        known = self._known(station)
        known.samples.append(max(0.0, skew))
        known.hold = max(0, known.hold - 1)
        if len(known.samples) >= LEAST_PAIRS:
            ranked = sorted(known.samples)
            known.usual = ranked[ceil(QUANTILE * len(ranked)) - 1]

    def too_late(self, station: str, skew: float) -> None:
        """The last record of a part came when the part had left; a wait within ``longest`` had caught it."""
        self.saw(station, skew)
        known = self._known(station)
        known.held = max(known.held if known.hold else 0.0, _waited(skew))
        known.hold = HOLD

    def usual(self, station: str) -> float | None:
        """The skew in seconds that nearly all pairs stay under; None while too few were seen."""
        known = self._stations.get(station)
        return None if known is None else known.usual

    def restore(self, station: str, usual: float) -> None:
        """Go on from what another worker learnt. What is no skew is ignored."""
        if not isfinite(usual) or usual < 0:
            return
        known = self._known(station)
        known.samples.extend([usual] * LEAST_PAIRS)
        known.usual = usual

    def forget(self, stations: Iterable[str]) -> None:
        """Drop stations that another worker has now."""
        for station in stations:
            self._stations.pop(station, None)

    def _known(self, station: str) -> _Station:
        known = self._stations.setdefault(station, _Station())
        self._stations.move_to_end(station)
        if len(self._stations) > MAX_STATIONS:
            self._stations.popitem(last=False)
        return known

    def __len__(self) -> int:
        return len(self._stations)


def _waited(skew: float) -> float:
    return skew * MARGIN + FLOOR_S

"""A station's scores in one mode against those that the limits were set by.

Scores between the limits count as good parts' scores do: leaving them out would hide the drift that fills the
band. Scores above the reject limit are rejects, and at usual rates most are defects: they say nothing of good
parts and are left out, up to ``DEFECTS`` of all. What is above that share counts as the highest scores there
are, so that a line which rejects everything is not taken for one that stands still.

The reference is the bundle's calibration. It rests on few frames, so once the station has seen enough parts
that do not differ from it, those are added: from then on a change is told that the calibration alone is too
small to tell.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from inference.sketch import ScoreSketch
from workers.drift.distances import coarse, ks, ks_limit, psi, psi_limit, shift_limit, smoothed
from workers.drift.window import BlockWindow, Pace, finite

DEFECTS = 0.1
"""Share of rejects that says nothing of the good parts."""
ALPHA = 1e-5
"""Chance that one look at parts that did not change is above a limit."""
PSI_BINS = 10

Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoreDrift:
    """One look at a series.

    Attributes:
        psi, ks: distances, and the limits that chance seldom exceeds for as many parts.
        shift: by which the scores are higher, in standard deviations of the reference; about 2 at most.
        parts: independent parts that the window is worth.

    The first two see every change of the distribution; the third sees one to higher or lower scores sooner.
    """

    psi: float
    psi_limit: float
    ks: float
    ks_limit: float
    shift: float
    shift_limit: float
    parts: float

    @property
    def excess(self) -> float:
        """The largest of the three, in limits."""
        return max(self.psi / self.psi_limit, self.ks / self.ks_limit, abs(self.shift) / self.shift_limit)


@dataclass(slots=True)
class ScoreSeries:
    """Scores of one station, bundle and mode. ``learnt`` is the station's own share of the reference."""

    sketch: ScoreSketch
    pace: Pace = field(default_factory=Pace)
    learnt: Counts | None = None
    learnt_parts: float = 0.0
    closed: bool = False
    _edges: list[float] = field(init=False)
    _expected: Counts = field(init=False)
    _middles: Counts = field(init=False)
    _spread: float = field(init=False)
    _window: BlockWindow = field(init=False)
    _block: Counts = field(init=False)
    _learning: Counts = field(init=False)
    _learning_blocks: int = 0
    _clumpings: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def __post_init__(self) -> None:
        # Scores that many normals share make one edge of several: their bins are one.
        edges, first = np.unique(np.asarray(self.sketch.edges), return_index=True)
        last = np.append(first[1:], len(self.sketch.edges)) - 1
        inner = [i for i in range(len(edges)) if 0 < last[i] < len(self.sketch.edges) - 1]
        self._edges = [float(edges[i]) for i in inner]
        sums = np.array([0.0, *(last[i] for i in inner), len(self.sketch.edges) - 1.0])
        self._expected = np.diff(sums) / sums[-1]
        self._middles = np.asarray(special.ndtri((sums[1:] + sums[:-1]) / 2 / sums[-1]))
        self._spread = math.sqrt(float(self._expected @ np.square(self._middles))) or 1.0
        self._window = BlockWindow(self.bins + 1, self.pace)
        self._block, self._learning = np.zeros(self.bins + 1), np.zeros(self.bins + 1)

    @property
    def bins(self) -> int:
        """Bins up to the reject limit; one more is above."""
        return self._expected.size

    def add(self, score: float) -> bool:
        """One part. Returns whether a block is full: then look."""
        within = score <= self.sketch.threshold
        self._block[bisect_left(self._edges, score) if within else self.bins] += 1
        if self._block.sum() < self.pace.block:
            return False
        block, self._block = self._block, np.zeros(self.bins + 1)
        self._window.add(block, self._mean(block))
        if not self.closed:
            self._learn(block)
        return True

    def look(self) -> ScoreDrift | None:
        """The window against the reference; None while too few parts were seen."""
        if not self._window.ready:
            return None
        return self._look(trimmed(self._window.sums), self._reference(), *self._worth())

    @property
    def reference(self) -> tuple[Counts, float]:
        """Shares of the bins, and how many independent parts they rest on."""
        return self._reference()

    @property
    def parts(self) -> int:
        """Parts in the window, weighed by age."""
        return round(self._window.parts)

    def _look(self, counts: Counts, reference: tuple[Counts, float], n: float, m: float) -> ScoreDrift:
        expected, _ = reference
        found = smoothed(counts, n)
        few = coarse(found, PSI_BINS), coarse(smoothed(expected, m), PSI_BINS)
        shares = counts / counts.sum()
        return ScoreDrift(
            psi(*few),
            psi_limit(few[0].size, n, m, ALPHA),
            ks(shares, expected),
            ks_limit(n, m, ALPHA),
            float((shares - expected) @ self._middles) / self._spread,
            shift_limit(n, m, ALPHA),
            n,
        )

    def _worth(self) -> tuple[float, float]:
        """Independent parts in the window and in the reference."""
        return max(1.0, self._window.parts / self._usual_clumping()), self._reference()[1]

    def _usual_clumping(self) -> float:
        """As the parts of the reference were clumped, once it is known: a change clumps parts by itself, and
        would excuse itself if it were asked."""
        total, looks = self._clumpings
        return total / looks if self.learnt is not None and looks else self._clumping()

    def _reference(self) -> tuple[Counts, float]:
        m = self.sketch.effective
        if self.learnt is None:
            return self._expected, m
        shares = self.learnt / self.learnt.sum()
        together = self._expected * m + shares * self.learnt_parts
        return together / together.sum(), m + self.learnt_parts

    def _mean(self, block: Counts) -> float:
        # Of places in the calibration, as a normal number: scores have tails that would drown the rest.
        values = np.append(self._middles, self._middles[-1])
        return float(block @ values / block.sum())

    def _clumping(self) -> float:
        """How many parts are worth one that is independent of the others; 1 where all are."""
        values = np.append(self._middles, self._middles[-1])
        shares = self._window.sums / self._window.sums.sum()
        mean = float(shares @ values)
        spread = float(shares @ np.square(values - mean))
        if spread <= 0:
            return 1.0
        return max(1.0, self._window.variance() * self.pace.block / spread)

    def _learn(self, block: Counts) -> None:
        self._learning += block
        self._learning_blocks += 1
        if self._window.ready:
            self._clumpings[0] += self._clumping()
            self._clumpings[1] += 1.0
        if self._learning_blocks * self.pace.block < self.pace.learn:
            return
        self.closed = True
        counts = trimmed(self._learning)
        total, looks = self._clumpings
        parts = max(1.0, self._learning_blocks * self.pace.block / (total / looks if looks else 1.0))
        m = self.sketch.effective
        if self._look(counts, (self._expected, m), parts, m).excess < 1.0:
            self.learnt, self.learnt_parts = counts, parts

    def to_map(self) -> dict[str, Any]:
        """Plain values: some hundred numbers."""
        return {
            "window": self._window.to_map(),
            "block": _rounded(self._block),
            "learning": None if self.closed else _rounded(self._learning),
            "blocks": self._learning_blocks,
            "learnt": None if self.learnt is None else _rounded(self.learnt),
            "learnt_parts": round(self.learnt_parts, 1),
            "clumpings": _rounded(np.array(self._clumpings)),
            "closed": self.closed,
        }

    @classmethod
    def from_map(cls, values: Mapping[str, Any], sketch: ScoreSketch, pace: Pace) -> Self:
        """Back from :meth:`to_map`. Raises ValueError, KeyError or TypeError: written by something else."""
        series = cls(sketch, pace)
        series._window = BlockWindow.from_map(values["window"], series.bins + 1, pace)
        series._block = _counts(values["block"], series.bins + 1)
        if values["learning"] is not None:
            series._learning = _counts(values["learning"], series.bins + 1)
        series._learning_blocks = int(values["blocks"])
        series.learnt_parts = finite(values["learnt_parts"])
        if values["learnt"] is not None:
            series.learnt = _counts(values["learnt"], series.bins)
            if not (series.learnt.sum() > 0 and series.learnt_parts > 0):
                raise ValueError("a learnt reference without parts")
        series._clumpings = _counts(values["clumpings"], 2).tolist()
        series.closed = values["closed"] is True
        return series


def trimmed(counts: Counts) -> Counts:
    """Counts of the bins up to the reject limit; what is above it beyond the usual rate is in the last."""
    out = counts[:-1].copy()
    total = float(counts.sum())
    out[-1] += max(0.0, float(counts[-1]) - DEFECTS * total)
    if not out.sum() > 0:
        out[-1] = max(total, 1.0)
    return out


def _rounded(counts: Counts) -> list[float]:
    return [round(float(value), 4) for value in counts]


def _counts(values: object, size: int) -> Counts:
    if not isinstance(values, list) or len(values) != size:
        raise ValueError(f"{values!r}: expected {size} counts")
    counts = np.array([finite(value) for value in values])
    if bool(np.any(counts < 0)):
        raise ValueError("a count below 0")
    return counts

"""Made-up lines: scores and levels of parts that come in lots, calibrated as a bundle is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.calibration import limits_of
from inference.sketch import ScoreSketch

Floats = NDArray[np.float64]


def in_lots(rng: np.random.Generator, parts: int, lot: int, alike: float) -> tuple[Floats, list[str]]:
    """Standard normal numbers, of which lots of ``lot`` share the part ``alike`` of the variance."""
    lots = -(-parts // lot)
    shared = np.repeat(rng.normal(size=lots), lot)[:parts]
    names = [f"lot{n}" for n in np.repeat(np.arange(lots), lot)[:parts]]
    return np.sqrt(alike) * shared + np.sqrt(1 - alike) * rng.normal(size=parts), names


@dataclass(frozen=True, slots=True)
class Line:
    """A product calibrated on few frames, and the scores of its line.

    Attributes:
        sketch: of the calibration.
        threshold: set for one good part in a hundred.
        scores: of the parts, defects among them.
        good: which of them have no defect.
    """

    sketch: ScoreSketch
    threshold: float
    scores: Floats
    good: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        seed: int,
        parts: int,
        *,
        lot: int = 1,
        alike: float = 0.0,
        defects: float = 0.03,
        creep: Floats | float = 0.0,
    ) -> Line:
        """``creep``: what is added to each part, in standard deviations."""
        rng = np.random.default_rng(seed)
        taught, groups = in_lots(rng, 150, 10 if lot > 1 else 1, alike)
        calibration = [float(score) for score in np.exp(0.3 * taught)]
        threshold = limits_of(calibration, groups, false_reject=0.01, review_share=0.04).rejects
        now, _ = in_lots(rng, parts, lot, alike)
        bad = rng.random(parts) < defects
        now = now + creep + np.where(bad, rng.normal(3.5, 1.5, parts), 0.0)
        return cls(ScoreSketch.of(calibration, groups, threshold), threshold, np.exp(0.3 * now), ~bad)

    def rejected(self, *, of: slice) -> float:
        """Share of the good parts that are above the threshold."""
        scores = self.scores[of][self.good[of]]
        return float(np.mean(scores > self.threshold))

"""Rules that join branches into one score and one map. Every bundle holds them all; one decides.

``calibrated`` is the default. ``cmdr`` is the published formula of CMDR-IAD: a product, under which a branch
that sees nothing silences the others. Each rule has thresholds of its own, from the same normals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.calibration import Scale
from inference.errors import NotFinite
from inference.fusion import Measured, calibrated, fuse_maps, log_sum_exp
from inference.tiles import TileLayout, stitch
from schemas.verdict import Mode

Image = NDArray[np.float32]

CALIBRATED = "calibrated"
CMDR = "cmdr"
MODULATED = "modulated"
DUAL = "dual"
RULES = (CALIBRATED,)


class Rule(Protocol):
    """One way to join what the branches say."""

    def score(self, measured: Measured, names: Sequence[str], mode: Mode) -> float:
        """The image score by the branches ``names``. Raises NotFinite."""
        ...

    def canvas(self, measured: Measured, names: Sequence[str], mode: Mode, *, empty: float) -> Image:
        """The map over the region of interest, ``empty`` where no branch saw it."""
        ...

    def floor(self, names: Sequence[str]) -> float:
        """A value below everything that the map can hold."""
        ...

    def shift(self, names: Sequence[str]) -> float:
        """What is added to a score before its logarithm is taken, so that it is positive on normals."""
        ...


class Calibrated:
    """Log-sum-exp of the branches, each in standard deviations of its normals."""

    def __init__(self, scales: Mapping[str, Scale], layout: TileLayout) -> None:
        """``scales`` by branch."""
        self.scales = scales
        self._layout = layout

    def branch_scores(self, measured: Measured, names: Sequence[str]) -> dict[str, float]:
        """Each branch's image score in standard deviations of its normals."""
        return calibrated({name: measured.scores[name] for name in names}, self.scales)

    def score(self, measured: Measured, names: Sequence[str], mode: Mode) -> float:
        """See :class:`Rule`."""
        return checked(log_sum_exp(list(self.branch_scores(measured, names).values())), measured.scores)

    def canvas(self, measured: Measured, names: Sequence[str], mode: Mode, *, empty: float) -> Image:
        """See :class:`Rule`."""
        tiles = [
            fuse_maps({n: maps[n] for n in names if n in maps}, self.scales, empty=empty)
            for maps in measured.tiles
        ]
        return stitch(tiles, self._layout)

    def floor(self, names: Sequence[str]) -> float:
        """Distances are at least 0, so branches start at -mean / sd."""
        return -10.0 - max(abs(self.scales[n].mean) / self.scales[n].deviation for n in names)

    def shift(self, names: Sequence[str]) -> float:
        """With one branch of distances d, score + mean / sd = d / sd: its logarithm is that of d."""
        return float(np.mean([abs(self.scales[n].mean) / self.scales[n].deviation for n in names]))


def checked(score: float, branches: Mapping[str, float]) -> float:
    """``score``. Raises NotFinite: it is no number to decide on."""
    if not math.isfinite(score):
        raise NotFinite(f"score {score} of branches {dict(branches)}: not a number to decide on")
    return score

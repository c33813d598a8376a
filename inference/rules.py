"""Rules that join branches into one score and one map. Every bundle holds them all; one decides.

``calibrated`` is the default. ``cmdr`` is the published formula of CMDR-IAD: a product, under which a branch
that sees nothing silences the others. Each rule has thresholds of its own, from the same normals.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from inference import cmdr
from inference.branches.base import Branch
from inference.calibration import Scale
from inference.disagreement import Disagreement, SideMaps, side_maps
from inference.errors import BundleError, NotFinite
from inference.fusion import Measured, Seen, calibrated, fuse_maps, log_sum_exp
from inference.prepare import MAP_SIDE
from inference.tiles import TileLayout, stitch
from schemas.verdict import Mode

Image = NDArray[np.float32]
Kind = type[Branch]

CALIBRATED = "calibrated"
CMDR = "cmdr"
MODULATED = "modulated"
DUAL = "dual"
RULES = (CALIBRATED, CMDR, MODULATED, DUAL)

PUBLISHED_SIDE = 224
"""The grid on which the published smoothing counts its pixels."""


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


class Calibrated:
    """Log-sum-exp of the branches, each in standard deviations of its normals."""

    def __init__(
        self, scales: Mapping[str, Scale], layout: TileLayout, *, wide: Collection[str] = ()
    ) -> None:
        """``scales`` by branch; names of the branches that are ``wide``."""
        self.scales = scales
        self._wide = frozenset(wide)
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
            fuse_maps({n: maps[n] for n in names if n in maps}, self.scales, empty=empty, wide=self._wide)
            for maps in measured.tiles
        ]
        return stitch(tiles, self._layout)

    def sides(self, measured: Measured, kinds: Sequence[Kind], fused: Image) -> SideMaps | None:
        """What each sensor shows by itself, beside the fused map; None where only one was looked at."""
        valid = [one.valid for one in measured.seen]
        return side_maps(measured.tiles, kinds, self.scales, self._layout, fused=fused, valid=valid)

    def floor(self, names: Sequence[str]) -> float:
        """Distances are at least 0, so branches start at -mean / sd."""
        return -10.0 - max(abs(self.scales[n].mean) / self.scales[n].deviation for n in names)


class Cmdr:
    """The published formula on the maps of m2, m3, r2 and r3, each divided by its norm.

    The norm of distances is 1; other maps are divided by their median on normals. The map is normalised as
    the published image score is, so that the score is the map's highest value.
    """

    def __init__(self, norms: Mapping[str, float], layout: TileLayout) -> None:
        """``norms`` by branch."""
        self.norms = norms
        self._layout = layout

    @classmethod
    def from_map(cls, values: object, layout: TileLayout) -> Self:
        """From the manifest. Raises BundleError."""
        if not isinstance(values, Mapping) or not all(
            isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) and v > 0
            for v in values.values()
        ):
            raise BundleError(f"the bundle's medians of the published formula are {values!r}: teach again")
        return cls({str(name): float(value) for name, value in values.items()}, layout)

    def score(self, measured: Measured, names: Sequence[str], mode: Mode) -> float:
        """See :class:`Rule`."""
        return checked(float(self.canvas(measured, names, mode, empty=0.0).max()), measured.scores)

    def canvas(self, measured: Measured, names: Sequence[str], mode: Mode, *, empty: float) -> Image:
        """See :class:`Rule`; ``empty`` is 0 whatever is asked for, since every value counts in the mean."""
        tiles = [self._psi(one, names, mode) for one in measured.seen]
        return cmdr.for_image(stitch(tiles, self._layout))

    def _psi(self, seen: Seen, names: Sequence[str], mode: Mode) -> Image:
        used = {
            name: _published_grid(seen.maps[name]) / np.float32(self.norms[name])
            for name in names
            if name in seen.maps and name in self.norms
        }
        mask = seen.foreground
        if seen.valid is not None and mode is not Mode.RGB:
            mask = seen.valid if mask is None else mask & seen.valid
        if mask is not None:
            side = (PUBLISHED_SIDE, PUBLISHED_SIDE)
            mask = cv2.resize(mask.astype(np.uint8), side, interpolation=cv2.INTER_NEAREST) > 0
        if not used or (mask is not None and not mask.any()):
            # A tile that was not seen holds no evidence; that no tile was is said when it is measured.
            return np.zeros((MAP_SIDE, MAP_SIDE), np.float32)
        return np.asarray(cv2.resize(cmdr.psi(used, mask), (MAP_SIDE, MAP_SIDE)), np.float32)

    def floor(self, names: Sequence[str]) -> float:
        """Products of distances are at least 0."""
        return -1.0


class Disagreeing:
    """The calibrated rule, corrected by where the two sensors disagree; without both it is that rule.

    ``modulated`` scores the modulated map by its strongest places; ``dual`` mixes in robust statistics of it.
    """

    def __init__(
        self, name: str, base: Calibrated, disagreement: Disagreement, kinds: Sequence[Kind]
    ) -> None:
        """``kinds``: the branches of the full mode."""
        self._name = name
        self._base = base
        self._disagreement = disagreement
        self._kinds = kinds

    def score(self, measured: Measured, names: Sequence[str], mode: Mode) -> float:
        """See :class:`Rule`."""
        sides = self.sides(measured, names, mode)
        if sides is None:
            return self._base.score(measured, names, mode)
        score = self._base.score(measured, names, mode)
        return checked(self._disagreement.scores(sides, score)[self._name], measured.scores)

    def canvas(self, measured: Measured, names: Sequence[str], mode: Mode, *, empty: float) -> Image:
        """See :class:`Rule`."""
        sides = self.sides(measured, names, mode, empty=empty)
        if sides is None:
            return self._base.canvas(measured, names, mode, empty=empty)
        return self._disagreement.modulated(sides)

    def sides(
        self, measured: Measured, names: Sequence[str], mode: Mode, *, empty: float = 0.0
    ) -> SideMaps | None:
        """What each sensor shows; None where only one was looked at."""
        if mode is not Mode.FUSED:
            return None
        fused = self._base.canvas(measured, names, mode, empty=empty)
        return self._base.sides(measured, self._kinds, fused)

    def floor(self, names: Sequence[str]) -> float:
        """See :class:`Rule`: modulation raises positive values only."""
        return self._base.floor(names)


def checked(score: float, branches: Mapping[str, float]) -> float:
    """``score``. Raises NotFinite: it is no number to decide on."""
    if not math.isfinite(score):
        raise NotFinite(f"score {score} of branches {dict(branches)}: not a number to decide on")
    return score


def _published_grid(raw: Image) -> Image:
    side = (PUBLISHED_SIDE, PUBLISHED_SIDE)
    return np.asarray(cv2.resize(raw, side, interpolation=cv2.INTER_LINEAR), np.float32)

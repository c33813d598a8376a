"""Which sensor shows a defect, and where the two disagree.

After Xu et al., Appl. Sci. 2026, 16(11), 5483: the difference of the two sensors' maps, a map modulated by
it, and a score that mixes a peak with robust statistics. The paper scales each map by its own frame's minimum
and maximum and each score by those of the test set; here every scale comes from the normals that calibrate
the product, so that a flawless frame shows no disagreement and a frame's numbers depend on that frame alone.

The branches of one side look at one sensor only. A branch that predicts one sensor from the other is on
neither side: a stain misleads what is predicted from colour as much as what is compared with it, so its
residual is high whichever sensor shows the defect.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from inference.branches.base import Branch, Needs
from inference.calibration import Scale
from inference.errors import BundleError, TeachError
from inference.fusion import fuse_maps, top_mean
from inference.tiles import TileLayout, stitch
from schemas.verdict import SeenBy

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

EVIDENCE = 0.95
"""Sensors disagree where one is above this quantile of the strongest places of normal frames."""
SHOWN = 0.98
"""A side shows a region where it is above this quantile of what normals reach in a place of that size."""
BLOCK = 16
"""Side in pixels of such a place, on a map whose tiles have 128: what a defect's region spans."""
READ_SHARE = 0.5
"""With less of a region read by the depth sensor, nothing is said of what that sensor did not show."""
LAMBDA = 0.5
OPTIONS = ("modulated", "dual")
"""Image scores: of the modulated map, and the mixed one."""

_UPPER = 0.95
_CALIBRATION = (0.05, 0.95)


@dataclass(frozen=True, slots=True)
class SideMaps:
    """One frame's calibrated maps over its region of interest, in standard deviations of the normals.

    Attributes:
        colour: (h, w) float32, of the branches that look at colour alone.
        shape: (h, w) float32, of those that look at depth alone.
        fused: (h, w) float32, of all branches.
        valid: (h, w) bool, where the depth sensor read something; None: everywhere.
    """

    colour: Image = field(repr=False)
    shape: Image = field(repr=False)
    fused: Image = field(repr=False)
    valid: Mask | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        shapes = [one.shape for one in (self.colour, self.shape, self.fused, self.valid) if one is not None]
        if len(set(shapes)) != 1 or self.fused.ndim != 2 or not self.fused.size:
            raise ValueError(f"side maps of shapes {shapes}: expected one (h, w) for all")


@dataclass(frozen=True, slots=True)
class Span:
    """What normals reach: ``low`` becomes 0 and ``high`` 1."""

    low: float
    high: float

    def strength(self, values: Image) -> Image:
        """Values on the span's scale, below 0 and above 1 as they come."""
        return np.asarray((values - np.float32(self.low)) * np.float32(1.0 / (self.high - self.low)))

    def share(self, value: float) -> float:
        """One value on the span's scale, from 0 to 1."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    @classmethod
    def of(cls, low: float, high: float) -> Span:
        """A span that nothing divides by zero on: normals may all be alike."""
        return cls(low, max(high, low + 1e-6 * max(1.0, abs(low))))


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The scales of both sides on one product's normals: fitted by :meth:`fit`, kept in the bundle.

    Attributes:
        colour, shape: of each side's map: the normals' middle, and the ``EVIDENCE`` quantile of their peaks.
        colour_shown, shape_shown: of each side's map: the ``SHOWN`` quantile of normals' highest values in a
            block of ``BLOCK`` pixels. A whole frame's peak would ask too much of a side in one small region.
        base, robust, upper: of S_base, S_rob and Q95 of the modulated maps.
    """

    colour: Span
    shape: Span
    colour_shown: float
    shape_shown: float
    base: Span
    robust: Span
    upper: Span

    @classmethod
    def fit(cls, normals: Iterable[SideMaps], scores: Sequence[float]) -> Disagreement:
        """From held-out normals.

        Args:
            normals: gone through twice, so a list, or an object that makes each frame anew; not a generator.
            scores: image score of each before modulation; see :meth:`scores`.

        Raises:
            TeachError: no normals, or not one score for each of them on both passes.
        """
        middles: list[tuple[float, float]] = []
        peaks: list[tuple[float, float]] = []
        blocks: tuple[list[Image], list[Image]] = ([], [])
        for one in normals:
            read = one.shape if one.valid is None else one.shape[one.valid]
            if not read.size:
                raise TeachError("disagreement: a normal frame has no depth reading: take it out of the set")
            middles.append((float(np.median(one.colour)), float(np.median(read))))
            peaks.append((float(one.colour.max()), float(read.max())))
            blocks[0].append(_block_peaks(one.colour, None))
            blocks[1].append(_block_peaks(one.shape, one.valid))
        if not middles or len(middles) != len(scores):
            raise TeachError(f"disagreement: {len(middles)} normal frames and {len(scores)} scores")
        low, high = np.median(middles, 0), np.quantile(peaks, EVIDENCE, axis=0)
        none = Span(0.0, 1.0)
        half = cls(
            colour=Span.of(float(low[0]), float(high[0])),
            shape=Span.of(float(low[1]), float(high[1])),
            colour_shown=float(np.quantile(np.concatenate(blocks[0]), SHOWN)),
            shape_shown=float(np.quantile(np.concatenate(blocks[1]), SHOWN)),
            base=none,
            robust=none,
            upper=none,
        )
        parts = np.array(
            [half._parts(one, score) for one, score in zip(normals, scores, strict=False)], np.float64
        )
        if len(parts) != len(scores):
            raise TeachError("disagreement: the normals can be gone through only once: give a list")
        ends = np.quantile(parts, _CALIBRATION, axis=0)
        base, robust, upper = (Span.of(float(ends[0, k]), float(ends[1, k])) for k in range(3))
        return replace(half, base=base, robust=robust, upper=upper)

    def label(self, region: Mask, maps: SideMaps) -> SeenBy | None:
        """Which sensors show the defect in a region.

        A side shows it where the side's map, somewhere in the region, is above what normals reach in a place
        of that size: between the level of a block and that of a whole frame, by the logarithm of how many
        blocks the region would fill. Where neither does by itself the region is what both say together.

        Args:
            region: (h, w) bool, on the maps' grid.
            maps: of the frame.

        Returns:
            None where depth does not show it and read too little of the region to say that it is not there.
        """
        if not region.any():
            return None
        read = region if maps.valid is None else region & maps.valid
        block = _block(region.shape) ** 2
        whole = math.log(max(region.size / block, 2.0))
        size = min(1.0, math.log(max(np.count_nonzero(region) / block, 1.0)) / whole)
        colour_level = self.colour_shown + size * (self.colour.high - self.colour_shown)
        shape_level = self.shape_shown + size * (self.shape.high - self.shape_shown)
        colour = float(maps.colour[region].max()) > colour_level
        shape = bool(read.any()) and float(maps.shape[read].max()) > shape_level
        if shape:
            return SeenBy.BOTH if colour else SeenBy.SHAPE_ONLY
        if np.count_nonzero(read) < READ_SHARE * np.count_nonzero(region):
            return None
        return SeenBy.COLOUR_ONLY if colour else SeenBy.BOTH

    def disagreement(self, maps: SideMaps) -> Image:
        """(h, w) float32 from 0 to 1: how much more one sensor shows than the other.

        |c - s| of both sides' strengths held to 0 to 1, where at least one of them shows more than normals
        do; 0 elsewhere, and 0 where depth was not read: that a sensor saw nothing is no disagreement.
        """
        colour, shape = self.colour.strength(maps.colour), self.shape.strength(maps.shape)
        shown = np.maximum(colour, shape) > 1.0
        if maps.valid is not None:
            shown &= maps.valid
        gap = np.abs(np.clip(colour, 0.0, 1.0) - np.clip(shape, 0.0, 1.0))
        return np.asarray(np.where(shown, gap, np.float32(0.0)), np.float32)

    def modulated(self, maps: SideMaps, *, lam: float = LAMBDA) -> Image:
        """(h, w) float32: the fused map, stronger where the sensors disagree."""
        return modulate(maps.fused, self.disagreement(maps), lam=lam)

    def scores(self, maps: SideMaps, score: float) -> dict[str, float]:
        """The image score of each of ``OPTIONS``.

        Args:
            maps: of the frame.
            score: the frame's image score before modulation. A branch that gives its very peak has a score
                that the mean of the map's top 1 % dilutes: modulation adds to the score what it adds to
                that mean.
        """
        parts = self._parts(maps, score)
        return {"modulated": parts[0], "dual": self._dual(*parts)}

    def _parts(self, maps: SideMaps, score: float) -> tuple[float, float, float]:
        """(S_base, S_rob, Q95) of the modulated map."""
        gap = self.disagreement(maps)
        image = modulate(maps.fused, gap)
        upper = float(np.quantile(image, _UPPER))
        robust = 0.60 * upper + 0.25 * float(image.mean(dtype=np.float64))
        robust += 0.15 * float(gap.mean(dtype=np.float64))
        return score + top_mean(image) - top_mean(maps.fused), robust, upper

    def _dual(self, base: float, robust: float, upper: float) -> float:
        """S = (1 - w) S_base + w S_rob, w = sigmoid(C - R): robust where the scalars do not agree.

        R = 1 - |S~base - Q~95| and C = |S~base - S~rob|, tildes on the normals' scale, held to 0 to 1. The
        paper's recovery term, 0.2 max(0, Q95 - S_base), is left out: S_base is a mean over the top 1 %, which
        is never below Q95, so the term is always 0.
        """
        at_base = self.base.share(base)
        reliable = 1.0 - abs(at_base - self.upper.share(upper))
        conflict = abs(at_base - self.robust.share(robust))
        weight = 1.0 / (1.0 + math.exp(reliable - conflict))
        return (1.0 - weight) * base + weight * robust

    def to_map(self) -> dict[str, object]:
        """Plain values for the manifest."""
        spans = {name: asdict(getattr(self, name)) for name in _SPANS}
        shown = {name: getattr(self, name) for name in _SHOWN}
        return {**spans, **shown}

    @classmethod
    def from_map(cls, values: Mapping[str, object]) -> Disagreement:
        """Back from :meth:`to_map`.

        Raises:
            BundleError: a scale is missing or no scale.
        """
        colour, shape, base, robust, upper = (_span(values.get(name), name) for name in _SPANS)
        colour_shown, shape_shown = (_number(values.get(name), name) for name in _SHOWN)
        return cls(colour, shape, colour_shown, shape_shown, base, robust, upper)


_SPANS = ("colour", "shape", "base", "robust", "upper")
_SHOWN = ("colour_shown", "shape_shown")


def modulate(image: Image, disagreement: Image, *, lam: float = LAMBDA) -> Image:
    """M (1 + lam Dis) where the map is above 0, M elsewhere: disagreement never weakens a place."""
    return np.asarray(image + np.float32(lam) * disagreement * np.maximum(image, np.float32(0.0)), np.float32)


def sides_of(branches: Iterable[Branch | type[Branch]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the branches that look at colour alone, and of those that look at depth alone."""
    chosen = [(branch.name, branch.needs) for branch in branches]
    return (
        tuple(name for name, needs in chosen if needs == {Needs.RGB}),
        tuple(name for name, needs in chosen if needs == {Needs.DEPTH}),
    )


def side_maps(
    tiles: Sequence[Mapping[str, Image]],
    branches: Iterable[Branch | type[Branch]],
    scales: Mapping[str, Scale],
    layout: TileLayout,
    *,
    fused: Image,
    valid: Sequence[Mask | None] | None = None,
) -> SideMaps | None:
    """The maps of both sides over the region of interest.

    Args:
        tiles: per tile, each branch's map before calibration, as ``Measured.tiles``.
        branches: of the mode that the frame was scored in.
        scales: of every branch.
        layout: of the tiles.
        fused: the fused map of the same tiles, stitched.
        valid: per tile, where depth was read, at the maps' size; None for a tile without depth. Without the
            argument depth counts as read in every tile that a depth branch saw.

    Returns:
        None where only one sensor was looked at: there is nothing to compare.
    """
    colour, shape = sides_of(branches)
    if not colour or not shape:
        return None
    sides = []
    for names in (colour, shape):
        # Far below any normal: a tile that one side did not see shows nothing of that side.
        low = -10.0 - max(abs(scales[name].mean) / scales[name].deviation for name in names)
        own = [{name: maps[name] for name in names if name in maps} for maps in tiles]
        sides.append(stitch([fuse_maps(maps, scales, empty=low) for maps in own], layout))
    read = []
    for index, maps in enumerate(tiles):
        seen = any(name in maps for name in shape)
        one = None if valid is None else valid[index]
        side = next(iter(maps.values())).shape if maps else fused.shape
        if not seen or (valid is not None and one is None):
            read.append(np.zeros(side, np.float32))
        else:
            read.append(np.ones(side, np.float32) if one is None else one.astype(np.float32))
    return SideMaps(sides[0], sides[1], fused, stitch(read, layout) >= 0.5)


def _block_peaks(image: Image, valid: Mask | None) -> Image:
    """(n,) highest value of each block that was read; blocks that the map's edge cuts are left out."""
    side = _block(image.shape)
    if valid is not None:
        image = np.asarray(np.where(valid, image, np.float32(-np.inf)), np.float32)
    rows, columns = (length // side for length in image.shape)
    cut = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    peaks = np.asarray(cut.max((1, 3)).ravel(), np.float32)
    return peaks[np.isfinite(peaks)]


def _block(shape: Sequence[int]) -> int:
    """Side of a block on a map, which may be smaller than a tile's."""
    return min(BLOCK, max(1, min(shape) // 4))


def _number(value: object, name: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise BundleError(f"the bundle's disagreement.{name} is {value!r}: expected a number; teach again")


def _span(value: object, name: str) -> Span:
    if isinstance(value, Mapping):
        low, high = value.get("low"), value.get("high")
        if (
            isinstance(low, int | float)
            and isinstance(high, int | float)
            and math.isfinite(low)
            and math.isfinite(high)
            and low < high
        ):
            return Span(float(low), float(high))
    raise BundleError(f"the bundle's disagreement.{name} is {value!r}: expected low below high; teach again")

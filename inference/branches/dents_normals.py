"""What the normals teach the dent detector: their reliefs, their noise, and whether parts lie still."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.branches.base import Evidence
from inference.contrast import SCALES, SIDES, SIGMAS, Response, responses
from inference.errors import BadSample, DepthUnusable, TeachError
from inference.plane import SIGMA_PER_MAD, fill_holes
from inference.relief import GRID, Relief, relief, roughness, settle

Image = NDArray[np.float32]

CLIP = 25.0
"""Units; absurd heights beyond it carry no more evidence."""
BINS = 12
"""Of coverage, 0 to 1."""
LEAST_NOISE = 0.01
"""Units; a surface without any noise would otherwise make everything infinitely strange."""

_THIN = 400  # pixels; a bin of coverage with fewer takes the level between its neighbours
_QUANTISATION = 12**-0.5  # counts; rounding alone spreads heights that much
_FOLDS = 5
_STILL = 0.8  # contrast left after subtracting the other folds' median, as a share of that before
_MOST = 0.8  # share of the frames that must gain
_FEWEST_STILL = 6  # frames a tile, fewer do not show whether parts lie still


@dataclass(frozen=True, slots=True)
class Normals:
    """The usable tiles of the normal frames.

    Attributes:
        unit: counts per unit of height: the median over tiles of the spread about the plane.
        heights: (128, 128) float32 each, units.
        reads: (128, 128) bool each.
        tiles: index of the tile in its frame.
        folds: 0 to 4; tiles of one lot are in one fold.
    """

    unit: float
    heights: tuple[Image, ...]
    reads: tuple[NDArray[np.bool_], ...]
    tiles: tuple[int, ...]
    folds: tuple[int, ...]

    @classmethod
    def of(cls, evidence: Sequence[Evidence]) -> Self:
        """From the teaching tiles; those without enough depth are left out.

        Raises:
            TeachError: fewer than three can be used.
        """
        seen: list[Relief] = []
        used: list[Evidence] = []
        for one in evidence:
            try:
                found = relief_of(one)
                settle(found.height, found.read, limit=np.inf, spike=None)
            except BadSample:
                continue
            seen.append(found)
            used.append(one)
        if len(seen) < 3:
            raise TeachError(
                f"dents: {len(seen)} of {len(evidence)} normal tiles have enough depth readings: 3 are needed"
            )
        unit = float(np.float32(max(float(np.median([one.mad for one in seen])), _QUANTISATION)))
        return cls(
            unit=unit,
            heights=tuple(one.height / np.float32(unit) for one in seen),
            reads=tuple(one.read for one in seen),
            tiles=tuple(one.tile for one in used),
            folds=_folds(used),
        )

    def shape(self, without: int | None = None) -> Image:
        """(tiles, 128, 128) median relief, holes filled; ``without`` leaves one fold out."""
        count = max(self.tiles) + 1
        shape = np.zeros((count, GRID, GRID), np.float32)
        for tile in range(count):
            chosen = [i for i, fold in enumerate(self.folds) if self.tiles[i] == tile and fold != without]
            if chosen:
                heights = np.stack([self.heights[i] for i in chosen])
                shape[tile] = _masked_median(heights, np.stack([self.reads[i] for i in chosen]))
        return shape

    def shapes_of_others(self) -> list[Image]:
        """For each tile the median relief of the other folds: what it would meet had it not been taught."""
        by_fold = {fold: self.shape(without=fold) for fold in sorted(set(self.folds))}
        return [by_fold[fold][tile] for fold, tile in zip(self.folds, self.tiles, strict=True)]

    def less(self, shapes: Sequence[Image] | None) -> Iterator[tuple[Image, NDArray[np.bool_]]]:
        """(height, read) of each tile, less its shape where there is one."""
        for i, (height, read) in enumerate(zip(self.heights, self.reads, strict=True)):
            yield (height if shapes is None else height - shapes[i]), read

    def highest(self, shapes: Sequence[Image] | None) -> float:
        """How far all but the highest 0.5 % of the heights of nine in ten tiles stay within, units."""
        each = [float(np.quantile(np.abs(height[read]), 0.995)) for height, read in self.less(shapes)]
        return float(np.quantile(each, 0.9))

    def spikes(self, shapes: Sequence[Image] | None, limit: float) -> float:
        """Robust deviation of the heights from the median of their 5 x 5 cells, units."""
        rough = [
            roughness(*settle(height, read, limit=limit, spike=None))[::4]
            for height, read in self.less(shapes)
        ]
        return SIGMA_PER_MAD * float(np.median(np.concatenate(rough)))

    def lies_still(self, others: Sequence[Image]) -> bool:
        """Whether parts lie still enough for their shape to be subtracted.

        The rule: subtract from each tile the median relief of the *other* folds (lots), and compare its
        mean absolute contrast before and after, averaged over the five scales. Yes where the median tile
        keeps at most 80 % of it and at least 80 % of the tiles lose some, with at least two folds and six
        frames. A moving web keeps all and gains the noise of the median; a part in a fixture keeps its
        noise only.
        """
        if len(set(self.folds)) < 2 or len(self.folds) < _FEWEST_STILL * len(set(self.tiles)):
            return False
        kept = []
        for before, after in zip(self.less(None), self.less(others), strict=True):
            plain, bare = (_contrast(*settle(*one, limit=CLIP, spike=None)) for one in (before, after))
            kept.append(float(np.mean(bare / np.maximum(plain, LEAST_NOISE))))
        share = np.array(kept)
        return bool(np.median(share) <= _STILL and np.mean(share < 1) >= _MOST)


def relief_of(evidence: Evidence) -> Relief:
    """The relief of one tile.

    Raises:
        DepthUnusable: there is no depth, or too little.
    """
    if evidence.depth is None or evidence.valid is None:
        raise DepthUnusable("dents: the tile has no depth image")
    return relief(evidence.depth, evidence.valid)


def levels_by_coverage(frames: Sequence[Sequence[Response]]) -> Image:
    """(5, 12) float32: noise of each scale's difference by coverage, never rising with it.

    A bin's level is max(rms of min(|q|, 6 sd), sd) with sd = 1.4826 median |q| over the normals' pixels.
    """
    table = np.zeros((SCALES, BINS), np.float32)
    middles = (np.arange(BINS) + 0.5) / BINS
    for k in range(SCALES):
        strength = np.concatenate([np.abs(one[k].difference[one[k].known]) for one in frames])
        coverage = np.concatenate([one[k].coverage[one[k].known] for one in frames])
        bins = np.minimum((coverage * BINS).astype(np.intp), BINS - 1)
        counts = np.bincount(bins, minlength=BINS)
        # With little to go by, the fullest bin alone must do.
        usable = np.flatnonzero(counts >= min(_THIN, int(counts.max())))
        levels = [_level(strength[bins == b]) for b in usable]
        row = np.interp(middles, middles[usable], levels)
        # Fewer readings cannot mean less noise; where a bin says so, it was chance.
        table[k] = np.maximum.accumulate(row[::-1])[::-1]
    return np.maximum(table, np.float32(LEAST_NOISE))


def levels_by_place(
    frames: Sequence[Sequence[Response]], tiles: Sequence[int]
) -> tuple[tuple[Image, ...], ...]:
    """Per tile and scale (s, s) float32: rms of the difference at that place, smoothed over its own size.

    The edge of a part that never lies quite the same is strange on every frame; there it takes more.
    """
    places = []
    for tile in range(max(tiles) + 1):
        mine = [frame for frame, index in zip(frames, tiles, strict=True) if index == tile]
        scales = []
        for k in range(SCALES):
            side = SIDES[k]
            power, count = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
            for frame in mine:
                power += np.square(frame[k].difference)
                count += frame[k].known
            sigma = SIGMAS[k] * side / GRID
            smooth = [
                cv2.GaussianBlur(one, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for one in (power, count)
            ]
            level = np.sqrt(np.maximum(smooth[0], 0) / np.maximum(smooth[1], 0.5))
            scales.append(np.asarray(level, dtype=np.float32))
        places.append(tuple(scales))
    return tuple(places)


def _level(strength: Image) -> float:
    sd = SIGMA_PER_MAD * float(np.median(strength))
    # A surface whose differences are mostly zero (coarse counts) has no sd; its rms still counts.
    cap = 6 * sd if sd > 0 else float(strength.max())
    return max(float(np.sqrt(np.mean(np.square(np.minimum(strength, cap)), dtype=np.float64))), sd)


def _contrast(height: Image, solid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(5,) mean |difference| where known, units."""
    found = responses(height, solid)
    return np.array(
        [float(np.abs(one.difference[one.known]).mean()) if one.known.any() else 0 for one in found]
    )


def _masked_median(heights: Image, reads: NDArray[np.bool_]) -> Image:
    """(128, 128) median over the frames that read a cell, filled from around it where none did."""
    ordered = np.sort(np.where(reads, heights, np.float32(np.inf)), axis=0)
    count = reads.sum(axis=0)
    lower = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[None], axis=0)[0]
    upper = np.take_along_axis(ordered, np.minimum(count // 2, len(heights) - 1)[None], axis=0)[0]
    some = count > 0
    middle = np.where(
        some, 0.5 * (np.where(some, lower, 0) + np.where(some & (count // 2 < count), upper, lower)), 0
    )
    return fill_holes(middle.astype(np.float32), some)


def _folds(evidence: Sequence[Evidence]) -> tuple[int, ...]:
    """Neighbouring lots share a fold; without lots, neighbouring frames do."""
    groups = sorted({one.group for one in evidence})
    if len(groups) > 1:
        rank = {group: index * min(_FOLDS, len(groups)) // len(groups) for index, group in enumerate(groups)}
        return tuple(rank[one.group] for one in evidence)
    totals: dict[int, int] = {}
    ordinals = []
    for one in evidence:
        ordinals.append(totals.get(one.tile, 0))
        totals[one.tile] = ordinals[-1] + 1
    return tuple(
        ordinal * _FOLDS // max(totals[one.tile], _FOLDS)
        for ordinal, one in zip(ordinals, evidence, strict=True)
    )

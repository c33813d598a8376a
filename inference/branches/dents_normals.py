"""What the normals teach the dent detector: their reliefs, their noise, and whether they share a shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.branches.base import Evidence
from inference.contrast import SCALES, SIDES, SIGMAS, Response, responses
from inference.errors import BadSample, DepthUnusable, TeachError
from inference.plane import SIGMA_PER_MAD, fill_holes
from inference.register import Pose, Reference
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
_REGISTRATIONS = 3
_MOST = 0.8  # share of the frames that must gain
_FEWEST_STILL = 6  # frames a tile, fewer do not show whether they share a shape


Settled = list[tuple[Image, NDArray[np.bool_]]]
"""(height in units, read) of each tile."""


@dataclass(frozen=True, slots=True)
class Bare:
    """The normals less the shape that they share.

    Attributes:
        shape: (tiles, 128, 128) float32, median relief of the registered normals, counts. unit: counts per
        unit: the median spread of what is left. heights: what is left of each tile, less the median of the
        *other* folds, so that it looks like a new part. poses: how each tile lies against the shape.
    """

    shape: Image
    unit: float
    heights: Settled
    poses: tuple[Pose, ...]


@dataclass(frozen=True, slots=True)
class Normals:
    """The usable tiles of the normal frames.

    Attributes:
        unit: counts per unit of height: the median over tiles of the spread about the plane.
        reliefs: height over the plane, counts.
        tiles: index of the tile in its frame.
        folds: 0 to 4; tiles of one lot are in one fold.
    """

    unit: float
    reliefs: tuple[Relief, ...]
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
        unit = _positive(float(np.median([one.mad for one in seen])))
        return cls(unit=unit, reliefs=tuple(seen), tiles=tuple(one.tile for one in used), folds=_folds(used))

    def plain(self) -> Settled:
        """The normals as they are."""
        return [(one.height / np.float32(self.unit), one.read) for one in self.reliefs]

    def bare(self) -> Bare:
        """The normals registered to the shape that they share, less that shape."""
        count = max(self.tiles) + 1
        filled = [fill_holes(one.height, one.read) for one in self.reliefs]
        poses = [Pose()] * len(filled)
        shape = np.zeros((count, GRID, GRID), np.float32)
        # The first median is blurred by the poses, the second by what the first left of them.
        for _ in range(_REGISTRATIONS):
            laid = self._laid(filled, poses)
            for tile in range(count):
                shape[tile] = _median_of(laid, [i for i, t in enumerate(self.tiles) if t == tile])
            references = [Reference(one) for one in shape]
            poses = [references[tile].align(one) for tile, one in zip(self.tiles, filled, strict=True)]
        laid = self._laid(filled, poses)
        for tile in range(count):
            shape[tile] = _median_of(laid, [i for i, t in enumerate(self.tiles) if t == tile])
        others: dict[tuple[int, int], Image] = {}
        left = []
        for i, key in enumerate(zip(self.tiles, self.folds, strict=True)):
            if key not in others:
                chosen = [j for j, t in enumerate(self.tiles) if t == key[0] and self.folds[j] != key[1]]
                others[key] = _median_of(laid, chosen)
            left.append(poses[i].less(self.reliefs[i].height, others[key]))
        reads = [one.read for one in self.reliefs]
        spreads = [float(np.median(np.abs(one[read]))) for one, read in zip(left, reads, strict=True)]
        unit = _positive(SIGMA_PER_MAD * float(np.median(spreads)))
        heights = [(one / np.float32(unit), read) for one, read in zip(left, reads, strict=True)]
        return Bare(shape=shape, unit=unit, heights=heights, poses=tuple(poses))

    def lies_still(self, bare: Bare) -> bool:
        """Whether parts have a shape of their own that can be subtracted.

        The rule: register each tile to the shape of all, subtract the median of the *other* folds (lots),
        and compare its mean absolute contrast before and after, averaged over the five scales. Yes where
        the median tile keeps at most 80 % of it and at least 80 % of the tiles lose some, with at least two
        folds and six frames. A moving web keeps all and gains the noise of the median; a part keeps its
        noise only.
        """
        if len(set(self.folds)) < 2 or len(self.folds) < _FEWEST_STILL * len(set(self.tiles)):
            return False
        kept = []
        for (before, read), (after, _) in zip(self.plain(), bare.heights, strict=True):
            plain = self.unit * _contrast(*settle(before, read, limit=np.inf, spike=None))
            left = bare.unit * _contrast(*settle(after, read, limit=np.inf, spike=None))
            kept.append(float(np.mean(left / np.maximum(plain, 1e-6))))
        share = np.array(kept)
        return bool(np.median(share) <= _STILL and np.mean(share < 1) >= _MOST)

    def _laid(self, filled: Sequence[Image], poses: Sequence[Pose]) -> list[tuple[Image, NDArray[np.bool_]]]:
        """Each relief and what was read of it, laid over the reference."""
        flat = np.zeros((GRID, GRID), np.float32)
        laid = []
        for pose, height, one in zip(poses, filled, self.reliefs, strict=True):
            over = pose.to_reference(pose.less(height, flat))
            read = pose.to_reference(one.read.astype(np.float32)) > 0.5
            laid.append((over, np.asarray(read)))
        return laid


def highest(heights: Settled) -> float:
    """How far all but the highest 0.5 % of the heights of nine in ten tiles stay within, units."""
    each = [float(np.quantile(np.abs(height[read]), 0.995)) for height, read in heights]
    return float(np.quantile(each, 0.9))


def spikes(heights: Settled, limit: float) -> float:
    """Robust deviation of the heights from the median of their 5 x 5 cells, units."""
    rough = [roughness(*settle(height, read, limit=limit, spike=None))[::4] for height, read in heights]
    return SIGMA_PER_MAD * float(np.median(np.concatenate(rough)))


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
        if not strength.size:  # no normal was read widely enough for this scale: nor will others be
            continue
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
    frames: Sequence[Sequence[Response]], tiles: Sequence[int], poses: Sequence[Pose]
) -> tuple[tuple[Image, ...], ...]:
    """Per tile and scale (s, s) float32: rms of the difference at that place, smoothed over its own size.

    The edge of a part that never lies quite the same is strange on every frame; there it takes more.
    """
    places = []
    for tile in range(max(tiles) + 1):
        mine = [
            (frame, pose) for frame, index, pose in zip(frames, tiles, poses, strict=True) if index == tile
        ]
        scales = []
        for k in range(SCALES):
            side = SIDES[k]
            power, count = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
            for frame, pose in mine:
                power += pose.to_reference(np.square(frame[k].difference))
                count += pose.to_reference(frame[k].known.astype(np.float32))
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


def _median_of(laid: Sequence[tuple[Image, NDArray[np.bool_]]], chosen: Sequence[int]) -> Image:
    """(128, 128) median over the chosen frames that read a cell, filled from around it where none did."""
    if not chosen:
        return np.zeros((GRID, GRID), np.float32)
    reads = np.stack([laid[i][1] for i in chosen])
    heights = np.stack([laid[i][0] for i in chosen])
    ordered = np.sort(np.where(reads, heights, np.float32(np.inf)), axis=0)
    count = reads.sum(axis=0)
    lower = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[None], axis=0)[0]
    upper = np.take_along_axis(ordered, np.minimum(count // 2, len(chosen) - 1)[None], axis=0)[0]
    some = count > 0
    middle = np.zeros((GRID, GRID), np.float32)
    middle[some] = (lower[some] + upper[some]) / 2
    return fill_holes(middle, some)


def _positive(unit: float) -> float:
    return float(np.float32(max(unit, _QUANTISATION)))


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

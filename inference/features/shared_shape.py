"""The shape that normal parts share: their reliefs registered, the median of them, and what is left of each.

A part's own edges are the largest contrast there is. Where held-out normals say that they share a shape,
every frame is registered to the median relief of the normals, which is subtracted. A moving web shares no
shape and is measured as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from inference.contrast import responses
from inference.errors import BadSample, TeachError
from inference.plane import SIGMA_PER_MAD, fill_holes
from inference.register import Pose, Reference
from inference.relief import GRID, Relief, relief, roughness, settle

Image = NDArray[np.float32]

_QUANTISATION = 12**-0.5  # counts; rounding alone spreads heights that much
_FOLDS = 5
_STILL = 0.8  # contrast left after subtracting the other folds' median, as a share of that before
_REGISTRATIONS = 3
_MOST = 0.8  # share of the frames that must gain
_FEWEST_STILL = 6  # frames a tile, fewer do not show whether they share a shape

Read = list[tuple[Image, NDArray[np.bool_]]]
"""(height in units, read) of each tile."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The depth of one tile of one normal frame.

    Attributes:
        depth: (S, S) float32 counts, anything where not ``valid``.
        valid: (S, S) bool.
        tile: its place in the layout.
        group: lot or recording.
    """

    depth: Image
    valid: NDArray[np.bool_]
    tile: int = 0
    group: str = ""


@dataclass(frozen=True, slots=True)
class Bare:
    """The normals less the shape that they share.

    Attributes:
        shape: (tiles, 128, 128) float32, median relief of the registered normals, counts.
        unit: counts per unit: the median spread of what is left.
        heights: what is left of each tile, less the median of the *other* folds, so that it looks like a new
            part.
        others: that median by tile and fold.
        poses: how each tile lies against the shape.
    """

    shape: Image
    unit: float
    heights: Read
    others: Mapping[tuple[int, int], Image]
    poses: tuple[Pose, ...]


@dataclass(frozen=True, slots=True)
class Normals:
    """The usable tiles of the normal frames.

    Attributes:
        unit: counts per unit of height: the median over tiles of the spread about the plane.
        reliefs: height over the plane, counts.
        tiles: index of the tile in its frame.
        folds: 0 to 4; tiles of one lot are in one fold.
        fold_of: the fold of each lot; empty where all normals are of one lot.
    """

    unit: float
    reliefs: tuple[Relief, ...]
    tiles: tuple[int, ...]
    folds: tuple[int, ...]
    fold_of: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> Self:
        """From the teaching tiles; those without enough depth are left out.

        Raises:
            TeachError: fewer than three can be used.
        """
        seen: list[Relief] = []
        used: list[Reading] = []
        for one in readings:
            try:
                found = relief(one.depth, one.valid)
                settle(found.height, found.read, limit=np.inf, spike=None)
            except BadSample:
                continue
            seen.append(found)
            used.append(one)
        if len(seen) < 3:
            raise TeachError(
                f"{len(seen)} of {len(readings)} normal tiles have enough depth readings for a plane: 3 are "
                "needed; check the depth sensor"
            )
        unit = _positive(float(np.median([one.mad for one in seen])))
        folds, fold_of = _folds(used)
        return cls(unit, tuple(seen), tuple(one.tile for one in used), folds, fold_of)

    def plain(self) -> Read:
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
        return Bare(shape=shape, unit=unit, heights=heights, others=others, poses=tuple(poses))

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
            over = pose.relief_to_reference(pose.less(height, flat))
            read = pose.to_reference(one.read.astype(np.float32)) > 0.5
            laid.append((over, np.asarray(read)))
        return laid


def highest(heights: Read) -> float:
    """How far all but the highest 0.5 % of the heights of nine in ten tiles stay within, units."""
    each = [float(np.quantile(np.abs(height[read]), 0.995)) for height, read in heights]
    return float(np.quantile(each, 0.9))


def spikes(heights: Read, limit: float) -> float:
    """Robust deviation of the heights from the median of their 5 x 5 cells, units."""
    rough = [roughness(*settle(height, read, limit=limit, spike=None))[::4] for height, read in heights]
    return SIGMA_PER_MAD * float(np.median(np.concatenate(rough)))


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


def _folds(readings: Sequence[Reading]) -> tuple[tuple[int, ...], dict[str, int]]:
    """Neighbouring lots share a fold; without lots, neighbouring frames do."""
    groups = sorted({one.group for one in readings})
    if len(groups) > 1:
        rank = {group: index * min(_FOLDS, len(groups)) // len(groups) for index, group in enumerate(groups)}
        return tuple(rank[one.group] for one in readings), rank
    totals: dict[int, int] = {}
    ordinals = []
    for one in readings:
        ordinals.append(totals.get(one.tile, 0))
        totals[one.tile] = ordinals[-1] + 1
    folds = tuple(
        ordinal * _FOLDS // max(totals[one.tile], _FOLDS)
        for ordinal, one in zip(ordinals, readings, strict=True)
    )
    return folds, {}

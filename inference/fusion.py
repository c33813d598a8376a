"""Branch maps to one map and one score.

Every branch is brought to one scale by its image scores on normals; what is joined is log-sum-exp, a soft
maximum: no branch can veto another, as a product of distances does, and one that is absent simply drops out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.baseline import Baseline
from inference.branches.base import Branch, Evidence, Needs, Reduce
from inference.calibration import Scale
from inference.errors import DepthUnusable, NoReading, NotFinite
from inference.features.base import finite
from inference.masking import Inside
from inference.prepare import MAP_SIDE

Image = NDArray[np.float32]

BLUR = 2.7
"""Sigma in pixels of a tile's map: maps from a grid of 28 have no detail below it."""
TOP_SHARE = 0.01
KNEE = 4.0
"""Standard deviations of the normals; about where thresholds lie."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the branches gave for one tile, each on its own grid.

    Attributes:
        maps: raw map of each branch that could look.
        valid: (128, 128) bool, where depth was read; None where depth was not used.
        foreground: (128, 128) bool, where the part is; None where all of the tile is.
    """

    maps: Mapping[str, Image]
    valid: NDArray[np.bool_] | None = None
    foreground: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What the branches say of one frame, before any calibration.

    Attributes:
        scores: image score of each branch: the highest of its tiles.
        tiles: per tile, the map (128, 128) of each branch that saw it.
        seen: what it was measured from.
    """

    scores: Mapping[str, float]
    tiles: Sequence[Mapping[str, Image]]
    seen: Sequence[Seen]


def enlarge(raw: Image, *, reduce: Reduce = Reduce.TOP) -> Image:
    """A branch's map at a tile's map size: bilinear, then blurred.

    A branch whose image score is its very peak keeps that peak: a blur would hide on the map what the score
    was given for.
    """
    if raw.shape != (MAP_SIDE, MAP_SIDE):
        raw = np.asarray(cv2.resize(raw, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_LINEAR))
    if reduce is Reduce.MAX:
        return raw
    return np.asarray(cv2.GaussianBlur(raw, (0, 0), BLUR, borderType=cv2.BORDER_REFLECT_101), np.float32)


def top_mean(image: Image, share: float = TOP_SHARE) -> float:
    """Mean of the highest ``share`` of the values."""
    count = max(1, round(share * image.size))
    top = np.partition(image.ravel(), image.size - count)[-count:]
    return float(top.mean(dtype=np.float64))


def look(evidence: Evidence, branches: Sequence[Branch]) -> Seen:
    """The raw map of each branch on its own grid, of those whose sensors the tile has.

    Raises:
        NotFinite: a map holds NaN or infinity.
    """
    seen: dict[str, Image] = {}
    depth_used = evidence.has_depth
    for branch in branches:
        if Needs.DEPTH in branch.needs and not depth_used:
            continue
        if Needs.RGB in branch.needs and evidence.rgb_tokens is None:
            continue
        try:
            raw = branch.score(evidence)
        except DepthUnusable:
            # A sensor that one branch cannot use is not half used: its other branches drop out as well.
            for other in branches:
                if Needs.DEPTH in other.needs:
                    seen.pop(other.name, None)
            depth_used = False
            continue
        if not finite(raw):
            raise NotFinite(f"branch {branch.name}: its map holds values that are not finite")
        seen[branch.name] = raw
    valid = evidence.valid if depth_used else None
    if valid is not None:
        small = cv2.resize(valid.astype(np.uint8), (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_NEAREST)
        valid = np.asarray(small > 0)
    return Seen(seen, valid, evidence.foreground)


def measure(
    tiles: Sequence[Seen], branches: Sequence[type[Branch]], baselines: Mapping[str, Baseline]
) -> Measured:
    """One frame's raw maps to branch scores and maps of one size.

    Args:
        tiles: what :func:`look` gave for each tile, in the order of the layout.
        branches: all of them must have seen at least one tile.
        baselines: by branch, of those that have one.

    Raises:
        NoReading: a branch had no tile to look at.
    """
    scores: dict[str, float] = {}
    maps: list[dict[str, Image]] = []
    for index, seen in enumerate(tiles):
        large: dict[str, Image] = {}
        inside = None if seen.foreground is None else Inside(seen.foreground, BLUR)
        if seen.foreground is not None and not seen.foreground.any():
            maps.append(large)  # belt alone: nothing here speaks for or against the part
            continue
        for branch in branches:
            raw = seen.maps.get(branch.name)
            if raw is None:
                continue
            baseline = baselines.get(branch.name)
            if baseline is not None:
                raw = baseline.apply(raw, index)
            if branch.reduce is Reduce.MAX and inside is not None:
                raw = inside.cut(raw)
            if inside is None or branch.reduce is Reduce.MAX:
                large[branch.name] = enlarge(raw, reduce=branch.reduce)
            else:
                large[branch.name] = inside.enlarge(raw)
            score = float(raw.max()) if branch.reduce is Reduce.MAX else top_mean(large[branch.name])
            scores[branch.name] = max(score, scores.get(branch.name, -math.inf))
        maps.append(large)
    missing = [branch.name for branch in branches if branch.name not in scores]
    if missing:
        raise NoReading(f"no tile could be scored by {', '.join(missing)}: too little of the frame was read")
    return Measured(scores, maps, tiles)


def log_sum_exp(values: Sequence[float]) -> float:
    """log(sum(exp(v))), in the order given."""
    highest = max(values)
    return highest + math.log(sum(math.exp(value - highest) for value in values))


def calibrated(scores: Mapping[str, float], scales: Mapping[str, Scale]) -> dict[str, float]:
    """Each branch's image score in standard deviations of its normals."""
    return {name: (score - scales[name].mean) / scales[name].deviation for name, score in scores.items()}


def fuse_maps(
    maps: Mapping[str, Image],
    scales: Mapping[str, Scale],
    *,
    empty: float,
    wide: Collection[str] = (),
) -> Image:
    """Log-sum-exp of the calibrated maps of one tile; ``empty`` where no branch saw it.

    What a ``wide`` branch says beyond the knee counts half: it is carried far beyond the defect, and would
    drown the branches that see where it is. Image scores are not touched by it.
    """
    out: Image | None = None
    for name, one in maps.items():
        scale = scales[name]
        z = (one - np.float32(scale.mean)) * np.float32(1.0 / scale.deviation)
        if name in wide:
            np.minimum(z, np.float32(0.5) * (z + np.float32(KNEE)), out=z)
        if out is None:
            out = z
            continue
        # logaddexp of two: the larger plus a correction that never overflows.
        gap = np.abs(out - z)
        np.negative(gap, out=gap)
        np.maximum(out, z, out=out)
        out += np.log1p(np.exp(gap))
    return np.full((MAP_SIDE, MAP_SIDE), empty, np.float32) if out is None else out

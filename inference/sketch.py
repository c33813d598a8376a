"""What good parts usually look like: a sketch of their scores, and how bright and how far away they are.

Kept in the bundle beside the thresholds, so that a station that slowly changes can be told from one that does
not. Nothing is decided by it. Old bundles have none of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from inference.calibration import Components, group_weights
from schemas.verdict import Mode

QUANTILES = 20
"""A sketch has so many bins, each with the same share of the normals."""
PIXELS = 4096
"""About as many pixels tell how bright an image is, or how far away what it shows."""
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True, slots=True)
class ScoreSketch:
    """Scores of normals that nothing was fitted on: those the limits were set by.

    Attributes:
        edges: their quantiles in ascending order, 0 %, 5 %, ... 100 %, each lot weighing the same; of the
            scores that are not above it.
        count, groups: frames and lots behind it.
        effective: how many independent frames would know the middle score as well; frames of one lot
            resemble each other, so that it is fewer than ``count``.
        threshold: the reject limit as it was taught; higher scores are rejects, whatever was set since.
    """

    edges: tuple[float, ...]
    count: int
    groups: int
    effective: float
    threshold: float

    @classmethod
    def of(cls, scores: Sequence[float], groups: Sequence[str], threshold: float) -> Self:
        """Of at least one score; the lowest is never above the threshold that is kept."""
        values = np.asarray(scores, np.float64)
        threshold = max(float(threshold), float(values.min()))
        kept = values <= threshold
        names = [name for name, keep in zip(groups, kept, strict=True) if keep]
        values = values[kept]
        edges = _quantiles(values, group_weights(names), np.linspace(0.0, 1.0, QUANTILES + 1))
        # One origin for every product: only the ratio of two variances is asked for.
        logs = np.log(np.maximum(values - values.min(), 0.0) + max(float(np.ptp(values)), 1e-9))
        return cls(tuple(map(float, edges)), len(values), len(set(names)), _effective(logs, names), threshold)

    def to_map(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "edges": [float(f"{edge:.6g}") for edge in self.edges],
            "count": self.count,
            "groups": self.groups,
            "effective": round(self.effective, 2),
            "threshold": self.threshold,
        }

    @classmethod
    def from_map(cls, values: object) -> Self | None:
        """Back from :meth:`to_map`; None where there is none, or one of another version."""
        if not isinstance(values, Mapping):
            return None
        edges, effective = values.get("edges"), _number(values.get("effective"))
        threshold = _number(values.get("threshold"))
        count, groups = _number(values.get("count")), _number(values.get("groups"))
        if not isinstance(edges, list) or len(edges) < 3 or not count or not groups:
            return None
        numbers = [number for edge in edges if (number := _number(edge)) is not None]
        if len(numbers) != len(edges) or sorted(numbers) != numbers:
            return None
        if effective is None or effective <= 0 or threshold is None:
            return None
        return cls(tuple(numbers), int(count), int(groups), effective, threshold)


@dataclass(frozen=True, slots=True)
class Level:
    """Mean and spread of one number over normal frames, each lot weighing the same.

    Attributes:
        mean, deviation: of a new frame of a new lot.
        count, groups: frames and lots behind it.
        effective: how many independent frames would know the mean as well.
    """

    mean: float
    deviation: float
    count: int
    groups: int
    effective: float

    @classmethod
    def of(cls, values: Sequence[float], groups: Sequence[str]) -> Self | None:
        """None without values."""
        if not values:
            return None
        array = np.asarray(values, np.float64)
        found = Components.of(array, groups)
        deviation = math.sqrt(found.variance)
        return cls(found.mean, deviation, len(array), len(set(groups)), _effective(array, groups))

    def to_map(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        names = ("mean", "deviation", "effective")
        values: dict[str, Any] = {name: float(f"{getattr(self, name):.8g}") for name in names}
        return values | {"count": self.count, "groups": self.groups}

    @classmethod
    def from_map(cls, values: object) -> Self | None:
        """Back from :meth:`to_map`; None where there is none, or one of another version."""
        if not isinstance(values, Mapping):
            return None
        names = ("mean", "deviation", "count", "groups", "effective")
        found = [number for name in names if (number := _number(values.get(name))) is not None]
        if len(found) != len(names) or found[1] < 0 or found[4] <= 0:
            return None
        return cls(found[0], found[1], int(found[2]), int(found[3]), found[4])


@dataclass(frozen=True, slots=True)
class Sketches:
    """What a bundle knows of good parts; what it does not know is left out.

    Attributes:
        scores: of the rule that decides, by mode.
        brightness: mean luminance of colour frames, 0 to 255.
        distance: median reading of depth frames, counts.
    """

    scores: Mapping[Mode, ScoreSketch] = field(default_factory=dict)
    brightness: Level | None = None
    distance: Level | None = None

    @classmethod
    def from_maps(cls, sketches: object, levels: object) -> Self:
        """From the manifest's tables of sketches (of one rule) and of levels; never raises."""
        scores, found = {}, levels if isinstance(levels, Mapping) else {}
        for mode in Mode:
            sketch = ScoreSketch.from_map(sketches.get(mode.value) if isinstance(sketches, Mapping) else None)
            if sketch is not None:
                scores[mode] = sketch
        return cls(scores, *(Level.from_map(found.get(name)) for name in ("brightness", "distance")))


def brightness(rgb: NDArray[np.uint8]) -> float:
    """Mean luminance of a colour image, 0 to 255, from a regular choice of pixels."""
    step = max(1, int(np.sqrt(rgb.shape[0] * rgb.shape[1] / PIXELS)))
    return float(rgb[step // 2 :: step, step // 2 :: step].mean(axis=(0, 1), dtype=np.float32) @ _LUMA)


def readings(depth: NDArray[np.uint16]) -> tuple[float, float | None]:
    """Share of valid readings, and their median in counts, from a regular choice of pixels."""
    step = max(1, int(np.sqrt(depth.size / PIXELS)))
    chosen = depth[step // 2 :: step, step // 2 :: step]
    valid = chosen[chosen > 0]
    return valid.size / max(1, chosen.size), float(np.median(valid)) if valid.size else None


def _quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    order = np.argsort(values, kind="stable")
    # The middle of each value's weight: the median of an even number of like weights is between two of them.
    middle = np.cumsum(weights[order]) - weights[order] / 2
    return np.asarray(np.interp(shares, middle, values[order]))


def _effective(values: NDArray[np.float64], groups: Sequence[str]) -> float:
    found = Components.of(values, groups)
    if found.of_mean <= 0:
        return float(len(values))
    return float(min(max(found.variance / found.of_mean, 1.0), len(values)))


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)

"""Normals' scores to one scale per branch, and to one threshold per mode.

Frames of one lot or recording are not independent. Each group has the same weight, and the degrees of freedom
are counted in groups: fifteen tiles of three frames are three observations, not fifteen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from inference.errors import BundleError

MIN_GROUPS = 3
"""Fewer groups say nothing about how groups differ."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of a branch's image scores on normals."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """The score that a share ``false_reject`` of new normal frames is expected to exceed.

    Attributes:
        value: on the fused scale of the mode.
        low, high: its 95 % interval, from the uncertainty of mean and deviation with so few groups.
        mean, deviation: of log(score + shift) over normals, each group weighing the same.
        shift: what is added to a score before its logarithm.
        groups, frames: how many normals it rests on.
    """

    value: float
    low: float
    high: float
    mean: float
    deviation: float
    shift: float
    groups: int
    frames: int
    false_reject: float

    def to_map(self) -> dict[str, float | int]:
        """Plain values for the manifest."""
        return asdict(self)

    @classmethod
    def from_map(cls, values: Mapping[str, object]) -> Threshold:
        """Back from :meth:`to_map`. Raises BundleError: a value is missing or no finite number."""
        names = [name for name in cls.__slots__ if name not in ("groups", "frames")]
        out: dict[str, float] = {}
        for name in names:
            value = values.get(name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
                raise BundleError(f"threshold.{name} of the bundle is {value!r}: expected a finite number")
            out[name] = float(value)
        groups, frames = values.get("groups"), values.get("frames")
        if type(groups) is not int or type(frames) is not int:
            raise BundleError("threshold.groups and threshold.frames of the bundle: expected integers")
        return cls(**out, groups=groups, frames=frames)


def group_weights(groups: Sequence[str]) -> NDArray[np.float64]:
    """(n,) weights that sum to one, the same total for each group."""
    _, inverse, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (counts[inverse] * len(counts)))


def weighted(values: Sequence[float], groups: Sequence[str]) -> tuple[float, float]:
    """Mean and standard deviation with equal weight per group, n - 1 counted in groups.

    The variance holds what differs within groups as well as between them, since a new frame differs in both.
    """
    x, w = np.asarray(values, np.float64), group_weights(groups)
    mean = float(w @ x)
    count = len(set(groups))
    variance = float(w @ np.square(x - mean)) * count / max(count - 1, 1)
    return mean, math.sqrt(variance)


def scale_of(values: Sequence[float], groups: Sequence[str]) -> Scale:
    """The scale of a branch from its image scores on held-out normals."""
    mean, deviation = weighted(values, groups)
    # Normals without any spread are possible only where a branch sees nothing; it must not divide by zero.
    return Scale(mean, max(deviation, 1e-3 * abs(mean), 1e-6))


def threshold_of(
    scores: Sequence[float], groups: Sequence[str], *, shift: float, false_reject: float
) -> Threshold:
    """Student's prediction limit on log scores: exp(mean + t(1 - p, n - 1) sd sqrt(1 + 1/n)) - shift.

    With so few normals a tail fitted to the scores (generalised Pareto, empirical quantile) misses far more.
    The interval takes the standard error of a normal quantile, sd sqrt(1/n + t^2 / (2 (n - 1))).
    """
    logs = [math.log(max(score + shift, 1e-6)) for score in scores]
    mean, deviation = weighted(logs, groups)
    n = len(set(groups))
    reach = float(special.stdtrit(n - 1, 1.0 - false_reject))
    limit = mean + reach * deviation * math.sqrt(1.0 + 1.0 / n)
    error = 1.96 * deviation * math.sqrt(1.0 / n + reach**2 / (2.0 * (n - 1)))
    value, low, high = (math.exp(one) - shift for one in (limit, limit - error, limit + error))
    return Threshold(value, low, high, mean, deviation, shift, n, len(scores), false_reject)

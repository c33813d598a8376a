"""Normals' scores to one scale per branch, and to one threshold per mode.

Frames of one lot or recording are not independent: fifteen frames of three lots know three lots. How far a
new frame may be off is the sum of what lots differ by and of what frames of a lot differ by; each is known
as well as there are lots, or frames, to know it by, and the sum has degrees of freedom accordingly
(Satterthwaite 1946).

Scores of good frames are skewed, since each is a maximum of many. They are made even by a logarithm whose
origin is found from their skewness (three-parameter lognormal, by moments); with few frames that is mostly
the skewness of a Gumbel distribution, the limit of such maxima.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from inference.errors import BundleError

MIN_GROUPS = 3
"""Fewer groups say nothing about how groups differ."""

LARGEST = 1e9
"""No score of a part comes near it, so no threshold or scale that teaching found can lie beyond it."""

GUMBEL_SKEWNESS = 1.14
_SKEWNESS_FRAMES = 80.0  # so many degrees of freedom weigh as much as what theory says beforehand
_SKEWNESS = (0.3, 3.0)
_MOST_FREEDOM = 3.0  # per degree between groups: the next lot is odd more often than a normal law says
_LEAST = 0.05  # of the middle score's distance from the origin: a lower one has no logarithm worth having


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
        mean, deviation: of log(score + shift) over normals, each group weighing the same; the deviation is
            that of a new frame of a new group.
        shift: what is added to a score before its logarithm.
        freedom: degrees of freedom of the deviation, from the number of groups less one up to that of frames.
        groups, frames: how many normals it rests on.
    """

    value: float
    low: float
    high: float
    mean: float
    deviation: float
    shift: float
    freedom: float
    groups: int
    frames: int
    false_reject: float

    def to_map(self) -> dict[str, float | int]:
        """Plain values for the manifest."""
        return asdict(self)

    @classmethod
    def from_map(cls, values: Mapping[str, object]) -> Threshold:
        """Back from :meth:`to_map`.

        Raises:
            BundleError: a value is missing, no finite number, or one that teaching cannot have written. A
                threshold beyond any score would pass every part.
        """
        names = [name for name in cls.__slots__ if name not in ("groups", "frames")]
        out: dict[str, float] = {}
        for name in names:
            value = values.get(name)
            # The upper end of an interval of few lots may be anything.
            most = sys.float_info.max if name in ("low", "high") else LARGEST
            if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= most:
                raise BundleError(
                    f"threshold.{name} of the bundle is {_short(value)}: expected a finite number of at most "
                    f"{most:g}; teach the product again"
                )
            out[name] = float(value)
        groups, frames = values.get("groups"), values.get("frames")
        if type(groups) is not int or type(frames) is not int or not 1 <= groups <= frames:
            raise BundleError("threshold.groups and threshold.frames of the bundle: expected counts")
        room = 1e-6 * (1.0 + abs(out["value"]))
        if not out["low"] - room <= out["value"] <= out["high"] + room:
            raise BundleError(
                f"threshold.value of the bundle is {out['value']:g}, outside its own interval "
                f"{out['low']:g} to {out['high']:g}: somebody changed it; teach the product again"
            )
        for name in ("deviation", "freedom"):
            if out[name] < 0:
                raise BundleError(f"threshold.{name} of the bundle is {out[name]:g}: expected 0 or more")
        return cls(**out, groups=groups, frames=frames)


def _short(value: object) -> str:
    words = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"
    return words if len(words) <= 40 else words[:37] + "..."


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


@dataclass(frozen=True, slots=True)
class Components:
    """What a new frame of a new group varies by, from a one-way layout of unequal groups.

    Attributes:
        mean: mean of the groups' means.
        variance: of a new frame: between groups plus within groups.
        of_mean: variance of ``mean``.
        freedom: degrees of freedom of ``variance``, at most three for each between groups: however many
            frames a lot has, lots that were not seen stay unseen.
    """

    mean: float
    variance: float
    of_mean: float
    freedom: float

    @classmethod
    def of(cls, values: NDArray[np.float64], groups: Sequence[str]) -> Self:
        """Analysis of variance; groups never count as differing by less than their frames do."""
        _, inverse, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
        n, frames = len(counts), len(values)
        means = np.bincount(inverse, values) / counts
        between_freedom, within_freedom = max(n - 1, 1), frames - n
        # Mean size of a group, as it weighs in the mean square between groups of unequal size.
        size = (frames - float(np.square(counts).sum()) / frames) / between_freedom if n > 1 else 1.0
        between = float(counts @ np.square(means - values.mean())) / between_freedom
        within = 0.0
        if within_freedom > 0:
            within = float(np.square(values - means[inverse]).sum()) / within_freedom
        between = max(between, within)
        # between = within + size * (variance between groups), so the sum of both variances is this:
        parts = (between / size, within * (1.0 - 1.0 / size))
        variance = sum(parts)
        doubt = parts[0] ** 2 / between_freedom + parts[1] ** 2 / max(within_freedom, 1)
        freedom = variance**2 / doubt if doubt > 0 else float(between_freedom)
        freedom = min(freedom, _MOST_FREEDOM * between_freedom)
        return cls(float(means.mean()), variance, between / (size * n), freedom)


def origin(values: NDArray[np.float64], groups: Sequence[str]) -> float:
    """The shift that makes log(value + shift) even: a lognormal's, by mean, spread and skewness.

    A lognormal of skewness k has exp(sigma^2) = w with (w + 2) sqrt(w - 1) = k, and its mean lies
    sd / sqrt(w - 1) above its origin. The normals' own skewness counts by the freedom of their spread.
    """
    weights = group_weights(groups)
    mean = float(weights @ values)
    deviation = math.sqrt(float(weights @ np.square(values - mean)))
    deviation = max(deviation, 1e-6 * max(1.0, abs(mean)))
    own = float(weights @ ((values - mean) / deviation) ** 3)
    freedom = Components.of(values, groups).freedom
    skewness = (freedom * own + _SKEWNESS_FRAMES * GUMBEL_SKEWNESS) / (freedom + _SKEWNESS_FRAMES)
    skewness = min(max(skewness, _SKEWNESS[0]), _SKEWNESS[1])
    half = 1.0 + skewness**2 / 2.0
    root = skewness * math.sqrt(1.0 + skewness**2 / 4.0)
    w = math.cbrt(half + root) + math.cbrt(half - root) - 1.0
    return deviation / math.sqrt(w - 1.0) - mean


def threshold_of(scores: Sequence[float], groups: Sequence[str], *, false_reject: float) -> Threshold:
    """Prediction limit for a new frame of a new group, on log scores: see the module.

    exp(mean + t(1 - p, freedom) sqrt(variance + variance of the mean)) - shift; with one frame a group that
    is Student's mean + t(1 - p, n - 1) sd sqrt(1 + 1/n). The interval takes the standard error of a normal
    quantile, sqrt(variance of the mean + variance t^2 / (2 freedom)).

    Args:
        scores: of normals that nothing was fitted on.
        groups: of each.
        false_reject: p, the share of new normals that may be above it.
    """
    values = np.asarray(scores, np.float64)
    shift = origin(values, groups)
    floor = max(_LEAST * (float(np.median(values)) + shift), 1e-6)
    logs = np.log(np.maximum(values + shift, floor))
    found = Components.of(logs, groups)
    reach = float(special.stdtrit(found.freedom, 1.0 - false_reject))
    limit = found.mean + reach * math.sqrt(found.variance + found.of_mean)
    error = 1.96 * math.sqrt(found.of_mean + found.variance * reach**2 / (2.0 * found.freedom))
    value, low, high = (math.exp(one) - shift for one in (limit, limit - error, limit + error))
    return Threshold(
        value=value,
        low=low,
        high=high,
        mean=found.mean,
        deviation=math.sqrt(found.variance),
        shift=shift,
        freedom=found.freedom,
        groups=len(set(groups)),
        frames=len(scores),
        false_reject=false_reject,
    )

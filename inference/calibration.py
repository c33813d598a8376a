"""Normals' scores to one scale per branch, and to two limits per mode: what is passed, what is rejected.

Frames of one lot or recording are not independent: fifteen frames of three lots know three lots. How far a
new frame may be off is the sum of what lots differ by and of what frames of a lot differ by; each is known
as well as there are lots, or frames, to know it by, and the sum has degrees of freedom accordingly
(Satterthwaite 1946).

A PASS rests on what good parts were seen to do, and on what their law makes likely: it takes both. A REJECT
takes a score that no good part was seen to have and that their law makes unlikely as well. Between the two a
person looks. A law fitted on few lots reaches far, and there what was seen decides what passes; where one odd
good part lies far out, the law does.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from inference.errors import BundleError

MIN_GROUPS = 3
"""Fewer groups say nothing about how groups differ."""

LARGEST = 1e9
"""No score of a part comes near it, so no threshold or scale that teaching found can lie beyond it."""

_MOST_FREEDOM = 3.0
"""Degrees of freedom per degree between groups: the next lot is odd more often than a normal law says."""
TAIL = 0.3
"""Limits keep the scores of this share of the normals, the highest: on the others no limit depends."""
_HIGHEST = 0.2
"""Share of the normals that say how fast their scores thin out."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of a branch's image scores on normals."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """PASS up to ``passes``, REJECT above ``rejects``, REVIEW between: of a mode.

    Attributes:
        passes: up to it a part passes; never above ``rejects``.
        rejects: above it a part is rejected.
        reach: what a new good part of a new lot stays below in all but a share ``false_reject`` of cases, by
            the law that was fitted to the normals.
        low, high: 95 % interval of ``reach``, from the uncertainty of mean and deviation with so few groups.
        seen: the highest score of a normal.
        promise: the largest share of good parts of a new lot that can be above ``passes``, whatever law their
            scores follow: at least 1 / (groups + 1).
        mean, deviation: of scores of normals, each group weighing the same; the deviation is that of a new
            frame of a new group.
        freedom: degrees of freedom of the deviation, from the number of groups less one up to that of frames.
        groups, frames: how many normals it rests on.
        false_reject, review_share: as asked for.
        tail: (score, weight) of the highest normals, the highest first; of all normals, weights sum to one.
    """

    passes: float
    rejects: float
    reach: float
    low: float
    high: float
    seen: float
    promise: float
    mean: float
    deviation: float
    freedom: float
    groups: int
    frames: int
    false_reject: float
    review_share: float
    tail: tuple[tuple[float, float], ...] = ()

    @classmethod
    def single(cls, value: float) -> Limits:
        """One limit for both, as in bundles of before there were two; what it rests on is not known."""
        return cls(
            passes=value,
            rejects=value,
            reach=value,
            low=value,
            high=value,
            seen=value,
            promise=1.0,
            mean=0.0,
            deviation=0.0,
            freedom=0.0,
            groups=0,
            frames=0,
            false_reject=0.0,
            review_share=0.0,
        )

    def confirmed(self, scores: Sequence[float]) -> Limits:
        """The limits once a person has said of parts with these scores that they are good.

        Such a part was seen and is good, so the pass limit may reach up to it although the law finds it
        unlikely. It counts as one frame, not as one lot. What was rejected is not moved by it: scores above
        ``rejects`` are left out.
        """
        within = [score for score in scores if score <= self.rejects]
        if not within or not self.groups:
            return self
        passes, promise = self._pass_limit(within)
        # A confirmed part takes no part that passed before back into review.
        return replace(self, passes=max(passes, self.passes), promise=promise)

    def _pass_limit(self, confirmed: Sequence[float] = ()) -> tuple[float, float]:
        """``passes`` and ``promise``: see :func:`limits_of`."""
        lots, each = self.groups, self.groups / self.frames
        counted = sorted(
            [*((score, weight * lots) for score, weight in self.tail), *((one, each) for one in confirmed)],
            reverse=True,
        )
        total = lots + each * len(confirmed) + 1.0
        asked = self.false_reject + self.review_share
        limit, above = counted[0][0], 0.0
        # One way through: a worker does this between two batches, and thousands of parts may be confirmed.
        for score, alike in groupby(counted, key=itemgetter(0)):
            if (1.0 + above) / total > asked:
                break
            limit = score
            for _, weight in alike:
                above += weight
        limit = min(limit, max([self.reach, *confirmed]))
        return limit, (1.0 + sum(weight for score, weight in counted if score > limit)) / total

    def to_map(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self) | {"tail": [list(one) for one in self.tail]}

    @classmethod
    def from_map(cls, values: Mapping[str, object]) -> Limits:
        """Back from :meth:`to_map`, or from a bundle with one threshold, which is both limits.

        Raises:
            BundleError: a value is missing, no finite number, or one that teaching cannot have written. A
                limit beyond any score would pass every part.
        """
        if "value" in values and "passes" not in values:
            value, low, high = (_finite(values, name) for name in ("value", "low", "high"))
            _inside("value", value, low, high)
            return cls.single(value)
        whole = ("groups", "frames")
        numbers = {name: _finite(values, name) for name in cls.__slots__ if name not in (*whole, "tail")}
        counts = [values.get(name) for name in whole]
        groups, frames = counts
        if type(groups) is not int or type(frames) is not int or not 1 <= groups <= frames:
            raise BundleError("limits.groups and limits.frames of the bundle: expected counts")
        for name in ("deviation", "freedom"):
            if numbers[name] < 0:
                raise BundleError(f"limits.{name} of the bundle is {numbers[name]:g}: expected 0 or more")
        _inside("reach", numbers["reach"], numbers["low"], numbers["high"])
        tail = values.get("tail")
        if not isinstance(tail, list) or not all(isinstance(one, list) and len(one) == 2 for one in tail):
            raise BundleError("limits.tail of the bundle: expected pairs of score and weight")
        pairs = tuple(
            (_finite({"tail": score}, "tail"), _finite({"tail": weight}, "tail")) for score, weight in tail
        )
        most = max(numbers["reach"], numbers["seen"])
        if not numbers["passes"] <= min(most, numbers["rejects"]):
            raise BundleError(
                f"limits of the bundle: parts pass up to {numbers['passes']:g} and are rejected above "
                f"{numbers['rejects']:g}, where good parts reach {most:g}: somebody changed them; teach the "
                "product again"
            )
        return cls(**numbers, groups=groups, frames=frames, tail=pairs)


def _finite(values: Mapping[str, object], name: str) -> float:
    value = values.get(name)
    # The upper end of an interval of few lots may be anything.
    most = sys.float_info.max if name in ("low", "high") else LARGEST
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= most:
        raise BundleError(
            f"limits.{name} of the bundle is {_short(value)}: expected a finite number of at most {most:g}; "
            "teach the product again"
        )
    return float(value)


def _inside(name: str, value: float, low: float, high: float) -> None:
    room = 1e-6 * (1.0 + abs(value))
    if not low - room <= value <= high + room:
        raise BundleError(
            f"limits.{name} of the bundle is {value:g}, outside its own interval {low:g} to {high:g}: "
            "somebody changed it; teach the product again"
        )


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


def _thinning(values: NDArray[np.float64], weights: NDArray[np.float64], share: float) -> float:
    """Above what a share of new scores lies, when the highest thin out exponentially.

    The mean by which ``above`` scores exceed the one below them is known as well as there are such scores: a
    further one exceeds it by x with probability (1 + x / (above mean))^-above, which is for an exponential
    law what Student's is for a normal one.

    Args:
        values: in descending order.
        weights: of each; they sum to one.
    """
    above = int(np.searchsorted(np.cumsum(weights), _HIGHEST, side="right"))
    if above < 2 or above >= len(values):
        return float(values[0])
    base, kept = float(values[above]), weights[:above]
    mean = float(kept @ (values[:above] - base)) / float(kept.sum())
    return base + above * mean * (math.pow(max(float(kept.sum()) / share, 1.0), 1.0 / above) - 1.0)


def limits_of(
    scores: Sequence[float], groups: Sequence[str], *, false_reject: float, review_share: float
) -> Limits:
    """The two limits, from scores of normals that nothing was fitted on.

    ``reach`` is a prediction limit for a new frame of a new group, mean + t(1 - false_reject, freedom)
    sqrt(variance + variance of the mean); with one frame a group that is Student's
    mean + t(1 - p, n - 1) sd sqrt(1 + 1/n). Its interval takes the standard error of a normal quantile,
    sqrt(variance of the mean + variance t^2 / (2 freedom)).

    The pass limit is the lowest score of a normal such that at most ``false_reject + review_share`` of the
    good parts of a new lot are above it, whatever law they follow, so long as lots can change places: with K
    lots, (1 + K w) / (K + 1) are, w being the weight of the normals above it, each lot weighing the same
    (hierarchical conformal prediction: Lee, Barber, Willett, "Distribution-free inference with hierarchical
    data", 2023). Fewer than 1 / share lots cannot promise so little: then it is the highest score that was
    seen, and ``promise`` says what can be promised. It is never above ``reach``.

    The reject limit is the highest of three: ``reach``, ``seen``, and where the highest fifth of the scores,
    thinning out exponentially, leave a share ``false_reject`` above: maxima are skewed.

    Args:
        scores: of normals that nothing was fitted on; at least one.
        groups: lot or recording of each.
        false_reject: share of new normals that may be above ``reach``.
        review_share: further share of new normals that may be above ``passes``.
    """
    values = np.asarray(scores, np.float64)
    found = Components.of(values, groups)
    step = float(special.stdtrit(found.freedom, 1.0 - false_reject))
    reach = found.mean + step * math.sqrt(found.variance + found.of_mean)
    error = 1.96 * math.sqrt(found.of_mean + found.variance * step**2 / (2.0 * found.freedom))
    order = np.argsort(-values, kind="stable")
    weights = group_weights(groups)[order]
    # The first that is kept although the share is full closes it: a limit may lie there.
    kept = int(np.searchsorted(np.cumsum(weights), TAIL)) + 1
    highest = zip(values[order][:kept].tolist(), weights[:kept].tolist(), strict=True)
    limits = Limits(
        passes=reach,
        rejects=max(reach, float(values.max()), _thinning(values[order], weights, false_reject)),
        reach=reach,
        low=reach - error,
        high=reach + error,
        seen=float(values.max()),
        promise=1.0,
        mean=found.mean,
        deviation=math.sqrt(found.variance),
        freedom=found.freedom,
        groups=len(set(groups)),
        frames=len(scores),
        false_reject=false_reject,
        review_share=review_share,
        tail=tuple(highest),
    )
    passes, promise = limits._pass_limit()
    return replace(limits, passes=passes, promise=promise)

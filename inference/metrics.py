"""How well image scores tell defects from good parts, and how sure one can be of it.

AUROC is the probability that a defect scores above a good part, ties counted half (Mann and Whitney). Average
precision and the best F1 take every distinct score as a threshold. Pixel metrics are in ``inference.pixels``.

Intervals are the middle 95 % of a bootstrap over groups, since frames of one lot or recording resemble each
other. A bootstrap of no miss is no miss, however few the defects: for rates, Wilson's score interval (Wilson,
"Probable Inference", JASA 1927) over frames is taken too, and whichever end lies further out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inference.errors import DatasetError, NotFinite

Doubles = NDArray[np.float64]

Z95 = 1.959963984540054
"""Normal quantile of a two-sided interval of 95 %."""


def _finite(values: ArrayLike, what: str) -> Doubles:
    array = np.asarray(values, np.float64).ravel()
    if not np.isfinite(array).all():
        raise NotFinite(f"{what}: {np.count_nonzero(~np.isfinite(array))} of {array.size} are not finite")
    return array


def _both(positive: int, negative: int, what: str) -> None:
    if not positive or not negative:
        raise DatasetError(
            f"{what}: {positive} defective and {negative} good; the test split needs at least one of each"
        )


def _rank_area(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float:
    """P(positive > negative) + P(equal) / 2 over all pairs."""
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left").sum(dtype=np.float64)
    upto = np.searchsorted(order, positive, "right").sum(dtype=np.float64)
    return float((below + upto) / 2 / positive.size / negative.size)


def i_auroc(scores: ArrayLike, defective: ArrayLike) -> float:
    """Image AUROC.

    Args:
        scores: (n,), higher is more defective. defective: (n,) bool.

    Raises:
        NotFinite: a score that is NaN or infinite. DatasetError: one of the two classes is missing.
    """
    values, truth = _finite(scores, "scores"), np.asarray(defective, bool).ravel()
    _both(int(truth.sum()), int((~truth).sum()), "image AUROC")
    return _rank_area(values[truth], values[~truth])


def false_reject_rate(scores: ArrayLike, defective: ArrayLike, threshold: float) -> float:
    """Share of good parts above the threshold. Raises as ``i_auroc``."""
    values, truth = _finite(scores, "scores"), np.asarray(defective, bool).ravel()
    _both(1, int((~truth).sum()), "false-reject rate")
    return float((values[~truth] > threshold).mean())


def miss_rate(scores: ArrayLike, defective: ArrayLike, threshold: float) -> float:
    """Share of defects at or below the threshold. Raises as ``i_auroc``."""
    values, truth = _finite(scores, "scores"), np.asarray(defective, bool).ravel()
    _both(int(truth.sum()), 1, "miss rate")
    return float((values[truth] <= threshold).mean())


def resample(groups: Sequence[str], defective: ArrayLike, times: int, seed: int) -> NDArray[np.int64]:
    """How often each item is in each of ``times`` bootstrap sets, (times, n).

    Whole groups are drawn with replacement, since items of one group are not independent; groups with defects
    and groups without are drawn apart, so that a set rarely lacks one of the two. With fewer than two groups
    there is nothing to draw, and the result has no rows.
    """
    truth = np.asarray(defective, bool)
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if names.size < 2 or times < 1:
        return np.zeros((0, truth.size), np.int64)
    with_defect = np.bincount(member, truth, names.size) > 0
    rng = np.random.default_rng(seed)
    counts = np.zeros((times, names.size), np.int64)
    for stratum in (np.flatnonzero(with_defect), np.flatnonzero(~with_defect)):
        if stratum.size:
            counts[:, stratum] = rng.multinomial(stratum.size, np.full(stratum.size, 1 / stratum.size), times)
    return np.asarray(counts[:, member], np.int64)


def resampled_auroc(scores: ArrayLike, defective: ArrayLike, weights: NDArray[np.int64]) -> Doubles:
    """Image AUROC of each bootstrap set, (times,); NaN where a set lacks one of the two classes."""
    values, truth = _finite(scores, "scores"), np.asarray(defective, bool)
    bad, good = values[truth][:, None], values[~truth][None]
    wins = (bad > good) + 0.5 * (bad == good)
    rows = weights.astype(np.float64)
    of_bad, of_good = rows[:, truth], rows[:, ~truth]
    pairs = of_bad.sum(1) * of_good.sum(1)
    total = ((of_bad @ wins) * of_good).sum(1)
    return _ratio(total, pairs)


def resampled_share(hits: ArrayLike, weights: NDArray[np.int64]) -> Doubles:
    """Weighted share of ``hits`` (n,) bool in each bootstrap set, (times,); NaN where a set is empty."""
    rows = weights.astype(np.float64)
    return _ratio(rows @ np.asarray(hits, np.float64), rows.sum(1))


def average_precision(scores: ArrayLike, defective: ArrayLike) -> float:
    """Sum of precision over the steps of recall, equal scores being one step. Raises as ``i_auroc``."""
    values, truth = _finite(scores, "scores"), np.asarray(defective, bool).ravel()
    _both(int(truth.sum()), int((~truth).sum()), "average precision")
    return float(resampled_precision(values, truth, np.ones((1, truth.size), np.int64))[0][0])


def f1_max(scores: ArrayLike, defective: ArrayLike) -> float:
    """The best F1 of "a defect from this score on" over all scores. Raises as ``i_auroc``."""
    values, truth = _finite(scores, "scores"), np.asarray(defective, bool).ravel()
    _both(int(truth.sum()), int((~truth).sum()), "F1")
    return float(resampled_precision(values, truth, np.ones((1, truth.size), np.int64))[1][0])


def resampled_precision(
    scores: ArrayLike, defective: ArrayLike, weights: NDArray[np.int64]
) -> tuple[Doubles, Doubles]:
    """(average precision, best F1) of each bootstrap set, (times,); NaN where a set lacks a class."""
    values, truth = _finite(scores, "scores"), np.asarray(defective, bool)
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.diff(values[order]) != 0, True)
    rows = weights[:, order].astype(np.float64)
    caught = np.cumsum(rows * truth[order], 1)[:, ends]
    taken = np.cumsum(rows, 1)[:, ends]
    known = (caught[:, -1] > 0) & (caught[:, -1] < taken[:, -1])
    caught, taken = caught[known], taken[known]
    total = caught[:, -1:]
    precision = np.divide(caught, taken, out=np.zeros_like(caught), where=taken > 0)
    found = np.full((2, len(rows)), np.nan)
    found[0, known] = (np.diff(caught, axis=1, prepend=0) * precision).sum(1) / total[:, 0]
    found[1, known] = (2 * caught / (taken + total)).max(1)
    return found[0], found[1]


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share. ValueError: ``hits`` of ``of`` is no share."""
    if not 0 <= hits <= of or not of:
        raise ValueError(f"{hits} of {of} is no share")
    share, ratio = hits / of, Z95**2 / of
    centre = (share + ratio / 2) / (1 + ratio)
    half = Z95 * math.sqrt(share * (1 - share) / of + ratio / (4 * of)) / (1 + ratio)
    # Rounding must not push the interval of "none" off 0, nor that of "all" off 1.
    return (0.0 if not hits else max(0.0, centre - half)), (1.0 if hits == of else min(1.0, centre + half))


def share_interval(hits: ArrayLike, weights: NDArray[np.int64]) -> tuple[float, float]:
    """Of the share of ``hits`` (n,) bool: Wilson's interval over frames or the bootstrap's over groups,
    whichever end lies further out.

    Args:
        weights: (times, n) of ``resample``; without rows, Wilson's alone.
    """
    found = np.asarray(hits, bool)
    low, high = wilson(int(found.sum()), found.size)
    spread = interval(resampled_share(found, weights))
    return (low, high) if spread is None else (min(low, spread[0]), max(high, spread[1]))


def _ratio(part: Doubles, whole: Doubles) -> Doubles:
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def interval(values: Doubles, level: float = 0.95) -> tuple[float, float] | None:
    """The middle ``level`` of bootstrap values, NaN left out; None where there are none."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

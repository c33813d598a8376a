"""How well scores and maps tell defects from good parts.

AUROC is the probability that a defect scores above a good part, ties counted half (Mann and Whitney). AUPRO
is the area under the curve of mean component coverage over false-positive rate up to a limit, divided by the
limit (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021); here over every distinct score
rather than over a list of thresholds, so that it is exact.

A resampling of a thousand sets would sort the same pixels a thousand times. ``PixelTable`` counts them once,
per image, in bins that are fine where the curve is steep: intervals come from it, the values are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from inference.errors import DatasetError, NotFinite

Doubles = NDArray[np.float64]
Maps = Sequence[NDArray[np.float32]]
Masks = Sequence[NDArray[np.bool_]]

PRO_LIMIT = 0.30
"""The usual limit of the false-positive rate for AUPRO."""


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


def components(mask: NDArray[np.bool_]) -> tuple[int, NDArray[np.int32]]:
    """(count, (H, W) labels from 1) of the 8-connected components of a mask; 0 is background."""
    count, labels = cv2.connectedComponents(np.ascontiguousarray(mask, np.uint8), connectivity=8)
    return count - 1, np.asarray(labels, np.int32)


@dataclass(frozen=True, slots=True)
class _Pixels:
    """All pixels of a set. ``weight`` of a defect pixel is 1 / (pixels of its component)."""

    good: NDArray[np.float32]
    bad: NDArray[np.float32]
    weight: Doubles
    parts: int


def _pixels(maps: Maps, masks: Masks) -> _Pixels:
    if len(maps) != len(masks):
        raise ValueError(f"{len(maps)} maps and {len(masks)} masks")
    good, bad, weight, parts = [], [], [], 0
    for number, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        if values.shape != mask.shape:
            raise ValueError(f"map {number} is {values.shape} and its mask {mask.shape}")
        if not np.isfinite(values).all():
            raise NotFinite(f"map {number}: holds values that are not finite")
        if not mask.any():
            good.append(values.ravel())
            continue
        count, labels = components(mask)
        inside = labels[mask]
        good.append(values[~mask])
        bad.append(values[mask])
        weight.append((1 / np.bincount(inside, minlength=count + 1).clip(1))[inside])
        parts += count
    _both(parts, sum(chunk.size for chunk in good), "pixel metrics (defect regions and good pixels)")
    return _Pixels(np.concatenate(good), np.concatenate(bad), np.concatenate(weight), parts)


def p_auroc(maps: Maps, masks: Masks) -> float:
    """Pixel AUROC over all pixels of all images, exact with ties.

    Args:
        maps: (H, W) float each, higher is more defective. masks: (H, W) bool each, True = defect.

    Raises:
        NotFinite, DatasetError: as ``i_auroc``.
    """
    pixels = _pixels(maps, masks)
    return _rank_area(pixels.bad, pixels.good)


def aupro(maps: Maps, masks: Masks, limit: float = PRO_LIMIT) -> float:
    """Area under the per-region-overlap curve up to a false-positive rate of ``limit``, divided by ``limit``.

    Every distinct score is a threshold; equal scores pass together, joined by a straight line.

    Args:
        maps, masks: as ``p_auroc``. limit: in (0, 1].

    Raises:
        NotFinite, DatasetError: as ``i_auroc``.
    """
    return _pro_area(_pixels(maps, masks), limit)


def pixel_metrics(maps: Maps, masks: Masks, limit: float = PRO_LIMIT) -> tuple[float, float]:
    """(pixel AUROC, AUPRO) in one pass over the pixels. Raises as ``i_auroc``."""
    pixels = _pixels(maps, masks)
    pixels.good.sort()
    return _rank_area(pixels.bad, pixels.good), _pro_area(pixels, limit)


def _pro_area(pixels: _Pixels, limit: float) -> float:
    if not 0 < limit <= 1:
        raise ValueError(f"limit {limit}: use a rate above 0 and at most 1")
    good = np.sort(pixels.good)
    values, group = np.unique(pixels.bad, return_inverse=True)
    gained = np.bincount(group, pixels.weight, values.size)[::-1] / pixels.parts
    values = values[::-1]
    # On the way down, the curve moves right while only good pixels pass, and up (or slanted, with ties) at
    # each score that defect pixels have: its corners are just above and just at those scores.
    above = (good.size - np.searchsorted(good, values, "right")) / good.size
    at = (good.size - np.searchsorted(good, values, "left")) / good.size
    covered = np.cumsum(gained)
    rate = np.concatenate([[0.0], np.stack([above, at], 1).ravel(), [1.0]])
    overlap = np.concatenate([[0.0], np.stack([covered - gained, covered], 1).ravel(), [1.0]])
    return float(_area_to(rate, overlap, limit))


def _area_to(rate: Doubles, overlap: Doubles, limit: float) -> Doubles:
    """Trapezoid area of curves (..., m) of rising ``rate`` up to ``limit``, divided by ``limit``."""
    left, right = rate[..., :-1], rate[..., 1:]
    width = right - left
    inside = np.clip(limit - left, 0, width)
    share = np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
    low, high = overlap[..., :-1], overlap[..., 1:]
    area = (inside * (low + 0.5 * share * (high - low))).sum(-1)
    return np.asarray(area / limit, np.float64)


class PixelTable:
    """Pixels counted per image, for metrics of weighted sets of images.

    Thresholds are at ``bins`` ranks of the good pixels: half of them evenly spaced, half log-spaced towards
    the highest scores, where the curve of AUPRO turns.
    """

    def __init__(self, maps: Maps, masks: Masks, bins: int = 2000) -> None:
        pixels = _pixels(maps, masks)
        good = np.sort(pixels.good)
        even = np.linspace(0, good.size - 1, bins // 2)
        tail = good.size - np.geomspace(1, good.size, bins - bins // 2)
        ranks = np.unique(np.concatenate([even, tail]).astype(np.int64))
        edges = np.unique(good[ranks])
        size = edges.size + 1
        # float64: BLAS multiplies it, and it counts exactly.
        self._good = np.zeros((len(maps), size))
        self._bad = np.zeros((len(maps), size))
        self._cover = np.zeros((len(maps), size))
        self._parts = np.zeros(len(maps))
        for row, (values, mask) in enumerate(zip(maps, masks, strict=True)):
            place = np.searchsorted(edges, values, "right")
            self._good[row] = np.bincount(place[~mask], minlength=size)
            if mask.any():
                count, labels = components(mask)
                inside = labels[mask]
                weight = (1 / np.bincount(inside, minlength=count + 1).clip(1))[inside]
                self._bad[row] = np.bincount(place[mask], minlength=size)
                self._cover[row] = np.bincount(place[mask], weight, size)
                self._parts[row] = count

    def metrics(self, weights: ArrayLike, limit: float = PRO_LIMIT) -> tuple[Doubles, Doubles]:
        """(pixel AUROC, AUPRO) of each row of ``weights`` (k, images): how often each image is in the set.

        NaN where a set has no defect region or no good pixel.
        """
        rows = np.asarray(weights, np.float64)

        def curve(counts: Doubles) -> Doubles:
            falling = np.cumsum((rows @ counts)[:, ::-1], axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                share = falling / falling[:, -1:]
            return np.concatenate([np.zeros((len(rows), 1)), share], axis=1)

        rate, hit, covered = curve(self._good), curve(self._bad), curve(self._cover)
        area = _area_to(rate, hit, 1.0)
        overlap = _area_to(rate, covered, limit)
        empty = (rows @ self._parts == 0) | (rows @ self._good.sum(1) == 0)
        area[empty] = overlap[empty] = np.nan
        return area, overlap


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

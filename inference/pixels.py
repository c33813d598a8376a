"""Pixel metrics from counts: maps come one frame at a time and are forgotten, what stays is a histogram.

A score goes into one of 2^16 bins by a map that keeps the order of scores: centred and scaled by the first
map, then linear within one spread of the centre (2048 bins) and logarithmic beyond it (2048 bins an octave, a
step of 0.05 %, up to 65,000 spreads). Only the order within a bin is lost. What that can change is bounded by
the counts themselves, and every figure comes with that bound: pairs of a defect pixel and a good pixel in one
bin count half, and could have counted none or one.

Pixel AUROC and average precision are over all pixels of all frames. AUPRO is the area under the mean
coverage of defect regions (8-connected, each counted alike) over the false-positive rate, up to a limit and
divided by it (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021). Every bin is a threshold,
so that the figure at 1 % rests on as many as there are scores, where a list of 100 ranks has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import DatasetError, NotFinite

Doubles = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

LIMITS = (0.30, 0.10, 0.05, 0.01)
"""False-positive rates up to which AUPRO is taken."""
BINS = 2**16
_ONE = np.float32(1).view(np.int32)
_SHIFT = 12  # of float32's 23 mantissa bits, 11 stay: 2048 bins an octave
COARSE = 2400
"""Bins of the table that intervals are resampled from; the values themselves never use it."""
_CHUNK = 250
CURVE = 240


def components(mask: Mask) -> tuple[int, NDArray[np.int32]]:
    """(count, (H, W) labels from 1) of the 8-connected components of a mask; 0 is background."""
    count, labels = cv2.connectedComponents(np.ascontiguousarray(mask, np.uint8), connectivity=8)
    return count - 1, np.asarray(labels, np.int32)


@dataclass(frozen=True, slots=True)
class Outline:
    """The truth of one frame, made once for every map of it.

    Attributes:
        shape: (H, W) of the mask, to which maps are resized.
        place: (n,) flat indices of its defect pixels.
        weight: (n,) 1 / (pixels of the region that the pixel belongs to).
        regions: how many defect regions there are.
    """

    shape: tuple[int, int]
    place: NDArray[np.int64] = field(repr=False)
    weight: Doubles = field(repr=False)
    regions: int

    @classmethod
    def of(cls, mask: Mask) -> Outline:
        """From a mask (H, W), True = defect."""
        height, width = mask.shape
        place = np.flatnonzero(mask)
        if not place.size:
            return cls((height, width), place, np.zeros(0), 0)
        count, labels = components(mask)
        inside = labels.ravel()[place]
        weight = (1 / np.bincount(inside, minlength=count + 1).clip(1))[inside]
        return cls((height, width), place, weight, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFigures:
    """What a set of maps is worth.

    Attributes:
        auroc, ap: pixel AUROC and average precision.
        aupro: by limit.
        error: how far the figure of that name ("auroc", "ap" or "aupro_30" and so on) can be from what the
            unbinned scores would give.
        curve: (CURVE, 2) false-positive rate and mean coverage, dense towards 0.
    """

    auroc: float
    ap: float
    aupro: dict[float, float]
    error: dict[str, float]
    curve: Doubles = field(repr=False)


@dataclass(slots=True)
class _Row:
    """One frame's counts, in the bins that it has."""

    good_bins: NDArray[np.uint16]
    good: NDArray[np.uint32]
    bad_bins: NDArray[np.uint16]
    bad: NDArray[np.uint32]
    cover: NDArray[np.float32]
    regions: int


class PixelCounts:
    """The pixels of a set of maps, counted frame by frame.

    Memory is bounded by about 0.4 MB a frame whatever its size, and is a tenth of that for usual maps.
    """

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._good = np.zeros(BINS, np.int64)
        self._bad = np.zeros(BINS, np.int64)
        self._cover = np.zeros(BINS, np.float64)
        # One score of each bin, and whether the bin has others: equal scores are no error of the bins.
        self._score = np.full(BINS, np.nan, np.float32)
        self._mixed = np.zeros(BINS, bool)
        self._regions = 0
        self._centre = np.float32(0)
        self._factor: np.float32 | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def complete(self) -> bool:
        """Whether there are defect pixels and good pixels to tell apart."""
        return bool(self._regions) and bool(self._good.any())

    def add(self, values: Map, outline: Outline) -> None:
        """Count one map (h, w), resized bilinearly to the outline where it has another size.

        Raises:
            NotFinite: a value that is NaN or infinite.
        """
        if not np.isfinite(values).all():
            raise NotFinite(
                f"map {len(self._rows)}: {np.count_nonzero(~np.isfinite(values))} values not finite"
            )
        if values.shape != outline.shape:
            size = (outline.shape[1], outline.shape[0])
            values = np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR), np.float32)
        scores = np.ascontiguousarray(values, np.float32).ravel()
        bins = self._bins(scores)
        fresh = np.full(BINS, np.nan, np.float32)
        fresh[bins] = scores
        np.copyto(self._score, fresh, where=np.isnan(self._score))
        self._mixed[bins[self._score[bins] != scores]] = True
        good = np.bincount(bins, minlength=BINS)
        struck = bins[outline.place]
        bad = np.bincount(struck, minlength=BINS)
        cover = np.bincount(struck, outline.weight, BINS)
        good -= bad
        self._good += good
        self._bad += bad
        self._cover += cover
        self._regions += outline.regions
        good_bins, bad_bins = np.flatnonzero(good), np.flatnonzero(bad)
        self._rows.append(
            _Row(
                good_bins.astype(np.uint16),
                good[good_bins].astype(np.uint32),
                bad_bins.astype(np.uint16),
                bad[bad_bins].astype(np.uint32),
                cover[bad_bins].astype(np.float32),
                outline.regions,
            )
        )

    def _bins(self, values: Map) -> NDArray[np.uint16]:
        if self._factor is None:
            some = values[:: max(1, values.size // 20_000)].astype(np.float64)
            low, centre, high = np.quantile(some, [0.01, 0.5, 0.99])
            spread = float(high - low) / 5 or float(some.std()) or max(abs(float(centre)), 1.0)
            self._centre = np.float32(centre)
            self._factor = np.float32(1 / min(max(spread, 1e-30), 1e30))
        with np.errstate(over="ignore"):
            scaled = (values - self._centre) * self._factor
        # The bits of a positive float32 rise with it, by an equal step within an octave.
        steps = (np.abs(scaled) + np.float32(1)).view(np.int32)
        steps = np.minimum((steps - _ONE) >> _SHIFT, BINS // 2 - 1)
        bins = np.where(scaled < 0, BINS // 2 - 1 - steps, BINS // 2 + steps)
        return np.asarray(bins, np.uint16)

    def figures(self, limits: Sequence[float] = LIMITS) -> PixelFigures:
        """All figures over every frame added.

        Raises:
            DatasetError: no defect region or no good pixel.
        """
        if not self.complete:
            raise DatasetError(
                f"pixel metrics: {self._regions} defect regions and {int(self._good.sum())} good pixels; "
                "the test split needs at least one of each"
            )
        good, bad = self._good[::-1].astype(np.float64), self._bad[::-1].astype(np.float64)
        cover = self._cover[::-1] / self._cover.sum()
        used = (good > 0) | (bad > 0)
        good, bad, cover, mixed = good[used], bad[used], cover[used], self._mixed[::-1][used]
        rate, hit, overlap = (_rising(counts / counts.sum()) for counts in (good, bad, cover))
        error: dict[str, float] = {}
        auroc, error["auroc"] = _area(rate, hit, 1.0, mixed)
        ap, error["ap"] = _average_precision(good, bad, mixed)
        aupro: dict[float, float] = {}
        for limit in limits:
            aupro[limit], error[f"aupro_{round(100 * limit):02d}"] = _area(rate, overlap, limit, mixed)
        return PixelFigures(auroc=auroc, ap=ap, aupro=aupro, error=error, curve=_curve(rate, overlap))

    def resampled(
        self, weights: NDArray[np.int64], limits: Sequence[float] = LIMITS
    ) -> tuple[Doubles, Doubles, dict[float, Doubles]]:
        """(AUROC, average precision, AUPRO by limit), each (times,), of sets that hold each frame so often.

        Args:
            weights: (times, frames added).

        NaN where a set has no defect region or no good pixel. Counted in about ``COARSE`` bins.
        """
        bins = self._coarse()
        size = int(bins[-1]) + 1
        tables = [np.zeros((len(self._rows), size)) for _ in range(3)]
        for index, row in enumerate(self._rows):
            tables[0][index] = np.bincount(bins[row.good_bins], row.good, size)
            tables[1][index] = np.bincount(bins[row.bad_bins], row.bad, size)
            tables[2][index] = np.bincount(bins[row.bad_bins], row.cover, size)
        # From the highest score down.
        good, bad, cover = (table[:, ::-1] for table in tables)
        area, precision = np.full(len(weights), np.nan), np.full(len(weights), np.nan)
        overlap = {limit: np.full(len(weights), np.nan) for limit in limits}
        for start in range(0, len(weights), _CHUNK):
            rows = weights[start : start + _CHUNK].astype(np.float64)
            of_good, of_bad, of_cover = rows @ good, rows @ bad, rows @ cover
            known = (of_good.sum(1) > 0) & (of_bad.sum(1) > 0)
            of_good, of_bad, of_cover = of_good[known], of_bad[known], of_cover[known]
            rate, hit, covered = (_rising(c / c.sum(1, keepdims=True)) for c in (of_good, of_bad, of_cover))
            where = start + np.flatnonzero(known)
            area[where] = _trapezoid(rate, hit, 1.0)
            caught = np.cumsum(of_bad, 1)
            # Half of a bin before it and half after: a bin's own middle, since a coarse bin is no tie.
            middle = caught - of_bad / 2
            passed = np.cumsum(of_good, 1) - of_good / 2
            share = np.divide(middle, middle + passed, out=np.zeros_like(middle), where=middle > 0)
            precision[where] = (of_bad * share).sum(1) / caught[:, -1]
            for limit in limits:
                overlap[limit][where] = _trapezoid(rate, covered, limit)
        return area, precision, overlap

    def _coarse(self) -> NDArray[np.int64]:
        """(BINS,) the coarse bin of each bin: even in the ranks of good pixels and of defect pixels, and
        dense towards the highest good ones, where the curve of AUPRO turns."""
        third = COARSE // 3
        marks = []
        for counts, ranks in (
            (self._good, np.linspace(0, 1, third)),
            (self._good, 1 - np.geomspace(1 / max(int(self._good.sum()), 2), 1, third)),
            (self._bad, np.linspace(0, 1, third)),
        ):
            total = np.cumsum(counts)
            marks.append(np.searchsorted(total, ranks * total[-1], "left"))
        edges = np.unique(np.concatenate(marks).clip(0, BINS - 1))
        return np.searchsorted(edges, np.arange(BINS), "right")


def count(maps: Iterable[Map], masks: Iterable[Mask]) -> PixelCounts:
    """Counts of maps (h, w) and their masks (H, W), True = defect. Raises NotFinite."""
    counts = PixelCounts()
    for values, mask in zip(maps, masks, strict=True):
        counts.add(values, Outline.of(mask))
    return counts


def _rising(share: Doubles) -> Doubles:
    """Cumulative share along the last axis, from 0."""
    return np.concatenate([np.zeros((*share.shape[:-1], 1)), np.cumsum(share, -1)], -1)


def _steps(rate: Doubles, height: Doubles, limit: float) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """(width up to the limit, share of the step, low end, rise) of each step of a rising curve."""
    if not 0 < limit <= 1:
        raise ValueError(f"limit {limit}: use a rate above 0 and at most 1")
    left, width = rate[..., :-1], np.diff(rate)
    inside = np.clip(limit - left, 0, width)
    share = np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
    return inside, share, height[..., :-1], np.diff(height)


def _trapezoid(rate: Doubles, height: Doubles, limit: float) -> Doubles:
    inside, share, low, rise = _steps(rate, height, limit)
    return np.asarray((inside * (low + 0.5 * share * rise)).sum(-1) / limit, np.float64)


def _area(rate: Doubles, height: Doubles, limit: float, mixed: Mask) -> tuple[float, float]:
    """(area up to ``limit`` divided by it, largest error). In a step of several scores the curve may be flat
    and then jump, or jump and then be flat: the straight line lies between the two."""
    inside, share, low, rise = _steps(rate, height, limit)
    value = (inside * (low + 0.5 * share * rise)).sum() / limit
    error = (mixed * inside * rise * np.maximum(0.5 * share, 1 - 0.5 * share)).sum() / limit
    return float(value), float(error)


def _average_precision(good: Doubles, bad: Doubles, mixed: Mask) -> tuple[float, float]:
    """(average precision with a bin as a tie, largest error), bins from the highest score down.

    In a bin with p defect pixels under P and n good ones under N, a defect pixel's precision is at most
    (P + p) / (P + p + N), and the i-th's at least (P + i) / (P + i + N + n).
    """
    caught, passed = np.cumsum(bad), np.cumsum(good)
    before_bad, before_good = caught - bad, passed - good
    value = bad * caught / (caught + passed)
    high = bad * np.divide(caught, caught + before_good, out=np.ones_like(caught), where=caught > 0)
    # Concave in i: each term is at least its integral from i - 1/2 to i + 1/2; a single one is itself.
    low = bad.copy()
    some = (passed > 0) & (bad > 0)
    ends = [end[some] + passed[some] + 0.5 for end in (before_bad, caught)]
    low[some] -= passed[some] * np.log(ends[1] / ends[0])
    low = np.where(bad == 1, value, low)
    error = (mixed * np.maximum(high - value, value - low).clip(0)).sum()
    return float(value.sum() / caught[-1]), float(error / caught[-1])


def _curve(rate: Doubles, overlap: Doubles) -> Doubles:
    """``CURVE`` points of the curve, log-spaced in the rate; at equal rates the highest coverage."""
    wanted = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, CURVE - 1)])
    last = np.append(np.diff(rate) > 0, True)
    return np.stack([wanted, np.interp(wanted, rate[last], overlap[last])], 1)

"""Pixel figures from counts against loops over every score and pixel, within the bound they come with."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from inference.errors import DatasetError, NotFinite
from inference.pixels import BINS, LIMITS, Outline, PixelCounts, PixelFigures, components, count

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
ROUNDING = 1e-9


def naive_aupro(maps: list[Map], masks: list[Mask], limit: float) -> float:
    """One loop over every distinct score, one over every component; the last step is cut at the limit."""
    good = np.concatenate([m[~k] for m, k in zip(maps, masks, strict=True)])
    regions = []
    for values, mask in zip(maps, masks, strict=True):
        labels, found = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [values[labels == number] for number in range(1, found + 1)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(np.concatenate([m.ravel() for m in maps]).tolist()), reverse=True):
        overlap = float(np.mean([(region >= threshold).mean() for region in regions]))
        points.append((float((good >= threshold).mean()), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        else:
            cut = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (limit - x0) * (y0 + cut) / 2
            break
    return area / limit


def assert_within_its_error(
    found: PixelFigures, maps: list[Map], masks: list[Mask], limits: tuple[float, ...]
) -> None:
    truth = np.concatenate([mask.ravel() for mask in masks])
    scores = np.concatenate([values.ravel() for values in maps])
    assert abs(found.auroc - roc_auc_score(truth, scores)) <= found.error["auroc"] + ROUNDING
    assert abs(found.ap - average_precision_score(truth, scores)) <= found.error["ap"] + ROUNDING
    for limit in limits:
        error = found.error[f"aupro_{round(100 * limit):02d}"]
        assert abs(found.aupro[limit] - naive_aupro(maps, masks, limit)) <= error + ROUNDING


@st.composite
def map_sets(draw: st.DrawFn) -> tuple[list[Map], list[Mask]]:
    """A few small maps, often with ties, sometimes over a range that bins cannot resolve."""
    number = draw(st.integers(1, 3))
    shape = draw(st.tuples(st.integers(2, 7), st.integers(2, 7)))
    few = st.integers(0, draw(st.sampled_from([2, 5, 1000]))).map(lambda v: np.float32(v / 7))
    any_float = st.floats(-(2.0**100), 2.0**100, width=32).map(np.float32)
    narrow = st.integers(0, 50).map(lambda v: np.float32(1000 + v * 1e-3))
    values = draw(st.sampled_from([few, any_float, narrow]))
    maps = [draw(hnp.arrays(np.float32, shape, elements=values)) for _ in range(number)]
    masks = [draw(hnp.arrays(np.bool_, shape)) for _ in range(number)]
    masks[0][0, 0] = True
    masks[0][-1, -1] = False
    return maps, masks


@settings(max_examples=150, deadline=None)
@given(map_sets())
def test_every_figure_is_within_its_error_of_the_loop(data: tuple[list[Map], list[Mask]]) -> None:
    maps, masks = data
    limits = (0.05, 0.3, 1.0)
    assert_within_its_error(count(maps, masks).figures(limits), maps, masks, limits)


@settings(max_examples=100, deadline=None)
@given(map_sets())
def test_bins_keep_the_order_of_scores(data: tuple[list[Map], list[Mask]]) -> None:
    counts = count(*data)
    scores = np.sort(np.concatenate([values.ravel() for values in data[0]]))
    assert (np.diff(counts._bins(scores).astype(np.int64)) >= 0).all()


def planted(number: int = 24, size: int = 40, seed: int = 0) -> tuple[list[Map], list[Mask]]:
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(number):
        values = rng.standard_normal((size, size), dtype=np.float32)
        mask = np.zeros((size, size), bool)
        if index % 2:
            y, x = rng.integers(0, size - 10, 2)
            mask[y : y + 8, x : x + 6] = True
            values[mask] += 1.5
        maps.append(values)
        masks.append(mask)
    return maps, masks


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e7])
def test_usual_maps_are_right_to_a_ten_thousandth_at_one_percent_too(scale: float) -> None:
    maps, masks = planted(6, size=18)
    maps = [np.asarray(values * np.float32(scale) + np.float32(3 * scale)) for values in maps]
    found = count(maps, masks).figures()
    assert_within_its_error(found, maps, masks, LIMITS)
    assert max(error for name, error in found.error.items() if name != "ap") < 1e-3
    assert found.error["ap"] < 1e-2
    for limit in LIMITS:
        assert found.aupro[limit] == pytest.approx(naive_aupro(maps, masks, limit), abs=5e-4)


def sorted_aupro(maps: list[Map], masks: list[Mask], limit: float) -> float:
    """Every distinct score by one sort, for sets too large for the loop."""
    regions = sum(components(mask)[0] for mask in masks)
    scores = np.concatenate([values.ravel() for values in maps])
    cover = np.zeros(scores.size)
    start = 0
    for mask in masks:
        outline = Outline.of(mask)
        cover[start + outline.place] = outline.weight
        start += mask.size
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)
    good = np.concatenate([~mask.ravel() for mask in masks])[order]
    rate = np.append(0, np.cumsum(good)[ends] / good.sum())
    overlap = np.append(0, np.cumsum(cover[order])[ends] / regions)
    inside = rate <= limit
    x, y = np.append(rate[inside], limit), np.append(overlap[inside], np.interp(limit, rate, overlap))
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / limit)


def test_large_sets_agree_with_a_sort_to_four_digits() -> None:
    maps, masks = planted(30, size=128)
    found = count(maps, masks).figures()
    for limit in LIMITS:
        assert found.aupro[limit] == pytest.approx(sorted_aupro(maps, masks, limit), abs=5e-5)


def test_maps_without_a_shared_bin_are_exact() -> None:
    mask = np.zeros((6, 6), bool)
    mask[0, :3] = True
    values = np.arange(36, dtype=np.float32).reshape(6, 6)[::-1]
    found = count([values], [mask]).figures()
    assert set(found.error.values()) == {0.0}
    assert found.auroc == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()))


def test_equal_scores_are_no_error_however_many() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:5] = True
    values = np.where(np.arange(400).reshape(20, 20) % 3 == 0, 5.0, 1.0).astype(np.float32)
    found = count([values, values], [mask, mask]).figures()
    assert set(found.error.values()) == {0.0}
    assert_within_its_error(found, [values, values], [mask, mask], LIMITS)


def test_touching_corners_make_one_component_and_a_gap_makes_two() -> None:
    diagonal = np.eye(4, dtype=bool)
    assert components(diagonal)[0] == Outline.of(diagonal).regions == 1
    diagonal[1, 1] = False
    assert components(diagonal)[0] == Outline.of(diagonal).regions == 2


def test_small_components_count_as_much_as_large_ones() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:10, :10] = True
    mask[15, 15] = True
    found = np.where(mask, 1.0, 0.0).astype(np.float32)
    found[15, 15] = -1
    # The large region is found at once, the single pixel only with everything else: mean coverage 1/2.
    figures = count([found], [mask]).figures()
    assert figures.aupro[0.3] == pytest.approx(0.5)
    assert figures.auroc > 0.98


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    values = np.ones((3, 3), np.float32)
    values[2, 2] = bad
    counts = PixelCounts()
    with pytest.raises(NotFinite, match="1 values"):
        counts.add(values, Outline.of(np.eye(3, dtype=bool)))
    assert len(counts) == 0


@pytest.mark.parametrize("mask", [np.zeros((3, 3), bool), np.ones((3, 3), bool)])
def test_a_set_of_one_class_is_refused(mask: Mask) -> None:
    counts = count([np.ones((3, 3), np.float32)], [mask])
    assert not counts.complete
    with pytest.raises(DatasetError, match="pixel metrics"):
        counts.figures()


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1])
def test_a_limit_that_is_no_rate_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        count(*planted(2)).figures((limit,))


def test_the_first_map_may_be_flat() -> None:
    flat = np.full((20, 20), 7.0, np.float32)
    maps, masks = planted(3, size=20)
    maps, masks = [flat, *maps], [np.zeros((20, 20), bool), *masks]
    assert_within_its_error(count(maps, masks).figures(), maps, masks, LIMITS)


def test_a_smaller_map_is_laid_over_its_mask() -> None:
    mask = np.zeros((16, 16), bool)
    mask[4:12, 4:12] = True
    figures = count([np.asarray(mask[::2, ::2], np.float32)], [mask]).figures()
    assert figures.auroc > 0.99


def test_the_curve_starts_at_nothing_rises_and_ends_at_everything() -> None:
    maps, masks = planted()
    figures = count(maps, masks).figures()
    assert (np.diff(figures.curve, axis=0) >= 0).all()
    assert tuple(figures.curve[-1]) == pytest.approx((1.0, 1.0))
    good = np.concatenate([m[~k] for m, k in zip(maps, masks, strict=True)])
    threshold = np.quantile(good, 0.95)
    coverage = np.mean([(m[k] >= threshold).mean() for m, k in zip(maps, masks, strict=True) if k.any()])
    assert np.interp(0.05, *figures.curve.T) == pytest.approx(coverage, abs=0.01)


def test_resampling_agrees_with_the_values() -> None:
    counts = count(*planted())
    exact = counts.figures()
    area, precision, overlap = counts.resampled(np.ones((1, 24), np.int64))
    assert area[0] == pytest.approx(exact.auroc, abs=1e-4)
    assert precision[0] == pytest.approx(exact.ap, abs=5e-3)
    for limit in LIMITS:
        assert overlap[limit][0] == pytest.approx(exact.aupro[limit], abs=1e-3)


def test_a_weight_of_two_is_the_same_as_the_frame_twice() -> None:
    maps, masks = planted(6)
    weights = np.array([[2, 1, 0, 3, 1, 1]])
    repeated = np.repeat(np.arange(6), weights[0])
    area, precision, overlap = count(maps, masks).resampled(weights)
    exact = count([maps[i] for i in repeated], [masks[i] for i in repeated]).figures()
    assert area[0] == pytest.approx(exact.auroc, abs=1e-3)
    assert precision[0] == pytest.approx(exact.ap, abs=1e-2)
    assert overlap[0.3][0] == pytest.approx(exact.aupro[0.3], abs=5e-3)


def test_a_resampling_without_a_defect_is_not_a_number_rather_than_perfect() -> None:
    area, precision, overlap = count(*planted(4)).resampled(np.array([[1, 0, 1, 0], [1, 1, 1, 1]]))
    for values in (area, precision, *overlap.values()):
        assert np.isnan(values[0])
        assert np.isfinite(values[1])


def test_memory_is_that_of_the_counts_and_not_of_the_pixels() -> None:
    maps, masks = planted(2, size=512)
    outlines = [Outline.of(mask) for mask in masks]
    counts = PixelCounts()
    tracemalloc.start()
    for number in range(20):
        counts.add(maps[number % 2], outlines[number % 2])
        if number == 3:
            early = tracemalloc.get_traced_memory()[0]
    grown = (tracemalloc.get_traced_memory()[0] - early) / 16
    tracemalloc.stop()
    assert grown < 6 * BINS + 2**14  # at most 6 bytes a bin; a map of that size has a million bytes

"""The metrics against slow, plain implementations of their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from inference import metrics
from inference.errors import DatasetError, NotFinite

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


def naive_aupro(maps: list[Map], masks: list[Mask], limit: float) -> float:
    """One loop over every distinct score, one over every component; the last step is cut at the limit."""
    good = np.concatenate([m[~k] for m, k in zip(maps, masks, strict=True)])
    regions = []
    for values, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [values[labels == number] for number in range(1, count + 1)]
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


@st.composite
def map_sets(draw: st.DrawFn) -> tuple[list[Map], list[Mask]]:
    """A few small maps of few distinct values, so that ties are common, with at least one defect."""
    count = draw(st.integers(1, 3))
    shape = draw(st.tuples(st.integers(2, 7), st.integers(2, 7)))
    levels = draw(st.sampled_from([2, 5, 1000]))
    values = st.integers(0, levels).map(lambda v: np.float32(v / 7))
    maps = [draw(hnp.arrays(np.float32, shape, elements=values)) for _ in range(count)]
    masks = [draw(hnp.arrays(np.bool_, shape)) for _ in range(count)]
    masks[0][0, 0] = True
    masks[0][-1, -1] = False
    return maps, masks


@settings(max_examples=150, deadline=None)
@given(map_sets(), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_equals_the_loop_over_every_threshold(data: tuple[list[Map], list[Mask]], limit: float) -> None:
    maps, masks = data
    assert metrics.aupro(maps, masks, limit) == pytest.approx(naive_aupro(maps, masks, limit), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(map_sets())
def test_pixel_auroc_equals_sklearn(data: tuple[list[Map], list[Mask]]) -> None:
    maps, masks = data
    expected = roc_auc_score(np.ravel(masks), np.ravel(maps))
    assert metrics.p_auroc(maps, masks) == pytest.approx(expected, abs=1e-9)
    area, overlap = metrics.pixel_metrics(maps, masks)
    assert area == pytest.approx(expected, abs=1e-9)
    assert overlap == pytest.approx(metrics.aupro(maps, masks))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40))
def test_image_auroc_equals_sklearn_with_ties(rows: list[tuple[int, bool]]) -> None:
    scores, truth = [float(s) for s, _ in rows], [t for _, t in rows]
    if len(set(truth)) < 2:
        with pytest.raises(DatasetError, match="at least one of each"):
            metrics.i_auroc(scores, truth)
    else:
        assert metrics.i_auroc(scores, truth) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_touching_corners_make_one_component_and_a_gap_makes_two() -> None:
    diagonal = np.eye(4, dtype=bool)
    assert metrics.components(diagonal)[0] == 1
    diagonal[1, 1] = False
    assert metrics.components(diagonal)[0] == 2


def test_small_components_count_as_much_as_large_ones() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:10, :10] = True
    mask[15, 15] = True
    found = np.where(mask, 1.0, 0.0).astype(np.float32)
    found[15, 15] = -1
    # The large region is found at once, the single pixel only with everything else: mean coverage 1/2.
    assert metrics.aupro([found], [mask], 0.3) == pytest.approx(0.5)
    assert metrics.p_auroc([found], [mask]) > 0.98


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    mask = np.zeros((3, 3), bool)
    mask[0] = True
    values = np.ones((3, 3), np.float32)
    values[2, 2] = bad
    with pytest.raises(NotFinite):
        metrics.aupro([values], [mask])
    with pytest.raises(NotFinite):
        metrics.i_auroc([0.0, bad], [False, True])


def test_a_set_without_defect_pixels_is_refused() -> None:
    with pytest.raises(DatasetError, match="pixel metrics"):
        metrics.p_auroc([np.ones((3, 3), np.float32)], [np.zeros((3, 3), bool)])


def test_rates_count_a_score_at_the_threshold_as_a_pass() -> None:
    scores, truth = [0.0, 1.0, 2.0, 1.0, 3.0], [False, False, False, True, True]
    assert metrics.false_reject_rate(scores, truth, 1.0) == pytest.approx(1 / 3)
    assert metrics.miss_rate(scores, truth, 1.0) == pytest.approx(1 / 2)


def planted(count: int = 24, size: int = 40, seed: int = 0) -> tuple[list[Map], list[Mask]]:
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for number in range(count):
        values = rng.standard_normal((size, size), dtype=np.float32)
        mask = np.zeros((size, size), bool)
        if number % 2:
            y, x = rng.integers(0, size - 10, 2)
            mask[y : y + 8, x : x + 6] = True
            values[mask] += 1.5
        maps.append(values)
        masks.append(mask)
    return maps, masks


def test_the_pixel_table_agrees_with_the_exact_values() -> None:
    maps, masks = planted()
    area, overlap = metrics.PixelTable(maps, masks).metrics(np.ones((1, len(maps))))
    exact = metrics.pixel_metrics(maps, masks)
    assert area[0] == pytest.approx(exact[0], abs=1e-4)
    assert overlap[0] == pytest.approx(exact[1], abs=1e-3)


def test_a_weight_of_two_is_the_same_as_the_image_twice() -> None:
    maps, masks = planted(6)
    weights = np.array([[2, 1, 0, 3, 1, 1]])
    repeated = np.repeat(np.arange(6), weights[0])
    area, overlap = metrics.PixelTable(maps, masks).metrics(weights)
    exact = metrics.pixel_metrics([maps[i] for i in repeated], [masks[i] for i in repeated])
    assert area[0] == pytest.approx(exact[0], abs=1e-3)
    assert overlap[0] == pytest.approx(exact[1], abs=5e-3)


def test_a_set_without_a_defect_is_not_a_number_rather_than_perfect() -> None:
    maps, masks = planted(4)
    area, overlap = metrics.PixelTable(maps, masks).metrics(np.array([[1, 0, 1, 0]]))
    assert np.isnan(area[0])
    assert np.isnan(overlap[0])


def test_resampling_draws_whole_groups_and_is_seeded() -> None:
    groups = ["a", "a", "b", "b", "c", "d"]
    truth = [False, True, False, False, True, False]
    counts = metrics.resample(groups, truth, 200, seed=3)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 2] == counts[:, 3]).all()
    # Groups with a defect (a, c) and without (b, d) are drawn apart: two of each in every set.
    assert (counts[:, 0] + counts[:, 4] == 2).all()
    assert (counts[:, 2] + counts[:, 5] == 2).all()
    assert (counts == metrics.resample(groups, truth, 200, seed=3)).all()
    assert (counts != metrics.resample(groups, truth, 200, seed=4)).any()


def test_one_group_gives_no_interval() -> None:
    counts = metrics.resample(["a"] * 4, [False, True, False, True], 100, seed=0)
    assert metrics.interval(metrics.resampled_auroc([0, 1, 2, 3], [False, True, False, True], counts)) is None


def test_resampled_auroc_equals_the_auroc_of_the_repeated_list() -> None:
    rng = np.random.default_rng(5)
    scores, truth = rng.integers(0, 6, 30).astype(float), rng.random(30) < 0.4
    weights = rng.integers(0, 3, (20, 30))
    found = metrics.resampled_auroc(scores, truth, weights)
    for row, value in zip(weights, found, strict=True):
        picked = np.repeat(np.arange(30), row)
        assert value == pytest.approx(metrics.i_auroc(scores[picked], truth[picked]))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Two normals one apart: AUROC = Phi(1 / sqrt 2) = 0.760.
    rng = np.random.default_rng(11)
    inside = 0
    for seed in range(100):
        truth = np.arange(80) % 2 == 1
        scores = rng.normal(truth.astype(float), 1)
        counts = metrics.resample([str(i) for i in range(80)], truth, 400, seed=seed)
        spread = metrics.interval(metrics.resampled_auroc(scores, truth, counts))
        assert spread is not None
        inside += spread[0] <= 0.7602 <= spread[1]
    assert 86 <= inside <= 100

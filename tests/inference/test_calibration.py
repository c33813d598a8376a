"""Scales, thresholds and fusion: the formulas, and what they promise on simulated normals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from inference.branches.base import Evidence
from inference.calibration import (
    GUMBEL_SKEWNESS,
    Components,
    Scale,
    Threshold,
    group_weights,
    origin,
    scale_of,
    threshold_of,
    weighted,
)
from inference.errors import BundleError, NoReading
from inference.fusion import calibrated, enlarge, fuse_maps, log_sum_exp, look, measure, top_mean


def test_each_group_has_the_same_weight() -> None:
    weights = group_weights(["a", "a", "a", "b"])
    assert weights == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    mean, deviation = weighted([1.0, 1.0, 1.0, 3.0], ["a", "a", "a", "b"])
    assert mean == pytest.approx(2.0)
    assert deviation == pytest.approx(math.sqrt(2.0))


def test_with_one_frame_a_group_it_is_the_sample_deviation() -> None:
    values = [1.0, 4.0, 2.0, 8.0]
    mean, deviation = weighted(values, list("abcd"))
    assert mean == pytest.approx(np.mean(values))
    assert deviation == pytest.approx(np.std(values, ddof=1))
    assert scale_of([5.0, 5.0], ["a", "b"]) == Scale(5.0, 5e-3)


def test_the_threshold_is_a_prediction_limit_on_logs() -> None:
    scores = [0.2, 0.9, -0.4, 0.5, 0.1]
    found = threshold_of(scores, list("abcde"), false_reject=0.01)
    assert found.shift == origin(np.array(scores), list("abcde"))
    logs = np.log(np.array(scores) + found.shift)
    limit = logs.mean() + stats.t.ppf(0.99, 4) * logs.std(ddof=1) * math.sqrt(1 + 1 / 5)
    assert found.value == pytest.approx(math.exp(limit) - found.shift)
    assert found.low < found.value < found.high
    assert (found.groups, found.frames) == (5, 5)
    assert Threshold.from_map(found.to_map()) == found


def test_tiles_of_one_frame_do_not_count_as_many() -> None:
    few = threshold_of([0.0, 1.0, 2.0], list("abc"), false_reject=0.01)
    many = threshold_of([0.0, 1.0, 2.0] * 4, list("abc") * 4, false_reject=0.01)
    assert many.groups == 3
    assert many.value == pytest.approx(few.value)


@pytest.mark.parametrize("sigma", [0.1, 0.2, 0.4])
def test_the_false_reject_rate_is_kept_on_new_normals_however_skewed(sigma: float) -> None:
    rng = np.random.default_rng(0)
    rejected = []
    for _ in range(150):
        train = np.exp(rng.normal(1.0, sigma, 20)) - 2.0
        limit = threshold_of(list(train), [str(i) for i in range(20)], false_reject=0.05).value
        rejected.append(float(np.mean(np.exp(rng.normal(1.0, sigma, 200)) - 2.0 > limit)))
    # Less than the asked for where scores are more even than maxima are, never much more.
    assert 0.02 < np.mean(rejected) < 0.06


def test_components_are_those_of_a_one_way_layout() -> None:
    rng = np.random.default_rng(3)
    lots = [rng.normal(mean, 1.0, 6) for mean in rng.normal(0.0, 2.0, 7)]
    values, groups = np.concatenate(lots), [str(i) for i in range(7) for _ in range(6)]
    found = Components.of(values, groups)
    between = 6 * np.var([lot.mean() for lot in lots], ddof=1)
    within = float(np.mean([lot.var(ddof=1) for lot in lots]))
    assert stats.f_oneway(*lots).statistic == pytest.approx(between / within)
    assert found.variance == pytest.approx((between - within) / 6 + within)
    assert found.mean == pytest.approx(values.mean())
    assert found.of_mean == pytest.approx(between / 42)
    freedom = found.variance**2 / ((between / 6) ** 2 / 6 + (within * 5 / 6) ** 2 / 35)
    assert found.freedom == pytest.approx(min(freedom, 18))


def test_lots_that_do_not_differ_count_as_differing_by_what_their_frames_do() -> None:
    values = np.array([0.0, 1.0, 2.0] * 5)
    found = Components.of(values, [str(i // 3) for i in range(15)])
    assert found.variance == pytest.approx(1.0)
    assert found.of_mean == pytest.approx(1.0 / 15)
    assert found.freedom == pytest.approx(min(1 / ((1 / 3) ** 2 / 4 + (2 / 3) ** 2 / 10), 12))


@given(
    st.lists(st.floats(-5, 50), min_size=6, max_size=40),
    st.integers(2, 6),
    st.floats(0.1, 20),
    st.floats(-30, 30),
)
def test_a_threshold_moves_with_the_scores_unit_and_zero(
    scores: list[float], lots: int, unit: float, zero: float
) -> None:
    assume(np.std(scores) > 0.05)
    groups = [str(i % lots) for i in range(len(scores))]
    found = threshold_of(scores, groups, false_reject=0.01)
    moved = threshold_of([unit * s + zero for s in scores], groups, false_reject=0.01)
    assert moved.value == pytest.approx(unit * found.value + zero, rel=1e-6, abs=1e-5 * unit)
    assert found.low < found.value < found.high
    assert found.value > np.mean(scores)
    assert lots - 1 <= found.freedom + 1e-9
    assert found.freedom <= 3 * (lots - 1)


def test_many_lognormal_scores_find_their_origin() -> None:
    rng = np.random.default_rng(1)
    values = np.exp(rng.normal(0.0, 0.5, 20_000)) - 3.0
    groups = [str(i) for i in range(len(values))]
    assert origin(values, groups) == pytest.approx(3.0, abs=0.15)


def test_a_few_scores_are_taken_for_maxima() -> None:
    # Evenly spread scores have no skewness of their own; with eight of them the law of maxima decides.
    values = np.arange(8.0)
    shift = origin(values, list("abcdefgh"))
    w = 1 + (values.std() / (values.mean() + shift)) ** 2
    assert (w + 2) * math.sqrt(w - 1) == pytest.approx(GUMBEL_SKEWNESS * 80 / 87)


def test_maxima_in_unseen_lots_are_rejected_as_seldom_as_asked() -> None:
    rng = np.random.default_rng(5)
    for lots in (4, 12):
        rejected = []
        groups = [str(i) for i in range(lots) for _ in range(10)]
        for _ in range(200):
            train = rng.gumbel(0.0, 1.0, (lots, 10)) + rng.normal(0.0, 0.3, (lots, 1))
            limit = threshold_of(train.ravel().tolist(), groups, false_reject=0.01).value
            new = rng.gumbel(0.0, 1.0, (20, 10)) + rng.normal(0.0, 0.3, (20, 1))
            rejected.append(float(np.mean(new > limit)))
        assert 0.002 < np.mean(rejected) < 0.012


@pytest.mark.parametrize("scores", [[1.0] * 6, [0.0] * 6, [1e9, 1e9 + 1, 1e9, 1e9, 1e9, 1e9]])
def test_scores_that_hardly_differ_still_make_a_finite_threshold_above_them(scores: list[float]) -> None:
    found = threshold_of(scores, list("aabbcc"), false_reject=0.01)
    assert math.isfinite(found.value)
    assert found.value >= max(scores) - 1.0


@pytest.mark.parametrize("change", [{"value": float("nan")}, {"low": None}, {"groups": 2.5}, {"mean": True}])
def test_a_damaged_threshold_is_refused(change: dict[str, object]) -> None:
    good = threshold_of([0.0, 1.0, 2.0], list("abc"), false_reject=0.01).to_map()
    with pytest.raises(BundleError, match="threshold"):
        Threshold.from_map({**good, **change})


def test_log_sum_exp_is_a_soft_maximum_that_no_branch_can_veto() -> None:
    assert log_sum_exp([1.0, 2.0, 3.0]) == pytest.approx(math.log(math.e + math.e**2 + math.e**3))
    assert log_sum_exp([700.0, 900.0]) == pytest.approx(900.0)
    assert log_sum_exp([8.0, -50.0, -50.0]) == pytest.approx(8.0)
    assert log_sum_exp([-1.5]) == -1.5


def test_maps_are_joined_as_the_scores_are() -> None:
    rng = np.random.default_rng(2)
    maps = {name: rng.normal(size=(256, 256)).astype(np.float32) for name in "abc"}
    scales = {name: Scale(float(i), 0.5 + i) for i, name in enumerate("abc")}
    found = fuse_maps(maps, scales, empty=-9.0)
    at = {name: float(maps[name][7, 9]) for name in "abc"}
    assert found[7, 9] == pytest.approx(log_sum_exp(list(calibrated(at, scales).values())), abs=1e-5)
    assert (fuse_maps({}, scales, empty=-9.0) == -9.0).all()


def test_the_image_score_is_the_mean_of_the_highest_hundredth() -> None:
    image = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    assert top_mean(image) == pytest.approx(np.arange(9_900, 10_000).mean())
    assert enlarge(np.full((28, 28), 3.0, np.float32)) == pytest.approx(3.0)


def test_a_frame_that_no_tile_shows_is_an_error() -> None:
    class Blind:
        name = "blind"
        needs = frozenset({"depth"})

    with pytest.raises(NoReading, match="blind"):
        measure([look(Evidence(), [Blind()])], [Blind()], {})  # type: ignore[list-item]

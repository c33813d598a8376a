"""The image metrics and intervals against slow, plain implementations of their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from inference import metrics
from inference.errors import DatasetError, NotFinite


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40))
def test_image_auroc_equals_sklearn_with_ties(rows: list[tuple[int, bool]]) -> None:
    scores, truth = [float(s) for s, _ in rows], [t for _, t in rows]
    if len(set(truth)) < 2:
        with pytest.raises(DatasetError, match="at least one of each"):
            metrics.i_auroc(scores, truth)
    else:
        assert metrics.i_auroc(scores, truth) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    for figure in (metrics.i_auroc, metrics.average_precision, metrics.f1_max):
        with pytest.raises(NotFinite):
            figure([0.0, bad], [False, True])


def test_rates_count_a_score_at_the_threshold_as_a_pass() -> None:
    scores, truth = [0.0, 1.0, 2.0, 1.0, 3.0], [False, False, False, True, True]
    assert metrics.false_reject_rate(scores, truth, 1.0) == pytest.approx(1 / 3)
    assert metrics.miss_rate(scores, truth, 1.0) == pytest.approx(1 / 2)


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


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40))
def test_average_precision_and_f1_equal_sklearn_with_ties(rows: list[tuple[int, bool]]) -> None:
    scores, truth = [float(s) for s, _ in rows], [t for _, t in rows]
    if len(set(truth)) < 2:
        for figure in (metrics.average_precision, metrics.f1_max):
            with pytest.raises(DatasetError, match="at least one of each"):
                figure(scores, truth)
        return
    assert metrics.average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores))
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = [2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precision, recall, strict=True)]
    assert metrics.f1_max(scores, truth) == pytest.approx(max(f1))


def test_resampled_precision_equals_that_of_the_repeated_list() -> None:
    rng = np.random.default_rng(6)
    scores, truth = rng.integers(0, 6, 30).astype(float), rng.random(30) < 0.4
    weights = rng.integers(0, 3, (20, 30))
    weights[7] = weights[7] * truth  # no good one: no figure
    found = metrics.resampled_precision(scores, truth, weights)
    assert np.isnan(found[0][7])
    assert np.isnan(found[1][7])
    for number, row in enumerate(weights):
        if number != 7:
            picked = np.repeat(np.arange(30), row)
            expected = metrics.average_precision(scores[picked], truth[picked])
            assert found[0][number] == pytest.approx(expected)
            assert found[1][number] == pytest.approx(metrics.f1_max(scores[picked], truth[picked]))


@pytest.mark.parametrize(("hits", "of"), [(0, 1), (0, 40), (3, 40), (40, 40), (199, 200), (1, 2000)])
def test_wilson_equals_the_library_s(hits: int, of: int) -> None:
    expected = stats.binomtest(hits, of).proportion_ci(0.95, method="wilson")
    assert metrics.wilson(hits, of) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("hits", "of"), [(1, 0), (-1, 5), (6, 5)])
def test_what_is_no_share_is_refused(hits: int, of: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        metrics.wilson(hits, of)


def test_a_rate_s_interval_is_as_wide_as_the_wider_of_the_two() -> None:
    none = np.zeros(50, bool)
    weights = metrics.resample([str(i) for i in range(50)], none, 500, seed=0)
    # The bootstrap of nothing is nothing: Wilson says what fifty can show.
    assert metrics.share_interval(none, weights) == metrics.wilson(0, 50)
    # Ten lots of ten, one of them all missed: Wilson would count a hundred parts, the bootstrap counts lots.
    missed = np.repeat(np.arange(10) == 3, 10)
    groups = np.repeat(np.arange(10).astype(str), 10).tolist()
    lots = metrics.share_interval(missed, metrics.resample(groups, np.ones(100), 2000, seed=0))
    alone = metrics.wilson(10, 100)
    assert lots[1] > alone[1] + 0.05
    assert lots[0] < alone[0]
    assert metrics.share_interval(missed, np.zeros((0, 100), np.int64)) == alone

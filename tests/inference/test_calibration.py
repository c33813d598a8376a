"""Scales, limits and fusion: the formulas, and what they promise on simulated normals."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from inference.branches.base import Evidence
from inference.calibration import (
    Components,
    Limits,
    Scale,
    group_weights,
    limits_of,
    scale_of,
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


def limits(scores: Sequence[float], groups: Sequence[str], **changes: float) -> Limits:
    return limits_of(scores, groups, **({"false_reject": 0.01, "review_share": 0.04} | changes))


def test_the_reach_is_a_prediction_limit() -> None:
    scores = [0.2, 0.9, -0.4, 0.5, 0.1]
    found = limits(scores, list("abcde"))
    reach = np.mean(scores) + stats.t.ppf(0.99, 4) * np.std(scores, ddof=1) * math.sqrt(1 + 1 / 5)
    assert found.reach == pytest.approx(reach)
    assert found.low < found.reach < found.high
    assert (found.groups, found.frames, found.seen) == (5, 5, 0.9)
    assert Limits.from_map(json.loads(json.dumps(found.to_map()))) == found


def test_with_few_lots_a_part_passes_up_to_the_highest_good_score_that_was_seen() -> None:
    found = limits([0.2, 0.9, -0.4, 0.5, 0.1], list("abcde"))
    assert found.passes == 0.9
    assert found.rejects == found.reach > 0.9
    # Five lots can change places with a sixth: that is all that can be promised.
    assert found.promise == pytest.approx(1 / 6)


def test_one_odd_good_part_is_held_for_review_and_does_not_raise_what_passes() -> None:
    scores = [*np.linspace(0.0, 1.0, 59), 40.0]
    found = limits(scores, [str(i % 12) for i in range(60)])
    assert found.passes < 25.0
    assert found.rejects == 40.0
    assert found.promise > 1 / 13


def test_with_many_lots_the_asked_share_of_good_parts_is_above_the_pass_limit() -> None:
    found = limits(list(np.arange(200.0)), [str(i) for i in range(200)])
    # (1 + 9) / 201 are above it; with one more that would be more than one in twenty.
    assert found.passes == 190.0
    assert found.promise == pytest.approx(10 / 201)
    assert limits(list(np.arange(200.0)), [str(i) for i in range(200)], review_share=0.0).passes == 198.0


def test_tiles_of_one_frame_do_not_count_as_many() -> None:
    few = limits([0.0, 1.0, 2.0], list("abc"))
    many = limits([0.0, 1.0, 2.0] * 4, list("abc") * 4)
    assert many.groups == 3
    assert (many.passes, many.rejects) == pytest.approx((few.passes, few.rejects))


CLUSTERS = (0.8, 2.2)


def clustered(rng: np.random.Generator, lots: int, frames: int) -> tuple[list[float], list[str]]:
    """Lots of two kinds, one of them always seen."""
    centres = np.array([CLUSTERS[i % 2] for i in range(lots)])
    groups = np.arange(frames) % lots
    return (centres[groups] + rng.normal(0.0, 0.5, frames)).tolist(), [str(g) for g in groups]


def test_bad_parts_beyond_clustered_lots_do_not_pass() -> None:
    rng = np.random.default_rng(0)
    found = [limits(*clustered(rng, 10, 47)) for _ in range(200)]
    assert max(one.passes for one in found) < 4.0
    # And most of them are rejected, not held.
    assert np.mean([one.rejects < 4.0 for one in found]) > 0.6


LAWS = {
    "normal": lambda rng, size: rng.normal(0.0, 1.0, size),
    "maxima": lambda rng, size: rng.gumbel(0.0, 1.0, size),
    "lognormal": lambda rng, size: np.exp(rng.normal(0.0, 0.5, size)),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("lots", [10, 25])
def test_what_is_promised_of_a_new_lot_is_kept_whatever_law_its_scores_follow(law: str, lots: int) -> None:
    rng = np.random.default_rng(5)
    groups = [str(i) for i in range(lots) for _ in range(6)]
    held, rejected, promised = [], [], []
    for _ in range(200):
        mean = rng.normal(0.0, 0.7, lots + 20)
        drawn = mean[:, None] + LAWS[law](rng, (lots + 20, 6))
        found = limits(drawn[:lots].ravel().tolist(), groups)
        held.append(float(np.mean(drawn[lots:] > found.passes)))
        rejected.append(float(np.mean(drawn[lots:] > found.rejects)))
        promised.append(found.promise)
    assert np.mean(held) <= np.mean(promised)
    assert np.mean(rejected) <= 0.015


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
def test_limits_move_with_the_scores_unit_and_zero(
    scores: list[float], lots: int, unit: float, zero: float
) -> None:
    assume(np.std(scores) > 0.05)
    groups = [str(i % lots) for i in range(len(scores))]
    found = limits(scores, groups)
    moved = limits([unit * s + zero for s in scores], groups)
    for name in ("passes", "rejects", "reach"):
        expected = unit * getattr(found, name) + zero
        assert getattr(moved, name) == pytest.approx(expected, rel=1e-6, abs=1e-5 * unit)
    assert found.low < found.reach < found.high
    assert found.passes <= found.rejects
    assert found.passes <= found.seen <= found.rejects
    assert lots - 1 <= found.freedom + 1e-9
    assert found.freedom <= 3 * (lots - 1)


@given(
    st.lists(st.floats(-5, 50), min_size=6, max_size=40),
    st.integers(2, 6),
    st.lists(st.floats(-5, 200), max_size=30),
)
def test_confirmed_parts_only_ever_widen_what_passes_and_never_beyond_what_is_rejected(
    scores: list[float], lots: int, confirmed: list[float]
) -> None:
    taught = limits(scores, [str(i % lots) for i in range(len(scores))])
    moved = taught.confirmed(confirmed)
    assert taught.passes <= moved.passes <= taught.rejects == moved.rejects
    assert moved.passes <= max([taught.passes, *(one for one in confirmed if one <= taught.rejects)])


def test_a_confirmed_part_lets_its_like_pass() -> None:
    taught = limits([0.2, 0.9, -0.4, 0.5, 0.1], list("abcde"))
    assert taught.confirmed([1.2]).passes == 1.2
    assert taught.confirmed([0.3]).passes == taught.passes
    # What the model rejected is for teaching: one mistaken word must not open the gate for defects.
    assert taught.confirmed([taught.rejects + 0.1]) == taught


def test_among_many_lots_one_confirmed_part_weighs_as_one_part() -> None:
    taught = limits(list(np.arange(200.0)), [str(i) for i in range(200)])
    assert taught.passes == 190.0
    assert taught.confirmed([199.0]).passes <= 191.0
    assert taught.confirmed([199.0] * 15).passes > 195.0


@pytest.mark.parametrize("scores", [[1.0] * 6, [0.0] * 6, [1e9, 1e9 + 1, 1e9, 1e9, 1e9, 1e9]])
def test_scores_that_hardly_differ_still_make_finite_limits(scores: list[float]) -> None:
    found = limits(scores, list("aabbcc"))
    assert math.isfinite(found.passes)
    assert found.rejects >= max(scores)


@pytest.mark.parametrize(
    "change",
    [
        {"passes": float("nan")},
        {"rejects": "much"},
        {"low": None},
        {"groups": 2.5},
        {"mean": True},
        {"tail": 3},
        {"tail": [[1.0]]},
        {"tail": [[1.0, "x"]]},
        {"passes": 9.0, "rejects": 1.0},
        {"frames": -1},
    ],
)
def test_damaged_limits_are_refused(change: dict[str, object]) -> None:
    good = limits([0.0, 1.0, 2.0], list("abc")).to_map()
    with pytest.raises(BundleError, match="limits"):
        Limits.from_map({**good, **change})


def test_a_bundle_with_one_threshold_has_it_for_both_limits() -> None:
    old = Limits.from_map({"value": 4.5, "low": 3.0, "high": 6.0, "groups": 8, "frames": 70})
    assert (old.passes, old.rejects) == (4.5, 4.5)
    assert old.confirmed([4.0]) == old
    for value in (float("inf"), 9.0):
        with pytest.raises(BundleError, match="limits"):
            Limits.from_map({"value": value, "low": 3.0, "high": 6.0})


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

"""Scores against calibration: seldom by chance, not for lots or defects, and before false rejects double."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from inference.sketch import QUANTILES, ScoreSketch
from tests.workers.drift.streams import Line
from workers.drift.alarm import Alarm
from workers.drift.scores import DEFECTS, ScoreSeries, trimmed
from workers.drift.window import Pace


def warnings(series: ScoreSeries, line: Line) -> list[int]:
    """The parts at which a warning began."""
    alarm, out = Alarm(), []
    for at, score in enumerate(line.scores.tolist()):
        if series.add(score):
            look = series.look()
            if look is not None and alarm.see(look.excess, at) and alarm.on:
                out.append(at)
    return out


def watched(line: Line, pace: Pace | None = None) -> list[int]:
    return warnings(ScoreSeries(line.sketch, pace or Pace()), line)


def normal_sketch(count: int = 2000) -> ScoreSketch:
    values = stats.norm.ppf((np.arange(count) + 0.5) / count)
    return ScoreSketch.of([float(v) for v in values], [str(n) for n in range(count)], 2.5)


@pytest.mark.parametrize(("lot", "alike"), [(1, 0.0), (40, 0.3), (100, 0.3)])
def test_parts_that_do_not_change_warn_of_nothing_in_a_hundred_thousand(lot: int, alike: float) -> None:
    assert watched(Line.of(11 + lot, 100_000, lot=lot, alike=alike)) == []


def test_the_first_odd_lots_do_not_warn() -> None:
    # Eighty parts of one lot that is two standard deviations off, every thousand parts.
    odd = np.where(np.arange(30_000) % 1000 < 80, 2.0, 0.0)
    assert watched(Line.of(5, 30_000, creep=odd)) == []


def test_a_slow_creep_warns_before_the_false_rejects_double() -> None:
    start, length = 20_000, 20_000
    creep = 0.5 * np.clip((np.arange(50_000) - start) / length, 0, 1)
    line = Line.of(3, 50_000, creep=creep)
    begun = watched(line)
    assert begun, "half a standard deviation is no secret"
    # Doubled by the truth that the line is drawn from, not by the few rejects counted so far.
    at = np.log(line.threshold) / 0.3
    doubled = at - stats.norm.isf(2 * stats.norm.sf(at))
    assert start < begun[0]
    assert creep[begun[0]] < doubled
    assert line.rejected(of=slice(40_000, 50_000)) > 2 * line.rejected(of=slice(0, 20_000))


def test_a_slower_look_finds_a_creep_among_lots_that_a_fast_one_may_not() -> None:
    pace = Pace(block=500, window=10_000, learn=40_000)
    creep = 0.5 * np.clip((np.arange(160_000) - 60_000) / 80_000, 0, 1)
    line = Line.of(9, 160_000, lot=40, alike=0.3, creep=creep)
    begun = watched(line, pace)
    assert begun
    assert begun[0] > 60_000
    assert creep[begun[0]] < 0.4


def test_scores_that_fall_warn_too() -> None:
    creep = np.where(np.arange(20_000) > 10_000, -1.0, 0.0)
    assert watched(Line.of(4, 20_000, creep=creep))


def test_a_line_that_rejects_everything_warns() -> None:
    creep = np.where(np.arange(12_000) > 6_000, 6.0, 0.0)
    begun = watched(Line.of(4, 12_000, creep=creep))
    assert begun
    assert begun[0] > 6_000


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1])
def test_defects_at_usual_rates_are_no_drift(rate: float) -> None:
    assert watched(Line.of(8, 40_000, defects=rate)) == []


def test_rejects_up_to_the_usual_rate_are_left_out_and_no_more() -> None:
    few, many = np.full(5, 18.0), np.full(5, 10.0)
    few[4], many[4] = 8.0, 60.0
    assert trimmed(few).tolist() == [18.0] * 4
    assert trimmed(many).tolist() == [10.0, 10.0, 10.0, 10.0 + 60.0 - DEFECTS * 100]


def test_the_stations_first_parts_join_the_reference_once_they_are_like_it() -> None:
    line = Line.of(2, 6000)
    series = ScoreSeries(line.sketch)
    before = series.reference[1]
    assert warnings(series, line) == []
    assert before <= 150 < 2000 < series.reference[1]


def test_first_parts_that_are_not_like_the_calibration_do_not_join_it() -> None:
    line = Line.of(2, 8000, creep=1.0)
    series = ScoreSeries(line.sketch)
    begun = warnings(series, line)
    assert begun
    assert begun[0] < 3000
    assert series.reference[1] == line.sketch.effective


def test_too_few_parts_say_nothing() -> None:
    series = ScoreSeries(normal_sketch())
    for _ in range(400):
        series.add(9.0)
    assert series.look() is None


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=60), st.floats(-60, 60), st.integers(0, 1000))
@settings(max_examples=60)
def test_any_calibration_makes_bins_that_every_score_has_a_place_in(
    values: list[float], limit: float, seed: int
) -> None:
    sketch = ScoreSketch.of(values, [str(n) for n in range(len(values))], limit)
    series = ScoreSeries(sketch, Pace(block=5, window=20, learn=100))
    rng = np.random.default_rng(seed)
    for score in rng.choice([*values, -1e9, 1e9], 120):
        series.add(float(score))
    look = series.look()
    assert look is not None
    assert look.psi >= 0
    assert 0 <= look.ks <= 1
    assert np.isfinite(look.excess)
    assert series.reference[0].sum() == pytest.approx(1)


@given(st.integers(0, 1000), st.integers(1, 700), st.integers(0, 300))
@settings(max_examples=25)
def test_a_state_that_was_kept_goes_on_as_if_nothing_had_been(seed: int, first: int, then: int) -> None:
    pace = Pace(block=10, window=100, learn=300)
    sketch = normal_sketch(200)
    rng = np.random.default_rng(seed)
    scores = [float(x) for x in rng.normal(size=first + then)]
    whole, begun = ScoreSeries(sketch, pace), ScoreSeries(sketch, pace)
    for score in scores[:first]:
        begun.add(score)
    resumed = ScoreSeries.from_map(json.loads(json.dumps(begun.to_map())), sketch, pace)
    for score in scores:
        whole.add(score)
    for score in scores[first:]:
        resumed.add(score)
    a, b = whole.look(), resumed.look()
    assert (a is None) == (b is None)
    if a is not None and b is not None:
        assert b.excess == pytest.approx(a.excess, rel=0.01, abs=1e-3)
    assert len(json.dumps(resumed.to_map())) < 4000


@given(st.integers(2, 400), st.integers(0, 1000))
@settings(max_examples=40)
def test_a_sketch_survives_its_manifest_and_splits_the_normals_into_like_shares(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = [float(v) for v in rng.normal(size=n)]
    groups = [f"g{i % 7}" for i in range(n)]
    sketch = ScoreSketch.of(values, groups, 9.0)
    assert 1 <= sketch.effective <= n
    read = ScoreSketch.from_map(json.loads(json.dumps(sketch.to_map())))
    assert read is not None
    assert read.edges == pytest.approx(sketch.edges, rel=1e-4, abs=1e-5)
    if n >= 10 * QUANTILES:
        shares = np.histogram(values, sketch.edges)[0] / n
        assert shares == pytest.approx(np.full(QUANTILES, 1 / QUANTILES), abs=0.03)


@pytest.mark.parametrize(
    "values",
    [
        None,
        {},
        {"edges": [1, 2]},
        {"edges": [3, 2, 1], "count": 3, "groups": 1, "effective": 1, "threshold": 1},
        "x",
    ],
)
def test_a_bundle_without_a_sketch_that_can_be_read_has_none(values: object) -> None:
    assert ScoreSketch.from_map(values) is None

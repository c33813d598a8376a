"""When the default is the best, within noise of it, behind, or weak."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from inference.results import Measure, Metrics, Report
from schemas.verdict import Mode
from tests.bench.claims import claims


def report(default: float, half: float | None, branch: float, missed: float = 0.1) -> Report:
    interval = None if half is None else (default - half, default + half)
    fused = Metrics(i_auroc=Measure(default, interval), miss_rate=Measure(missed))
    return Report(
        bundle="b/1",
        bundle_hash="",
        dataset="d",
        modes={Mode.FUSED: fused},
        branches={},
        fusions={},
        kinds={"dent": {Mode.FUSED: fused}},
        kind_branches={"dent": {"shape": Metrics(i_auroc=Measure(branch))}},
        kind_fusions={},
        counts={},
        groups=1,
        bootstrap=0,
        seed=0,
    )


@pytest.mark.parametrize(
    ("default", "half", "branch", "holds"),
    [(0.9, 0.05, 0.85, True), (0.9, 0.05, 0.94, True), (0.9, 0.05, 0.96, False), (0.9, None, 0.91, False)],
)
def test_the_best_may_be_within_the_interval_and_not_above_it(
    default: float, half: float | None, branch: float, holds: bool
) -> None:
    (found,) = claims([report(default, half, branch)], independent=True)
    assert found.holds is holds
    assert (found.kind, found.best, found.best_row) == ("dent", branch, "shape")
    assert found.strong


def test_more_seeds_leave_less_room_for_noise() -> None:
    one = claims([report(0.9, 0.06, 0.95)], independent=True)[0]
    nine = claims([report(0.9, 0.06, 0.95)] * 9, independent=True)[0]
    assert one.holds
    assert not nine.holds
    assert nine.high == pytest.approx(0.92)


def test_a_kind_under_the_least_is_weak_and_misses_are_the_mean() -> None:
    (found,) = claims([report(0.7, 0.1, 0.6, 0.2), report(0.8, 0.1, 0.6, 0.4)], independent=False)
    assert found.default == pytest.approx(0.75)
    assert not found.strong
    assert found.missed == pytest.approx(0.3)
    # Seeds of teaching on the same parts: no new parts, so the mean of their own intervals.
    assert found.low == pytest.approx(0.65)
    assert found.high == pytest.approx(0.85)
    assert replace(found, high=math.nan).to_json()["high"] is None


def test_a_row_that_a_seed_lacks_is_not_compared() -> None:
    with_both = report(0.9, 0.01, 0.99)
    without = report(0.9, 0.01, 0.5)
    only = Report(**{name: getattr(without, name) for name in Report.__slots__} | {"kind_branches": {}})
    assert claims([with_both, only], independent=True) == []

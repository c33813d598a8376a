"""Curves: counts are those of a plain list, percentiles are near numpy's, memory does not grow."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.board.window import STEP_S, STEPS, Window, percentile

NOW = 1_700_000_000.0
entries = st.lists(
    st.tuples(
        st.floats(0, 2500, allow_nan=False), st.sampled_from(["PASS", "REJECT"]), st.floats(0.5, 60_000)
    ),
    max_size=80,
)


@given(entries)
def test_counts_are_those_of_the_steps_that_lie_in_the_window(
    entries: list[tuple[float, str, float]],
) -> None:
    window = Window()
    for ago, decision, latency in entries:
        window.add(decision, latency, NOW - ago, NOW)
    newest = int(NOW // STEP_S)
    for over in (10, 600):
        expected = [
            decision
            for ago, decision, _ in entries
            if ago <= STEP_S * STEPS and newest - int((NOW - ago) // STEP_S) < over // STEP_S
        ]
        assert window.counts(NOW, over).total() == len(expected)
        assert window.counts(NOW, over)["REJECT"] == expected.count("REJECT")


@given(st.lists(st.floats(1, 60_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_percentiles_are_within_a_bin_of_the_true_ones(latencies: list[float], share: float) -> None:
    window = Window()
    for each in latencies:
        window.add("PASS", each, NOW - 15, NOW)
    found = window.series(NOW)["p50" if share == 0.5 else "p95"]
    shown = [each for each in found if each is not None]
    true = float(np.quantile(latencies, share, method="inverted_cdf"))
    assert len(shown) == 1
    assert shown[0] / true < 1.09
    assert true / shown[0] < 1.09


def test_the_steps_of_a_day_take_the_memory_of_half_an_hour() -> None:
    window = Window()
    for second in range(0, 86_400, 5):
        window.add("PASS", 10.0, NOW + second, NOW + second)
    assert len(window._steps) <= STEPS + 1
    assert len(window._seconds) <= 20
    assert window.rate(NOW + 86_395) == 0.2


def test_no_latency_has_no_percentile() -> None:
    window = Window()
    window.add("MISSING", None, NOW - 15, NOW)
    assert set(window.series(NOW)["p50"]) == {None}
    assert percentile(window._steps[next(iter(window._steps))].latencies, 0.5) is None
    assert math.isclose(sum(each or 0 for each in window.series(NOW)["verdicts"]), 1)

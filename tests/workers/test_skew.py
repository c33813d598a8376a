"""How long one sensor's record waits for the other's: what the station's pairs were seen to need."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.steps.skew import FLOOR_S, HOLD, LEAST_PAIRS, MARGIN, MAX_STATIONS, WINDOW, Skews

LONGEST = 0.15


def taught(skew: float, pairs: int = WINDOW) -> Skews:
    skews = Skews(LONGEST)
    for _ in range(pairs):
        skews.saw("s1", skew)
    return skews


def test_the_setting_holds_until_enough_pairs_were_seen() -> None:
    assert taught(0.004, LEAST_PAIRS - 1).wait("s1") == LONGEST
    assert taught(0.004, LEAST_PAIRS).wait("s1") == pytest.approx(0.004 * MARGIN + FLOOR_S)
    assert taught(0.004).wait("another") == LONGEST


def test_one_straggler_does_not_move_the_wait() -> None:
    skews = taught(0.004)
    before = skews.wait("s1")
    skews.saw("s1", 0.14)
    assert skews.wait("s1") == before


def test_a_half_that_came_too_late_lengthens_the_wait_at_once_and_for_a_while() -> None:
    skews = taught(0.004)
    usual = skews.wait("s1")
    skews.too_late("s1", 0.06)
    assert skews.wait("s1") == pytest.approx(0.06 * MARGIN + FLOOR_S)
    for _ in range(HOLD):
        skews.saw("s1", 0.004)
    assert skews.wait("s1") == usual


def test_a_station_whose_skew_grew_for_good_is_waited_for_as_long_as_it_needs() -> None:
    skews = taught(0.004)
    for _ in range(WINDOW):
        if skews.wait("s1") >= 0.06:
            skews.saw("s1", 0.06)
        else:
            skews.too_late("s1", 0.06)
    assert skews.wait("s1") >= 0.06


def test_what_was_learnt_is_taken_over_by_the_next_worker() -> None:
    skews = Skews(LONGEST)
    usual = taught(0.02).usual("s1")
    assert usual is not None
    skews.restore("s1", usual)
    assert skews.wait("s1") == taught(0.02).wait("s1")
    skews.forget(["s1"])
    assert skews.wait("s1") == LONGEST


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -1.0])
def test_a_skew_that_is_none_is_not_taken_over(nonsense: float) -> None:
    skews = Skews(LONGEST)
    skews.restore("s1", nonsense)
    assert skews.wait("s1") == LONGEST


def test_invented_stations_do_not_pile_up() -> None:
    skews = Skews(LONGEST)
    for n in range(3 * MAX_STATIONS):
        skews.saw(f"s{n}", 0.01)
    assert len(skews) == MAX_STATIONS


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=300))
def test_no_wait_is_ever_longer_than_the_setting_nor_shorter_than_the_floor(
    seen: list[tuple[bool, float]],
) -> None:
    skews = Skews(LONGEST)
    for late, skew in seen:
        (skews.too_late if late else skews.saw)("s1", skew)
        assert FLOOR_S <= skews.wait("s1") <= LONGEST

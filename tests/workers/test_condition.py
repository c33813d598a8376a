"""The four states of a sensor: what takes it down, what brings it up, and that it does not flap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from schemas.part import PartKey
from workers.steps.condition import MOST_PATIENCE, Condition, Limits, SensorState

UP, SUSPECT, DOWN, RECOVERING = SensorState


def run(
    condition: Condition, good: Sequence[bool | None], limits: Limits, *, start: int = 0
) -> list[SensorState]:
    """The states after each part: good, bad, or nobody knows."""
    states = []
    for trigger, is_good in enumerate(good, start):
        part = PartKey("s1", 1, trigger)
        if is_good is None:
            condition.doubted("few", part, trigger, limits)
        elif is_good:
            condition.worked(part, trigger, limits)
        else:
            condition.failed("missing", part, trigger, limits)
        states.append(condition.state)
    return states


LIMITS = Limits(down_after=3, up_after=3)


def test_one_bad_part_makes_a_suspect_that_good_ones_clear() -> None:
    assert run(Condition(), [False, True, True, True], LIMITS) == [SUSPECT, SUSPECT, UP, UP]


def test_several_in_a_row_take_it_down_and_several_pairs_bring_it_up() -> None:
    condition = Condition()
    states = run(condition, [False] * 3 + [True] * 3, LIMITS)
    assert states == [SUSPECT, SUSPECT, DOWN, RECOVERING, RECOVERING, UP]
    assert (condition.since, condition.why) == (5, "")


def test_one_that_is_bad_every_other_time_goes_down_and_stays_down() -> None:
    condition = Condition()
    states = run(condition, [False, True] * 30, LIMITS)
    assert DOWN in states[:12]
    assert UP not in states
    # Each failed recovery asks for more before the next: in the end none begins.
    assert set(states[30:]) == {DOWN}


def test_a_recovery_that_fails_makes_the_next_one_take_longer_up_to_a_bound() -> None:
    condition = Condition()
    run(condition, [False] * 3, LIMITS)
    for _ in range(20):
        while condition.state is DOWN:
            condition.rested(0)
        condition.failed("missing", PartKey("s1", 2, 0), 0, LIMITS)
    assert condition.patience == MOST_PATIENCE
    run(condition, [True] * (MOST_PATIENCE + 3), LIMITS, start=10)
    assert (condition.state, condition.patience) == (UP, 1)


def test_one_dark_part_is_not_a_broken_sensor_but_many_in_a_row_are() -> None:
    condition = Condition()
    assert run(condition, [None, None, True, None, None], LIMITS) == [UP] * 5
    assert run(condition, [None] * 3, LIMITS, start=5) == [SUSPECT, SUSPECT, DOWN]


def test_a_half_alone_does_not_bring_a_sensor_up() -> None:
    condition = Condition()
    run(condition, [False] * 3, LIMITS)
    for trigger in range(10, 30):
        condition.worked(PartKey("s1", 1, trigger), 0, LIMITS, pair=False)
    assert condition.state is RECOVERING


def test_what_is_learnt_late_of_an_earlier_part_does_not_bring_it_back() -> None:
    condition = Condition()
    run(condition, [False] * 3, LIMITS, start=10)
    condition.worked(PartKey("s1", 1, 9), 0, LIMITS)
    assert condition.state is DOWN
    # A new run begins its triggers again.
    condition.worked(PartKey("s1", 2, 0), 0, LIMITS)
    assert condition.state is RECOVERING


limits = st.builds(Limits, st.integers(1, 6), st.integers(2, 6))


@given(limits, st.lists(st.booleans(), max_size=30), st.booleans(), st.integers(2, 80))
def test_once_down_a_sensor_that_alternates_never_counts_as_up(
    limits: Limits, before: list[bool], first: bool, turns: int
) -> None:
    condition = Condition()
    run(condition, [*before, *[False] * limits.down_after], limits)
    assert condition.state is DOWN
    alternating = [first ^ bool(turn % 2) for turn in range(turns)]
    assert UP not in run(condition, alternating, limits, start=1000)


@given(limits, st.lists(st.sampled_from([True, False, None]), max_size=200))
def test_it_comes_up_only_after_enough_good_pairs_in_a_row_and_every_change_is_a_step(
    limits: Limits, good: list[bool | None]
) -> None:
    condition = Condition()
    states = [UP, *run(condition, good, limits)]
    for at, (before, after) in enumerate(pairwise(states)):
        if before in (DOWN, RECOVERING) and after in (UP, SUSPECT):
            assert after is UP
            assert good[at + 1 - limits.up_after : at + 1] == [True] * limits.up_after
        if before is RECOVERING and after is DOWN:
            assert good[at] is not True
        if before is UP:
            assert after in (UP, SUSPECT) or limits.down_after == 1
        if after is DOWN and before is not DOWN:
            assert good[at] is not True


@given(limits, st.lists(st.booleans(), max_size=60))
def test_from_anywhere_enough_good_pairs_bring_it_up_and_enough_bad_parts_take_it_down(
    limits: Limits, before: list[bool]
) -> None:
    condition = Condition()
    run(condition, before, limits)
    assert run(condition, [False] * limits.down_after, limits, start=100)[-1] is DOWN
    assert run(condition, [True] * (MOST_PATIENCE + limits.up_after), limits, start=200)[-1] is UP

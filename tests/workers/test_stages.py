"""Stage times add up, tell waiting from computing, and name an empty poll idle."""

from __future__ import annotations

import pytest

from workers.clock import ManualClock
from workers.stages import IDLE, INSPECT, POLL, StageTimes


def test_a_stage_counts_its_seconds_by_the_clock() -> None:
    clock = ManualClock()
    times = StageTimes(clock)
    for seconds in (0.5, 0.25):
        with times.stage(INSPECT):
            clock.sleep(seconds)
    found = times.to_json()[INSPECT]
    assert found["seconds"] == pytest.approx(0.75)
    assert found["count"] == 2
    # The clock went on and this thread did next to nothing.
    assert found["cpu"] < 0.1


def test_a_stage_that_turns_out_to_be_another_is_counted_as_that() -> None:
    times = StageTimes(ManualClock())
    with times.stage(IDLE) as stage:
        stage.name = POLL
    assert (times.totals[POLL].count, times.totals[IDLE].count) == (1, 0)


def test_a_stage_that_raises_is_counted_too() -> None:
    times = StageTimes(ManualClock())
    with pytest.raises(ValueError, match="on purpose"), times.stage(POLL):
        raise ValueError("on purpose")
    assert times.totals[POLL].count == 1

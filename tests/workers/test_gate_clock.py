"""The wall clock is set while parts are on their way: no gate opens for a part that is not in front of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.verdict import Decision
from tests.workers.gate_line import HOLD_S, RUN, GateLine, key, verdict
from workers.clock import ManualClock
from workers.gate import Reason, events


class WallClock(ManualClock):
    """A clock whose wall time can be set without time passing."""

    def set_by(self, seconds: float) -> None:
        self._now += round(seconds * 1e9)
        self._origin += round(seconds * 1e9)


@pytest.mark.parametrize("step_s", [-10.0, -0.2, 10.0])
def test_a_clock_that_is_set_keeps_the_parts_on_their_way_out_and_no_others(
    tmp_path: Path, step_s: float
) -> None:
    with GateLine(tmp_path) as line:
        clock = WallClock(RUN)
        line.clock = clock
        line.gate = line._gate()
        before = line.trigger()
        line.store.decide(verdict(before))
        line.pass_time(0.5)
        clock.set_by(step_s)
        line.pass_time(0.6)
        decided = line.decisions()[before]
        assert (decided.decision, decided.reason) == (Decision.STALE, Reason.CLOCK)
        assert events.ALARM_CLOCK in line.alarms
        line.pass_time(1.0 + abs(step_s), step_s=0.05)
        assert line.recorder.passed == []
        after = line.trigger()
        line.store.decide(verdict(after))
        line.pass_time(1.0)
        assert line.recorder.passed == [after]


def test_a_gate_that_is_open_when_the_clock_is_set_back_closes(tmp_path: Path) -> None:
    with GateLine(tmp_path) as line:
        clock = WallClock(RUN)
        line.clock = clock
        line.gate = line._gate()
        part = line.trigger()
        line.store.decide(verdict(part))
        line.pass_time(1.0)
        assert line.open_for() == part
        clock.set_by(-3600.0)
        line.pass_time(HOLD_S)
        assert line.open_for() is None


@pytest.mark.parametrize("ahead_s", [60.0, 86_400.0, 365 * 86_400.0])
@pytest.mark.parametrize("early", [False, True])
def test_a_part_triggered_in_the_future_is_kept_out_at_once_and_the_others_pass(
    tmp_path: Path, ahead_s: float, early: bool
) -> None:
    with GateLine(tmp_path) as line:
        line.options = {"early": early}
        line.gate = line._gate()
        wrong = key(99)
        line.source.trigger(wrong, RUN + round(ahead_s * 1e9))
        line.store.decide(verdict(wrong))
        line.pass_time(0.05)
        decided = line.decisions()[wrong]
        assert (decided.decision, decided.reason) == (Decision.STALE, Reason.CLOCK)
        assert events.ALARM_CLOCK in line.alarms
        after = line.trigger()
        line.store.decide(verdict(after))
        line.pass_time(1.0)
        assert line.recorder.passed == [after]

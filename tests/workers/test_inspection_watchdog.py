"""What the loop tells its watchdog: who does not answer is ended, who waits on purpose is not."""

from __future__ import annotations

import pytest

from tests.workers.frames import frame
from tests.workers.line import Line
from tests.workers.standin import StandInModel
from workers.clock import ManualClock
from workers.inspection import InspectionWorker
from workers.settings import Settings
from workers.watchdog import EXIT_STALLED, Watchdog


@pytest.fixture
def line() -> Line:
    return Line(partitions=1)


def test_a_worker_that_turns_without_answering_its_records_is_ended(line: Line) -> None:
    assert isinstance(line.clock, ManualClock)
    ended: list[int] = []
    watchdog = Watchdog(stall_s=30, clock=line.clock, exit=ended.append)
    settings = Settings(worker="w1", max_delay_ms=0, log="json")
    worker = InspectionWorker(
        settings, line.bus, line.store, StandInModel(), clock=line.clock, watchdog=watchdog
    )
    worker.step()
    line.send(frame(1, deadline_s=1000))
    worker._batcher.due = lambda now: False  # type: ignore[method-assign]
    for _ in range(40):
        worker.step()
        line.clock.advance(1.0)
        watchdog.check()
        if ended:
            break
    assert ended == [EXIT_STALLED]


def test_an_idle_worker_and_one_whose_sink_is_away_are_left_alone(line: Line) -> None:
    assert isinstance(line.clock, ManualClock)
    ended: list[int] = []
    watchdog = Watchdog(stall_s=5, clock=line.clock, exit=ended.append)
    settings = Settings(worker="w1", max_delay_ms=0, log="json")
    worker = InspectionWorker(
        settings, line.bus, line.store, StandInModel(), clock=line.clock, watchdog=watchdog
    )
    for _ in range(60):
        worker.step()
        line.clock.advance(0.5)
        assert not watchdog.check()
    line.bus.interrupt()
    for _ in range(60):
        worker.step()
        line.clock.advance(0.5)
        assert not watchdog.check()
    line.bus.restore()
    line.send(frame(1, captured_at=line.clock.now()))
    line.turn(worker, lambda: worker.answered == 1)
    assert ended == []

"""The steps around the model on the whole loop: gaps, clocks, shedding, and what the watchdog is told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.heartbeat import Heartbeat
from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import encode
from tests.workers.frames import frame
from tests.workers.line import FRAMES, Line
from tests.workers.standin import StandInModel
from workers.bus.base import TopicPartition, TopicSpec
from workers.clock import ManualClock
from workers.inspection import InspectionWorker
from workers.settings import Settings
from workers.watchdog import EXIT_STALLED, Watchdog

PLACE = TopicPartition(FRAMES, 0)
BEATS = "inspection.heartbeats"


@pytest.fixture
def line() -> Line:
    return Line(partitions=1)


def test_parts_whose_frames_were_deleted_unread_are_missing_one_by_one(line: Line) -> None:
    first = line.worker(name="first")
    for trigger in range(3):
        line.send(frame(trigger))
    line.turn(first, lambda: first.answered == 3)
    first.close()
    for trigger in range(3, 9):
        line.send(frame(trigger))
    line.bus.delete_before(PLACE, 7)
    second = line.worker(name="second")
    line.turn(second, lambda: second.answered == 6)
    verdicts = line.verdicts()
    assert [v.part.trigger for v in verdicts] == list(range(9))
    assert [v.decision for v in verdicts[3:7]] == [Decision.MISSING] * 4
    assert verdicts[3].reason == "gap: 4 records were deleted before they were read"
    assert {v.decision for v in (*verdicts[:3], *verdicts[7:])} == {Decision.PASS}
    assert line.committed() == 9


def test_parts_of_an_agent_whose_clock_is_ahead_are_errors_until_it_is_right_again(line: Line) -> None:
    line.bus.ensure_topics({BEATS: TopicSpec(partitions=1)})
    model = StandInModel()
    worker = line.worker(model)
    worker.step()

    def beat(ahead_s: float) -> None:
        for _ in range(4):
            message = Heartbeat(station="s1", agent="a", sent_at=line.clock.now() + int(ahead_s * 1e9), run=1)
            line.producer.send(BEATS, encode(message), partition=0).wait(1)
            worker.step()
            line.clock.advance(1.0)

    beat(5.0)
    line.send(frame(1, captured_at=line.clock.now()))
    line.turn(worker, lambda: worker.answered == 1)
    refused = line.standing(PartKey("s1", 1, 1))
    assert refused.decision is Decision.ERROR
    assert "clock_offset" in str(refused.reason)
    assert model.batches == []
    # Another station is judged as ever.
    line.send(frame(1, station="s2", captured_at=line.clock.now()))
    line.turn(worker, lambda: worker.answered == 2)
    assert line.standing(PartKey("s2", 1, 1)).decision is Decision.PASS
    beat(0.0)
    line.send(frame(2, captured_at=line.clock.now()))
    line.turn(worker, lambda: worker.answered == 3)
    assert line.standing(PartKey("s1", 1, 2)).decision is Decision.PASS


class TimedModel(StandInModel):
    """Half a second a part, by the line's clock."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.colours = 0

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        self.clock.advance(0.5 * len(batch))
        self.colours += sum(sample.rgb is not None for sample in batch)
        return super().inspect(batch)


def overloaded(line: Line, policy: str) -> tuple[InspectionWorker, TimedModel]:
    assert isinstance(line.clock, ManualClock)
    model = TimedModel(line.clock)
    worker = line.worker(model, shedding=policy, max_batch=2, max_in_flight=16, near_ms=0)
    worker.step()
    # The model is measured before there is too much to do.
    for trigger in range(4):
        line.send(frame(trigger, captured_at=line.clock.now()))
    line.turn(worker, lambda: worker.answered == 4)
    at = line.clock.now()
    for trigger in range(4, 12):
        line.send(frame(trigger, captured_at=at, deadline_s=1.6))
    line.turn(worker, lambda: worker.answered == 12)
    return worker, model


def test_what_cannot_be_in_time_gives_way_and_says_so(line: Line) -> None:
    overloaded(line, "late-first")
    verdicts = [v for v in line.verdicts() if v.part.trigger >= 4]
    shed = [v for v in verdicts if v.reason == "shed: late-first"]
    assert shed
    assert {v.decision for v in shed} == {Decision.STALE}
    assert all(v.decision is Decision.PASS for v in verdicts if v.decision is not Decision.STALE)
    assert len(verdicts) == 8


def test_under_pressure_the_colour_network_is_left_out_and_such_a_part_does_not_pass_unasked(
    line: Line,
) -> None:
    overloaded(line, "degrade")
    degraded = [v for v in line.verdicts() if "rgb:load" in v.degraded]
    assert degraded
    assert {v.decision for v in degraded} <= {Decision.REVIEW, Decision.STALE}


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

"""The loop and time: gaps, clocks that are off, deadlines that are near, more than can be scored."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.heartbeat import Heartbeat
from schemas.part import PartKey
from schemas.verdict import Decision, Mode, Verdict
from schemas.wire import encode
from tests.workers.frames import START, frame
from tests.workers.line import FRAMES, Line
from tests.workers.standin import StandInModel
from workers.bus.base import TopicPartition, TopicSpec
from workers.clock import ManualClock
from workers.steps.shedding import LOAD, SHED

BEATS = "inspection.heartbeats"
P0 = TopicPartition(FRAMES, 0)


@pytest.fixture
def line() -> Line:
    line = Line()
    line.bus.ensure_topics({BEATS: TopicSpec(partitions=1)})
    return line


class SlowModel(StandInModel):
    """Takes its time: longer with colour than without."""

    def __init__(self, clock: ManualClock, colour_s: float, depth_s: float = 0.001) -> None:
        super().__init__()
        self.clock, self.colour_s, self.depth_s = clock, colour_s, depth_s

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        self.clock.advance(sum(self.depth_s if s.rgb is None else self.colour_s for s in batch))
        return super().inspect(batch)


def in_order(verdicts: Sequence[Verdict]) -> bool:
    stations = {v.part.station for v in verdicts}
    orders = [[v.part.order for v in verdicts if v.part.station == station] for station in stations]
    return all(order == sorted(order) for order in orders)


# Gaps.


def test_parts_that_retention_deleted_unread_are_missing_in_their_place(line: Line) -> None:
    worker = line.worker()
    for trigger in range(3):
        line.send(frame(trigger))
    line.turn(worker, lambda: worker.answered == 3)
    worker.close()
    for trigger in range(3, 9):
        line.send(frame(trigger))
    line.bus.delete_before(P0, 6)
    after = line.worker(name="w2")
    line.turn(after, lambda: line.committed() == 9)
    verdicts = line.verdicts()
    assert [v.part.trigger for v in verdicts] == list(range(9))
    assert [v.decision for v in verdicts[3:6]] == [Decision.MISSING] * 3
    assert verdicts[3].reason == "gap: 3 records were deleted before they were read"
    assert {v.decision for v in (*verdicts[:3], *verdicts[6:])} == {Decision.PASS}


def test_parts_read_before_a_gap_are_answered_before_those_in_it(line: Line) -> None:
    worker = line.worker(max_delay_ms=5_000, max_batch=2)
    line.send(frame(0))
    worker.step()
    worker.step()
    for trigger in range(1, 6):
        line.send(frame(trigger))
    line.bus.delete_before(P0, 4)
    line.turn(worker, lambda: worker.answered == 6)
    assert [v.part.trigger for v in line.verdicts()] == list(range(6))
    assert sum(v.decision is Decision.MISSING for v in line.verdicts()) == 3


def test_a_gap_found_while_redis_is_away_is_named_when_it_is_back(line: Line) -> None:
    for trigger in range(6):
        line.send(frame(trigger))
    first = line.worker(max_batch=1, max_in_flight=1)
    line.turn(first, lambda: line.committed() == 1)
    first.close()
    line.bus.delete_before(P0, 4)
    worker = line.worker(name="w2")
    calls = iter([False, False])
    latest = line.store.latest

    def away(station: str) -> bytes | None:
        line.server.connected = next(calls, True)
        return latest(station)

    worker._gaps._latest = away
    line.turn(worker, lambda: line.committed() == 6)
    missing = [v.part.trigger for v in line.verdicts() if v.decision is Decision.MISSING]
    assert missing == [1, 2, 3]


# Clocks.


def beat(line: Line, ahead: float, station: str = "s1") -> None:
    sent = line.clock.now() + round(ahead * 1e9)
    line.producer.send(BEATS, encode(Heartbeat(station=station, agent="a", sent_at=sent)), partition=0).wait(
        1
    )


def test_a_station_whose_clock_is_ahead_gets_errors_and_never_the_model(line: Line) -> None:
    model = StandInModel()
    worker = line.worker(model)
    line.send(frame(1, captured_at=START + 5 * 10**9))
    line.send(frame(1, station="s2"), partition=1)
    line.turn(worker, lambda: worker.answered == 2)
    verdict = line.standing(PartKey("s1", 1, 1))
    assert verdict.decision is Decision.ERROR
    assert verdict.reason is not None
    assert verdict.reason.startswith("clock_offset: station s1: its clock is")
    assert line.standing(PartKey("s2", 1, 1)).decision is Decision.PASS
    assert model.batches == [1]


def test_a_station_behind_is_an_error_and_not_stale_and_passes_again_once_its_clock_is_right(
    line: Line,
) -> None:
    worker = line.worker()
    worker.step()
    for _ in range(4):
        line.clock.advance(1.0)
        beat(line, -3.0)
        worker.step()
    line.send(frame(1, captured_at=line.clock.now() - 3 * 10**9, deadline_s=0.25))
    line.turn(worker, lambda: worker.answered == 1)
    assert line.standing(PartKey("s1", 1, 1)).decision is Decision.ERROR
    for _ in range(2):
        line.clock.advance(1.0)
        beat(line, 0.0)
        worker.step()
    line.send(frame(2, captured_at=line.clock.now()))
    line.turn(worker, lambda: worker.answered == 2)
    assert line.standing(PartKey("s1", 1, 2)).decision is Decision.PASS


# Deadlines.


def test_a_part_whose_deadline_is_near_does_not_wait_for_a_full_batch(line: Line) -> None:
    worker = line.worker(max_delay_ms=5_000, near_ms=100)
    line.send(frame(1, deadline_s=0.3))
    line.turn(worker, lambda: worker.answered == 1)
    verdict = line.standing(PartKey("s1", 1, 1))
    assert verdict.decision is Decision.PASS
    assert verdict.decided_at < verdict.deadline


# Shedding.


def overload(line: Line, policy: str, parts: int = 120) -> list[Verdict]:
    """Twice as many parts as can be scored with colour, 20 ms each, a quarter of a second to decide."""
    model = SlowModel(line.clock, 0.02)
    worker = line.worker(model, shedding=policy, max_delay_ms=2)
    start, sent = line.clock.now(), 0
    for _ in range(5000):
        while sent < parts and start + sent * 10_000_000 <= line.clock.now():
            at = start + sent * 10_000_000
            line.send(frame(sent // 2, station=f"s{sent % 2}", captured_at=at, deadline_s=0.25, seed=sent))
            sent += 1
        worker.step()
        if worker.answered == parts:
            break
        line.clock.advance(0.001)
    worker.close()
    verdicts = line.verdicts()
    assert len({v.part for v in verdicts}) == len(verdicts) == parts
    assert in_order(verdicts)
    return verdicts


def in_time(verdicts: Sequence[Verdict]) -> int:
    return sum(v.mode is not None and v.decided_at <= v.deadline for v in verdicts)


def test_late_first_tells_each_part_it_gave_up_and_keeps_the_others_in_time(line: Line) -> None:
    verdicts = overload(line, "late-first")
    shed = [v for v in verdicts if v.reason == SHED]
    assert shed
    assert {v.decision for v in shed} == {Decision.STALE}
    assert in_time(verdicts) > 0.45 * len(verdicts)
    assert sum(v.mode is not None and v.decided_at > v.deadline for v in verdicts) <= 2


def test_without_shedding_the_same_load_leaves_few_in_time(line: Line) -> None:
    assert in_time(overload(line, "none")) < 0.3 * 120


def test_degrade_scores_nearly_all_in_time_and_passes_none_without_colour(line: Line) -> None:
    verdicts = overload(line, "degrade")
    degraded = [v for v in verdicts if LOAD in v.degraded]
    assert len(degraded) > 0.3 * len(verdicts)
    assert {(v.mode, v.decision) for v in degraded} == {(Mode.DEPTH, Decision.REVIEW)}
    assert in_time(verdicts) > 0.9 * len(verdicts)

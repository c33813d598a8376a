"""Sensors on the whole loop: halves that come late, that drop, that come back, from worker to worker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.frame import Frame
from schemas.part import PartKey
from schemas.verdict import Decision, Mode
from tests.workers.frames import frame
from tests.workers.line import VERDICTS, Line
from tests.workers.standin import StandInModel
from workers.inspection import InspectionWorker
from workers.steps.sensors import SensorState


@pytest.fixture
def line() -> Line:
    return Line()


WAIT_NS = 50_000_000
"""The worker looks before a half that is later than this comes."""


def whole(line: Line, trigger: int) -> Frame:
    return frame(trigger, captured_at=line.clock.now())


def started(line: Line, **settings: Any) -> InspectionWorker:
    """A worker that has its partitions."""
    worker = line.worker(**settings)
    while len(worker._consumer.assignment()) < 2:
        worker.step()
    return worker


def play(line: Line, worker: InspectionWorker, trigger: int, skew_ms: float | None) -> None:
    """One part a second, its depth so many milliseconds after its colour, or never."""
    of = whole(line, trigger)
    line.send(replace(of, depth=None))
    worker.step()
    if skew_ms is not None:
        for share in (0.75, 0.25):
            line.clock.advance(share * skew_ms / 1e3)
            if line.clock.now() >= of.captured_at + WAIT_NS:
                worker.step()
        line.send(replace(of, rgb=None))
    while line.clock.now() < of.captured_at + 1_000_000_000:
        worker.step()
        line.clock.advance(0.001)


def modes(line: Line, triggers: range) -> list[Mode | None]:
    return [line.standing(PartKey("s1", 1, trigger)).mode for trigger in triggers]


def test_halves_that_come_late_get_their_parts_answer_and_take_no_sensor_down(line: Line) -> None:
    model = StandInModel()
    worker = started(line, model=model, pair_wait_ms=50)
    for trigger in range(8):
        # Colour is always in time; of one part in four depth comes when its part has left.
        play(line, worker, trigger, 80 if trigger % 4 == 3 else 10)
    assert modes(line, range(8)) == [Mode.RGB if t % 4 == 3 else Mode.FUSED for t in range(8)]
    assert sum(model.batches) == 8
    assert len({record.value for record in line.read(VERDICTS)}) == 8
    assert worker._sensors.states()["s1", "rgb"] is SensorState.UP
    worker.close()
    assert line.committed() == 16


def test_a_late_half_in_one_batch_with_its_part_is_scored_once_and_counted_once(line: Line) -> None:
    model = StandInModel()
    worker = started(line, model=model, pair_wait_ms=10, max_delay_ms=500, max_batch=8)
    play(line, worker, 1, 80)
    assert model.batches == [1]
    verdicts = line.verdicts()
    assert [v.part.trigger for v in verdicts] == [1, 1]
    assert verdicts[0] == verdicts[1]
    worker.close()
    assert line.committed() == 2


def test_a_sensor_that_dies_costs_no_waiting_after_a_few_parts_and_comes_back_after_good_pairs(
    line: Line,
) -> None:
    worker = started(line, pair_wait_ms=150)
    for trigger in range(24):
        play(line, worker, trigger, None if 6 <= trigger < 14 else 20)
    assert modes(line, range(24)) == [Mode.FUSED] * 6 + [Mode.RGB] * 12 + [Mode.FUSED] * 6
    waits = []
    for trigger in range(24):
        verdict = line.standing(PartKey("s1", 1, trigger))
        assert (verdict.decision is Decision.PASS) == (verdict.mode is Mode.FUSED)
        waits.append(verdict.timings["wait"])
    assert waits[6:9] == [pytest.approx(150, abs=2)] * 3
    # Down: nobody waits; at 14 it sends again, and is waited for from then on.
    assert all(wait <= 10 for wait in waits[9:15])
    assert waits[15:] == [pytest.approx(20, abs=2)] * 9


def test_the_wait_is_learnt_and_left_to_the_next_worker(line: Line) -> None:
    first = started(line, name="w1", pair_wait_ms=400)
    for trigger in range(20):
        play(line, first, trigger, 20)
    first.close()
    second = started(line, name="w2", pair_wait_ms=400)
    # The first part tells the worker which station it serves; from the second on it waits as was learnt.
    play(line, second, 20, 20)
    play(line, second, 21, None)
    verdict = line.standing(PartKey("s1", 1, 21))
    assert verdict.degraded == ("depth:missing",)
    assert verdict.timings["wait"] < 60


def test_a_sensor_that_flaps_does_not_flap_the_mode_for_ever(line: Line) -> None:
    worker = started(line, pair_wait_ms=50)
    for trigger in range(40):
        play(line, worker, trigger, 10 if trigger % 2 else None)
    assert modes(line, range(12, 40)) == [Mode.RGB] * 28


def test_halves_whose_deadline_is_near_are_not_kept_waiting_until_it_has_gone(line: Line) -> None:
    worker = started(line, pair_wait_ms=1_000, near_ms=40)
    of = whole(line, 1)
    line.send(replace(of, depth=None, deadline=of.captured_at + 200_000_000))
    for _ in range(10):
        worker.step()
    verdict = line.standing(of.part)
    assert verdict.decision is Decision.REVIEW
    assert verdict.deadline - 40_000_000 <= verdict.decided_at <= verdict.deadline

"""Answers that need no model: notices, unreadable records, and their place among the others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import encode
from tests.workers.frames import START, frame
from tests.workers.line import DEAD, FRAMES, Line
from tests.workers.standin import StandInModel, by_sensors
from workers.bus.base import TopicPartition
from workers.steps import answering
from workers.steps.deadletter import REPLAYED


def notice(trigger: int, *, station: str = "s1", why: str = "buffer full") -> Notice:
    return Notice(
        part=PartKey(station, 1, trigger),
        product="widget",
        captured_at=START,
        deadline=START + 10**10,
        why=why,
    )


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_part_whose_images_were_given_up_is_missing_with_the_agents_reason(line: Line) -> None:
    worker = line.worker()
    line.send(notice(1))
    line.turn(worker, lambda: worker.answered == 1)
    worker.close()
    (verdict,) = line.verdicts()
    assert (verdict.decision, verdict.reason) == (Decision.MISSING, "notice: buffer full")
    assert verdict == line.standing(PartKey("s1", 1, 1))
    assert line.committed() == 1


def test_a_notice_never_undoes_a_decision_that_stands(line: Line) -> None:
    worker = line.worker()
    line.send(frame(1))
    line.turn(worker, lambda: worker.answered == 1)
    line.send(notice(1))
    line.turn(worker, lambda: worker.answered == 2)
    assert {v.decision for v in line.verdicts()} == {Decision.PASS}


def test_a_frame_that_comes_after_its_notice_does_not_pass(line: Line) -> None:
    worker = line.worker()
    line.send(notice(1))
    line.send(frame(1))
    line.turn(worker, lambda: line.committed() == 2)
    assert line.standing(PartKey("s1", 1, 1)).decision is Decision.MISSING


def test_verdicts_of_a_station_come_in_the_order_of_its_parts_whatever_needs_a_model(line: Line) -> None:
    worker = line.worker(max_batch=4)
    whole = encode(frame(3))
    line.send(frame(1))
    line.send(notice(2))
    line.send(frame(3), value=whole[: len(whole) // 2])
    line.send(frame(4))
    line.send(notice(5))
    # Another station of the partition waits for nobody.
    line.send(notice(0, station="s2"))
    line.turn(worker, lambda: worker.answered == 6)
    assert [v.part.trigger for v in line.verdicts() if v.part.station == "s1"] == [1, 2, 3, 4, 5]


def test_a_spoilt_half_does_not_let_its_part_overtake_those_before_it(line: Line) -> None:
    worker = line.worker(pair_wait_ms=200)
    whole = encode(replace(frame(2), rgb=None))
    line.send(replace(frame(1), depth=None))
    line.send(replace(frame(2), depth=None))
    line.send(frame(2), value=whole[: len(whole) // 2])
    line.turn(worker, lambda: line.committed() == 3)
    assert [v.part.trigger for v in line.verdicts()] == [1, 2]
    assert line.standing(PartKey("s1", 1, 2)).decision is Decision.ERROR
    assert len(line.read(DEAD)) == 1


def test_answers_that_wait_for_a_part_in_front_are_held_and_pause_the_line(line: Line) -> None:
    worker = line.worker(pair_wait_ms=10_000, max_in_flight=8, max_batch=4)
    line.send(replace(frame(0), depth=None))
    for trigger in range(1, 60):
        line.send(notice(trigger))
    for _ in range(30):
        worker.step()
        line.clock.advance(0.01)
    assert len(worker._aside) <= 12
    line.turn(worker, lambda: line.committed() == 60, turns=2000)
    assert [v.part.trigger for v in line.verdicts()] == list(range(60))


def test_an_answer_without_a_model_waits_for_a_part_in_front_that_waits_for_its_sensor(line: Line) -> None:
    worker = line.worker(pair_wait_ms=100)
    line.send(frame(1, with_depth=False))
    line.send(notice(2))
    worker.step()
    assert worker.answered == 0
    line.turn(worker, lambda: worker.answered == 2)
    assert [v.part.trigger for v in line.verdicts()] == [1, 2]


def test_retried_parts_keep_their_place_between_fresh_ones(line: Line) -> None:
    line.store.begin_attempt(PartKey("s1", 1, 2))
    for _ in range(2):
        line.store.begin_attempt(PartKey("s1", 1, 4))
    model = StandInModel()
    worker = line.worker(model, max_batch=8)
    for trigger in range(1, 7):
        line.send(frame(trigger))
    line.turn(worker, lambda: worker.answered == 6)
    verdicts = line.verdicts()
    assert [v.part.trigger for v in verdicts] == [1, 2, 3, 4, 5, 6]
    assert [v.attempt for v in verdicts] == [1, 2, 1, 2, 1, 1]
    assert verdicts[3].decision is Decision.ERROR
    # The one that was on a bench when its worker died went alone.
    assert model.batches == [1, 1, 3]


class SlowModel(StandInModel):
    """Takes until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.begun = threading.Event()

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        self.begun.set()
        assert self.go.wait(20)
        return [by_sensors(sample) for sample in batch]


def test_a_slow_batch_keeps_its_worker_in_the_group_and_its_partitions(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "MODEL_POLL_S", 0.001)
    model = SlowModel()
    worker = line.worker(model, session_timeout_ms=6000)
    worker.step()
    line.send(frame(1))
    polls = 0
    poll = worker._consumer.poll

    def counted(timeout: float) -> object:
        nonlocal polls
        records = poll(timeout)
        if model.begun.is_set():
            # Twenty sessions and two poll intervals pass while the model is busy.
            polls += 1
            line.clock.advance(3.0)
            if polls == 40:
                model.go.set()
        return records

    worker._consumer.poll = counted  # type: ignore[assignment,method-assign]
    line.turn(worker, lambda: worker.answered == 1)
    worker.close()
    assert polls >= 40
    assert line.committed() == 1
    assert [v.part.trigger for v in line.verdicts()] == [1]
    other = line.bus.consumer("crosscheck-workers")
    assert other.committed(TopicPartition(FRAMES, 0)) == 1


def test_a_dead_letter_sent_again_never_reaches_the_model_whatever_its_deadline_says(line: Line) -> None:
    model = StandInModel()
    worker = line.worker(model)
    line.producer.send(
        FRAMES,
        encode(frame(1, deadline_s=1e6)),
        key=b"s1/1/1",
        partition=0,
        headers=((REPLAYED, b"7"),),
    ).wait(1)
    line.turn(worker, lambda: worker.answered == 1)
    assert line.standing(PartKey("s1", 1, 1)).decision is Decision.STALE
    assert model.batches == []

"""Verdicts and offsets in one transaction: on the in-memory bus, whose contract the real broker shares."""

from __future__ import annotations

import pytest

from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import decode_verdict
from tests.workers.frames import frame
from tests.workers.line import FRAMES, VERDICTS, Line
from workers.bus.base import Consumer, Record, TopicPartition
from workers.errors import BusError, Fenced
from workers.inspection import InspectionWorker
from workers.steps.delivery import Transactional
from workers.steps.offsets import OffsetTracker

PLACE = TopicPartition(FRAMES, 0)


def transactional(line: Line) -> InspectionWorker:
    return line.worker(delivery="transactions")


def committed_reader(line: Line) -> Consumer:
    reader = line.bus.consumer(None, read_committed=True)
    reader.assign({TopicPartition(VERDICTS, 0)})
    reader.seek(TopicPartition(VERDICTS, 0), 0)
    return reader


def read_all(reader: Consumer) -> list[Record]:
    found: list[Record] = []
    while batch := reader.poll(0):
        found += batch
    return found


@pytest.fixture
def line() -> Line:
    return Line(partitions=1)


def test_verdicts_and_offsets_are_committed_together(line: Line) -> None:
    worker = transactional(line)
    for trigger in range(5):
        line.send(frame(trigger))
    line.turn(worker, lambda: worker.answered == 5)
    # Nothing was committed by the loop itself: it went with the verdicts.
    assert line.committed() == 5
    worker.close()
    seen = [decode_verdict(r.value) for r in read_all(committed_reader(line))]
    assert [(v.part.trigger, v.decision) for v in seen] == [(t, Decision.PASS) for t in range(5)]


def test_a_refused_send_shows_no_half_batch_and_every_verdict_once_afterwards(line: Line) -> None:
    worker = transactional(line)
    for trigger in range(4):
        line.send(frame(trigger))
    line.bus.fail_sends(2)
    line.turn(worker, lambda: worker.answered == 4, turns=200)
    seen = [decode_verdict(r.value).part.trigger for r in read_all(committed_reader(line))]
    assert seen == [0, 1, 2, 3]
    assert line.committed() == 4


def test_a_lost_answer_to_a_commit_does_not_show_a_verdict_twice(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = transactional(line)
    delivery = worker._delivery
    assert isinstance(delivery, Transactional)
    producer = delivery.producer
    commit = producer.commit_transaction
    lost: list[int] = []

    def lose_the_first_answer(timeout: float) -> None:
        commit(timeout)
        if not lost:
            lost.append(1)
            raise BusError("no answer")

    monkeypatch.setattr(producer, "commit_transaction", lose_the_first_answer)
    line.send(frame(1))
    line.turn(worker, lambda: worker.answered == 1)
    assert lost
    assert len(read_all(committed_reader(line))) == 1


def test_a_worker_whose_name_was_taken_ends_instead_of_answering_twice(line: Line) -> None:
    old = transactional(line)
    old.step()
    transactional(line)
    line.send(frame(1))
    with pytest.raises(Fenced):
        line.turn(old, lambda: old.answered == 1)


def test_a_dead_workers_open_transaction_is_never_seen_and_its_parts_are_answered_again(line: Line) -> None:
    dead = transactional(line)
    delivery = dead._delivery
    assert isinstance(delivery, Transactional)
    producer = delivery.producer
    producer.begin()
    producer.send(VERDICTS, b"half a batch", partition=0)
    # It never comes back; its successor has its name.
    successor = transactional(line)
    line.send(frame(1))
    line.clock.advance(7)
    line.turn(successor, lambda: successor.answered == 1, turns=800)
    (seen,) = read_all(committed_reader(line))
    assert decode_verdict(seen.value).part == PartKey("s1", 1, 1)


def test_what_could_be_committed_is_told_without_changing_anything() -> None:
    tracker = OffsetTracker()
    tracker.assigned({PLACE})
    tracker.committed({PLACE: 0})
    tickets = [tracker.take(PLACE, offset) for offset in range(4)]
    assert all(tickets)
    one, two, three, four = tickets
    assert one is not None
    assert two is not None
    assert three is not None
    assert four is not None
    assert tracker.committable_after([two]) == {}
    assert tracker.committable_after([two, one]) == {PLACE: 2}
    tracker.finish(three)
    assert tracker.committable_after([two, one]) == {PLACE: 3}
    assert tracker.committable() == {}
    tracker.dropped({PLACE})
    assert tracker.committable_after([one, four]) == {}

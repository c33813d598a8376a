"""What no Kafka client can decode: a dead letter, MISSING for the parts that are known to be lost, and on."""

from __future__ import annotations

from schemas.verdict import Decision
from schemas.wire import encode
from tests.workers.frames import frame
from tests.workers.line import DEAD, FRAMES, Line
from workers.bus.base import TopicPartition
from workers.deadletters import Fate, Replayer, letters
from workers.inspection import InspectionWorker

P0 = TopicPartition(FRAMES, 0)


def until_answered(worker: InspectionWorker) -> None:
    for _ in range(20):
        worker.step()


def test_a_record_whose_key_can_be_read_is_an_error_and_a_dead_letter_with_its_bytes() -> None:
    line = Line()
    for trigger in range(3):
        line.send(frame(trigger))
    line.bus.spoil(P0, 1, 1, "a header's name is not UTF-8")
    worker = line.worker()
    until_answered(worker)
    verdicts = {verdict.part.trigger: verdict for verdict in line.verdicts()}
    assert verdicts[1].decision is Decision.ERROR
    assert (verdicts[1].reason or "").startswith("undecodable: inspection.frames[0] at 1: a header's name")
    assert {verdicts[0].decision, verdicts[2].decision} == {Decision.PASS}
    (letter,) = letters(line.bus, DEAD)
    assert (letter.reason, letter.origin, letter.until) == ("undecodable", (P0, 1), None)
    assert letter.part == frame(1).part
    assert letter.size == len(encode(frame(1)))
    assert line.committed() == 3
    worker.close()


def test_the_parts_of_a_batch_that_cannot_be_decoded_are_missing_and_its_bytes_are_kept() -> None:
    line = Line()
    for trigger in range(6):
        line.send(frame(trigger))
    line.bus.spoil(P0, 2, 4, "no such codec")
    worker = line.worker()
    until_answered(worker)
    verdicts = line.verdicts()
    assert [verdict.part.trigger for verdict in verdicts] == list(range(6))
    assert [verdict.decision for verdict in verdicts[2:5]] == [Decision.MISSING] * 3
    assert {verdict.reason for verdict in verdicts[2:5]} == {"gap: 3 records could not be read"}
    (letter,) = letters(line.bus, DEAD)
    assert (letter.reason, letter.origin, letter.until) == ("undecodable", (P0, 2), 4)
    assert letter.part is None
    assert letter.size == sum(len(encode(frame(trigger))) for trigger in (2, 3, 4))
    assert line.committed() == 6
    worker.close()


def test_a_letter_that_names_nobody_is_a_gap_too() -> None:
    line = Line()
    line.send(frame(0))
    line.send(frame(1), value=b"rubbish", key=b"nobody")
    line.send(frame(2))
    worker = line.worker()
    until_answered(worker)
    found = {verdict.part.trigger: verdict.decision for verdict in line.verdicts()}
    assert found == {0: Decision.PASS, 1: Decision.MISSING, 2: Decision.PASS}
    worker.close()


def test_a_worker_that_dies_behind_it_leaves_it_to_the_next_one_and_one_letter_is_enough() -> None:
    line = Line()
    for trigger in range(4):
        line.send(frame(trigger))
    line.bus.spoil(P0, 1, 2, "no such codec")
    first = line.worker()
    until_answered(first)
    first.close()
    second = line.worker(name="w2")
    until_answered(second)
    assert len(letters(line.bus, DEAD)) == 1
    second.close()


def test_a_batch_is_not_sent_again() -> None:
    line = Line()
    for trigger in range(3):
        line.send(frame(trigger))
    line.bus.spoil(P0, 0, 1, "no such codec")
    worker = line.worker()
    until_answered(worker)
    worker.close()
    replayer = Replayer(line.bus, line.store, dead=DEAD, verdicts="inspection.verdicts", clock=line.clock)
    (replayed,) = replayer.replay(letters(line.bus, DEAD))
    assert replayed.fate is Fate.REFUSED
    assert "its sender has to send it again" in replayed.says
    replayer.close()

"""The loop while its partitions, its topic or its name are taken: nothing is lost, doubled or believed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from inference.inspection import Inspection
from inference.sample import Sample
from tests.workers.frames import frame
from tests.workers.line import FRAMES, Line
from tests.workers.standin import StandInModel
from workers.bus.base import TopicPartition, TopicSpec
from workers.clock import ManualClock
from workers.errors import StoreError
from workers.inspection import InspectionWorker

P0 = TopicPartition(FRAMES, 0)


@pytest.fixture
def line() -> Line:
    return Line()


class Slow(StandInModel):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        self.clock.advance(1.5)
        return super().inspect(batch)


def remake(line: Line) -> None:
    line.bus.delete_topic(FRAMES)
    line.bus.ensure_topics({FRAMES: TopicSpec(partitions=2)})


def test_a_topic_made_again_and_as_long_as_the_old_one_is_committed_from_its_beginning(line: Line) -> None:
    worker = line.worker()
    for trigger in range(4):
        line.send(frame(trigger))
    line.turn(worker, lambda: line.committed() == 4)
    remake(line)
    for trigger in range(4, 8):
        line.send(frame(trigger))
    line.turn(worker, lambda: worker.answered == 8 and line.committed() == 4)
    line.send(frame(8))
    line.turn(worker, lambda: line.committed() == 5)
    assert [v.part.trigger for v in line.verdicts()] == list(range(9))


def test_what_was_read_of_a_topic_is_answered_though_it_takes_longer_than_a_drain(line: Line) -> None:
    worker = line.worker(Slow(line.clock), max_delay_ms=9_000, near_ms=0, max_batch=2, drain_s=2.0)
    line.turn(worker, lambda: len(worker._consumer.assignment()) == 2)
    parts = [frame(trigger, deadline_s=1000) for trigger in range(6)]
    for of in parts:
        line.send(of)
    with pytest.MonkeyPatch.context() as held:
        held.setattr(worker._batcher, "due", lambda now: False)
        while worker._held < 6:
            worker.step()
    remake(line)
    line.send(frame(6, deadline_s=1000))
    line.turn(worker, lambda: worker.answered == 7, turns=1500)
    assert [v.part.trigger for v in line.verdicts()] == list(range(7))


def test_sensors_of_a_station_that_went_while_redis_was_away_are_read_anew_when_it_is_back(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = line.worker(name="w1")
    line.turn(first, lambda: len(first._consumer.assignment()) == 2)
    line.send(frame(0, station="s2", deadline_s=1000), partition=1)
    read = line.store.get_sensors_many
    others: list[InspectionWorker] = []

    def away(station: str, names: Sequence[str]) -> list[dict[str, str]]:
        if not others:
            # While the first worker waits for Redis, another joins and gets the partition.
            others.append(line.worker(name="w2"))
            others[0].step()
            raise StoreError("redis is away")
        return read(station, names)

    monkeypatch.setattr(line.store, "get_sensors_many", away)
    line.turn(first, lambda: first._consumer.assignment() == {P0})
    assert not first._sensors.knows("s2")
    line.turn(others[0], lambda: line.committed(1) == 1)
    first.step()
    assert not first._sensors.knows("s2")

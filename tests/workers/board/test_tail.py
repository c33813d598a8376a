"""A topic read from some way back: outages, retention and a topic made anew do not end it."""

from __future__ import annotations

import pytest

from workers.board.tail import Tail
from workers.bus.base import Bus, Record, TopicPartition, TopicSpec
from workers.bus.memory import MemoryBus
from workers.clock import ManualClock
from workers.errors import BusError

TOPIC = "line.verdicts"


class Reading:
    """A bus with one topic, and a tail that notes what it reads."""

    def __init__(self, *, history: int = 3, partitions: int = 1) -> None:
        self.bus = MemoryBus(ManualClock())
        self.bus.ensure_topics({TOPIC: TopicSpec(partitions=partitions)})
        self.away = False
        self.taken: list[tuple[bytes, bool]] = []
        self.tail = Tail(self.open, TOPIC, self.take, history=history)
        self.producer = self.bus.producer()

    def open(self) -> Bus:
        if self.away:
            raise BusError("nobody listens there")
        return self.bus

    def take(self, record: Record, live: bool) -> None:
        self.taken.append((record.value, live))

    def send(self, *values: str, partition: int = 0) -> None:
        for value in values:
            self.producer.send(TOPIC, value.encode(), partition=partition).wait(1)

    def read(self) -> list[tuple[bytes, bool]]:
        while self.tail.read(0.0):
            pass
        taken, self.taken = self.taken, []
        return taken


def test_the_newest_of_what_was_there_comes_as_history_and_what_follows_live() -> None:
    reading = Reading(history=2)
    reading.send("a", "b", "c")
    assert reading.read() == [(b"b", False), (b"c", False)]
    reading.send("d")
    assert reading.read() == [(b"d", True)]
    assert reading.tail.kept == 4


def test_the_history_of_many_partitions_is_bounded_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.board.tail.MOST_HISTORY", 4)
    reading = Reading(history=100, partitions=2)
    for partition in (0, 1):
        reading.send(*"abcde", partition=partition)
    assert sorted(value for value, _ in reading.read()) == [b"d", b"d", b"e", b"e"]


def test_after_an_outage_it_goes_on_where_it_was() -> None:
    reading = Reading()
    reading.send("a")
    assert reading.read() == [(b"a", False)]
    reading.tail.close()
    reading.away = True
    with pytest.raises(BusError):
        reading.read()
    reading.send("b", "c", "d", "e", "f")
    reading.away = False
    assert [value for value, _ in reading.read()] == [b"b", b"c", b"d", b"e", b"f"]


def test_retention_that_was_faster_is_stepped_over() -> None:
    reading = Reading()
    reading.send("a")
    reading.read()
    reading.send("b", "c", "d")
    reading.bus.delete_before(TopicPartition(TOPIC, 0), 3)
    reading.tail.read(0.0)
    assert [value for value, _ in reading.read()] == [b"d"]


@pytest.mark.parametrize("outage", [False, True])
def test_a_topic_made_anew_is_read_from_its_beginning(outage: bool) -> None:
    reading = Reading(history=100)
    reading.send("a", "b", "c")
    reading.read()
    if outage:
        reading.tail.close()
    reading.bus.delete_topic(TOPIC)
    reading.bus.ensure_topics({TOPIC: TopicSpec(partitions=1)})
    reading.send("new")
    found: list[bytes] = []
    for _ in range(4):
        found += [value for value, _ in reading.read()]
    assert found == [b"new"]


def test_a_record_that_cannot_be_taken_does_not_end_it() -> None:
    reading = Reading()

    def take(record: Record, live: bool) -> None:
        if record.value == b"bad":
            raise RuntimeError("no")
        reading.taken.append((record.value, live))

    reading.tail = Tail(reading.open, TOPIC, take, history=10)
    reading.send("bad", "good")
    assert reading.read() == [(b"good", False)]


def test_partitions_that_are_added_are_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.board.tail.NEW_PARTITIONS_S", 0.0)
    reading = Reading(history=10)
    reading.send("a")
    reading.read()
    reading.bus.ensure_topics({TOPIC: TopicSpec(partitions=2)})
    reading.send("b", partition=1)
    found = [*reading.read(), *reading.read(), *reading.read()]
    assert [value for value, _ in found] == [b"b"]


def test_a_topic_that_is_not_there_is_said() -> None:
    reading = Reading()
    tail = Tail(reading.open, "line.none", reading.take, history=1)
    with pytest.raises(BusError, match="crosscheck topics"):
        tail.read(0.0)


def test_its_thread_says_why_nothing_comes_and_ends_when_told() -> None:
    reading = Reading()
    reading.away = True
    tail = Tail(reading.open, TOPIC, reading.take, history=1)
    tail.start()
    tail._stop.wait(0.3)
    assert tail.failure == "nobody listens there"
    tail.stop()
    tail.join(5.0)
    assert tail._thread is not None
    assert not tail._thread.is_alive()

"""``Verdicts``: each part once, of the stations that were asked for, through outages and strange records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from crosscheck import BusError, Decision, InvalidField, PartKey, SettingsError, StationMap, Verdicts
from schemas.wire import encode
from tests.workers.gate_line import key, verdict
from workers.bus.base import Bus, TopicSpec
from workers.bus.memory import MemoryBus
from workers.clock import ManualClock

TOPIC = "inspection.verdicts"


class Line:
    """A bus in memory with a topic of verdicts."""

    def __init__(self, partitions: int = 2) -> None:
        self.bus = MemoryBus(ManualClock())
        self.partitions(partitions)
        self.producer = self.bus.producer()
        self.away = False

    def partitions(self, count: int) -> None:
        self.bus.ensure_topics({TOPIC: TopicSpec(partitions=count)})

    def open(self) -> Bus:
        if self.away:
            raise BusError("nobody listens there")
        return self.bus

    def tell(self, *values: bytes, partition: int = 0) -> None:
        for value in values:
            self.producer.send(TOPIC, value, partition=partition).wait(1)


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.bus.close()


def triggers(verdicts: Verdicts) -> list[int]:
    found = []
    while got := verdicts.poll(0.0):
        found += [each.part.trigger for each in got]
    return found


def test_it_begins_at_the_end_and_gives_what_is_told_from_then_on(line: Line) -> None:
    line.tell(encode(verdict(key(0))))
    with Verdicts(line.bus) as verdicts:
        assert triggers(verdicts) == []
        line.tell(encode(verdict(key(1), Decision.REJECT)))
        (found,) = verdicts.poll(0.0)
    assert (found.part, found.decision) == (key(1), Decision.REJECT)


def test_earlier_verdicts_come_where_they_are_asked_for(line: Line) -> None:
    line.tell(*(encode(verdict(key(n))) for n in range(5)))
    assert triggers(Verdicts(line.bus, history=3)) == [2, 3, 4]


def test_the_first_verdict_of_a_part_is_given_and_repeats_are_not(line: Line) -> None:
    verdicts = Verdicts(line.bus, history=10)
    line.tell(encode(verdict(key(0))), encode(replace(verdict(key(0)), attempt=2)), encode(verdict(key(1))))
    found = verdicts.poll(0.0)
    assert [(each.part.trigger, each.attempt) for each in found] == [(0, 1), (1, 1)]


def test_what_is_remembered_is_bounded(line: Line) -> None:
    line.tell(*(encode(verdict(key(n % 3))) for n in range(6)))
    assert len(triggers(Verdicts(line.bus, history=10, remember=3))) == 3
    assert len(triggers(Verdicts(line.bus, history=10, remember=2))) == 6


def test_only_the_stations_that_were_asked_for_are_given(line: Line) -> None:
    verdicts = Verdicts(line.bus, stations=["s2"], history=10)
    line.tell(encode(verdict(key(0))), encode(verdict(PartKey("s2", 1, 7))))
    assert triggers(verdicts) == [7]


def test_a_station_that_is_not_on_the_map_is_refused_instead_of_waited_for() -> None:
    with pytest.raises(SettingsError, match="'s9' is not on the station map"):
        Verdicts("127.0.0.1:1", stations=["s9"], station_map=StationMap({"s1": 0}))
    with pytest.raises(InvalidField, match="station 's 1'"):
        Verdicts("127.0.0.1:1", stations=["s 1"])
    with pytest.raises(TypeError, match=r"give a list of names, as \['s1'\]"):
        Verdicts("127.0.0.1:1", stations="s1")


def test_a_record_that_is_no_verdict_is_counted_and_the_next_is_given(line: Line) -> None:
    verdicts = Verdicts(line.bus, history=10)
    line.tell(b"\xc1", encode(verdict(key(3))), b"")
    assert triggers(verdicts) == [3]
    assert verdicts.unreadable == 2


def test_while_the_broker_is_away_poll_raises_and_afterwards_nothing_is_missing(line: Line) -> None:
    verdicts = Verdicts(line.open)
    assert verdicts.poll(0.0) == []
    line.tell(encode(verdict(key(0))))
    assert triggers(verdicts) == [0]
    line.away = True
    verdicts._tail.close()  # as after an error of its consumer
    verdicts._opened = None
    with pytest.raises(BusError, match="nobody listens"):
        verdicts.poll(0.0)
    # On a partition that it has read, and on one of which it has not read a record yet.
    line.tell(encode(verdict(key(1))))
    line.tell(encode(verdict(key(2))), partition=1)
    line.away = False
    assert sorted(triggers(verdicts)) == [1, 2]


def test_a_partition_that_is_added_is_read_from_its_begin(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.board.tail.NEW_PARTITIONS_S", 0.0)
    verdicts = Verdicts(line.bus)
    assert triggers(verdicts) == []
    line.partitions(3)
    line.tell(encode(verdict(key(4))), partition=2)
    found = [each for _ in range(3) for each in verdicts.poll(0.0)]
    assert [each.part.trigger for each in found] == [4]


def test_iterating_survives_an_outage_and_ends_when_closed(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crosscheck.verdicts.RETRY_S", 0.0)
    monkeypatch.setattr("crosscheck.verdicts.POLL_S", 0.0)
    refusals = iter([True, True])

    def opened() -> Bus:
        if next(refusals, False):
            raise BusError("nobody listens there")
        return line.bus

    line.tell(encode(verdict(key(0))), encode(verdict(key(1))))
    verdicts = Verdicts(opened, history=10)
    found = []
    for each in verdicts:
        found.append(each.part.trigger)
        if len(found) == 2:
            verdicts.close()
    assert found == [0, 1]
    with pytest.raises(ValueError, match="closed"):
        verdicts.poll(0.0)

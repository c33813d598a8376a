"""The in-memory broker keeps the bus contract, with time set by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.contract.suite import BusContract
from workers.bus.base import Bus, Producer, TopicPartition, TopicSpec
from workers.bus.memory import MemoryBus
from workers.clock import ManualClock
from workers.errors import BusError, Fenced, OffsetGap


class TestMemoryBus(BusContract):
    @pytest.fixture
    def bus(self) -> Iterator[MemoryBus]:
        self.time = ManualClock()
        bus = MemoryBus(self.time)
        yield bus
        bus.close()

    def pass_time(self, seconds: float) -> None:
        self.time.advance(seconds)

    @contextmanager
    def unacknowledged(self, bus: Bus) -> Iterator[Producer]:
        assert isinstance(bus, MemoryBus)
        producer = bus.producer(max_in_flight_bytes=1000, max_block=0.2)
        bus.interrupt()
        yield producer
        bus.restore()

    def spoil_record(self, bus: Bus, topic: str, key: bytes, value: bytes) -> None:
        assert isinstance(bus, MemoryBus)
        _, offset = bus.producer().send(topic, value, key=key, partition=0).wait(1)
        bus.spoil(TopicPartition(topic, 0), offset, offset, "made so")

    def spoil_batch(self, bus: Bus, topic: str, values: list[bytes]) -> None:
        assert isinstance(bus, MemoryBus)
        producer = bus.producer()
        offsets = [producer.send(topic, value, partition=0).wait(1)[1] for value in values]
        bus.spoil(TopicPartition(topic, 0), offsets[0], offsets[-1], "made so")

    def delete_topic(self, bus: Bus, topic: str) -> None:
        assert isinstance(bus, MemoryBus)
        bus.delete_topic(topic)


def _bus() -> tuple[MemoryBus, ManualClock]:
    clock = ManualClock()
    bus = MemoryBus(clock)
    bus.ensure_topics({"t": TopicSpec(partitions=1, retention_ms=60_000, retention_bytes=100)})
    return bus, clock


def test_a_killed_member_is_missed_only_after_its_session() -> None:
    bus, clock = _bus()
    first, second = bus.consumer("g", session_timeout=6), bus.consumer("g", session_timeout=6)
    first.subscribe({"t"})
    first.poll(0)
    first.kill()
    second.subscribe({"t"})
    second.poll(0)
    assert second.assignment() == set()
    clock.advance(6)
    second.poll(0)
    assert second.assignment() == {TopicPartition("t", 0)}


def test_retention_by_time_and_bytes_makes_a_gap() -> None:
    bus, clock = _bus()
    reader, producer = bus.consumer(None), bus.producer()
    reader.assign({TopicPartition("t", 0)})
    for _ in range(3):
        producer.send("t", bytes(60), partition=0)
    with pytest.raises(OffsetGap) as caught:
        reader.poll(0)
    assert caught.value.missing == 2
    clock.advance(61)
    producer.send("t", b"x", partition=0)
    with pytest.raises(OffsetGap) as caught:
        reader.poll(0)
    assert caught.value.missing == 3


def test_injected_failures_reach_the_delivery_and_the_commit_and_then_end() -> None:
    bus, _ = _bus()
    producer, consumer = bus.producer(), bus.consumer("g")
    bus.fail_sends(1)
    with pytest.raises(BusError, match="made to fail"):
        producer.send("t", b"x", partition=0).wait(1)
    assert producer.send("t", b"x", partition=0).wait(1)[1] == 0
    consumer.subscribe({"t"})
    consumer.poll(0)
    bus.fail_commits(1)
    with pytest.raises(BusError, match="made to fail"):
        consumer.commit({TopicPartition("t", 0): 1})
    consumer.commit({TopicPartition("t", 0): 1})


def test_a_delivery_fails_when_the_broker_stays_away_too_long() -> None:
    bus, _ = _bus()
    producer = bus.producer(delivery_timeout=3)
    bus.interrupt()
    late = producer.send("t", b"x", partition=0)
    with pytest.raises(BusError, match="no acknowledgement"):
        late.wait(1)
    with pytest.raises(BusError, match="not delivered in time"):
        late.wait(5)
    bus.restore()
    assert producer.send("t", b"y", partition=0).wait(1)[1] == 0


def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() -> None:
    bus, clock = _bus()
    slow = bus.producer(transactional_id="worker", transaction_timeout=10)
    slow.begin()
    slow.send("t", b"slow", partition=0).wait(1)
    bus.producer().send("t", b"plain", partition=0).wait(1)
    reader = bus.consumer(None, read_committed=True)
    reader.assign({TopicPartition("t", 0)})
    assert reader.poll(0) == []
    clock.advance(10)
    assert [record.value for record in reader.poll(0)] == [b"plain"]
    with pytest.raises(Fenced, match="transaction_timeout"):
        slow.commit_transaction(1)


def test_a_broker_that_goes_away_within_a_transaction_aborts_it_and_the_next_one_works() -> None:
    bus, _ = _bus()
    producer = bus.producer(transactional_id="worker", delivery_timeout=1)
    producer.begin()
    producer.send("t", b"before", partition=0).wait(1)
    bus.interrupt()
    late = producer.send("t", b"during", partition=0)
    with pytest.raises(BusError, match="not delivered in time"):
        producer.commit_transaction(2)
    with pytest.raises(BusError):
        late.wait(1)
    with pytest.raises(BusError, match="away"):
        producer.begin()
    bus.restore()
    producer.begin()
    producer.send("t", b"after", partition=0)
    producer.commit_transaction(1)
    reader = bus.consumer(None, read_committed=True)
    reader.assign({TopicPartition("t", 0)})
    assert [record.value for record in reader.poll(0)] == [b"after"]


def test_a_partition_moves_to_a_reader_of_committed_offsets_only_when_they_are_settled() -> None:
    bus, _ = _bus()
    place = TopicPartition("t", 0)
    first = bus.consumer("g", read_committed=True)
    first.subscribe({"t"})
    first.poll(0)
    producer = bus.producer(transactional_id="worker")
    bus.producer().send("t", b"frame", partition=0).wait(1)
    producer.begin()
    producer.send_offsets({place: 1}, first)
    first.close()
    second = bus.consumer("g", read_committed=True)
    second.subscribe({"t"})
    second.poll(0)
    assert second.assignment() == set()
    producer.commit_transaction(1)
    assert second.poll(0) == []
    assert (second.assignment(), second.position(place)) == ({place}, 1)


def test_retention_takes_the_ends_of_transactions_along() -> None:
    bus, clock = _bus()
    producer = bus.producer(transactional_id="worker")
    for value in (b"kept not", b"kept not either"):
        producer.begin()
        producer.send("t", value, partition=0)
        producer.commit_transaction(1)
    clock.advance(61)
    bus.producer().send("t", b"kept", partition=0).wait(1)
    reader = bus.consumer(None, read_committed=True)
    place = TopicPartition("t", 0)
    assert bus.log(place).start == 4
    reader.assign({place})
    assert [record.value for record in reader.poll(0)] == [b"kept"]
    assert reader.position(place) == 5


def test_of_a_compacted_topic_the_newest_of_each_key_outlives_its_retention() -> None:
    bus, clock = _bus()
    bus.ensure_topics({"t": TopicSpec(partitions=1, retention_ms=60_000, retention_bytes=10, compacted=True)})
    place = TopicPartition("t", 0)
    producer = bus.producer()

    def kept() -> list[tuple[int, bytes]]:
        reader = bus.consumer(None)
        reader.assign({place})
        found = [(record.offset, record.value) for record in reader.poll(0)]
        assert reader.position(place) == reader.end_offsets({place})[place]
        reader.close()
        return found

    for key, value in ((b"a", b"1"), (b"b", b"2"), (b"a", b"3")):
        producer.send("t", value, key=key, partition=0).wait(1)
    assert [value for _, value in kept()] == [b"1", b"2", b"3"]
    clock.advance(61)
    producer.send("t", b"4", key=b"c", partition=0).wait(1)
    assert kept() == [(1, b"2"), (2, b"3"), (3, b"4")]

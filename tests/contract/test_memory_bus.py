"""The in-memory broker keeps the bus contract, with time set by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.contract.suite import BusContract
from workers.bus.base import Bus, Producer, TopicPartition, TopicSpec
from workers.bus.memory import MemoryBus
from workers.clock import ManualClock
from workers.errors import BusError, OffsetGap


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

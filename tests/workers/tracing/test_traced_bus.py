"""A traced bus keeps the contract of the bus it wraps, and marks nothing but what it was told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from schemas.part import PartKey
from tests.contract.suite import BusContract
from workers.bus.base import Bus, Producer, TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus
from workers.bus.memory import MemoryBus
from workers.capture.publisher import Publisher
from workers.clock import ManualClock
from workers.topics import StationMap
from workers.tracing.bus import TracedBus
from workers.tracing.context import HEADER, Context, Sampler, context

KEY = str(PartKey("s1", 1, 2)).encode()


class TestTracedBus(BusContract):
    @pytest.fixture
    def bus(self) -> Iterator[Bus]:
        self.time = ManualClock()
        self.inner = MemoryBus(self.time)
        bus = TracedBus(self.inner, frozenset({"marked"}), "capture", Sampler())
        yield bus
        bus.close()

    def pass_time(self, seconds: float) -> None:
        self.time.advance(seconds)

    @contextmanager
    def unacknowledged(self, bus: Bus) -> Iterator[Producer]:
        producer = bus.producer(max_in_flight_bytes=1000, max_block=0.2)
        self.inner.interrupt()
        yield producer
        self.inner.restore()

    def spoil_record(self, bus: Bus, topic: str, key: bytes, value: bytes) -> None:
        _, offset = bus.producer().send(topic, value, key=key, partition=0).wait(1)
        self.inner.spoil(TopicPartition(topic, 0), offset, offset, "made so")

    def spoil_batch(self, bus: Bus, topic: str, values: list[bytes]) -> None:
        producer = bus.producer()
        offsets = [producer.send(topic, value, partition=0).wait(1)[1] for value in values]
        self.inner.spoil(TopicPartition(topic, 0), offsets[0], offsets[-1], "made so")

    def delete_topic(self, bus: Bus, topic: str) -> None:
        self.inner.delete_topic(topic)


def headers_of(topic: str, key: bytes | None, *headers: tuple[str, bytes]) -> dict[str, bytes]:
    bus = TracedBus(MemoryBus(ManualClock()), frozenset({"marked"}), "capture", Sampler())
    bus.ensure_topics({topic: TopicSpec(partitions=1)})
    bus.producer().send(topic, b"value", key=key, partition=0, headers=headers).wait(1)
    consumer = bus.consumer(None)
    consumer.assign({TopicPartition(topic, 0)})
    consumer.seek(TopicPartition(topic, 0), 0)
    [record] = consumer.poll(0)
    assert len(dict(record.headers)) == len(record.headers)
    return dict(record.headers)


def test_records_of_the_topics_it_was_told_of_are_marked() -> None:
    expected = context(PartKey("s1", 1, 2), "capture")
    assert headers_of("marked", KEY) == {HEADER: expected.header()}
    assert headers_of("marked", KEY, ("mine", b"1")) == {"mine": b"1", HEADER: expected.header()}


def test_other_topics_and_records_without_a_key_are_left_alone() -> None:
    assert headers_of("other", KEY) == {}
    assert headers_of("marked", None) == {}


def test_a_trace_that_a_record_has_already_is_kept() -> None:
    theirs = Context(1, 2).header()
    assert headers_of("marked", KEY, (HEADER, theirs)) == {HEADER: theirs}


@pytest.mark.services
def test_whether_an_agent_reaches_its_broker_is_known_with_tracing_too(
    kafka_bootstrap: str, kafka_topic: str
) -> None:
    bus = KafkaBus(kafka_bootstrap)
    bus.ensure_topics({kafka_topic: TopicSpec(partitions=1)})
    traced = TracedBus(bus, frozenset({kafka_topic}), "capture", Sampler())
    with Publisher(
        traced, station="s1", product="widget", station_map=StationMap({"s1": 0}), topic=kafka_topic
    ) as publisher:
        pixels = np.zeros((8, 8, 3), np.uint8)
        publisher.publish(publisher.next_part(), pixels, None).wait(10)
        assert publisher.contact is bus.contact
        assert publisher.contact.trouble(60.0) is None
    bus.close()
    assert TracedBus(MemoryBus(ManualClock()), frozenset(), "capture", Sampler()).contact is None

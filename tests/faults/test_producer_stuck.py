"""A Kafka client that has lost sight of a record is replaced: seen after the loss of a broker."""

from __future__ import annotations

import pytest

from workers.bus._client import Future
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus

pytestmark = pytest.mark.services


@pytest.fixture
def bus(kafka_bootstrap: str, kafka_topic: str) -> KafkaBus:
    found = KafkaBus(kafka_bootstrap)
    found.ensure_topics({kafka_topic: TopicSpec(partitions=1)})
    return found


def test_a_record_neither_acknowledged_nor_failed_in_time_has_its_client_replaced(
    bus: KafkaBus, kafka_topic: str
) -> None:
    producer = bus.producer()
    try:
        producer.send(kafka_topic, b"first", partition=0).wait(10.0)
        before = producer._client
        # As the client leaves it: a record whose outcome it never tells, sent long ago.
        producer._unsettled.append((0.0, Future()))
        place, offset = producer.send(kafka_topic, b"second", partition=0).wait(10.0)
        assert producer._client is not before
        assert (place, offset) == (TopicPartition(kafka_topic, 0), 1)
    finally:
        bus.close()


def test_a_client_that_answers_in_time_is_kept(bus: KafkaBus, kafka_topic: str) -> None:
    producer = bus.producer()
    try:
        before = producer._client
        for number in range(20):
            producer.send(kafka_topic, b"%d" % number, partition=0).wait(10.0)
        assert producer._client is before
        assert len(producer._unsettled) <= 1
    finally:
        bus.close()

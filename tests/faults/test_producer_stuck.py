"""What kafka-python's producer does after the loss of a broker, and what is done about it."""

from __future__ import annotations

import pytest

from workers.bus._client import Future
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus
from workers.errors import BusError

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


def test_a_producer_that_gave_up_its_id_asks_for_another(bus: KafkaBus, kafka_topic: str) -> None:
    producer = bus.producer()
    try:
        producer.send(kafka_topic, b"first", partition=0).wait(10.0)
        client = producer._client
        # As its sender does when a record expires that had been tried before.
        client._transaction_manager.reset_producer_id()
        assert producer.send(kafka_topic, b"second", partition=0).wait(5.0)[1] == 1
        assert producer._client is client
    finally:
        bus.close()


def test_a_sender_without_a_leader_does_not_take_a_core(bus: KafkaBus, kafka_topic: str) -> None:
    producer = bus.producer()
    try:
        producer.send(kafka_topic, b"first", partition=0).wait(10.0)
        client = producer._client
        turns = 0
        once = client._sender.run_once

        def counted() -> None:
            nonlocal turns
            turns += 1
            once()

        client._sender.run_once = counted
        client._metadata.leader_for_partition = lambda place: -1
        late = producer.send(kafka_topic, b"second", partition=0)
        with pytest.raises(BusError):
            late.wait(1.0)
        assert 0 < turns < 200
        del client._metadata.leader_for_partition
        assert late.wait(10.0)[1] == 1
    finally:
        bus.close()

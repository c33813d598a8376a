"""Producing and reading: order, keys, limits, bytes in flight, failures."""

from __future__ import annotations

import pytest

from tests.contract.helpers import ContractHelpers
from workers.bus.base import Bus, TopicPartition, TopicSpec
from workers.errors import BusError, RecordTooLarge


class ProducingContract(ContractHelpers):
    """What goes in comes out, or is refused by name."""

    def test_records_of_a_partition_come_in_order_with_key_headers_and_time(
        self, bus: Bus, topic: str
    ) -> None:
        producer = bus.producer()
        headers = (("reason", b"digest"), ("reason", b"\x00\xff"), ("empty", b""))
        sent = [
            producer.send(topic, b"value-%d" % i, key=b"key-%d" % i, partition=i % 2, headers=headers)
            for i in range(40)
        ]
        places = [delivery.wait(10) for delivery in sent]
        assert all(delivery.done() for delivery in sent)
        assert places == [(TopicPartition(topic, i % 2), i // 2) for i in range(40)]

        reader = bus.consumer(None)
        reader.assign({TopicPartition(topic, p) for p in range(4)})
        records = self.read(40, reader)
        for p in range(2):
            mine = [record for record in records if record.partition == p]
            assert [record.offset for record in mine] == list(range(20))
            assert [record.value for record in mine] == [b"value-%d" % i for i in range(p, 40, 2)]
            assert [record.key for record in mine] == [b"key-%d" % i for i in range(p, 40, 2)]
        assert all(record.headers == headers and record.topic == topic for record in records)
        assert all(record.timestamp_ms > 1_000_000_000_000 for record in records)
        assert records[0].header("reason") == b"\x00\xff"
        assert records[0].header("none") is None
        assert "value-" not in repr(records[0])
        assert reader.end_offsets({TopicPartition(topic, 0)}) == {TopicPartition(topic, 0): 20}
        assert reader.beginning_offsets({TopicPartition(topic, 3)}) == {TopicPartition(topic, 3): 0}

    def test_a_record_without_key_or_headers_comes_back_so(self, bus: Bus, topic: str) -> None:
        bus.producer().send(topic, b"", partition=3).wait(10)
        reader = bus.consumer(None)
        reader.assign({TopicPartition(topic, 3)})
        record = self.read(1, reader)[0]
        assert (record.key, record.value, record.headers) == (None, b"", ())

    def test_a_topic_that_is_compacted_from_now_on_wants_a_key_and_keeps_what_it_has(
        self, bus: Bus, topic: str
    ) -> None:
        bus.producer().send(topic, b"before", key=b"k", partition=0).wait(10)
        bus.ensure_topics({topic: TopicSpec(partitions=4, compacted=True)})
        producer = bus.producer()
        with pytest.raises(BusError, match=topic):
            producer.send(topic, b"nobody's", partition=0).wait(10)
        producer.send(topic, b"after", key=b"k", partition=0).wait(10)
        bus.ensure_topics({topic: TopicSpec(partitions=4)})
        producer.send(topic, b"anybody's", partition=0).wait(10)
        reader = bus.consumer(None)
        reader.assign({TopicPartition(topic, 0)})
        assert [record.value for record in self.read(3, reader)] == [b"before", b"after", b"anybody's"]

    def test_a_large_record_passes_whole(self, bus: Bus, topic: str) -> None:
        value = bytes(range(256)) * (16 * 2**20 // 256)
        bus.producer().send(topic, value, partition=1, headers=(("reason", b"x" * 1000),)).wait(30)
        reader = bus.consumer(None)
        reader.assign({TopicPartition(topic, 1)})
        assert self.read(1, reader)[0].value == value

    def test_a_record_over_the_limit_is_refused_and_names_it(self, bus: Bus, topic: str) -> None:
        producer = bus.producer()
        with pytest.raises(RecordTooLarge, match=rf"{topic}.* 17825792 bytes .*limit"):
            producer.send(topic, bytes(17 * 2**20), partition=0)
        producer.send(topic, b"next", partition=0).wait(10)

    def test_a_record_over_the_topics_limit_fails_in_its_delivery(self, bus: Bus, topic: str) -> None:
        bus.ensure_topics({topic: TopicSpec(partitions=4, max_message_bytes=20_000)})
        producer = bus.producer()
        delivery = producer.send(topic, bytes(200_000), partition=0)
        with pytest.raises(RecordTooLarge, match=r"max\.message\.bytes"):
            delivery.wait(10)
        producer.send(topic, bytes(20_000), partition=0).wait(10)
        producer.close()

    def test_what_a_topic_takes_at_most_can_be_asked(self, bus: Bus, topic: str) -> None:
        bus.ensure_topics({topic: TopicSpec(partitions=4, max_message_bytes=20_000)})
        assert bus.largest_record(topic) == 20_000
        assert bus.largest_record(f"{topic}-nowhere") is None

    @pytest.mark.parametrize(("name", "partition"), [("contract-nowhere", 0), (None, 99)])
    def test_a_topic_or_partition_that_does_not_exist_is_refused(
        self, bus: Bus, topic: str, name: str | None, partition: int
    ) -> None:
        producer = bus.producer(max_block=1.0)
        with pytest.raises(BusError, match="crosscheck topics"):
            producer.send(name or topic, b"x", partition=partition)

    def test_a_prepared_producer_sends_its_first_record_without_waiting_for_the_broker(
        self, bus: Bus, topic: str
    ) -> None:
        producer = bus.producer(max_block=0.001)
        producer.prepare(TopicPartition(topic, 1), 10.0)
        assert producer.send(topic, b"x", partition=1).wait(10.0)[0] == TopicPartition(topic, 1)
        with pytest.raises(BusError, match=r"\[99\] does not exist"):
            producer.prepare(TopicPartition(topic, 99), 0.2)

    def test_bytes_in_flight_are_bounded(self, bus: Bus, topic: str) -> None:
        with self.unacknowledged(bus) as producer:
            # The little time that a send may take is for the bytes in flight, not for asking where to send.
            producer.prepare(TopicPartition(topic, 0), self.patience)
            first = producer.send(topic, bytes(600), partition=0)
            assert producer.in_flight_bytes() == 600
            with pytest.raises(BusError, match="in flight"):
                producer.send(topic, bytes(600), partition=0)
            small = producer.send(topic, bytes(300), partition=0)
        producer.flush(10)
        assert producer.in_flight_bytes() == 0
        assert [first.wait(1)[1], small.wait(1)[1]] == [0, 1]
        # A record above the whole allowance still goes, alone.
        assert producer.send(topic, bytes(5000), partition=0).wait(10)[1] == 2

    def test_an_outcome_that_is_not_known_yet_is_no_success(self, bus: Bus, topic: str) -> None:
        with self.unacknowledged(bus) as producer:
            producer.prepare(TopicPartition(topic, 2), self.patience)
            delivery = producer.send(topic, b"x", partition=2)
            assert not delivery.done()
            with pytest.raises(BusError, match="acknowledge"):
                delivery.wait(0)
        assert delivery.wait(10) == (TopicPartition(topic, 2), 0)
        assert delivery.done()

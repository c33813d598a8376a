"""What no client can decode is returned as such, and the partition goes on behind it."""

from __future__ import annotations

from tests.contract.helpers import ContractHelpers
from workers.bus.base import Bus, TopicPartition


class UndecodableContract(ContractHelpers):
    """``spoil_record`` and ``spoil_batch`` are the hooks of a backend."""

    def spoil_record(self, bus: Bus, topic: str, key: bytes, value: bytes) -> None:
        """Have one record in partition 0 that cannot be decoded, its key and value being sound."""
        raise NotImplementedError

    def spoil_batch(self, bus: Bus, topic: str, values: list[bytes]) -> None:
        """Have records in partition 0 of which not even the borders can be told."""
        raise NotImplementedError

    def test_an_undecodable_record_is_returned_with_its_key_and_value_and_the_next_one_follows(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        place = TopicPartition(topic, 0)
        self.fill(bus, topic, 2)
        self.spoil_record(bus, topic, b"a key", b"a value")
        self.fill(bus, topic, 2, start=2)
        consumer = bus.consumer(group)
        consumer.subscribe({topic})
        found = self.read(5, consumer)
        assert [record.offset for record in found] == [0, 1, 2, 3, 4]
        assert [record.undecoded is None for record in found] == [True, True, False, True, True]
        assert (found[2].key, found[2].value, found[2].count) == (b"a key", b"a value", 1)
        assert found[2].undecoded is not None
        assert not found[2].undecoded.batch
        assert found[2].undecoded.why
        assert consumer.position(place) == 5
        consumer.commit({place: found[2].offset + 1})
        consumer.close()
        successor = bus.consumer(group)
        successor.subscribe({topic})
        assert [record.value for record in self.read(2, successor)] == [b"2", b"3"]

    def test_an_undecodable_batch_is_one_record_of_all_its_offsets(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        place = TopicPartition(topic, 0)
        self.fill(bus, topic, 1)
        self.spoil_batch(bus, topic, [b"x", b"y", b"z"])
        self.fill(bus, topic, 1, start=1)
        consumer = bus.consumer(group, max_poll_records=1)
        consumer.subscribe({topic})
        found = self.read(3, consumer)
        assert [(record.offset, record.count) for record in found] == [(0, 1), (3, 3), (4, 1)]
        assert found[1].undecoded is not None
        assert found[1].undecoded.batch
        assert (found[1].undecoded.first, found[1].key) == (1, None)
        consumer.commit({place: 4})
        assert consumer.committed(place) == 4

    def test_reading_on_from_within_an_undecodable_batch_names_what_is_left_of_it(
        self, bus: Bus, topic: str
    ) -> None:
        place = TopicPartition(topic, 0)
        self.spoil_batch(bus, topic, [b"x", b"y", b"z"])
        self.fill(bus, topic, 1)
        consumer = bus.consumer(None)
        consumer.assign({place})
        consumer.seek(place, 1)
        found = self.read(2, consumer)
        assert [record.offset for record in found] == [2, 3]
        assert found[0].undecoded is not None
        consumer.close()

    def test_an_undecodable_record_of_a_paused_partition_waits_and_holds_up_no_other(
        self, bus: Bus, topic: str
    ) -> None:
        first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
        self.spoil_record(bus, topic, b"k", b"bad")
        self.fill(bus, topic, 1, partition=1)
        consumer = bus.consumer(None)
        consumer.assign({first, second})
        for place in (first, second):
            consumer.seek(place, 0)
        consumer.pause({first})
        assert [record.value for record in self.read(1, consumer)] == [b"0"]
        self.nothing(consumer, 3)
        consumer.resume({first})
        assert [record.value for record in self.read(1, consumer)] == [b"bad"]
        consumer.close()

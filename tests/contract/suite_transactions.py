"""Transactions: all of it visible and committed, or nothing, and never from a producer that was replaced."""

from __future__ import annotations

import pytest

from tests.contract.helpers import ContractHelpers
from workers.bus.base import Bus, Consumer, Producer, TopicPartition, TopicSpec
from workers.errors import BusError, Fenced


class TransactionContract(ContractHelpers):
    """What a reader of committed records may see, and when offsets move."""

    def reader(self, bus: Bus, *places: TopicPartition, committed: bool = True) -> Consumer:
        """A reader of exactly these partitions."""
        reader = bus.consumer(None, read_committed=committed)
        reader.assign(set(places))
        return reader

    def send(self, producer: Producer, topic: str, *values: bytes, partition: int = 0) -> None:
        """Send and wait for the acknowledgements, which say nothing about the transaction."""
        for delivery in [producer.send(topic, value, partition=partition) for value in values]:
            delivery.wait(10)

    def test_committed_records_are_seen_in_order_and_aborted_ones_never(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        here, there = TopicPartition(topic, 0), TopicPartition(topic, 1)
        producer = bus.producer(transactional_id=group)
        reader = self.reader(bus, here, there)
        producer.begin()
        self.send(producer, topic, b"a", b"b")
        self.send(producer, topic, b"c", partition=1)
        self.nothing(reader)
        producer.commit_transaction(10)
        producer.begin()
        self.send(producer, topic, b"never")
        producer.abort_transaction(10)
        producer.begin()
        self.send(producer, topic, b"d")
        producer.commit_transaction(10)

        records = self.read(4, reader)
        assert [record.value for record in records if record.source == here] == [b"a", b"b", b"d"]
        assert [record.value for record in records if record.source == there] == [b"c"]
        offsets = [record.offset for record in records if record.source == here]
        # The ends of transactions take an offset each, the aborted record took one too.
        assert offsets == [0, 1, 5]
        self.nothing(reader)
        everything = self.read(5, self.reader(bus, here, there, committed=False))
        assert sorted(record.value for record in everything) == [b"a", b"b", b"c", b"d", b"never"]

    def test_a_reader_that_has_seen_all_stands_at_the_end(self, bus: Bus, topic: str, group: str) -> None:
        place = TopicPartition(topic, 0)
        producer = bus.producer(transactional_id=group)
        reader = self.reader(bus, place)
        for end in (producer.commit_transaction, producer.abort_transaction):
            producer.begin()
            self.send(producer, topic, b"x")
            end(10)
        self.read(1, reader)
        self.poll_until(lambda: reader.position(place) == 4, reader)
        assert reader.end_offsets({place}) == {place: 4}

    def test_an_open_transaction_holds_committed_readers_back_and_no_others(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        place = TopicPartition(topic, 0)
        producer = bus.producer(transactional_id=group)
        self.fill(bus, topic, 1)
        producer.begin()
        self.send(producer, topic, b"open")
        self.fill(bus, topic, 1, start=1)
        reader = self.reader(bus, place)
        assert [record.value for record in self.read(1, reader)] == [b"0"]
        self.nothing(reader)
        assert reader.end_offsets({place}) == {place: 1}
        hasty = self.reader(bus, place, committed=False)
        assert [record.value for record in self.read(3, hasty)] == [b"0", b"open", b"1"]
        producer.commit_transaction(10)
        assert [record.value for record in self.read(2, reader)] == [b"open", b"1"]

    def test_offsets_move_with_the_commit_and_not_before(self, bus: Bus, topic: str, group: str) -> None:
        self.fill(bus, topic, 5)
        place = TopicPartition(topic, 0)
        consumer, _ = self.joined(bus, topic, group)
        producer = bus.producer(transactional_id=group)
        producer.begin()
        self.send(producer, topic, b"verdict", partition=3)
        producer.send_offsets({place: 2}, consumer)
        assert consumer.committed(place) is None
        producer.abort_transaction(10)
        assert consumer.committed(place) is None
        producer.begin()
        producer.send_offsets({place: 3}, consumer)
        producer.commit_transaction(10)
        self.poll_until(lambda: consumer.committed(place) == 3, consumer)

    def test_a_newer_producer_of_the_id_fences_the_older_one_for_good(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        self.fill(bus, topic, 5)
        place = TopicPartition(topic, 0)
        consumer, _ = self.joined(bus, topic, group)
        zombie = bus.producer(transactional_id=group)
        zombie.begin()
        self.send(zombie, topic, b"zombie", partition=3)
        zombie.send_offsets({place: 1}, consumer)

        heir = bus.producer(transactional_id=group)
        heir.begin()
        self.send(heir, topic, b"heir", partition=3)
        # A send may still look well; it cannot end well.
        with pytest.raises(BusError):
            zombie.send(topic, b"zombie too", partition=3).wait(10)
        with pytest.raises(Fenced, match=group):
            zombie.commit_transaction(10)
        with pytest.raises(Fenced, match=group):
            zombie.begin()
        heir.commit_transaction(10)
        assert consumer.committed(place) is None
        heir.begin()
        self.send(heir, topic, b"again", partition=3)
        heir.commit_transaction(10)
        reader = self.reader(bus, TopicPartition(topic, 3))
        assert [record.value for record in self.read(2, reader)] == [b"heir", b"again"]
        self.nothing(reader)

    def test_a_fenced_producer_that_only_commits_or_aborts_hears_of_it(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        for end in ("commit_transaction", "abort_transaction"):
            zombie = bus.producer(transactional_id=f"{group}-{end}")
            zombie.begin()
            self.send(zombie, topic, b"zombie")
            bus.producer(transactional_id=f"{group}-{end}")
            with pytest.raises(Fenced):
                getattr(zombie, end)(10)
        self.nothing(self.reader(bus, TopicPartition(topic, 0)))

    def test_what_a_producer_left_open_is_aborted_when_its_successor_comes(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        left = bus.producer(transactional_id=group)
        left.begin()
        self.send(left, topic, b"left")
        self.fill(bus, topic, 1)
        reader = self.reader(bus, TopicPartition(topic, 0))
        self.nothing(reader)
        bus.producer(transactional_id=group)
        assert [record.value for record in self.read(1, reader)] == [b"0"]

    def test_the_offsets_of_a_removed_member_are_refused_and_its_records_with_them(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        self.fill(bus, topic, 10)
        place = TopicPartition(topic, 0)
        zombie, _ = self.joined(bus, topic, group, max_poll_interval=self.short_poll_interval)
        producer = bus.producer(transactional_id=f"{group}-zombie", transaction_timeout=60)
        producer.begin()
        self.send(producer, topic, b"zombie", partition=3)

        self.pass_time(self.short_poll_interval + 0.5)
        heir, _ = self.joined(bus, topic, group)
        heir.commit({place: 10})
        with pytest.raises(BusError) as caught:
            producer.send_offsets({place: 3}, zombie)
        assert not isinstance(caught.value, Fenced)
        with pytest.raises(BusError, match="no transaction is open"):
            producer.commit_transaction(10)
        assert heir.committed(place) == 10
        # The producer itself is well: what it sends next counts.
        producer.begin()
        self.send(producer, topic, b"next", partition=3)
        producer.commit_transaction(10)
        reader = self.reader(bus, TopicPartition(topic, 3))
        assert [record.value for record in self.read(1, reader)] == [b"next"]

    def test_a_record_that_failed_takes_its_transaction_down_and_no_other(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        bus.ensure_topics({topic: TopicSpec(partitions=4, max_message_bytes=20_000)})
        producer = bus.producer(transactional_id=group)
        for attempt in (b"one", b"two"):
            producer.begin()
            producer.send(topic, attempt, partition=1)
            producer.send(topic, bytes(200_000), partition=0)
            with pytest.raises(BusError, match=r"max\.message\.bytes"):
                producer.commit_transaction(10)
        producer.begin()
        self.send(producer, topic, b"well", partition=1)
        producer.commit_transaction(10)
        reader = self.reader(bus, TopicPartition(topic, 0), TopicPartition(topic, 1))
        assert [record.value for record in self.read(1, reader)] == [b"well"]
        self.nothing(reader)

    def test_begin_aborts_what_was_left_open(self, bus: Bus, topic: str, group: str) -> None:
        producer = bus.producer(transactional_id=group)
        for value in (b"dropped", b"kept"):
            producer.begin()
            self.send(producer, topic, value)
        producer.commit_transaction(10)
        reader = self.reader(bus, TopicPartition(topic, 0))
        assert [record.value for record in self.read(1, reader)] == [b"kept"]
        self.nothing(reader)

    def test_closing_aborts_what_is_open(self, bus: Bus, topic: str, group: str) -> None:
        producer = bus.producer(transactional_id=group)
        producer.begin()
        self.send(producer, topic, b"open")
        self.fill(bus, topic, 1)
        producer.close()
        reader = self.reader(bus, TopicPartition(topic, 0))
        assert [record.value for record in self.read(1, reader)] == [b"0"]

    def test_nothing_is_sent_outside_a_transaction_and_an_empty_one_is_allowed(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        producer = bus.producer(transactional_id=group)
        with pytest.raises(BusError, match="no transaction is open"):
            producer.send(topic, b"x", partition=0)
        with pytest.raises(BusError, match="no transaction is open"):
            producer.commit_transaction(1)
        producer.abort_transaction(1)
        producer.begin()
        producer.commit_transaction(10)
        with pytest.raises(BusError, match="no transaction is open"):
            producer.send(topic, b"x", partition=0)

    def test_a_producer_without_an_id_has_no_transactions(self, bus: Bus, group: str) -> None:
        producer, consumer = bus.producer(), bus.consumer(group)
        with pytest.raises(ValueError, match="transactional_id"):
            producer.begin()
        with pytest.raises(ValueError, match="transactional_id"):
            producer.send_offsets({}, consumer)
        for end in (producer.commit_transaction, producer.abort_transaction):
            with pytest.raises(ValueError, match="transactional_id"):
                end(1)

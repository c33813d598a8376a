"""What every bus backend must do. Inherited by the in-memory and the Kafka tests."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from workers.bus.base import Bus, Consumer, Producer, Record, TopicPartition, TopicSpec
from workers.errors import BusError, OffsetGap, RecordTooLarge

_names = itertools.count()


class Listener:
    """Keeps what it was told; pauses what ``holding`` is given, before any of its records is read."""

    def __init__(self, holding: Consumer | None = None) -> None:
        self.holding = holding
        self.assigned: list[set[TopicPartition]] = []
        self.revoked: list[set[TopicPartition]] = []
        self.lost: list[set[TopicPartition]] = []

    def on_assigned(self, partitions: set[TopicPartition]) -> None:
        self.assigned.append(set(partitions))
        if self.holding is not None:
            self.holding.pause(partitions)

    def on_revoked(self, partitions: set[TopicPartition]) -> None:
        self.revoked.append(set(partitions))

    def on_lost(self, partitions: set[TopicPartition]) -> None:
        self.lost.append(set(partitions))


class BusContract:
    """One suite, any backend. A backend gives the fixture ``bus`` and the hooks below."""

    # How long a condition may take to come true, seconds of real time.
    patience = 30.0
    # A member that does not poll for so long is removed from its group, seconds.
    max_poll_interval = 6.0

    def pass_time(self, seconds: float) -> None:
        """Let the broker's time go by."""
        raise NotImplementedError

    @contextmanager
    def unacknowledged(self, bus: Bus) -> Iterator[Producer]:
        """A producer with 1,000 bytes in flight allowed, and nothing acknowledged while this is open.

        Each backend has its own way to hold the acknowledgements back.
        """
        yield bus.producer(max_in_flight_bytes=1000, max_block=0.2)

    @pytest.fixture
    def topic(self, bus: Bus) -> str:
        name = f"contract-{time.time_ns()}-{next(_names)}"
        bus.ensure_topics({name: TopicSpec(partitions=4)})
        return name

    @pytest.fixture
    def group(self) -> str:
        return f"group-{time.time_ns()}-{next(_names)}"

    # Helpers that wait on a condition, never on the clock.

    def poll_until(self, done: Callable[[], bool], *consumers: Consumer) -> list[Record]:
        """Poll the consumers in turn until the condition holds."""
        records: list[Record] = []
        deadline = time.monotonic() + self.patience
        while not done():
            assert time.monotonic() < deadline, f"not reached in {self.patience} s; read {len(records)}"
            for consumer in consumers:
                records.extend(consumer.poll(0.05))
        return records

    def read(self, count: int, *consumers: Consumer) -> list[Record]:
        """Poll until ``count`` records have come."""
        records: list[Record] = []
        deadline = time.monotonic() + self.patience
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} records in {self.patience} s"
            for consumer in consumers:
                records.extend(consumer.poll(0.05))
        return records

    def nothing(self, consumer: Consumer, polls: int = 8) -> None:
        """Polls, and expects no record."""
        for _ in range(polls):
            assert consumer.poll(0.05) == []

    def fill(self, bus: Bus, topic: str, count: int, partition: int = 0, start: int = 0) -> None:
        """Send records whose values count up."""
        producer = bus.producer()
        deliveries = [
            producer.send(topic, b"%d" % i, partition=partition) for i in range(start, start + count)
        ]
        for delivery in deliveries:
            delivery.wait(10)
        producer.close()

    def joined(
        self, bus: Bus, topic: str, group: str, max_poll_records: int = 64
    ) -> tuple[Consumer, Listener]:
        """A consumer that holds all partitions of a topic, paused, so that nothing was read yet."""
        consumer = bus.consumer(
            group, max_poll_interval=self.max_poll_interval, max_poll_records=max_poll_records
        )
        listener = Listener(holding=consumer)
        consumer.subscribe({topic}, listener)
        assert self.poll_until(lambda: len(consumer.assignment()) == 4, consumer) == []
        listener.holding = None
        return consumer, listener

    # Producing and reading.

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

    # Groups and offsets.

    def test_a_group_resumes_at_its_commit(self, bus: Bus, topic: str, group: str) -> None:
        self.fill(bus, topic, 10)
        place = TopicPartition(topic, 0)
        first, _ = self.joined(bus, topic, group)
        assert first.committed(place) is None
        first.resume(first.assignment())
        assert len(self.read(10, first)) == 10
        assert first.position(place) == 10
        first.commit({place: 6})
        assert first.committed(place) == 6
        first.close()

        second, _ = self.joined(bus, topic, group)
        second.resume(second.assignment())
        assert [record.offset for record in self.read(4, second)] == [6, 7, 8, 9]
        self.nothing(second)

    def test_what_was_not_committed_comes_again(self, bus: Bus, topic: str, group: str) -> None:
        self.fill(bus, topic, 5)
        for _ in range(2):
            consumer, _ = self.joined(bus, topic, group)
            consumer.resume(consumer.assignment())
            assert [record.offset for record in self.read(5, consumer)] == [0, 1, 2, 3, 4]
            consumer.close()

    def test_a_new_group_may_start_at_the_end(self, bus: Bus, topic: str) -> None:
        self.fill(bus, topic, 3)
        place = TopicPartition(topic, 0)
        reader = bus.consumer(None, start="latest")
        reader.assign({place})
        self.poll_until(lambda: reader.position(place) == 3, reader)
        self.fill(bus, topic, 2, start=3)
        assert [record.value for record in self.read(2, reader)] == [b"3", b"4"]

    def test_seek_reads_again(self, bus: Bus, topic: str, group: str) -> None:
        self.fill(bus, topic, 6)
        consumer, _ = self.joined(bus, topic, group)
        consumer.resume(consumer.assignment())
        self.read(6, consumer)
        consumer.seek(TopicPartition(topic, 0), 4)
        assert [record.offset for record in self.read(2, consumer)] == [4, 5]

    def test_a_poll_returns_no_more_than_asked_for(self, bus: Bus, topic: str, group: str) -> None:
        self.fill(bus, topic, 20)
        consumer, _ = self.joined(bus, topic, group, max_poll_records=7)
        consumer.resume(consumer.assignment())
        sizes: list[int] = []
        while sum(sizes) < 20:
            sizes.append(len(consumer.poll(2.0)))
        assert max(sizes) <= 7

    def test_paused_partitions_are_silent_while_polling_goes_on(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        consumer, _ = self.joined(bus, topic, group)
        held, free = TopicPartition(topic, 0), TopicPartition(topic, 1)
        consumer.resume(consumer.assignment())
        consumer.pause({held})
        assert consumer.paused() == {held}
        self.fill(bus, topic, 3, partition=0)
        self.fill(bus, topic, 3, partition=1)
        assert {record.source for record in self.read(3, consumer)} == {free}
        self.nothing(consumer)
        consumer.resume({held})
        assert consumer.paused() == set()
        assert [record.offset for record in self.read(3, consumer)] == [0, 1, 2]

    # Rebalances.

    def test_a_join_moves_half_and_a_leave_gives_it_back(self, bus: Bus, topic: str, group: str) -> None:
        first, one = self.joined(bus, topic, group)
        everything = first.assignment()
        assert set().union(*one.assigned) == everything

        two = Listener()
        second = bus.consumer(group)
        second.subscribe({topic}, two)
        self.poll_until(lambda: len(first.assignment()) == 2 and len(second.assignment()) == 2, first, second)
        assert first.assignment() | second.assignment() == everything
        assert first.assignment() & second.assignment() == set()
        # Cooperative: only what moves is revoked.
        assert set().union(*one.revoked) == second.assignment()
        assert set().union(*two.assigned) == second.assignment()

        second.close()
        self.poll_until(lambda: first.assignment() == everything, first)
        assert set().union(*two.revoked) == set().union(*two.assigned)
        assert one.lost == two.lost == []
        assert second not in (first,)

    def test_a_pause_survives_a_rebalance_for_what_is_kept(self, bus: Bus, topic: str, group: str) -> None:
        first, _ = self.joined(bus, topic, group)
        first.resume(first.assignment())
        first.pause(first.assignment())
        second = bus.consumer(group)
        second.subscribe({topic})
        self.poll_until(lambda: len(first.assignment()) == 2 and len(second.assignment()) == 2, first, second)
        assert first.paused() == first.assignment()
        assert second.paused() == set()
        for place in first.assignment():
            self.fill(bus, topic, 2, partition=place.partition)
        self.nothing(first)

    def test_offsets_can_be_committed_while_partitions_are_revoked(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        for partition in range(4):
            self.fill(bus, topic, 5, partition=partition)
        first = bus.consumer(group)

        class Committer(Listener):
            def on_revoked(self, partitions: set[TopicPartition]) -> None:
                super().on_revoked(partitions)
                first.commit({place: position(place) for place in partitions})

        def position(place: TopicPartition) -> int:
            reached = first.position(place)
            assert reached is not None
            return reached

        first.subscribe({topic}, Committer())
        self.read(20, first)
        second = bus.consumer(group)
        second.subscribe({topic})
        again = self.poll_until(lambda: len(second.assignment()) == 2, first, second)
        assert again == []
        assert {second.committed(place) for place in second.assignment()} == {5}
        self.nothing(second)

    # What the broker does not do for us.

    def test_deleted_records_surface_as_a_gap_and_not_as_a_jump(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        self.fill(bus, topic, 12)
        self.fill(bus, topic, 2, partition=1)
        place = TopicPartition(topic, 0)
        first, _ = self.joined(bus, topic, group)
        first.commit({place: 5})
        first.close()
        bus.delete_before(place, 9)

        second, _ = self.joined(bus, topic, group)
        second.resume(second.assignment())
        records: list[Record] = []

        def fall_into_it() -> None:
            deadline = time.monotonic() + self.patience
            while time.monotonic() < deadline:
                records.extend(second.poll(0.05))

        with pytest.raises(OffsetGap) as caught:
            fall_into_it()
        gap = caught.value
        assert (gap.topic, gap.partition) == (topic, 0)
        assert (gap.wanted, gap.beginning, gap.end, gap.missing) == (5, 9, 12, 4)
        second.seek(place, gap.resume_at)
        records += self.read(5 - len(records), second)
        assert [record.offset for record in records if record.source == place] == [9, 10, 11]
        assert len([record for record in records if record.source != place]) == 2

    def test_a_commit_beyond_the_end_surfaces_too(self, bus: Bus, topic: str, group: str) -> None:
        self.fill(bus, topic, 3)
        place = TopicPartition(topic, 0)
        first, _ = self.joined(bus, topic, group)
        first.commit({place: 50})
        first.close()
        second, _ = self.joined(bus, topic, group)
        second.resume(second.assignment())
        with pytest.raises(OffsetGap, match="made anew") as caught:
            self.read(1, second)
        assert (caught.value.wanted, caught.value.end, caught.value.missing) == (50, 3, 0)

    def test_the_commit_of_a_zombie_is_refused_only_until_it_has_rejoined(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        self.fill(bus, topic, 10)
        place = TopicPartition(topic, 0)
        zombie, told = self.joined(bus, topic, group)
        zombie.resume(zombie.assignment())
        self.read(10, zombie)
        zombie.commit({place: 2})

        # It stops polling; its successor takes over and gets ahead.
        self.pass_time(self.max_poll_interval + 0.5)
        heir, _ = self.joined(bus, topic, group)
        heir.resume(heir.assignment())
        assert self.read(8, heir)[0].offset == 2
        heir.commit({place: 10})
        with pytest.raises(BusError):
            zombie.commit({place: 3})
        assert heir.committed(place) == 10

        # Back in the group it may do what it likes, even with a partition it does not hold.
        self.poll_until(lambda: len(zombie.assignment()) == 2 and len(heir.assignment()) == 2, zombie, heir)
        assert set().union(*told.lost) == {TopicPartition(topic, p) for p in range(4)}

        def accepted() -> bool:
            # While members are still joining, a commit is refused for that reason alone.
            try:
                zombie.commit({place: 3})
            except BusError:
                return False
            return True

        self.poll_until(accepted, zombie, heir)
        assert zombie.committed(place) == 3

    # Topics.

    def test_topics_are_made_widened_and_never_narrowed(self, bus: Bus, topic: str) -> None:
        assert bus.partitions(topic) == 4
        assert bus.partitions(topic + "-none") is None
        bus.ensure_topics({topic: TopicSpec(partitions=6), topic + "-b": TopicSpec(partitions=1)})
        assert (bus.partitions(topic), bus.partitions(topic + "-b")) == (6, 1)
        with pytest.raises(BusError, match="6 partitions"):
            bus.ensure_topics({topic: TopicSpec(partitions=2)})

    def test_closing_twice_is_allowed_and_a_closed_client_says_so(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        producer, consumer = bus.producer(), bus.consumer(group)
        consumer.subscribe({topic})
        for client in (producer, producer, consumer, consumer):
            client.close()
        with pytest.raises(BusError, match="closed"):
            producer.send(topic, b"x", partition=0)
        with pytest.raises(BusError, match="closed"):
            consumer.poll(0)

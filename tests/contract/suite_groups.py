"""Groups: commits, pauses, gaps, zombies, topics that go."""

from __future__ import annotations

import time

import pytest

from tests.contract.helpers import ContractHelpers
from workers.bus.base import Bus, Record, TopicPartition, TopicSpec
from workers.errors import BusError, OffsetGap


class GroupContract(ContractHelpers):
    """Where a group reads on, and what the broker does not do for it."""

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
        zombie, told = self.joined(bus, topic, group, max_poll_interval=self.short_poll_interval)
        zombie.resume(zombie.assignment())
        self.read(10, zombie)
        zombie.commit({place: 2})

        # It stops polling; its successor takes over and gets ahead.
        self.pass_time(self.short_poll_interval + 0.5)
        heir, heard = self.joined(bus, topic, group)
        heir.resume(heir.assignment())
        assert self.read(8, heir)[0].offset == 2
        heir.commit({place: 10})
        with pytest.raises(BusError):
            zombie.commit({place: 3})
        assert heir.committed(place) == 10

        # Back in the group it may do what it likes, even with a partition it does not hold.
        self.poll_until(lambda: len(zombie.assignment()) == 2 and len(heir.assignment()) == 2, zombie, heir)
        assert set().union(*told.lost) == {TopicPartition(topic, p) for p in range(4)}
        # What it held before is no claim: its successor gives up only the two that it is to have.
        assert set().union(*heard.revoked) == zombie.assignment()

        def accepted() -> bool:
            # While members are still joining, a commit is refused for that reason alone.
            try:
                zombie.commit({place: 3})
            except BusError:
                return False
            return True

        self.poll_until(accepted, zombie, heir)
        assert zombie.committed(place) == 3

    def test_a_topic_made_again_is_read_from_its_start_by_a_group_that_comes_back(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        self.fill(bus, topic, 6)
        place = TopicPartition(topic, 0)
        first, _ = self.joined(bus, topic, group)
        first.commit({place: 4})
        first.close()
        self.delete_topic(bus, topic)
        bus.ensure_topics({topic: TopicSpec(partitions=4)})
        self.fill(bus, topic, 9, start=100)

        second, _ = self.joined(bus, topic, group)
        second.resume(second.assignment())
        assert [record.value for record in self.read(9, second)] == [b"%d" % i for i in range(100, 109)]

    def test_a_topic_made_again_under_a_reader_that_is_ahead_of_it_surfaces_as_a_gap(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        self.fill(bus, topic, 6)
        reader, _ = self.joined(bus, topic, group)
        reader.resume(reader.assignment())
        self.read(6, reader)
        self.delete_topic(bus, topic)
        bus.ensure_topics({topic: TopicSpec(partitions=4)})
        self.fill(bus, topic, 2, start=100)
        with pytest.raises(OffsetGap, match="made anew") as caught:
            self.read(1, reader)
        reader.seek(TopicPartition(topic, 0), caught.value.resume_at)
        assert [record.value for record in self.read(2, reader)] == [b"100", b"101"]

    def test_a_topic_made_again_and_longer_than_what_was_read_of_it_is_read_whole(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        self.fill(bus, topic, 3)
        place = TopicPartition(topic, 0)
        in_group, _ = self.joined(bus, topic, group)
        in_group.resume(in_group.assignment())
        alone = bus.consumer(None)
        alone.assign({place})
        for reader in (in_group, alone):
            self.read(3, reader)
        self.delete_topic(bus, topic)
        bus.ensure_topics({topic: TopicSpec(partitions=4)})
        self.fill(bus, topic, 9, start=100)
        for reader in (in_group, alone):
            seen: list[bytes] = []
            deadline = time.monotonic() + self.patience
            while len(set(seen)) < 9:
                assert time.monotonic() < deadline, seen
                try:
                    seen += [record.value for record in reader.poll(0.05)]
                except OffsetGap as gap:
                    reader.seek(TopicPartition(gap.topic, gap.partition), gap.resume_at)
            assert seen[-9:] == [b"%d" % i for i in range(100, 109)]

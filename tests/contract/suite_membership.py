"""Rebalances, and members that keep their name over a restart."""

from __future__ import annotations

import pytest

from tests.contract.helpers import ContractHelpers, Listener
from workers.bus.base import Bus, TopicPartition
from workers.errors import BusError, Fenced


class MembershipContract(ContractHelpers):
    """Who holds what, and when it moves."""

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

    def test_a_pause_that_is_applied_again_holds_for_what_comes_back(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        first, told = self.joined(bus, topic, group)
        everything = first.assignment()
        told.holding = first
        second = bus.consumer(group)
        second.subscribe({topic}, Listener(holding=second))
        self.poll_until(lambda: len(first.assignment()) == 2 and len(second.assignment()) == 2, first, second)
        moved = second.assignment()
        second.close()
        for place in everything:
            self.fill(bus, topic, 2, partition=place.partition)
        assert self.poll_until(lambda: first.assignment() == everything, first) == []
        assert set().union(*told.assigned[1:]) == moved
        assert first.paused() == everything
        self.nothing(first)
        first.resume(everything)
        assert {record.source for record in self.read(8, first)} == everything

    def test_members_that_are_busy_between_short_polls_come_to_share_the_partitions(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        first, told = self.joined(bus, topic, group)
        second = bus.consumer(group)
        second.subscribe({topic})
        rounds = 0
        while len(first.assignment()) != 2 or len(second.assignment()) != 2:
            rounds += 1
            assert rounds < 100
            for consumer in (first, second):
                assert consumer.poll(0) == []
                # A batch is inspected meanwhile; what the group decides comes while nobody looks.
                self.pass_time(0.15)
        assert sum(map(len, told.revoked)) == 2

    # Static members.

    def test_a_static_member_that_restarts_keeps_its_partitions_and_the_others_hear_nothing(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        self.fill(bus, topic, 3)
        place = TopicPartition(topic, 0)
        first, _ = self.joined(bus, topic, group, member="station-1")
        first.commit({place: 2})
        told = Listener()
        other = bus.consumer(group, session_timeout=self.session_timeout, member="station-2")
        other.subscribe({topic}, told)
        self.poll_until(lambda: len(first.assignment()) == 2 and len(other.assignment()) == 2, first, other)
        mine, theirs = first.assignment(), other.assignment()
        heard = (len(told.assigned), len(told.revoked))
        first.close()

        again = bus.consumer(group, session_timeout=self.session_timeout, member="station-1")
        again.subscribe({topic})
        records = self.poll_until(lambda: len(again.assignment()) == 2, again, other)
        assert (again.assignment(), other.assignment()) == (mine, theirs)
        assert (len(told.assigned), len(told.revoked)) == heard
        if place in mine:
            records += self.read(1 - len(records), again)
            assert [record.offset for record in records] == [2]

    def test_the_old_consumer_of_a_static_member_is_fenced(self, bus: Bus, topic: str, group: str) -> None:
        self.fill(bus, topic, 3)
        place = TopicPartition(topic, 0)
        old, _ = self.joined(bus, topic, group, member="station-1")
        new, _ = self.joined(bus, topic, group, member="station-1")
        new.commit({place: 2})
        with pytest.raises(Fenced, match="station-1"):
            old.commit({place: 1})
        with pytest.raises(Fenced, match="station-1"):
            self.poll_until(lambda: False, old)
        assert new.committed(place) == 2
        new.poll(0)
        assert len(new.assignment()) == 4

    def test_the_partitions_of_a_static_member_that_went_move_only_after_its_session(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        gone, _ = self.joined(bus, topic, group, member="station-1")
        other = bus.consumer(group, session_timeout=self.session_timeout)
        other.subscribe({topic})
        self.poll_until(lambda: len(gone.assignment()) == 2 and len(other.assignment()) == 2, gone, other)
        gone.close()
        self.nothing(other, polls=4)
        assert len(other.assignment()) == 2
        with pytest.raises(BusError, match="closed"):
            gone.poll(0)
        self.pass_time(self.session_timeout)
        self.poll_until(lambda: len(other.assignment()) == 4, other)

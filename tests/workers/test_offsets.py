"""Commits: the contiguous prefix, per assignment, never backwards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.bus.base import TopicPartition
from workers.errors import BusError
from workers.steps.offsets import OffsetTracker, Ticket

P0 = TopicPartition("frames", 0)
P1 = TopicPartition("frames", 1)


def taken(tracker: OffsetTracker, partition: TopicPartition, offset: int) -> Ticket:
    ticket = tracker.take(partition, offset)
    assert ticket is not None
    return ticket


@given(st.permutations(list(range(12))), st.integers(0, 12))
def test_only_the_contiguous_prefix_is_committable_in_any_order_of_answers(
    order: list[int], count: int
) -> None:
    tracker = OffsetTracker()
    tracker.assigned({P0})
    tracker.committed({P0: 0})
    tickets = [taken(tracker, P0, 100 + i) for i in range(12)]
    for index in order[:count]:
        tracker.finish(tickets[index])
    answered = set(order[:count])
    prefix = next(i for i in range(13) if i not in answered)
    assert tracker.committable() == ({P0: 100 + prefix} if prefix else {})
    assert tracker.in_flight() == 12 - prefix


def test_answers_of_an_older_assignment_change_nothing() -> None:
    tracker = OffsetTracker()
    tracker.assigned({P0})
    old = taken(tracker, P0, 5)
    tracker.dropped({P0})
    tracker.assigned({P0})
    tracker.committed({P0: 0})
    taken(tracker, P0, 5)
    tracker.finish(old)
    assert not tracker.current(old)
    assert tracker.committable() == {}


def test_a_record_of_a_partition_that_is_not_ours_gets_no_ticket() -> None:
    tracker = OffsetTracker()
    tracker.assigned({P0})
    assert tracker.take(P1, 0) is None


def test_a_commit_is_offered_once_and_never_goes_back() -> None:
    tracker = OffsetTracker()
    tracker.assigned({P0, P1})
    tracker.committed({P0: 0, P1: 0})
    tracker.finish(taken(tracker, P0, 7))
    offsets = tracker.committable()
    assert offsets == {P0: 8}
    tracker.committed(offsets)
    assert tracker.committable() == {}
    tracker.committed({P0: 3})
    assert tracker.committable() == {}


def test_gaps_between_offsets_do_not_stop_the_prefix() -> None:
    tracker = OffsetTracker()
    tracker.assigned({P0})
    tracker.committed({P0: 0})
    first, second = taken(tracker, P0, 3), taken(tracker, P0, 9)
    tracker.finish(second)
    assert tracker.committable() == {}
    tracker.finish(first)
    assert tracker.committable() == {P0: 10}


class Group:
    """Where a group stands, for those who ask; None while the broker does not say."""

    def __init__(self, stands: dict[TopicPartition, int | None]) -> None:
        self.stands: dict[TopicPartition, int | None] | None = stands
        self.asked: list[TopicPartition] = []

    def committed(self, partition: TopicPartition) -> int | None:
        self.asked.append(partition)
        if self.stands is None:
            raise BusError("no answer")
        return self.stands[partition]


def test_a_commit_that_was_taken_after_we_were_told_where_to_begin_is_not_undone() -> None:
    tracker, group = OffsetTracker(), Group({P0: 656})
    tracker.assigned({P0})
    # Read from 654 on: the commit of 656 was on its way when the partition came to us.
    tickets = [taken(tracker, P0, offset) for offset in (654, 655, 656)]
    tracker.ask(group)  # type: ignore[arg-type]
    for ticket in tickets[:2]:
        tracker.finish(ticket)
        assert tracker.committable() == {}
        assert tracker.committable_after([ticket]) == {}
    tracker.finish(tickets[2])
    assert tracker.committable() == {P0: 657}


def test_nothing_is_committed_before_the_group_was_asked_and_it_is_asked_once() -> None:
    tracker, group = OffsetTracker(), Group({P0: None})
    stands, group.stands = group.stands, None
    tracker.assigned({P0})
    tracker.ask(group)  # type: ignore[arg-type]
    assert group.asked == [], "nothing was read of it yet"
    first = taken(tracker, P0, 0)
    taken(tracker, P0, 1)
    tracker.ask(group)  # type: ignore[arg-type]
    tracker.finish(first)
    assert tracker.committable() == {}
    group.stands = stands
    tracker.ask(group)  # type: ignore[arg-type]
    tracker.ask(group)  # type: ignore[arg-type]
    assert tracker.committable() == {P0: 1}
    assert group.asked == [P0, P0]

"""Step 7's bookkeeping: only the contiguous prefix of answered records is committed, per assignment epoch.

The broker does not stop a zombie: a commit from a worker that lost its partition can be accepted and move
the group backwards. So every record carries the epoch of the assignment it was read under, and whatever
belongs to an older epoch is forgotten here, before it can become a commit.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from workers.bus.base import Consumer, TopicPartition
from workers.errors import BusError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ticket:
    """One record in flight: where it lay and under which assignment it was read."""

    partition: TopicPartition
    offset: int
    epoch: int


@dataclass(slots=True)
class _Lane:
    epoch: int
    waiting: deque[int] = field(default_factory=deque)
    done: set[int] = field(default_factory=set)
    next_offset: int | None = None
    committed: int | None = None


class OffsetTracker:
    """Which records are in flight, and how far each partition may be committed."""

    def __init__(self) -> None:
        self._epoch = 0
        self._lanes: dict[TopicPartition, _Lane] = {}

    def assigned(self, partitions: set[TopicPartition]) -> None:
        """Start a new epoch for partitions just gained. Nothing of them is committed before ``committed``.

        Where the group stands must be known first: a commit that was on its way when we lost the partition,
        or when the broker died, may have been taken after we were told where to begin.
        """
        self._epoch += 1
        for partition in partitions:
            self._lanes[partition] = _Lane(self._epoch)

    def ask(self, consumer: Consumer) -> None:
        """Find out where the group stands with partitions of which records were read; else ask nobody."""
        for partition in [p for p, lane in self._lanes.items() if lane.committed is None and lane.waiting]:
            try:
                self.committed({partition: consumer.committed(partition) or 0})
            except BusError as error:
                log.warning("worker.committed_unknown", partition=str(partition), error=str(error))
                return

    def withhold(self, partition: TopicPartition) -> None:
        """Commit nothing more of a partition under this assignment: its offsets mean other records by now."""
        lane = self._lanes.get(partition)
        if lane is not None:
            lane.committed = sys.maxsize

    def dropped(self, partitions: set[TopicPartition]) -> None:
        """Forget partitions revoked or lost: nothing of them will be committed by us any more."""
        for partition in partitions:
            self._lanes.pop(partition, None)

    def take(self, partition: TopicPartition, offset: int) -> Ticket | None:
        """Register a record; None when the partition is not ours."""
        lane = self._lanes.get(partition)
        if lane is None:
            return None
        if lane.waiting and offset <= lane.waiting[-1]:
            # Read again after a seek: the first reading is still on its way and answers for both.
            return Ticket(partition, offset, lane.epoch)
        lane.waiting.append(offset)
        return Ticket(partition, offset, lane.epoch)

    def finish(self, ticket: Ticket) -> None:
        """The record's answer is acknowledged everywhere. Tickets of an older epoch change nothing."""
        lane = self._lanes.get(ticket.partition)
        if lane is None or lane.epoch != ticket.epoch:
            return
        lane.done.add(ticket.offset)
        while lane.waiting and lane.waiting[0] in lane.done:
            offset = lane.waiting.popleft()
            lane.done.discard(offset)
            lane.next_offset = offset + 1

    def current(self, ticket: Ticket) -> bool:
        """Whether the ticket's assignment still holds."""
        lane = self._lanes.get(ticket.partition)
        return lane is not None and lane.epoch == ticket.epoch

    def committable(self) -> dict[TopicPartition, int]:
        """Next offsets to commit: only forward, only what changed."""
        return {
            partition: lane.next_offset
            for partition, lane in self._lanes.items()
            if lane.next_offset is not None
            and lane.committed is not None
            and lane.next_offset > lane.committed
        }

    def committable_after(self, tickets: Iterable[Ticket]) -> dict[TopicPartition, int]:
        """What could be committed of these tickets' partitions once they are finished; changes nothing."""
        finished: dict[TopicPartition, set[int]] = {}
        for ticket in tickets:
            if self.current(ticket):
                finished.setdefault(ticket.partition, set()).add(ticket.offset)
        reached: dict[TopicPartition, int] = {}
        for partition, offsets in finished.items():
            lane = self._lanes[partition]
            upto = lane.next_offset
            for offset in lane.waiting:
                if offset not in lane.done and offset not in offsets:
                    break
                upto = offset + 1
            if upto is not None and lane.committed is not None and upto > lane.committed:
                reached[partition] = upto
        return reached

    def undecided(self, partition: TopicPartition) -> int | None:
        """The oldest record of a partition that is in flight, or None."""
        lane = self._lanes.get(partition)
        return lane.waiting[0] if lane is not None and lane.waiting else None

    def committed(self, offsets: dict[TopicPartition, int]) -> None:
        """Remember what the broker has acknowledged."""
        for partition, offset in offsets.items():
            lane = self._lanes.get(partition)
            if lane is not None and (lane.committed is None or offset > lane.committed):
                lane.committed = offset

    def in_flight(self, partitions: set[TopicPartition] | None = None) -> int:
        """Records read and not yet answered."""
        lanes = (
            self._lanes if partitions is None else {p: self._lanes[p] for p in partitions if p in self._lanes}
        )
        return sum(len(lane.waiting) for lane in lanes.values())

"""The consumer of the in-memory broker."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from workers.bus.base import AssignmentListener, Record, TopicPartition
from workers.bus.membership import Group, Member
from workers.bus.memory_log import Log
from workers.errors import BusError, Fenced, OffsetGap

if TYPE_CHECKING:
    from workers.bus.memory import MemoryBus


class MemoryConsumer:
    """Reads from a `MemoryBus`; see `workers.bus.base.Consumer`."""

    def __init__(
        self,
        bus: MemoryBus,
        group: Group | None,
        *,
        name: str,
        max_poll_records: int,
        start: str,
        session_timeout: float,
        max_poll_interval: float,
        read_committed: bool = False,
        member: str | None = None,
    ) -> None:
        self._bus = bus
        self._group = group
        # The group knows a static member by its own name, whichever consumer it is.
        self._name = name if member is None else member
        self._static = member is not None
        self._committed_only = read_committed
        self._fenced = False
        self._max_poll_records = max_poll_records
        self._start = start
        self._session_timeout = session_timeout
        self._max_poll_interval = max_poll_interval
        self._topics: frozenset[str] = frozenset()
        self._listener: AssignmentListener | None = None
        self._member: Member | None = None
        self._positions: dict[TopicPartition, int] = {}
        # The log that a position is meant for: a topic made anew has others.
        self._reading: dict[TopicPartition, Log] = {}
        self._paused: set[TopicPartition] = set()
        self._turn = 0
        self._closed = False

    def subscribe(self, topics: AbstractSet[str], listener: AssignmentListener | None = None) -> None:
        """Join the group; partitions come and go inside ``poll``."""
        if self._group is None:
            raise ValueError("a consumer without a group reads by assign()")
        self._topics = frozenset(topics)
        self._listener = listener

    def assign(self, partitions: AbstractSet[TopicPartition]) -> None:
        """Read exactly these partitions."""
        if self._topics:
            raise ValueError("this consumer has subscribed: the group assigns its partitions")
        with self._bus.changed:
            self._positions = {partition: self._first(partition) for partition in partitions}
            self._paused &= set(partitions)

    def poll(self, timeout: float) -> list[Record]:
        """At most ``max_poll_records`` records, waiting up to ``timeout`` seconds for the first."""
        if self._closed:
            raise BusError(f"consumer {self._name} is closed")
        found: list[Record] = []

        def look() -> bool:
            if self._topics:
                self._keep_membership()
            with self._bus.changed:
                found.extend(self._take())
            return bool(found)

        self._bus.wait_until(look, timeout)
        return found

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the next offset to read of each partition."""
        with self._bus.changed:
            self._bus.refuse_commit()
            self.require_membership().committed.update(offsets)

    def require_membership(self) -> Group:
        """The group, if this consumer may commit for it; the broker's lock is held.

        Raises:
            Fenced: another consumer of the same static member has taken over.
            BusError: it has no group, or the group has removed it.
        """
        if self._group is None:
            raise BusError(f"consumer {self._name} has no group to commit for")
        self._bus.evict(self._group)
        self._refuse_if_fenced()
        if self._topics and not self._is_member():
            raise BusError(
                f"consumer {self._name}: commit refused, the group has removed this member"
                " (it did not poll in time); its partitions are with others now"
            )
        return self._group

    def committed(self, partition: TopicPartition) -> int | None:
        """The group's committed offset, or None."""
        with self._bus.changed:
            return None if self._group is None else self._group.committed.get(partition)

    def position(self, partition: TopicPartition) -> int | None:
        """The offset of the next record to read, or None."""
        with self._bus.changed:
            return self._positions.get(partition)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from ``offset``."""
        with self._bus.changed:
            if partition not in self._positions:
                raise BusError(f"{partition} is not assigned to consumer {self._name}")
            self._positions[partition] = offset
            self._reading.pop(partition, None)

    def pause(self, partitions: AbstractSet[TopicPartition]) -> None:
        """Return nothing from these partitions."""
        self._paused |= self.assignment() & partitions

    def resume(self, partitions: AbstractSet[TopicPartition]) -> None:
        """Return records of these partitions again."""
        self._paused -= partitions

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        return set(self._paused)

    def assignment(self) -> set[TopicPartition]:
        """The partitions this consumer holds."""
        with self._bus.changed:
            return set(self._positions)

    def beginning_offsets(self, partitions: AbstractSet[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that still exists, per partition."""
        with self._bus.changed:
            return {partition: self._bus.log(partition).start for partition in partitions}

    def end_offsets(self, partitions: AbstractSet[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset the next record will get, per partition."""
        with self._bus.changed:
            return {partition: self._end(partition) for partition in partitions}

    def close(self) -> None:
        """Leave the group without committing."""
        if self._closed:
            return
        self._closed = True
        if self._is_member() and self._positions and self._listener is not None:
            self._listener.on_revoked(set(self._positions))
        with self._bus.changed:
            if self._group is not None and self._member is not None and self._is_member():
                if self._static:
                    # It may come back: from here on the group only misses its heartbeats.
                    self._member.silent_since = self._bus.clock.monotonic()
                else:
                    self._group.leave(self._member, self._bus.partition_counts())
            self._drop(set(self._positions))
            self._bus.touch()

    def kill(self) -> None:
        """Stop the heartbeats, as a killed or suspended process does, without leaving the group.

        The group notices after the session timeout. Whoever polls again is the suspended process going on.
        """
        with self._bus.changed:
            if self._member is not None:
                self._member.silent_since = self._bus.clock.monotonic()

    def _is_member(self) -> bool:
        member = self._member
        return (
            self._group is not None and member is not None and self._group.members.get(self._name) is member
        )

    def _refuse_if_fenced(self) -> None:
        """A static member whose name another consumer has taken is never let in again."""
        assert self._group is not None
        if self._static and self._member is not None:
            holder = self._group.members.get(self._name)
            self._fenced = self._fenced or (holder is not None and holder is not self._member)
        if self._fenced:
            raise Fenced.consumer(self._name)

    def _keep_membership(self) -> None:
        """Join or rejoin, hand over what must move, take what is free. Listeners run without the lock."""
        assert self._group is not None
        with self._bus.changed:
            now = self._bus.clock.monotonic()
            self._bus.evict(self._group)
            self._refuse_if_fenced()
            lost = set(self._positions) if self._member is not None and not self._is_member() else set()
            self._drop(lost)
        if lost and self._listener is not None:
            self._listener.on_lost(lost)
        with self._bus.changed:
            if self._member is None or not self._is_member():
                self._member = Member(
                    self._name,
                    self._topics,
                    self._session_timeout,
                    self._max_poll_interval,
                    now,
                    static=self._static,
                )
                self._group.join(self._member, self._bus.partition_counts())
                self._bus.touch()
            self._member.last_poll, self._member.silent_since = now, None
            self._group.refresh(self._bus.partition_counts())
            revoked = self._group.to_revoke(self._member)
        if revoked:
            if self._listener is not None:
                self._listener.on_revoked(set(revoked))
            with self._bus.changed:
                self._member.owned -= revoked
                self._drop(revoked)
                self._bus.touch()
        with self._bus.changed:
            assigned = self._group.to_assign(self._member)
            if self._committed_only:
                # Where a partition begins is not known while a transaction may still move its offset.
                assigned -= self._bus.transactions.unsettled(self._group)
            self._member.owned |= assigned
            self._positions.update({partition: self._first(partition) for partition in assigned})
        if assigned and self._listener is not None:
            self._listener.on_assigned(set(assigned))

    def _drop(self, partitions: set[TopicPartition]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)
            self._reading.pop(partition, None)
        self._paused -= partitions

    def _first(self, partition: TopicPartition) -> int:
        committed = None if self._group is None else self._group.committed.get(partition)
        if committed is not None:
            return committed
        return self._bus.log(partition).start if self._start == "earliest" else self._end(partition)

    def _end(self, partition: TopicPartition) -> int:
        log = self._bus.log(partition)
        return log.stable_end if self._committed_only else log.end

    def _take(self) -> list[Record]:
        """Records that are ready, partitions taking turns; raises the gap if there is nothing else."""
        if self._bus.interrupted:
            return []
        found: list[Record] = []
        gap: OffsetGap | None = None
        ready = sorted(set(self._positions) - self._paused)
        self._turn += 1
        for i in range(len(ready)):
            partition = ready[(self._turn + i) % len(ready)]
            position, log = self._positions[partition], self._bus.log(partition)
            remade = self._reading.setdefault(partition, log) is not log and position > log.start
            if remade or not log.start <= position <= log.end:
                gap = OffsetGap(
                    partition.topic, partition.partition, wanted=position, beginning=log.start, end=log.end
                )
                continue
            room = self._max_poll_records - len(found)
            taken, self._positions[partition] = log.read(position, room, committed=self._committed_only)
            found.extend(taken)
        if gap is not None and not found:
            raise gap
        return found

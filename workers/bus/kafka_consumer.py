"""The consumer on Kafka: manual commits, cooperative rebalances, gaps raised instead of jumped over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import structlog

from workers.bus._client import (
    AsyncConsumerRebalanceListener,
    CooperativeStickyAssignor,
    Future,
    KafkaConsumer,
    KafkaTopicPartition,
    MemberState,
    OffsetAndMetadata,
    kafka_errors,
    opened,
)
from workers.bus._reach import reachable
from workers.bus._rejoin import claim_nothing, keep_joins, know_topics
from workers.bus._undecodable import survive_undecodable
from workers.bus.base import AssignmentListener, Record, TopicPartition, Undecoded
from workers.contact import Contact
from workers.errors import BusError, Fenced, OffsetGap

log = structlog.get_logger(__name__)

# How long questions to the broker may take, milliseconds.
_ASK_MS = 5000


class KafkaBusConsumer:
    """Reads from Kafka; see `workers.bus.base.Consumer`. One thread owns it."""

    def __init__(
        self,
        client: Any,
        bootstrap: str,
        *,
        group: str | None,
        start: str,
        contact: Contact,
        member: str | None = None,
    ) -> None:
        self._client = client
        self._contact = contact
        self._bootstrap = bootstrap
        self._group = group
        self._member = member
        self._start = start
        self._listener: _Listener | None = None
        self._waiting: list[Record] = []
        # A topic made anew keeps its name, not its id; what was read of the old one is no position in it.
        self._topic_ids: dict[str, Any] = {}
        self._remade: set[TopicPartition] = set()
        # The client forgets the position of a partition before it says that it is revoked; whoever is told
        # still wants to commit it.
        self._positions: dict[TopicPartition, int] = {}
        self._closed = False

    @classmethod
    def connect(
        cls,
        common: dict[str, Any],
        bootstrap: str,
        *,
        group: str | None,
        start: str,
        max_poll_records: int,
        session_timeout: float,
        max_poll_interval: float,
        fetch_bytes: int,
        contact: Contact,
        read_committed: bool = False,
        member: str | None = None,
    ) -> KafkaBusConsumer:
        """A consumer with every setting stated."""
        settings = common | {
            "group_id": group,
            "group_instance_id": member,
            "enable_auto_commit": False,
            # No jump over a gap: a partition without a commit is sought by this class.
            "auto_offset_reset": "none",
            "max_poll_records": max_poll_records,
            "max_poll_interval_ms": round(max_poll_interval * 1000),
            "session_timeout_ms": round(session_timeout * 1000),
            # Members learn of a rebalance by a heartbeat: each of its two rounds waits for the slowest.
            "heartbeat_interval_ms": min(3000, round(session_timeout * 1000 / 6)),
            "partition_assignment_strategy": [CooperativeStickyAssignor],
            "max_partition_fetch_bytes": fetch_bytes,
            "fetch_max_bytes": fetch_bytes,
            "fetch_min_bytes": 1,
            "fetch_max_wait_ms": 100,
            "check_crcs": True,
            "isolation_level": "read_committed" if read_committed else "read_uncommitted",
            "allow_auto_create_topics": False,
            # New partitions, and topics made after the start, are found within so many milliseconds.
            "metadata_max_age_ms": 3000,
        }
        with reachable(bootstrap):
            client = opened(KafkaConsumer, **settings)
        survive_undecodable(client)
        return cls(client, bootstrap, group=group, start=start, contact=contact, member=member)

    def subscribe(self, topics: AbstractSet[str], listener: AssignmentListener | None = None) -> None:
        """Join the group; partitions come and go inside ``poll``."""
        if self._group is None:
            raise ValueError("a consumer without a group reads by assign()")
        keep_joins(self._client._coordinator)
        self._listener = _Listener(self._client, listener, self._positions)
        with reachable(self._bootstrap):
            # A leader that joins before it knows the topic would assign none of its partitions.
            for topic in topics:
                self._client.partitions_for_topic(topic)
            self._client.subscribe(sorted(topics), listener=self._listener)
            know_topics(self._client._coordinator)

    def assign(self, partitions: AbstractSet[TopicPartition]) -> None:
        """Read exactly these partitions."""
        if self._listener is not None:
            raise ValueError("this consumer has subscribed: the group assigns its partitions")
        self._client.assign([_theirs(partition) for partition in partitions])
        self._positions.clear()

    def poll(self, timeout: float) -> list[Record]:
        """At most ``max_poll_records`` records, waiting up to ``timeout`` seconds for the first."""
        if self._closed:
            raise BusError("the consumer is closed")
        if self._member is not None and self._was_fenced():
            raise self.fenced()
        if self._waiting:
            found, self._waiting = self._waiting, []
            return [record for record in found if _theirs(record.source) in self._client.assignment()]
        deadline = time.monotonic() + timeout
        while True:
            remaining = max(0.0, deadline - time.monotonic())
            found = []
            with reachable(self._bootstrap):
                try:
                    for batch in self._client.poll(timeout_ms=remaining * 1000).values():
                        found.extend(map(_record, batch))
                        self._positions[found[-1].source] = found[-1].offset + 1
                except kafka_errors.NoOffsetForPartitionError as error:
                    self._begin(error.args[0])
                except kafka_errors.FencedInstanceIdError:
                    raise self.fenced() from None
                except kafka_errors.OffsetOutOfRangeError as error:
                    self._raise_gap(error.args[0])
                except kafka_errors.LogTruncationError as error:
                    wanted = {
                        place: self._client.position(place, timeout_ms=_ASK_MS)
                        for place in error.divergent_offsets
                    }
                    self._raise_gap(wanted)
            if self._listener is not None and self._listener.failure is not None:
                # The client would only log it. The records stay for the next poll.
                failure, self._listener.failure = self._listener.failure, None
                self._waiting = found
                raise failure
            if self._remade or self._was_remade():
                self._waiting = [record for record in found if record.source not in self._remade]
                self._raise_remade()
                found, self._waiting = self._waiting, []
            if found:
                self._contact.succeeded()
            if found or time.monotonic() >= deadline:
                return found

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the next offset to read of each partition, and wait for the answer."""
        if self._group is None:
            raise BusError("a consumer without a group has nothing to commit for")
        if not offsets:
            return
        entries = {_theirs(p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
        try:
            self._client.commit(entries, timeout_ms=_ASK_MS)
        except (kafka_errors.CommitFailedError, kafka_errors.RebalanceInProgressError) as error:
            raise BusError(
                f"commit refused for group {self._group}: this member was removed or the group is"
                f" rebalancing, its partitions may be with others ({type(error).__name__})"
            ) from None
        except kafka_errors.FencedInstanceIdError:
            raise self.fenced() from None
        except kafka_errors.KafkaError as error:
            failure = BusError(f"commit for group {self._group} at {self._bootstrap}: {error}")
            self._contact.failed(str(failure))
            raise failure from None
        self._contact.succeeded()

    def membership(self) -> Any:
        """What a transaction shows to the group, so that it refuses the offsets of one it has removed.

        Raises:
            BusError: the consumer is not a member. An empty membership would be let through unchecked.
        """
        if self._group is None:
            raise BusError("a consumer without a group has nothing to commit for")
        found = self._client.group_metadata()
        if self._listener is not None and (found.generation_id < 0 or not found.member_id):
            raise BusError(f"group {self._group} has removed this member: its partitions may be with others")
        return found

    def fenced(self) -> Fenced:
        """What a consumer says whose static member another one has taken over."""
        return Fenced.consumer(f"{self._member} of group {self._group}")

    def committed(self, partition: TopicPartition) -> int | None:
        """The group's committed offset, or None."""
        with reachable(self._bootstrap):
            found = self._client.committed(_theirs(partition), timeout_ms=_ASK_MS)
        return None if found is None else int(found)

    def position(self, partition: TopicPartition) -> int | None:
        """The offset of the next record to read, or None."""
        # Read from the client's state, which goes on past the end of a transaction: its own position() would
        # ask the broker, and may raise or wait.
        state = self._client._subscription.assignment.get(_theirs(partition))
        if state is None or state.position is None:
            return self._positions.get(partition)
        return int(state.position.offset)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from ``offset``."""
        try:
            self._client.seek(_theirs(partition), offset)
        except ValueError:
            raise BusError(f"{partition} is not assigned to this consumer") from None
        self._positions[partition] = offset
        self._remade.discard(partition)

    def pause(self, partitions: AbstractSet[TopicPartition]) -> None:
        """Return nothing from these partitions."""
        self._client.pause(*(_theirs(partition) for partition in self.assignment() & partitions))

    def resume(self, partitions: AbstractSet[TopicPartition]) -> None:
        """Return records of these partitions again."""
        self._client.resume(*(_theirs(partition) for partition in self.assignment() & partitions))

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        return _our_partitions(self._client.paused())

    def assignment(self) -> set[TopicPartition]:
        """The partitions this consumer holds."""
        return _our_partitions(self._client.assignment())

    def beginning_offsets(self, partitions: AbstractSet[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that still exists, per partition."""
        return self._offsets(self._client.beginning_offsets, partitions)

    def end_offsets(self, partitions: AbstractSet[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset the next record will get, per partition."""
        return self._offsets(self._client.end_offsets, partitions)

    def close(self) -> None:
        """Leave the group without committing."""
        if self._closed:
            return
        self._closed = True
        with reachable(self._bootstrap):
            self._client.close(autocommit=False, timeout_ms=_ASK_MS)

    def _was_remade(self) -> bool:
        """Whether a topic that is read was deleted and made again since the last look."""
        ids: dict[str, Any] = self._client._cluster._topic_ids
        if ids is self._topic_ids:
            # The client swaps them whole with each answer about topics.
            return False
        for topic, before in self._topic_ids.items():
            if ids.get(topic, before) != before:
                self._remade |= {place for place in self.assignment() if place.topic == topic}
        self._topic_ids = self._topic_ids | ids if self._topic_ids.keys() - ids.keys() else ids
        return bool(self._remade)

    def _raise_remade(self) -> None:
        """The gap of each partition that has to be read from its beginning again, until it was sought."""
        self._remade &= self.assignment()
        beginnings, ends = self.beginning_offsets(self._remade), self.end_offsets(self._remade)
        for place in sorted(self._remade):
            position = self.position(place)
            if position is None or position <= beginnings[place]:
                self._remade.discard(place)
                continue
            raise OffsetGap(
                place.topic, place.partition, wanted=position, beginning=beginnings[place], end=ends[place]
            )

    def _was_fenced(self) -> bool:
        """Whether a heartbeat was answered so: the client only logs it and stops them, and reads on."""
        coordinator = self._client._coordinator
        with coordinator._lock:
            # A join that has begun stops them too, a moment before it shows in the state.
            joining = coordinator.rejoining or coordinator.state is not MemberState.STABLE
            return not (joining or coordinator._heartbeat_enabled)

    def _offsets(
        self, ask: Callable[..., Any], partitions: AbstractSet[TopicPartition]
    ) -> dict[TopicPartition, int]:
        with reachable(self._bootstrap, self._contact):
            found = ask([_theirs(partition) for partition in partitions], timeout_ms=_ASK_MS)
        return {TopicPartition(place.topic, place.partition): int(offset) for place, offset in found.items()}

    def _begin(self, places: AbstractSet[Any]) -> None:
        """A partition without a commit begins where ``start`` says."""
        partitions = _our_partitions(places)
        starts = self.beginning_offsets if self._start == "earliest" else self.end_offsets
        for partition, offset in starts(partitions).items():
            self._client.seek(_theirs(partition), offset)

    def _raise_gap(self, wanted: Mapping[Any, int]) -> None:
        places = _our_partitions(wanted)
        beginnings, ends = self.beginning_offsets(places), self.end_offsets(places)
        for place in sorted(places):
            offset = wanted[_theirs(place)]
            # Records may have come between the refusal and this question.
            if not beginnings[place] <= offset <= ends[place]:
                raise OffsetGap(
                    place.topic,
                    place.partition,
                    wanted=offset,
                    beginning=beginnings[place],
                    end=ends[place],
                )


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Passes rebalances on and keeps the first error, which the client would swallow.

    The client tells of rebalances on its IO thread, where a commit would wait for itself. Each call goes to a
    thread of its own, while the thread that owns the consumer stands still inside ``poll`` or ``close``.
    """

    def __init__(
        self, client: Any, listener: AssignmentListener | None, positions: dict[TopicPartition, int]
    ) -> None:
        self._client = client
        self._to = listener
        self._positions = positions
        self.failure: Exception | None = None

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self._forget(assigned)
        if self._to is not None:
            await self._tell(self._to.on_assigned, assigned)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        if self._to is not None:
            await self._tell(self._to.on_revoked, revoked)
        self._forget(revoked)

    async def on_partitions_lost(self, lost: Any) -> None:
        claim_nothing(self._client._coordinator)
        if self._to is not None:
            await self._tell(self._to.on_lost, lost)
        self._forget(lost)

    def _forget(self, places: Any) -> None:
        for partition in _our_partitions(places):
            self._positions.pop(partition, None)

    async def _tell(self, call: Callable[[set[TopicPartition]], None], places: Any) -> None:
        partitions = _our_partitions(places)
        if not partitions:
            return
        over = Future()

        async def settle() -> None:
            over.success(None)

        def run() -> None:
            try:
                call(partitions)
            except Exception as error:
                self.failure = self.failure or error
            finally:
                self._client._net.call_soon_threadsafe(settle)

        threading.Thread(target=run, name="rebalance", daemon=True).start()
        await over


def _theirs(partition: TopicPartition) -> Any:
    return KafkaTopicPartition(partition.topic, partition.partition)


def _our_partitions(places: Any) -> set[TopicPartition]:
    return {TopicPartition(place.topic, place.partition) for place in places}


def _record(record: Any) -> Record:
    undecoded = record.checksum if isinstance(record.checksum, Undecoded) else None
    if undecoded is not None:
        log.warning(
            "bus.undecodable",
            topic=record.topic,
            partition=record.partition,
            first=undecoded.first,
            last=record.offset,
            why=undecoded.why,
        )
    return Record(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value if record.value is not None else b"",
        headers=tuple((name, content or b"") for name, content in record.headers),
        timestamp_ms=record.timestamp,
        undecoded=undecoded,
    )

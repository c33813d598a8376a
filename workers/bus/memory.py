"""An in-memory broker that keeps the bus contract: partitions, groups, redelivery, retention, outages.

It lives in the package because the demo and most tests run on it. Threads may share it. With `SystemClock` a
poll waits for records; with any other clock it lets the clock pass, so that no test waits for real time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from workers.bus.base import Headers, Record, TopicPartition, TopicSpec
from workers.bus.membership import Group
from workers.bus.memory_consumer import MemoryConsumer
from workers.bus.memory_log import Log
from workers.bus.memory_producer import MemoryDelivery, MemoryProducer
from workers.bus.memory_transactions import Coordinator, Transaction
from workers.clock import Clock, SystemClock
from workers.errors import BusError, Fenced, RecordTooLarge

# How often a waiting poll looks whether another member's session has run out, seconds.
_SESSION_CHECK = 0.02


class MemoryBus:
    """A whole broker in this process; see `workers.bus.base.Bus`.

    For tests it can also fail: `fail_sends`, `fail_commits`, `interrupt` and `restore`.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = SystemClock() if clock is None else clock
        self.changed = threading.Condition(threading.RLock())
        self.interrupted = False
        self._version = 0
        self._specs: dict[str, TopicSpec] = {}
        self._logs: dict[TopicPartition, Log] = {}
        self._groups: dict[str, Group] = {}
        self._held: deque[Callable[[], None]] = deque()
        self._failing_sends = 0
        self._failing_commits = 0
        self._names = 0
        self._clients: list[MemoryProducer | MemoryConsumer] = []
        self.transactions = Coordinator()

    def producer(
        self,
        *,
        max_in_flight_bytes: int = 64 * 2**20,
        max_block: float = 5.0,
        delivery_timeout: float = 10.0,
        linger: float = 0.0,
        transactional_id: str | None = None,
        transaction_timeout: float = 10.0,
    ) -> MemoryProducer:
        """A new producer. ``linger`` changes nothing here: a send is acknowledged at once."""
        producer = MemoryProducer(
            self,
            max_in_flight_bytes=max_in_flight_bytes,
            max_block=max_block,
            delivery_timeout=delivery_timeout,
            transactional_id=transactional_id,
            transaction_timeout=transaction_timeout,
        )
        self._clients.append(producer)
        return producer

    def consumer(
        self,
        group: str | None,
        *,
        max_poll_records: int = 64,
        start: str = "earliest",
        session_timeout: float = 6.0,
        max_poll_interval: float = 60.0,
        name: str = "",
        read_committed: bool = False,
        member: str | None = None,
    ) -> MemoryConsumer:
        """A new consumer."""
        if start not in ("earliest", "latest"):
            raise ValueError(f"start is 'earliest' or 'latest', not {start!r}")
        with self.changed:
            self._names += 1
            consumer = MemoryConsumer(
                self,
                None if group is None else self._groups.setdefault(group, Group()),
                name=f"{name or 'consumer'}-{self._names}",
                read_committed=read_committed,
                member=member,
                max_poll_records=max_poll_records,
                start=start,
                session_timeout=session_timeout,
                max_poll_interval=max_poll_interval,
            )
            self._clients.append(consumer)
        return consumer

    def ensure_topics(self, topics: Mapping[str, TopicSpec]) -> None:
        """Create missing topics, widen and set those that exist."""
        with self.changed:
            for topic, spec in topics.items():
                present = self._specs.get(topic)
                if present is not None and spec.partitions < present.partitions:
                    raise BusError(
                        f"{topic} has {present.partitions} partitions, {spec.partitions} were asked for:"
                        " partitions cannot be taken away; delete the topic or ask for as many"
                    )
                self._specs[topic] = spec
                for i in range(spec.partitions):
                    self._logs.setdefault(TopicPartition(topic, i), Log())
            self.touch()

    def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has, or None."""
        with self.changed:
            spec = self._specs.get(topic)
            return None if spec is None else spec.partitions

    def largest_record(self, topic: str) -> int | None:
        """The topic's limit, or None."""
        with self.changed:
            spec = self._specs.get(topic)
            return None if spec is None else spec.max_message_bytes

    def delete_before(self, partition: TopicPartition, offset: int) -> None:
        """Delete the records before ``offset``."""
        with self.changed:
            log = self.log(partition)
            while log.records and log.start < offset:
                log.drop_first()

    def close(self) -> None:
        """Close every producer and consumer that came from here."""
        for client in self._clients:
            client.close()
        self._clients.clear()

    # For tests: the ways in which a broker fails.

    def delete_topic(self, topic: str) -> None:
        """Delete a topic with its records, and what groups have committed for it."""
        with self.changed:
            gone = {TopicPartition(topic, i) for i in range(self._specs.pop(topic).partitions)}
            for place in gone:
                del self._logs[place]
            for group in self._groups.values():
                for place in gone & group.committed.keys():
                    del group.committed[place]
            self.touch()

    def spoil(self, place: TopicPartition, first: int, last: int, why: str) -> None:
        """Let a stretch of records be one that no client can decode; a single one keeps its key and value."""
        with self.changed:
            self.log(place).spoil(first, last, why)

    def fail_sends(self, count: int) -> None:
        """Let the next ``count`` deliveries fail; the records are not kept."""
        self._failing_sends = count

    def fail_commits(self, count: int) -> None:
        """Let the next ``count`` commits fail; the offsets are not stored."""
        self._failing_commits = count

    def interrupt(self) -> None:
        """Go away: sends stay open until they time out, polls return nothing, commits fail."""
        self.interrupted = True

    def restore(self) -> None:
        """Come back: what was sent meanwhile and has not timed out is stored, in order."""
        with self.changed:
            self.interrupted = False
            while self._held:
                self._held.popleft()()
            self.touch()

    # For the producers and consumers of this bus; ``changed`` is held, except by wait_until.

    def accept(
        self,
        delivery: MemoryDelivery,
        where: TopicPartition,
        key: bytes | None,
        value: bytes,
        headers: Headers,
        writing: tuple[str, int, Transaction] | None = None,
    ) -> None:
        """Store a record, now or when the broker is back, and settle its delivery.

        ``writing`` is the transaction it belongs to, with its id and the epoch of its producer.
        """
        log, spec = self.log(where), self._specs[where.topic]
        now_ms = self.clock.now() // 1_000_000

        def store() -> None:
            if delivery.done():
                return
            if self._failing_sends > 0:
                self._failing_sends -= 1
                delivery.fail(BusError(f"{where}: the broker refused the record (made to fail)"))
            elif spec.compacted and key is None:
                delivery.fail(BusError(f"{where}: a record without a key, and the topic is compacted by it"))
            elif delivery.size > spec.max_message_bytes:
                delivery.fail(
                    RecordTooLarge(
                        f"{where}: a record of {delivery.size} bytes is over the topic's max.message.bytes"
                        f" of {spec.max_message_bytes}; raise it with `crosscheck topics` or send less"
                    )
                )
            else:
                try:
                    transaction = None if writing is None else self._enlist(where, *writing)
                except Fenced as error:
                    delivery.fail(error)
                    return
                delivery.succeed(log.end)
                log.append(
                    Record(where.topic, where.partition, log.end, key, bytes(value), tuple(headers), now_ms),
                    transaction,
                )
                log.retain(spec, now_ms)

        if self.interrupted:
            self._held.append(store)
        else:
            store()
        self.touch()

    def enter(self, name: str) -> int:
        """The epoch of a new producer of that transactional id; what the one before left open is aborted."""
        with self.changed:
            epoch, left = self.transactions.enter(name)
            if left is not None:
                self.settle(left, committed=False)
            return epoch

    def require(self, name: str, epoch: int) -> None:
        """Refuse a producer that was fenced.

        Raises:
            Fenced: it was.
        """
        self._end_overdue()
        self.transactions.require(name, epoch)

    def settle(self, transaction: Transaction, *, committed: bool) -> None:
        """Write the transaction's end to each partition it has, and store its offsets if it is committed."""
        now_ms = self.clock.now() // 1_000_000
        for place in transaction.places:
            # A topic deleted meanwhile has taken its records along.
            if (log := self._logs.get(place)) is not None:
                marker = Record(place.topic, place.partition, log.end, None, b"", (), now_ms)
                log.settle(transaction, marker, committed=committed)
        if committed:
            for group, offsets in transaction.offsets:
                group.committed.update(offsets)
        self.touch()

    def _end_overdue(self) -> None:
        for transaction in self.transactions.overdue(self.clock.monotonic()):
            self.settle(transaction, committed=False)

    def _enlist(self, place: TopicPartition, name: str, epoch: int, transaction: Transaction) -> Transaction:
        self.require(name, epoch)
        transaction.places.add(place)
        return transaction

    def refuse_commit(self) -> None:
        """Raise if commits are to fail now."""
        if self.interrupted:
            raise BusError("commit not answered: the broker is away")
        if self._failing_commits > 0:
            self._failing_commits -= 1
            raise BusError("the broker refused the commit (made to fail)")

    def log(self, partition: TopicPartition) -> Log:
        """The records of a partition."""
        self._end_overdue()
        try:
            return self._logs[partition]
        except KeyError:
            raise BusError(f"{partition} does not exist: create it with `crosscheck topics`") from None

    def partition_counts(self) -> dict[str, int]:
        """Number of partitions of every topic."""
        return {topic: spec.partitions for topic, spec in self._specs.items()}

    def evict(self, group: Group) -> None:
        """Remove the members of a group that are past their session."""
        if group.evict(self.clock.monotonic(), self.partition_counts()):
            self.touch()

    def touch(self) -> None:
        """Wake whoever waits for a change."""
        with self.changed:
            self._version += 1
            self.changed.notify_all()

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Whether ``ready`` became true within ``timeout`` seconds of this broker's clock."""
        deadline = self.clock.monotonic() + timeout
        while True:
            seen = self._version
            if ready():
                return True
            remaining = deadline - self.clock.monotonic()
            # Clocks count nanoseconds: less than one would never pass.
            if remaining < 1e-9:
                return False
            if not isinstance(self.clock, SystemClock):
                self.clock.sleep(remaining)
                continue
            with self.changed:
                if seen == self._version:
                    self.changed.wait(min(remaining, _SESSION_CHECK))

"""An in-memory broker that keeps the bus contract: partitions, groups, redelivery, retention, outages.

It lives in the package because the demo and most tests run on it. Threads may share it. With `SystemClock` a
poll waits for records; with any other clock it lets the clock pass, so that no test waits for real time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workers.bus.base import (
    MAX_RECORD_BYTES,
    Headers,
    Record,
    TopicPartition,
    TopicSpec,
    record_bytes,
)
from workers.bus.membership import Group
from workers.bus.memory_consumer import MemoryConsumer
from workers.clock import Clock, SystemClock
from workers.errors import BusError, RecordTooLarge

# How often a waiting poll looks whether another member's session has run out, seconds.
_SESSION_CHECK = 0.02


@dataclass(slots=True)
class _Log:
    """The records of one partition, ``start`` being the offset of the first that is kept."""

    records: deque[Record] = field(default_factory=deque)
    start: int = 0
    bytes: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.records)

    def append(self, record: Record) -> None:
        self.records.append(record)
        self.bytes += record_bytes(record.value, record.key, record.headers)

    def drop_first(self) -> None:
        record = self.records.popleft()
        self.bytes -= record_bytes(record.value, record.key, record.headers)
        self.start += 1

    def retain(self, spec: TopicSpec, now_ms: int) -> None:
        while self.records and now_ms - self.records[0].timestamp_ms > spec.retention_ms:
            self.drop_first()
        while spec.retention_bytes >= 0 and self.bytes > spec.retention_bytes and len(self.records) > 1:
            self.drop_first()


class MemoryDelivery:
    """The outcome of one send to a `MemoryBus`."""

    def __init__(self, bus: MemoryBus, partition: TopicPartition, size: int, deadline: float) -> None:
        self._bus = bus
        self._partition = partition
        self._deadline = deadline
        self._offset: int | None = None
        self._error: BusError | None = None
        self.size = size

    def done(self) -> bool:
        """Whether the outcome is known."""
        with self._bus.changed:
            self._expire()
            return self._offset is not None or self._error is not None

    def wait(self, timeout: float) -> tuple[TopicPartition, int]:
        """Partition and offset of the record; see `workers.bus.base.Delivery`."""
        if not self._bus.wait_until(self.done, timeout):
            raise BusError(f"{self._partition}: no acknowledgement within {timeout:g} s")
        if self._error is not None:
            raise self._error
        assert self._offset is not None
        return self._partition, self._offset

    def succeed(self, offset: int) -> None:
        """The broker has the record."""
        self._offset = offset

    def fail(self, error: BusError) -> None:
        """The broker will never have the record."""
        self._error = error

    def _expire(self) -> None:
        if self._offset is None and self._error is None and self._bus.clock.monotonic() >= self._deadline:
            self.fail(BusError(f"{self._partition}: not delivered in time: the broker did not answer"))


class MemoryProducer:
    """Sends to a `MemoryBus`; see `workers.bus.base.Producer`."""

    def __init__(
        self, bus: MemoryBus, *, max_in_flight_bytes: int, max_block: float, delivery_timeout: float
    ) -> None:
        self._bus = bus
        self._max_in_flight = max_in_flight_bytes
        self._max_block = max_block
        self._delivery_timeout = delivery_timeout
        self._open: list[MemoryDelivery] = []
        self._closed = False

    def send(
        self, topic: str, value: bytes, *, key: bytes | None = None, partition: int, headers: Headers = ()
    ) -> MemoryDelivery:
        """Queue one record."""
        size = record_bytes(value, key, headers)
        where = TopicPartition(topic, partition)
        if self._closed:
            raise BusError(f"{where}: the producer is closed")
        if size > MAX_RECORD_BYTES:
            raise RecordTooLarge(
                f"{where}: a record of {size} bytes is over the limit of {MAX_RECORD_BYTES} bytes"
            )

        def fits() -> bool:
            in_flight = self.in_flight_bytes()
            # A record larger than the whole allowance may still go, alone.
            return in_flight == 0 or in_flight + size <= self._max_in_flight

        if not self._bus.wait_until(fits, self._max_block):
            raise BusError(
                f"{where}: {self.in_flight_bytes()} bytes are in flight, the limit of {self._max_in_flight}"
                f" did not clear within {self._max_block:g} s: the broker is slow or away"
            )
        with self._bus.changed:
            deadline = self._bus.clock.monotonic() + self._delivery_timeout
            delivery = MemoryDelivery(self._bus, where, size, deadline)
            self._bus.accept(delivery, where, key, value, headers)
            self._open.append(delivery)
        return delivery

    def prepare(self, place: TopicPartition, timeout: float) -> None:
        """Whether the partition is there."""
        known = self._bus.partitions(place.topic)
        if known is None or place.partition >= known:
            raise BusError(f"{place} does not exist: create it with `crosscheck topics`")

    def in_flight_bytes(self) -> int:
        """Bytes sent whose outcome is not known yet."""
        with self._bus.changed:
            self._open = [delivery for delivery in self._open if not delivery.done()]
            return sum(delivery.size for delivery in self._open)

    def flush(self, timeout: float) -> None:
        """Wait until the outcome of everything sent is known."""
        if not self._bus.wait_until(lambda: self.in_flight_bytes() == 0, timeout):
            raise BusError(f"{self.in_flight_bytes()} bytes were still in flight after {timeout:g} s")

    def close(self, timeout: float = 5.0) -> None:
        """Let go of the broker."""
        if not self._closed:
            self._bus.wait_until(lambda: self.in_flight_bytes() == 0, timeout)
        self._closed = True


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
        self._logs: dict[TopicPartition, _Log] = {}
        self._groups: dict[str, Group] = {}
        self._held: deque[Callable[[], None]] = deque()
        self._failing_sends = 0
        self._failing_commits = 0
        self._names = 0
        self._clients: list[MemoryProducer | MemoryConsumer] = []

    def producer(
        self,
        *,
        max_in_flight_bytes: int = 64 * 2**20,
        max_block: float = 5.0,
        delivery_timeout: float = 10.0,
        linger: float = 0.0,
    ) -> MemoryProducer:
        """A new producer. ``linger`` changes nothing here: a send is acknowledged at once."""
        producer = MemoryProducer(
            self,
            max_in_flight_bytes=max_in_flight_bytes,
            max_block=max_block,
            delivery_timeout=delivery_timeout,
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
                    self._logs.setdefault(TopicPartition(topic, i), _Log())
            self.touch()

    def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has, or None."""
        with self.changed:
            spec = self._specs.get(topic)
            return None if spec is None else spec.partitions

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
    ) -> None:
        """Store a record, now or when the broker is back, and settle its delivery."""
        log, spec = self.log(where), self._specs[where.topic]
        now_ms = self.clock.now() // 1_000_000

        def store() -> None:
            if delivery.done():
                return
            if self._failing_sends > 0:
                self._failing_sends -= 1
                delivery.fail(BusError(f"{where}: the broker refused the record (made to fail)"))
            elif delivery.size > spec.max_message_bytes:
                delivery.fail(
                    RecordTooLarge(
                        f"{where}: a record of {delivery.size} bytes is over the topic's max.message.bytes"
                        f" of {spec.max_message_bytes}; raise it with `crosscheck topics` or send less"
                    )
                )
            else:
                delivery.succeed(log.end)
                log.append(
                    Record(where.topic, where.partition, log.end, key, bytes(value), tuple(headers), now_ms)
                )
                log.retain(spec, now_ms)

        if self.interrupted:
            self._held.append(store)
        else:
            store()
        self.touch()

    def refuse_commit(self) -> None:
        """Raise if commits are to fail now."""
        if self.interrupted:
            raise BusError("commit not answered: the broker is away")
        if self._failing_commits > 0:
            self._failing_commits -= 1
            raise BusError("the broker refused the commit (made to fail)")

    def log(self, partition: TopicPartition) -> _Log:
        """The records of a partition."""
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

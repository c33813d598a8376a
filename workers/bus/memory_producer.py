"""The producer of the in-memory broker, with and without transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from workers.bus.base import (
    MAX_RECORD_BYTES,
    Consumer,
    Headers,
    TopicPartition,
    record_bytes,
)
from workers.bus.memory_consumer import MemoryConsumer
from workers.bus.memory_transactions import Transaction
from workers.errors import BusError, Fenced, RecordTooLarge

if TYPE_CHECKING:
    from workers.bus.memory import MemoryBus


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
        self,
        bus: MemoryBus,
        *,
        max_in_flight_bytes: int,
        max_block: float,
        delivery_timeout: float,
        transactional_id: str | None = None,
        transaction_timeout: float = 10.0,
    ) -> None:
        self._bus = bus
        self._id = transactional_id
        self._transaction_timeout = transaction_timeout
        self._transaction: Transaction | None = None
        self._sent: list[MemoryDelivery] = []
        self._epoch = 0 if transactional_id is None else bus.enter(transactional_id)
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
        if self._id is not None and self._transaction is None:
            raise BusError(f"{where}: no transaction is open: begin one first")
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
            self._bus.accept(delivery, where, key, value, headers, self._writing())
            self._open.append(delivery)
            if self._transaction is not None:
                self._sent.append(delivery)
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

    def begin(self) -> None:
        """Open a transaction."""
        name = self._require_id()
        with self._bus.changed:
            if self._bus.interrupted:
                raise BusError(f"producer {name}: no transaction can begin, the broker is away")
            self._bus.require(name, self._epoch)
            self._abort()
            deadline = self._bus.clock.monotonic() + self._transaction_timeout
            self._transaction = Transaction(deadline)
            if (left := self._bus.transactions.begin(name, self._transaction)) is not None:
                self._bus.settle(left, committed=False)

    def send_offsets(self, offsets: Mapping[TopicPartition, int], consumer: Consumer) -> None:
        """Commit offsets with the transaction."""
        name = self._require_id()
        if not isinstance(consumer, MemoryConsumer):
            raise ValueError("offsets are committed for a consumer of the same bus")
        with self._bus.changed:
            transaction = self._require_open(name)
            try:
                group = consumer.require_membership()
            except BusError:
                self._abort()
                raise
            transaction.offsets.append((group, dict(offsets)))

    def commit_transaction(self, timeout: float) -> None:
        """Make all of the transaction visible, or none of it."""
        name = self._require_id()
        with self._bus.changed:
            self._require_open(name)
        settled = self._bus.wait_until(lambda: all(d.done() for d in self._sent), timeout)
        with self._bus.changed:
            try:
                transaction = self._require_open(name)
                if not settled:
                    raise BusError(f"producer {name}: records were not acknowledged within {timeout:g} s")
                for delivery in self._sent:
                    delivery.wait(0)
                self._bus.refuse_commit()
            except BusError:
                self._abort()
                raise
            self._bus.transactions.end(name)
            self._bus.settle(transaction, committed=True)
            self._transaction, self._sent = None, []

    def abort_transaction(self, timeout: float) -> None:
        """Let nothing of the transaction come to be visible."""
        name = self._require_id()
        with self._bus.changed:
            self._abort()
            if self._bus.interrupted:
                raise BusError(f"producer {name}: the abort was not answered, the broker is away")
            self._bus.require(name, self._epoch)

    def close(self, timeout: float = 5.0) -> None:
        """Let go of the broker."""
        if not self._closed:
            self._bus.wait_until(lambda: self.in_flight_bytes() == 0, timeout)
            with self._bus.changed:
                self._abort()
        self._closed = True

    def _require_id(self) -> str:
        if self._id is None:
            raise ValueError("transactions want a producer with a transactional_id")
        return self._id

    def _require_open(self, name: str) -> Transaction:
        self._bus.require(name, self._epoch)
        if self._transaction is None:
            raise BusError(f"producer {name}: no transaction is open: begin one first")
        return self._transaction

    def _writing(self) -> tuple[str, int, Transaction] | None:
        if self._id is None or self._transaction is None:
            return None
        return self._id, self._epoch, self._transaction

    def _abort(self) -> None:
        """Forget the open transaction, here and at the broker; the lock is held."""
        transaction, self._transaction = self._transaction, None
        sent, self._sent = self._sent, []
        for delivery in sent:
            if not delivery.done():
                delivery.fail(BusError(f"{self._id}: the record's transaction was aborted"))
        if transaction is None or self._id is None or self._bus.interrupted:
            # A broker that is away aborts at the next begin, or when the transaction's time is over.
            return
        try:
            self._bus.require(self._id, self._epoch)
        except Fenced:
            # Whoever fenced this producer has seen to it.
            return
        self._bus.transactions.end(self._id)
        self._bus.settle(transaction, committed=False)

"""The producer on Kafka: explicit partitions, and bytes in flight that this side bounds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from workers.bus._client import kafka_errors
from workers.bus._mend import mended
from workers.bus._reach import said
from workers.bus.base import MAX_RECORD_BYTES, Consumer, Headers, TopicPartition, record_bytes
from workers.contact import Contact
from workers.errors import BusError, RecordTooLarge

_OVERDUE_S = 5.0
"""A record still open so long after its delivery timeout is one that the client has lost sight of."""


class KafkaDelivery:
    """The outcome of one send to Kafka; see `workers.bus.base.Delivery`."""

    def __init__(self, future: Any, place: TopicPartition, size: int, bootstrap: str) -> None:
        self._future = future
        self._place = place
        self._size = size
        self._bootstrap = bootstrap

    def done(self) -> bool:
        """Whether the outcome is known."""
        return bool(self._future.is_done)

    def wait(self, timeout: float) -> tuple[TopicPartition, int]:
        """Partition and offset of the record."""
        try:
            # At least one look: a timeout of 0 asks for what is known now.
            metadata = self._future.get(timeout=max(timeout, 0.001))
        except kafka_errors.MessageSizeTooLargeError:
            raise RecordTooLarge(
                f"{self._place}: a record of {self._size} bytes is over the topic's max.message.bytes;"
                " raise it with `crosscheck topics` or send less"
            ) from None
        except kafka_errors.KafkaTimeoutError as error:
            raise BusError(
                f"{self._place}: Kafka at {self._bootstrap} acknowledged nothing ({error}):"
                " is it running? try `crosscheck services up`"
            ) from None
        except kafka_errors.KafkaError as error:
            raise BusError(f"{self._place}: Kafka at {self._bootstrap}: {said(error)}") from None
        return self._place, int(metadata.offset)


class KafkaBusProducer:
    """Sends to Kafka; see `workers.bus.base.Producer`. Safe to share between threads.

    kafka-python takes any amount of records for a dead broker (100 MB in a third of a second): the bound is
    here.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        bootstrap: str,
        *,
        max_in_flight_bytes: int,
        max_block: float,
        contact: Contact,
    ) -> None:
        self._contact = contact
        self._connect: Callable[[], Any] = lambda: mended(connect())
        self._client = self._connect()
        self._renewal = threading.Lock()
        # When each record was sent whose outcome is not known; done ones leave from the left.
        self._unsettled: deque[tuple[float, Any]] = deque()
        self._bootstrap = bootstrap
        self._max_in_flight = max_in_flight_bytes
        self._max_block = max_block
        self._in_flight = 0
        self._settled = threading.Condition()
        self._closed = False

    def send(
        self, topic: str, value: bytes, *, key: bytes | None = None, partition: int, headers: Headers = ()
    ) -> KafkaDelivery:
        """Queue one record."""
        place = TopicPartition(topic, partition)
        size = record_bytes(value, key, headers)
        if self._closed:
            raise BusError(f"{place}: the producer is closed")
        if size > MAX_RECORD_BYTES:
            raise RecordTooLarge(
                f"{place}: a record of {size} bytes is over the limit of {MAX_RECORD_BYTES} bytes"
            )
        self._renew_if_failed()
        self._require_partition(place)
        self._reserve(place, size)
        try:
            future = self._client.send(
                topic, value, key=key, partition=partition, headers=[(name, bytes(c)) for name, c in headers]
            )
        except (kafka_errors.KafkaError, AssertionError, ValueError) as error:
            self._release(size)
            raise BusError(f"{place}: Kafka at {self._bootstrap}: {said(error)}") from None
        future.add_both(lambda _: self._release(size))
        future.add_callback(lambda _: self._contact.succeeded())
        future.add_errback(self._heard)
        with self._renewal:
            self._unsettled.append((time.monotonic(), future))
        return KafkaDelivery(future, place, size, self._bootstrap)

    def prepare(self, place: TopicPartition, timeout: float) -> None:
        """Ask for the topic's partitions and leaders until they are known."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._require_partition(place)
            except BusError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def in_flight_bytes(self) -> int:
        """Bytes sent whose outcome is not known yet."""
        with self._settled:
            return self._in_flight

    def flush(self, timeout: float) -> None:
        """Wait until the outcome of everything sent is known."""
        try:
            self._client.flush(timeout=timeout)
        except kafka_errors.KafkaTimeoutError:
            raise BusError(
                f"Kafka at {self._bootstrap}: {self.in_flight_bytes()} bytes were still in flight after"
                f" {timeout:g} s"
            ) from None
        # The callbacks that count run a moment after the flush is over.
        with self._settled:
            self._settled.wait_for(lambda: self._in_flight == 0, timeout)

    def begin(self) -> None:
        """Refused: this producer has no transactional id."""
        raise _without_id()

    def send_offsets(self, offsets: Mapping[TopicPartition, int], consumer: Consumer) -> None:
        """Refused: this producer has no transactional id."""
        raise _without_id()

    def commit_transaction(self, timeout: float) -> None:
        """Refused: this producer has no transactional id."""
        raise _without_id()

    def abort_transaction(self, timeout: float) -> None:
        """Refused: this producer has no transactional id."""
        raise _without_id()

    def close(self, timeout: float = 5.0) -> None:
        """Flush for at most ``timeout`` seconds and let go of the broker."""
        if self._closed:
            return
        self._closed = True
        try:
            self._client.close(timeout=timeout)
        except kafka_errors.KafkaTimeoutError:
            # Flushing took too long: what is open fails in its deliveries.
            discard(self._client)

    def _renew_if_failed(self) -> None:
        """Replace a client that fails everything from now on, or does not move.

        One record that the broker refuses for good (over the topic's limit, say) puts kafka-python's
        idempotent producer in a fatal state, in which it answers every later record with that same error.
        And one that leaves a record in its hands long after it should have failed it will not come back.
        """
        with self._renewal:
            transactions = self._client._transaction_manager
            failed = transactions is not None and transactions.has_fatal_error()
            if failed or self._stands_still():
                old, self._client = self._client, self._connect()
                self._unsettled.clear()
                discard(old)

    def _stands_still(self) -> bool:
        """Whether a record is neither acknowledged nor failed long after one of the two was due."""
        while self._unsettled and self._unsettled[0][1].is_done:
            self._unsettled.popleft()
        if not self._unsettled:
            return False
        due = self._unsettled[0][0] + self._client.config["delivery_timeout_ms"] / 1000
        return bool(time.monotonic() > due + _OVERDUE_S)

    def _require_partition(self, place: TopicPartition) -> None:
        """The client blocks or fails late on a partition that does not exist; this says so at once."""
        known = self._client._metadata.partitions_for_topic(place.topic)
        if known is not None and place.partition in known:
            return
        try:
            known = self._client.partitions_for(place.topic)
        except kafka_errors.KafkaError:
            known = None
        if not known or place.partition not in known:
            if place.topic in self._client._metadata.unauthorized_topics:
                refused = kafka_errors.TopicAuthorizationFailedError(place.topic)
                raise BusError(f"{place}: Kafka at {self._bootstrap}: {said(refused)}")
            raise BusError(
                f"{place} does not exist, or Kafka at {self._bootstrap} does not answer: create it with"
                " `crosscheck topics`, see whether Kafka runs with `crosscheck services status`"
            )

    def _heard(self, error: Exception) -> None:
        """A record failed; one that was only too large was answered all the same."""
        if isinstance(error, kafka_errors.MessageSizeTooLargeError):
            self._contact.succeeded()
        else:
            self._contact.failed(f"Kafka at {self._bootstrap}: {said(error) or type(error).__name__}")

    def _reserve(self, place: TopicPartition, size: int) -> None:
        deadline = time.monotonic() + self._max_block
        with self._settled:
            # A record larger than the whole allowance may still go, alone.
            while self._in_flight and self._in_flight + size > self._max_in_flight:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise BusError(
                        f"{place}: {self._in_flight} bytes are in flight, the limit of"
                        f" {self._max_in_flight} did not clear within {self._max_block:g} s:"
                        f" Kafka at {self._bootstrap} is slow or away"
                    )
                self._settled.wait(remaining)
            self._in_flight += size

    def _release(self, size: int) -> None:
        with self._settled:
            self._in_flight -= size
            self._settled.notify_all()


def discard(client: Any) -> None:
    """Close a client without waiting for the broker: what it still holds fails in its deliveries.

    Its own close flushes first and, when that takes too long, leaves its thread and its sockets behind.
    """
    client._sender.force_close()
    with contextlib.suppress(kafka_errors.KafkaError):
        client.close(timeout=1.0)


def _without_id() -> ValueError:
    return ValueError("transactions want a producer with a transactional_id")

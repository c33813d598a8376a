"""The transactional producer on Kafka: begin, send, offsets, commit or abort, and what each failure means.

kafka-python's own calls wait without a limit, so this class asks its transaction manager and waits itself.
A failure leaves that manager in one of many states: whatever is not clearly ready again is thrown away and
made anew at the next `begin`, which also aborts at the broker what was left open.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from workers.bus._client import KafkaTopicPartition, OffsetAndMetadata, kafka_errors
from workers.bus._reach import said
from workers.bus.base import Consumer, Headers, TopicPartition
from workers.bus.kafka_consumer import KafkaBusConsumer
from workers.bus.kafka_producer import KafkaBusProducer, KafkaDelivery, discard
from workers.contact import Contact
from workers.errors import BusError, Fenced

# How long questions to the broker may take, seconds.
_ASK_S = 5.0
# A producer may be fenced on either of its ways: by the coordinator or by the leader of a partition.
_FENCED = (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError)


class KafkaTransactionalProducer(KafkaBusProducer):
    """Sends in transactions; see `workers.bus.base.Producer`. One thread begins and ends them."""

    def __init__(
        self,
        connect: Callable[[], Any],
        bootstrap: str,
        *,
        transactional_id: str,
        max_in_flight_bytes: int,
        max_block: float,
        contact: Contact,
    ) -> None:
        self._id = transactional_id
        self._running = False
        self._fenced = False
        self._sent: list[KafkaDelivery] = []
        # A commit that nobody has heard of yet: its outcome, once it is known.
        self._ending: Any = None
        super().__init__(
            lambda: self._enter(connect()),
            bootstrap,
            max_in_flight_bytes=max_in_flight_bytes,
            max_block=max_block,
            contact=contact,
        )

    def send(
        self, topic: str, value: bytes, *, key: bytes | None = None, partition: int, headers: Headers = ()
    ) -> KafkaDelivery:
        """Queue one record of the open transaction."""
        self._require_open()
        delivery = super().send(topic, value, key=key, partition=partition, headers=headers)
        self._sent.append(delivery)
        return delivery

    def begin(self) -> None:
        """Open a transaction."""
        self._refuse_if_fenced()
        if self._closed:
            raise BusError(f"producer {self._id} is closed")
        if self._running:
            with contextlib.suppress(BusError):
                self.abort_transaction(_ASK_S)
            self._refuse_if_fenced()
        self._settle_ending()
        # Each transaction ends with the outcome of its own records; none is looked for after that.
        self._unsettled.clear()
        if not self._manager._test_is_ready() or self._client._accumulator.has_incomplete:
            failed, self._client = self._client, self._connect()
            discard(failed)
        try:
            self._manager.begin_transaction()
        except kafka_errors.KafkaError as error:
            raise self._failed("no transaction begins", error) from None
        self._running = True

    def send_offsets(self, offsets: Mapping[TopicPartition, int], consumer: Consumer) -> None:
        """Commit offsets with the transaction, as a member of the consumer's group."""
        if not isinstance(consumer, KafkaBusConsumer):
            raise ValueError("offsets are committed for a consumer of the same bus")
        self._require_open()
        try:
            membership = consumer.membership()
            entries = {
                KafkaTopicPartition(place.topic, place.partition): OffsetAndMetadata(offset, "", -1)
                for place, offset in offsets.items()
            }
            if not entries:
                return
            result = self._manager.send_offsets_to_transaction(entries, membership)
            self._client._sender.wakeup()
            self._await(result, _ASK_S, "its offsets")
        except kafka_errors.FencedInstanceIdError:
            self._abort_quietly()
            raise consumer.fenced() from None
        except (kafka_errors.KafkaError, BusError) as error:
            self._abort_quietly()
            raise self._failed("its offsets were refused", error) from None

    def commit_transaction(self, timeout: float) -> None:
        """Make all of the transaction visible, or none of it."""
        self._require_open()
        deadline = time.monotonic() + timeout
        try:
            # A commit that goes ahead while a record failed would make the rest of them visible.
            self.flush(timeout)
            for delivery in self._sent:
                delivery.wait(0)
            result = self._manager.begin_commit()
        except (kafka_errors.KafkaError, BusError) as error:
            self._abort_quietly()
            raise self._failed("nothing was committed", error) from None
        self._running, self._sent = False, []
        self._client._sender.wakeup()
        try:
            self._await(result, deadline - time.monotonic(), "the commit")
        except BusError:
            self._ending = result
            raise
        except kafka_errors.KafkaError as error:
            raise self._failed("the commit was refused", error) from None

    def abort_transaction(self, timeout: float) -> None:
        """Let nothing of the transaction come to be visible."""
        if not self._running:
            self._refuse_if_fenced()
            return
        self._running, self._sent = False, []
        try:
            result = self._manager.begin_abort()
            self._client._sender.wakeup()
            self._await(result, timeout, "the abort")
        except kafka_errors.KafkaError as error:
            raise self._failed("the abort was refused", error) from None

    def close(self, timeout: float = 5.0) -> None:
        """Abort what is open and let go of the broker."""
        if self._running and not self._closed:
            with contextlib.suppress(BusError):
                self.abort_transaction(timeout)
        super().close(timeout)

    def _renew_if_failed(self) -> None:
        """Never within a transaction: the records before would be lost and the rest committed."""

    @property
    def _manager(self) -> Any:
        return self._client._transaction_manager

    def _enter(self, client: Any) -> Any:
        """Take the id over from whoever had it, which fences them and aborts what they left open."""
        # A stale epoch must be the end of this client. It would ask for a new one instead, in the middle of a
        # transaction, and if need be for a new producer id, which fences the successor that it was fenced by.
        client._transaction_manager._supports_epoch_bump = lambda: False
        deadline = time.monotonic() + 3 * _ASK_S
        while True:
            try:
                client.init_transactions()
                return client
            except kafka_errors.KafkaTimeoutError as error:
                # The first transaction of a cluster makes the topic that keeps them: that takes a while.
                if time.monotonic() < deadline:
                    continue
                failed: Exception = error
            except kafka_errors.KafkaError as error:
                failed = error
            discard(client)
            raise BusError(f"producer {self._id}: Kafka does not take its transactional id: {said(failed)}")

    def _require_open(self) -> None:
        self._refuse_if_fenced()
        if not self._running:
            raise BusError(f"producer {self._id}: no transaction is open: begin one first")

    def _refuse_if_fenced(self) -> None:
        if self._fenced or isinstance(self._manager.last_error, _FENCED):
            self._fenced, self._running = True, False
            raise Fenced.producer(self._id)

    def _failed(self, what: str, error: Exception) -> BusError:
        """The error to raise: fenced if that is behind it."""
        try:
            self._refuse_if_fenced()
        except Fenced as fenced:
            return fenced
        if isinstance(error, Fenced):
            return error
        return BusError(f"producer {self._id}: {what} by Kafka at {self._bootstrap}: {said(error)}")

    def _abort_quietly(self) -> None:
        with contextlib.suppress(BusError):
            self.abort_transaction(_ASK_S)

    def _settle_ending(self) -> None:
        """Hear the outcome of a commit that took too long: a fenced producer must not enter its id again."""
        result, self._ending = self._ending, None
        if result is not None:
            with contextlib.suppress(kafka_errors.KafkaError, BusError):
                self._await(result, _ASK_S, "the commit")
            self._refuse_if_fenced()

    def _await(self, result: Any, timeout: float, what: str) -> None:
        if not result.wait(timeout_ms=max(1.0, timeout * 1000)):
            raise BusError(
                f"producer {self._id}: {what} was not answered by Kafka at {self._bootstrap} within"
                f" {max(0.0, timeout):.3g} s; the group's committed offsets tell whether it counts"
            )

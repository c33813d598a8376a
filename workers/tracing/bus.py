"""A bus whose producers write the trace context of a part on the records that speak of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workers.bus.base import Bus, Consumer, Delivery, Headers, Producer, TopicPartition, TopicSpec
from workers.contact import Contact
from workers.tracing.context import HEADER, Context, Sampler, span_id, trace_id


@dataclass(frozen=True, slots=True)
class TracedBus:
    """Another bus, and ``traceparent`` on the records of some topics. Their key must be the part's.

    Attributes:
        bus: does everything else.
        topics: whose records are marked, by full name.
        span: which span of the part its readers continue.
        sampler: which parts are traced; the others' records are left as they are.
    """

    bus: Bus
    topics: frozenset[str]
    span: str
    sampler: Sampler

    @property
    def contact(self) -> Contact | None:
        """How the last exchange of the other bus went; None where it does not keep it."""
        found = getattr(self.bus, "contact", None)
        return found if isinstance(found, Contact) else None

    def producer(
        self,
        *,
        max_in_flight_bytes: int = 64 * 2**20,
        max_block: float = 5.0,
        delivery_timeout: float = 10.0,
        linger: float = 0.0,
        transactional_id: str | None = None,
        transaction_timeout: float = 10.0,
    ) -> Producer:
        """See ``Bus``."""
        theirs = self.bus.producer(
            max_in_flight_bytes=max_in_flight_bytes,
            max_block=max_block,
            delivery_timeout=delivery_timeout,
            linger=linger,
            transactional_id=transactional_id,
            transaction_timeout=transaction_timeout,
        )
        return TracedProducer(theirs, self.topics, self.span, self.sampler)

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
    ) -> Consumer:
        """See ``Bus``."""
        return self.bus.consumer(
            group,
            max_poll_records=max_poll_records,
            start=start,
            session_timeout=session_timeout,
            max_poll_interval=max_poll_interval,
            name=name,
            read_committed=read_committed,
            member=member,
        )

    def ensure_topics(self, topics: Mapping[str, TopicSpec]) -> None:
        """See ``Bus``."""
        self.bus.ensure_topics(topics)

    def partitions(self, topic: str) -> int | None:
        """See ``Bus``."""
        return self.bus.partitions(topic)

    def largest_record(self, topic: str) -> int | None:
        """See ``Bus``."""
        return self.bus.largest_record(topic)

    def delete_before(self, partition: TopicPartition, offset: int) -> None:
        """See ``Bus``."""
        self.bus.delete_before(partition, offset)

    def close(self) -> None:
        """See ``Bus``."""
        self.bus.close()


@dataclass(frozen=True, slots=True)
class TracedProducer:
    """See ``TracedBus``."""

    producer: Producer
    topics: frozenset[str]
    span: str
    sampler: Sampler

    def send(
        self, topic: str, value: bytes, *, key: bytes | None = None, partition: int, headers: Headers = ()
    ) -> Delivery:
        """See ``Producer``."""
        if key is not None and topic in self.topics:
            trace = trace_id(key)
            if self.sampler(trace) and all(name != HEADER for name, _ in headers):
                headers = (*headers, (HEADER, Context(trace, span_id(key, self.span)).header()))
        return self.producer.send(topic, value, key=key, partition=partition, headers=headers)

    def prepare(self, place: TopicPartition, timeout: float) -> None:
        """See ``Producer``."""
        self.producer.prepare(place, timeout)

    def in_flight_bytes(self) -> int:
        """See ``Producer``."""
        return self.producer.in_flight_bytes()

    def flush(self, timeout: float) -> None:
        """See ``Producer``."""
        self.producer.flush(timeout)

    def begin(self) -> None:
        """See ``Producer``."""
        self.producer.begin()

    def send_offsets(self, offsets: Mapping[TopicPartition, int], consumer: Consumer) -> None:
        """See ``Producer``."""
        self.producer.send_offsets(offsets, consumer)

    def commit_transaction(self, timeout: float) -> None:
        """See ``Producer``."""
        self.producer.commit_transaction(timeout)

    def abort_transaction(self, timeout: float) -> None:
        """See ``Producer``."""
        self.producer.abort_transaction(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """See ``Producer``."""
        self.producer.close(timeout)

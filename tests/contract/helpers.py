"""What the contract tests have in common: the hooks of a backend, and helpers that wait on conditions."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from workers.bus.base import Bus, Consumer, Producer, Record, TopicPartition, TopicSpec

_names = itertools.count()


class Listener:
    """Keeps what it was told; pauses what ``holding`` is given, before any of its records is read."""

    def __init__(self, holding: Consumer | None = None) -> None:
        self.holding = holding
        self.assigned: list[set[TopicPartition]] = []
        self.revoked: list[set[TopicPartition]] = []
        self.lost: list[set[TopicPartition]] = []

    def on_assigned(self, partitions: set[TopicPartition]) -> None:
        self.assigned.append(set(partitions))
        if self.holding is not None:
            self.holding.pause(partitions)

    def on_revoked(self, partitions: set[TopicPartition]) -> None:
        self.revoked.append(set(partitions))

    def on_lost(self, partitions: set[TopicPartition]) -> None:
        self.lost.append(set(partitions))


class ContractHelpers:
    """A backend gives the fixture ``bus`` and the hooks below."""

    # How long a condition may take to come true, seconds of real time.
    patience = 30.0
    # A member that does not poll for so long is removed from its group, seconds; and one that is to be.
    max_poll_interval = 6.0
    short_poll_interval = 2.0
    # One whose heartbeats stop is removed after so long.
    session_timeout = 6.0

    def pass_time(self, seconds: float) -> None:
        """Let the broker's time go by."""
        raise NotImplementedError

    @contextmanager
    def unacknowledged(self, bus: Bus) -> Iterator[Producer]:
        """A producer with 1,000 bytes in flight allowed, and nothing acknowledged while this is open.

        Each backend has its own way to hold the acknowledgements back.
        """
        yield bus.producer(max_in_flight_bytes=1000, max_block=0.2)

    def delete_topic(self, bus: Bus, topic: str) -> None:
        """Delete a topic, as somebody else would."""
        raise NotImplementedError

    @pytest.fixture
    def topic(self, bus: Bus) -> str:
        name = f"contract-{time.time_ns()}-{next(_names)}"
        bus.ensure_topics({name: TopicSpec(partitions=4)})
        return name

    @pytest.fixture
    def group(self) -> str:
        return f"group-{time.time_ns()}-{next(_names)}"

    # Helpers that wait on a condition, never on the clock.

    def poll_until(self, done: Callable[[], bool], *consumers: Consumer) -> list[Record]:
        """Poll the consumers in turn until the condition holds."""
        records: list[Record] = []
        deadline = time.monotonic() + self.patience
        while not done():
            assert time.monotonic() < deadline, f"not reached in {self.patience} s; read {len(records)}"
            for consumer in consumers:
                records.extend(consumer.poll(0.05))
        return records

    def read(self, count: int, *consumers: Consumer) -> list[Record]:
        """Poll until ``count`` records have come."""
        records: list[Record] = []
        deadline = time.monotonic() + self.patience
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} records in {self.patience} s"
            for consumer in consumers:
                records.extend(consumer.poll(0.05))
        return records

    def nothing(self, consumer: Consumer, polls: int = 8) -> None:
        """Polls, and expects no record."""
        for _ in range(polls):
            assert consumer.poll(0.05) == []

    def fill(self, bus: Bus, topic: str, count: int, partition: int = 0, start: int = 0) -> None:
        """Send records whose values count up."""
        producer = bus.producer()
        deliveries = [
            producer.send(topic, b"%d" % i, partition=partition) for i in range(start, start + count)
        ]
        for delivery in deliveries:
            delivery.wait(10)
        producer.close()

    def joined(
        self,
        bus: Bus,
        topic: str,
        group: str,
        *,
        max_poll_records: int = 64,
        max_poll_interval: float | None = None,
        member: str | None = None,
    ) -> tuple[Consumer, Listener]:
        """A consumer that holds all partitions of a topic, paused, so that nothing was read yet."""
        consumer = bus.consumer(
            group,
            max_poll_interval=max_poll_interval or self.max_poll_interval,
            session_timeout=self.session_timeout,
            max_poll_records=max_poll_records,
            member=member,
        )
        listener = Listener(holding=consumer)
        consumer.subscribe({topic}, listener)
        assert self.poll_until(lambda: len(consumer.assignment()) == 4, consumer) == []
        listener.holding = None
        return consumer, listener

"""Step 6, the result topic: verdicts acknowledged one by one, or a batch and its offsets in a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from workers.bus.base import Bus, Consumer, Producer, TopicPartition
from workers.errors import BusError, RecordTooLarge
from workers.settings import Settings
from workers.steps.offsets import OffsetTracker, Ticket

Offsets = dict[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One verdict on its way: the bytes that stand, the part as key, the partition of its frame."""

    key: bytes
    value: bytes
    partition: int


class Delivery(Protocol):
    """Brings verdicts to the result topic."""

    def deliver(self, verdicts: Sequence[Outgoing], tickets: Sequence[Ticket]) -> Offsets:
        """Have all of them on the topic, in order; returns the offsets that were committed with them.

        Args:
            tickets: of the records that these verdicts answer.

        Raises:
            BusError: they are not known to be there; doing it again is safe.
        """
        ...

    def close(self) -> None:
        """Let go of what is its own."""
        ...


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Plain sends, each waited for; offsets are committed afterwards, by the loop."""

    producer: Producer
    topic: str
    timeout_s: float = 10.0

    def deliver(self, verdicts: Sequence[Outgoing], tickets: Sequence[Ticket]) -> Offsets:
        """See ``Delivery``."""
        sent = [self.producer.send(self.topic, v.value, key=v.key, partition=v.partition) for v in verdicts]
        for each in sent:
            try:
                each.wait(self.timeout_s)
            except RecordTooLarge as error:
                # No verdict is that large: it fell with a heatmap of the batch before, and may be sent again.
                raise BusError(str(error)) from None
        return {}

    def close(self) -> None:
        """The producer is not its own."""


@dataclass(slots=True)
class Transactional:
    """Verdicts and offsets become visible together: read-committed readers see each verdict once.

    The price is a transaction's round trips before anybody sees a verdict. Redis is never part of it: the
    gate hears of a verdict before the topic's readers do.

    Args:
        producer: one with a transactional id, used for nothing else.
        consumer: whose group the offsets are committed for.
        offsets: which records are answered.
    """

    producer: Producer
    topic: str
    consumer: Consumer
    offsets: OffsetTracker
    timeout_s: float = 10.0
    _doubtful: Offsets = field(default_factory=dict)

    def deliver(self, verdicts: Sequence[Outgoing], tickets: Sequence[Ticket]) -> Offsets:
        """See ``Delivery``.

        Raises:
            Fenced: another worker of this name has taken over.
        """
        offsets = self.offsets.committable_after(tickets)
        if offsets and offsets == self._doubtful and self._happened(offsets):
            # The answer to the last commit was lost, not the commit: again would show every verdict twice.
            self._doubtful = {}
            return offsets
        self._doubtful = offsets
        self.producer.begin()
        try:
            for v in verdicts:
                self.producer.send(self.topic, v.value, key=v.key, partition=v.partition)
            if offsets:
                self.producer.send_offsets(offsets, self.consumer)
            self.producer.commit_transaction(self.timeout_s)
        except BusError:
            with suppress(BusError):
                self.producer.abort_transaction(self.timeout_s)
            raise
        self._doubtful = {}
        return offsets

    def close(self) -> None:
        """Let go of the producer; what is open is aborted. Raises BusError."""
        self.producer.close()

    def _happened(self, offsets: Offsets) -> bool:
        return all((self.consumer.committed(p) or 0) >= offset for p, offset in offsets.items())


def open_delivery(
    settings: Settings, bus: Bus, plain: Producer, consumer: Consumer, offsets: OffsetTracker
) -> Delivery:
    """As the settings say.

    Args:
        plain: what heatmaps and dead letters go by: they are no part of any transaction.
    """
    topic = settings.topic("verdicts")
    if settings.delivery == "plain":
        return Acknowledged(plain, topic)
    # The same after a restart: a successor ends at once what a dead worker left open.
    name = f"{settings.group}.{settings.worker}"
    return Transactional(bus.producer(transactional_id=name), topic, consumer, offsets)

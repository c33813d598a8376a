"""The bus as the workers see it: records in partitions, producers, consumers in groups.

Two backends keep this contract (`tests/contract`): `workers.bus.memory` and `workers.bus.kafka`. What it
promises is what a real broker does, not what one might wish for:

* delivery is at least once: whatever was not committed comes again, from the committed offset;
* order holds within a partition only, and the partition is always chosen by the caller;
* the broker does not stop a zombie: a member that lost its partitions may still produce, and once it has
  rejoined its old commits are accepted, for any partition and to any offset: filtering is the caller's work;
* records that retention deleted before a group read them surface as `OffsetGap`, never as a silent jump;
* what cannot be decoded (a codec or a format that nobody knows, a wrong checksum, a header's name that is not
  text) is returned as a record that says so (`Undecoded`), and the partition goes on behind it;
* a transaction makes records visible and offsets committed together, to readers with ``read_committed`` only;
  the others see its records as they come, aborted ones too. Offsets have holes where transactions end.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

Headers = tuple[tuple[str, bytes], ...]

# Around a message: its key, trace headers, and the headers that a dead letter adds.
ENVELOPE_BYTES = 64 * 2**10
# The largest record of any topic: a message at the limit of the wire (16 MiB) with what is around it. Every
# limit between agent and worker is set from it, or from a lower one that brokers have (`largest_message`).
MAX_RECORD_BYTES = 16 * 2**20 + ENVELOPE_BYTES
# Around a record: batch header and lengths. Brokers and topics count the whole batch.
BATCH_OVERHEAD_BYTES = 16 * 1024
MAX_BATCH_BYTES = MAX_RECORD_BYTES + BATCH_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """One partition of one topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


@dataclass(frozen=True, slots=True)
class Undecoded:
    """What is wrong with records that the client could not decode.

    Attributes:
        first: the offset of the first of them; the last is that of the record which stands for all.
        why: in words.
        batch: the record's value is what is left of a batch, as it lay in the log, and no key is known; else
            it is that of a single record, with its key and those headers that can be told.
    """

    first: int
    why: str
    batch: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it was read. ``timestamp_ms`` is milliseconds since the epoch, set by the producer.

    One with ``undecoded`` stands for what the client could not decode: nobody else would tell of it.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    # Frames do not belong in logs.
    value: bytes = field(repr=False)
    headers: Headers
    timestamp_ms: int
    undecoded: Undecoded | None = None

    @property
    def count(self) -> int:
        """How many offsets it stands for."""
        return 1 if self.undecoded is None else self.offset - self.undecoded.first + 1

    @property
    def source(self) -> TopicPartition:
        """Where the record was read."""
        return TopicPartition(self.topic, self.partition)

    def header(self, name: str) -> bytes | None:
        """The last header of that name, or None."""
        return next((value for key, value in reversed(self.headers) if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """What a topic is to look like.

    ``max_message_bytes`` counts key, value and headers of one record; ``retention_bytes`` counts per
    partition, and -1 is no limit, as for Kafka.

    Of a ``compacted`` topic the newest record of each key stays for good, and every record needs a key.
    ``retention_ms`` then says how long those stay that a newer one of the same key has replaced, at least;
    ``retention_bytes`` says nothing. Offsets have holes where records were replaced.
    """

    partitions: int
    retention_ms: int = 24 * 3600 * 1000
    retention_bytes: int = -1
    max_message_bytes: int = MAX_RECORD_BYTES
    compacted: bool = False

    def __post_init__(self) -> None:
        if self.partitions < 1:
            raise ValueError(f"a topic has at least one partition, not {self.partitions}")
        if self.max_message_bytes < 1:
            raise ValueError(f"max_message_bytes must be positive, not {self.max_message_bytes}")


class Delivery(Protocol):
    """The outcome of one send, known later."""

    def done(self) -> bool:
        """Whether the outcome is known."""
        ...

    def wait(self, timeout: float) -> tuple[TopicPartition, int]:
        """Where the record stands: its partition and offset, once every in-sync replica has it.

        Raises:
            BusError: it could not be delivered, or the outcome was not known after ``timeout`` seconds.
        """
        ...


class Producer(Protocol):
    """Sends records. Safe to share between threads."""

    def send(
        self, topic: str, value: bytes, *, key: bytes | None = None, partition: int, headers: Headers = ()
    ) -> Delivery:
        """Queue one record. Blocks while too many bytes are in flight.

        Raises:
            BusError: the record is over the limit, the topic or partition does not exist, or the bytes in
                flight did not get fewer within the producer's ``max_block``.
        """
        ...

    def prepare(self, place: TopicPartition, timeout: float) -> None:
        """Find out now where a partition is, so that the first ``send`` spends none of its time on it.

        Raises:
            BusError: it does not exist, or the broker did not answer within ``timeout`` seconds.
        """
        ...

    def in_flight_bytes(self) -> int:
        """Bytes sent whose outcome is not known yet."""
        ...

    def flush(self, timeout: float) -> None:
        """Wait until the outcome of everything sent is known. Failures stay in their deliveries.

        Raises:
            BusError: something was still open after ``timeout`` seconds.
        """
        ...

    def begin(self) -> None:
        """Open a transaction; what was left open is aborted first.

        Everything sent until `commit_transaction` belongs to it. Keep it short: one that is open for longer
        than ``transaction_timeout`` is aborted by the broker and its producer fenced, and its readers see
        nothing that came after it while it is open. A sink that is down is to be waited for *before* it.

        Raises:
            ValueError: the producer has no ``transactional_id``; so do the three methods below.
            Fenced: another producer of the same id has taken over.
            BusError: the broker does not answer; begin again later.
        """
        ...

    def send_offsets(self, offsets: Mapping[TopicPartition, int], consumer: Consumer) -> None:
        """Commit the next offset to read of each partition with the transaction, for the consumer's group.

        Raises:
            Fenced: another producer of the same id, or another consumer of the same static member, has
                taken over.
            BusError: refused, as from a member that the group has removed. The transaction is aborted.
        """
        ...

    def commit_transaction(self, timeout: float) -> None:
        """Make all of the transaction visible and its offsets committed, or none of it.

        Raises:
            Fenced: another producer of the same id has taken over, and nothing of this came to be visible.
            BusError: a record was not delivered or the broker refused: the transaction is aborted. Without
                an answer within ``timeout`` seconds nobody knows: the group's committed offsets tell.
        """
        ...

    def abort_transaction(self, timeout: float) -> None:
        """Let nothing of the transaction come to be visible; without one, nothing happens.

        Raises:
            Fenced: another producer of the same id has taken over (and the transaction is aborted).
            BusError: no answer within ``timeout`` seconds: the broker aborts it by itself, at the latest when
                its ``transaction_timeout`` is over.
        """
        ...

    def close(self, timeout: float = 5.0) -> None:
        """Flush for at most ``timeout`` seconds and let go of the broker. Closing twice is allowed.

        A transaction that is still open is aborted.
        """
        ...


class AssignmentListener(Protocol):
    """Told of every change of assignment while its consumer stands inside ``poll`` or ``close``.

    It may call the consumer, to commit or to pause. With Kafka it runs on a thread of its own.
    """

    def on_assigned(self, partitions: set[TopicPartition]) -> None:
        """These partitions were added; they start unpaused, at the committed offset."""
        ...

    def on_revoked(self, partitions: set[TopicPartition]) -> None:
        """These partitions are about to go: the last moment to commit for them."""
        ...

    def on_lost(self, partitions: set[TopicPartition]) -> None:
        """These partitions have gone already: nothing may be committed for them."""
        ...


class Consumer(Protocol):
    """Reads records. One thread owns a consumer; only ``Bus.close`` may come from another."""

    def subscribe(self, topics: AbstractSet[str], listener: AssignmentListener | None = None) -> None:
        """Join the group; partitions come and go from now on, inside ``poll``."""
        ...

    def assign(self, partitions: AbstractSet[TopicPartition]) -> None:
        """Read exactly these partitions, outside any rebalance (for readers that want all of a topic)."""
        ...

    def poll(self, timeout: float) -> list[Record]:
        """At most ``max_poll_records`` records, waiting up to ``timeout`` seconds for the first.

        Raises:
            OffsetGap: the next record of a partition is gone. Raised again until the caller seeks; records
                of other partitions are not lost by the raise.
            Fenced: another consumer of the same static member has taken over; this one is to end.
            BusError: the broker cannot be used.
        """
        ...

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the *next* offset to read of each partition, and wait for the broker's answer.

        Raises:
            Fenced: another consumer of the same static member has taken over.
            BusError: it was refused (as from a member that the group has removed) or could not be sent.
        """
        ...

    def committed(self, partition: TopicPartition) -> int | None:
        """The group's committed offset of a partition, or None."""
        ...

    def position(self, partition: TopicPartition) -> int | None:
        """The offset of the next record to read, or None while it is not known.

        Past the end of a transaction it is more than one above the record before.
        """
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from ``offset``."""
        ...

    def pause(self, partitions: AbstractSet[TopicPartition]) -> None:
        """Return nothing from these partitions; go on polling to stay in the group."""
        ...

    def resume(self, partitions: AbstractSet[TopicPartition]) -> None:
        """Return records of these partitions again."""
        ...

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        ...

    def assignment(self) -> set[TopicPartition]:
        """The partitions this consumer holds."""
        ...

    def beginning_offsets(self, partitions: AbstractSet[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that still exists, per partition."""
        ...

    def end_offsets(self, partitions: AbstractSet[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset the next record will get, per partition.

        With ``read_committed``: the offset up to which it can read, which an open transaction holds back.
        """
        ...

    def close(self) -> None:
        """Leave the group without committing, so that the others need not wait. Closing twice is allowed.

        A static member does not leave: its partitions wait for it until its session is over.
        """
        ...


def record_bytes(value: bytes, key: bytes | None, headers: Headers) -> int:
    """What a record counts against every limit: value, key and headers."""
    return len(value) + len(key or b"") + sum(len(name) + len(content) for name, content in headers)


def largest_message(record_bytes: int) -> int:
    """The largest message, bytes, of records that may have ``record_bytes``: its dead letter fits too."""
    return record_bytes - ENVELOPE_BYTES


class Bus(Protocol):
    """A broker, or several: where producers and consumers come from."""

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
        """A new producer; times in seconds.

        With a ``transactional_id`` it sends in transactions only, and fences every older producer of that id
        (`workers.errors.Fenced`); what that one left open is aborted at once. Keep the id over restarts: the
        open transaction of a producer that died and never came back holds ``read_committed`` readers up
        until ``transaction_timeout`` is over and the broker has looked (every 10 s by default).
        """
        ...

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
        """A new consumer; times in seconds.

        ``start`` (``earliest`` or ``latest``) is where a partition begins that has no committed offset; it is
        never used to jump over a gap. ``group=None`` reads by ``assign`` and cannot commit.

        ``read_committed`` returns records of committed transactions only. A group whose offsets travel in
        transactions wants it: a partition that moves then waits for the offsets that are on their way.

        ``member`` makes it a static member of the group: a new consumer of that name takes the partitions of
        the old one without a rebalance and fences it (`workers.errors.Fenced`). The price: `close` does not
        leave, so that the partitions of one that does not come back stand still until ``session_timeout`` is
        over, and after ``max_poll_interval`` without a poll for both times together.
        """
        ...

    def ensure_topics(self, topics: Mapping[str, TopicSpec]) -> None:
        """Create missing topics; give those that exist more partitions and the settings asked for.

        Raises:
            BusError: a topic has more partitions than asked for (Kafka cannot take them away).
        """
        ...

    def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has, or None if it does not exist."""
        ...

    def largest_record(self, topic: str) -> int | None:
        """What a record of the topic may have at most (key, value and headers), bytes.

        None where the topic does not exist, or where the broker does not let us ask.
        """
        ...

    def delete_before(self, partition: TopicPartition, offset: int) -> None:
        """Delete the records before ``offset``, as retention does in its own time."""
        ...

    def close(self) -> None:
        """Close every producer and consumer that came from here."""
        ...

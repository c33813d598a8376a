"""What a transaction a batch costs, against acknowledged sends and a commit of the offsets.

    python tests/bench/transactions.py
    python tests/bench/transactions.py --batches 400

Both ways do what a worker does at the end of a batch, on a real Kafka that is started for it: send verdicts
of 2 kB, wait for them, and commit the offset. A reader on a thread of its own notes when it sees the last
verdict of each batch: with ``read_committed`` in the case of transactions. The two ways take turns, a batch
each, so that what else the machine does falls on both. Nothing is judged: the table is to decide by.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from compose.services import Services
from workers.bus.base import Consumer, Delivery, Producer, TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus

VERDICT_BYTES = 2000
SIZES = (1, 8, 32)
WARM = 10
# A line's rate is no burst: batches follow each other after so long, seconds.
PAUSE_S = 0.02
WAIT_S = 30.0

console = Console(width=130)


@dataclass(slots=True)
class Way:
    """One way to publish a batch.

    Attributes:
        spent: seconds from the first send until the offset is committed, a batch.
        seen: seconds from the first send until a reader has the batch's last verdict.
    """

    name: str
    producer: Producer
    place: TopicPartition
    publish: Callable[[Producer, TopicPartition, Sequence[bytes], int], None]
    spent: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)


class Reader:
    """Reads one partition on a thread of its own, and notes when the last verdict of each batch came."""

    def __init__(self, bus: KafkaBus, place: TopicPartition, *, read_committed: bool) -> None:
        self.came: dict[int, float] = {}
        self._changed = threading.Condition()
        self._consumer = bus.consumer(None, read_committed=read_committed, max_poll_records=500)
        self._consumer.assign({place})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"reader {place}", daemon=True)
        self._thread.start()

    def wait(self, batch: int) -> float:
        """When the batch's last verdict came, on the monotonic clock."""
        with self._changed:
            if not self._changed.wait_for(lambda: batch in self.came, WAIT_S):
                raise TimeoutError(f"batch {batch} was not seen within {WAIT_S:g} s")
            return self.came.pop(batch)

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._stop.is_set():
            records = self._consumer.poll(0.2)
            now = time.monotonic()
            with self._changed:
                self.came.update({int(record.value[:8]): now for record in records if record.key == b"last"})
                self._changed.notify_all()


def plain(consumer: Consumer, source: TopicPartition) -> Callable[..., None]:
    """Acknowledged sends, then the commit."""

    def publish(producer: Producer, place: TopicPartition, values: Sequence[bytes], offset: int) -> None:
        for delivery in send(producer, place, values):
            delivery.wait(WAIT_S)
        consumer.commit({source: offset})

    return publish


def transactional(consumer: Consumer, source: TopicPartition) -> Callable[..., None]:
    """Sends and the commit of the offset in one transaction."""

    def publish(producer: Producer, place: TopicPartition, values: Sequence[bytes], offset: int) -> None:
        producer.begin()
        send(producer, place, values)
        producer.send_offsets({source: offset}, consumer)
        producer.commit_transaction(WAIT_S)

    return publish


def send(producer: Producer, place: TopicPartition, values: Sequence[bytes]) -> list[Delivery]:
    """Send a batch; its last verdict says so by its key."""
    last = len(values) - 1
    return [
        producer.send(place.topic, value, key=b"last" if i == last else b"part", partition=place.partition)
        for i, value in enumerate(values)
    ]


def measure(bus: KafkaBus, size: int, batches: int) -> list[Way]:
    """Both ways with batches of one size, taking turns."""
    stamp = time.time_ns()
    topic, frames = f"bench-{stamp}", f"bench-frames-{stamp}"
    bus.ensure_topics({topic: TopicSpec(partitions=2), frames: TopicSpec(partitions=2)})
    consumer = bus.consumer(f"bench-{stamp}", read_committed=True)
    consumer.subscribe({frames})
    deadline = time.monotonic() + WAIT_S
    while len(consumer.assignment()) < 2:
        consumer.poll(0.1)
        if time.monotonic() > deadline:
            raise TimeoutError("the bench's own group did not come together")
    ways = [
        Way(
            "acked sends + commit",
            bus.producer(),
            TopicPartition(topic, 0),
            plain(consumer, TopicPartition(frames, 0)),
        ),
        Way(
            "transaction",
            bus.producer(transactional_id=f"bench-{stamp}", transaction_timeout=60.0),
            TopicPartition(topic, 1),
            transactional(consumer, TopicPartition(frames, 1)),
        ),
    ]
    readers = [Reader(bus, way.place, read_committed=i == 1) for i, way in enumerate(ways)]
    filler = bytes(VERDICT_BYTES - 8)
    for batch in range(batches + WARM):
        values = [b"%08d" % batch + filler] * size
        for way, reader in zip(ways, readers, strict=True):
            started = time.monotonic()
            way.publish(way.producer, way.place, values, batch + 1)
            ended = time.monotonic()
            came = reader.wait(batch)
            if batch >= WARM:
                way.spent.append(ended - started)
                way.seen.append(came - started)
            consumer.poll(0)
            time.sleep(PAUSE_S)
    for reader in readers:
        reader.close()
    consumer.close()
    for way in ways:
        way.producer.close()
    return ways


def quantiles(seconds: Sequence[float]) -> list[str]:
    """p50, p95 and p99 in milliseconds."""
    return [f"{1000 * float(value):.1f}" for value in np.quantile(seconds, (0.5, 0.95, 0.99))]


def table(found: dict[int, list[Way]], batches: int) -> Table:
    """What both ways cost, and when their verdicts are seen."""
    shown = Table(title=f"publishing a batch of verdicts, {batches} batches each", title_justify="left")
    shown.add_column("verdicts")
    shown.add_column("way")
    for heading in ("p50 ms", "p95 ms", "p99 ms", "ratio p50", "seen p50 ms", "seen p95 ms", "seen p99 ms"):
        shown.add_column(heading, justify="right")
    for size, ways in found.items():
        base = float(np.median(ways[0].spent))
        for way in ways:
            ratio = f"{float(np.median(way.spent)) / base:.1f}"
            shown.add_row(str(size), way.name, *quantiles(way.spent), ratio, *quantiles(way.seen))
        shown.add_section()
    return shown


def main() -> None:
    """Start a Kafka, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=200, help="measured batches of each size")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        services = Services(Path(folder))
        try:
            console.print("starting Kafka")
            bus = KafkaBus(services.up().kafka)
            found = {size: measure(bus, size, args.batches) for size in SIZES}
            bus.close()
            load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
            console.print(
                f"{len(os.sched_getaffinity(0))} cores; load of the last 1, 5 and 15 minutes: {load}"
            )
            console.print(table(found, args.batches))
        finally:
            services.down()


if __name__ == "__main__":
    main()

"""Whole topics, read from their first record to their last."""

from __future__ import annotations

import time

from schemas.part import PartKey
from schemas.wire import decode_verdict
from workers.bus.base import Bus, Record, TopicPartition


def records_of(bus: Bus, topic: str, timeout: float = 30.0) -> list[Record]:
    """Every record of a topic that is there now."""
    partitions = {TopicPartition(topic, number) for number in range(bus.partitions(topic) or 0)}
    assert partitions, f"topic {topic} does not exist"
    consumer = bus.consumer(None)
    try:
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        for partition, first in consumer.beginning_offsets(partitions).items():
            consumer.seek(partition, first)
        found: list[Record] = []
        until = time.monotonic() + timeout
        while any((consumer.position(p) or 0) < ends[p] for p in partitions):
            found.extend(consumer.poll(0.2))
            assert time.monotonic() < until, f"{topic}: not read to its end within {timeout:g} s"
    finally:
        consumer.close()
    return found


def verdicts_on(bus: Bus, topic: str) -> dict[PartKey, set[bytes]]:
    """The different verdicts of each part on a result topic: one, if the line kept its word."""
    found: dict[PartKey, set[bytes]] = {}
    for record in records_of(bus, topic):
        found.setdefault(decode_verdict(record.value).part, set()).add(record.value)
    return found

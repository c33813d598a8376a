"""A whole topic from its first record to the last that is there now, or one record: for people's tools."""

from __future__ import annotations

import time
from collections.abc import Iterator

from workers.bus.base import Bus, Consumer, Record, TopicPartition
from workers.errors import BusError, OffsetGap

_SILENCE_S = 15.0


def records(bus: Bus, topic: str) -> Iterator[Record]:
    """Every record of a topic, in order within a partition; what comes later is not waited for.

    Raises:
        BusError: the topic does not exist, or the broker stopped answering.
    """
    count = bus.partitions(topic)
    if count is None:
        raise BusError(
            f"topic {topic} does not exist: make the topics with `crosscheck topics`,"
            " or name theirs with CROSSCHECK_TOPIC_PREFIX"
        )
    places = {TopicPartition(topic, number) for number in range(count)}
    consumer = bus.consumer(None, max_poll_records=64, name="scan")
    try:
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        for place, begin in consumer.beginning_offsets(places).items():
            consumer.seek(place, begin)
        heard = time.monotonic()
        while _open(consumer, ends):
            try:
                found = consumer.poll(0.5)
            except OffsetGap as gap:
                # Retention went on while we read.
                consumer.seek(TopicPartition(gap.topic, gap.partition), gap.resume_at)
                continue
            for record in found:
                if record.offset < ends[record.source]:
                    yield record
            if found:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE_S:
                raise BusError(f"{topic}: nothing came for {_SILENCE_S:g} s; is the broker overloaded?")
    finally:
        consumer.close()


def _open(consumer: Consumer, ends: dict[TopicPartition, int]) -> bool:
    return any((consumer.position(place) or 0) < end for place, end in ends.items())


def record_at(bus: Bus, place: TopicPartition, offset: int) -> Record | None:
    """One record, or None where Kafka has it no more, or not yet.

    Raises:
        BusError: the topic does not exist, or the broker does not answer.
    """
    if place.partition >= (bus.partitions(place.topic) or 0):
        return None
    consumer = bus.consumer(None, max_poll_records=1, name="scan")
    try:
        consumer.assign({place})
        begin = consumer.beginning_offsets({place})[place]
        end = consumer.end_offsets({place})[place]
        if not begin <= offset < end:
            return None
        consumer.seek(place, offset)
        until = time.monotonic() + _SILENCE_S
        while time.monotonic() < until:
            for record in consumer.poll(0.5):
                return record if record.offset == offset else None
        raise BusError(f"{place}: no record at {offset} within {_SILENCE_S:g} s")
    except OffsetGap:
        return None
    finally:
        consumer.close()

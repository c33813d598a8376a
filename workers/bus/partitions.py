"""The partitions of a topic, for who reads all of it outside any group."""

from __future__ import annotations

from workers.bus.base import Bus, TopicPartition
from workers.errors import BusError


def partitions_of(bus: Bus, topic: str) -> set[TopicPartition]:
    """Every partition of a topic.

    Raises:
        BusError: the broker does not answer, or there is no such topic.
    """
    count = bus.partitions(topic)
    if not count:
        raise BusError(f"{topic} does not exist: create it with `crosscheck topics`")
    return {TopicPartition(topic, number) for number in range(count)}

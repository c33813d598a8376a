"""Whole topics, read from their first record to their last."""

from __future__ import annotations

from schemas.part import PartKey
from schemas.wire import decode_verdict
from workers.bus.base import Bus, Record
from workers.scan import records


def records_of(bus: Bus, topic: str) -> list[Record]:
    """Every record of a topic that is there now."""
    return list(records(bus, topic))


def verdicts_on(bus: Bus, topic: str) -> dict[PartKey, set[bytes]]:
    """The different verdicts of each part on a result topic: one, if the line kept its word."""
    found: dict[PartKey, set[bytes]] = {}
    for record in records_of(bus, topic):
        found.setdefault(decode_verdict(record.value).part, set()).add(record.value)
    return found

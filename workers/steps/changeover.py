"""Which product a part is of, at a station whose line says so.

The word of the line counts, not what the frame names: an agent that was not told goes on naming the product
before. A part captured while the line changed could be of either product, and is an ERROR without the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import structlog

from schemas.command import Command
from schemas.errors import CrosscheckError
from workers.errors import Changeover
from workers.steps.pending import PendingPart

log = structlog.get_logger(__name__)

HISTORY = 64
"""Changes kept of each station; a part older than so many is long past its deadline."""
MAX_STATIONS = 10_000


@dataclass(frozen=True, slots=True)
class _Change:
    """From ``at`` on parts are of ``product``; from ``since`` until then nobody knows. Nanoseconds."""

    at: int
    since: int
    product: str


@dataclass(slots=True)
class _Station:
    """What its line said, oldest first; ``forgotten`` where there was more than that."""

    changes: list[_Change] = field(default_factory=list)
    forgotten: bool = False


class Changeovers:
    """The product changes of all stations. One thread calls it."""

    def __init__(self) -> None:
        self._stations: dict[str, _Station] = {}

    def heard(self, command: Command) -> None:
        """Take a PRODUCT command. They come as they were sent; one that is known already says nothing new.

        A line whose clock was set back says now what begins before what it said last. The later word counts:
        else the line would wait until that clock has come round again.
        """
        if command.target not in self._stations and len(self._stations) >= MAX_STATIONS:
            log.error(
                "worker.changeover_ignored", station=command.target, why=f"over {MAX_STATIONS} stations"
            )
            return
        station = self._stations.setdefault(command.target, _Station())
        since = command.issued_at if command.since is None else command.since
        change = _Change(command.issued_at, since, command.value or "")
        if change in station.changes:
            return
        before = [one for one in station.changes if one.at < change.at]
        if len(before) < len(station.changes):
            log.error("worker.changeover_clock_set", station=command.target, command=command.id)
            station.forgotten = True
        elif len(before) == HISTORY:
            del before[0]
            station.forgotten = True
        station.changes = [*before, change]
        log.info("worker.product_due", station=command.target, product=change.product, command=command.id)

    def place(self, pending: PendingPart) -> CrosscheckError | None:
        """Give a part the product that was due when it was captured, or say why nobody can tell."""
        station = self._stations.get(pending.part.station)
        if station is None:
            return None
        captured_at = pending.frame.captured_at
        for change in reversed(station.changes):
            if captured_at >= change.at:
                if pending.frame.product != change.product:
                    pending.frame = replace(pending.frame, product=change.product)
                return None
            if captured_at >= change.since:
                return Changeover(pending.part.station, change.product)
        if station.forgotten:
            return Changeover(pending.part.station, station.changes[0].product)
        return None

    @property
    def due(self) -> Mapping[str, int]:
        """By station, ``issued_at`` of its newest change."""
        return {name: station.changes[-1].at for name, station in self._stations.items()}

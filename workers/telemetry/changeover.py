"""What a changeover tells Prometheus, and whether it is alive and ready."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event

from prometheus_client.core import Metric as Family

from workers.changeover import Changeover
from workers.contact import Contact
from workers.telemetry import names
from workers.telemetry.assembly import Assembly
from workers.telemetry.families import family

REDIS_S = 5.0
"""Redis is told of each reading, many times a second."""


@dataclass(frozen=True, slots=True)
class ChangeoverCollector:
    """Reads what the loop counts."""

    changeover: Changeover
    station: str

    def collect(self) -> Iterable[Family]:
        """The numbers now."""
        due, station = self.changeover.due, self.station
        yield family(names.CHANGEOVER_KNOWN, {(station,): float(due is not None and due.product is not None)})
        yield family(names.CHANGEOVER_CHANGES, {(station,): float(self.changeover.changes)})
        alarms = dict(self.changeover.alarms)
        yield family(names.CHANGEOVER_ALARMS, {(station, kind): float(n) for kind, n in alarms.items()})


def watch_changeover(
    watch: Assembly, changeover: Changeover, *, station: str, redis: Contact, stop: Event
) -> None:
    """Numbers and checks of one changeover. While it is not ready, no new part of the station passes."""
    watch.collect(ChangeoverCollector(changeover, station))
    watch.live("loop", changeover.pulse.trouble)
    watch.service(redis, REDIS_S)
    watch.ready("product", lambda: _product(changeover))
    watch.ready("workers", lambda: None if changeover.ready else "they do not have the product yet")
    watch.stopping(stop)


def _product(changeover: Changeover) -> str | None:
    due = changeover.due
    if due is None:
        return "the PLC was not read yet"
    return due.why or None

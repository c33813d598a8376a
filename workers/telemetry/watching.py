"""What watches an inspection worker: its observers, its collectors and its health."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

from workers.contact import Contact
from workers.inspection import InspectionWorker
from workers.telemetry.assembly import Assembly
from workers.telemetry.gpu import GpuCollector
from workers.telemetry.worker import AnswerTally, LoopCollector
from workers.vitals import Vitals
from workers.watchdog import Watchdog


def watch_answers(watch: Assembly) -> None:
    """Before the worker is made: count what it answers, where anybody can ask for it."""
    if watch.wanted:
        tally = AnswerTally()
        watch.observe(tally)
        watch.collect(tally)


def watch_worker(
    watch: Assembly,
    worker: InspectionWorker,
    watchdog: Watchdog,
    *,
    services: Sequence[Contact],
    stop: Event,
    device: str = "cpu",
) -> None:
    """Once the worker is made: its numbers, whether it moves, and whether it can work.

    Args:
        services: those it cannot work without.
        stop: set when it was told to end.
        device: what it computes on.
    """
    watch.collect(LoopCollector(worker.stages, worker.vitals, worker.flow), GpuCollector(device))
    watch.live("loop", watchdog.trouble)
    for contact in services:
        watch.service(contact)
    watch.ready("partitions", lambda: _partitions(worker.vitals))
    watch.stopping(stop)


def _partitions(vitals: Vitals) -> str | None:
    report = vitals.last
    if report is None:
        return "the worker has not joined its group yet"
    return None if report.partitions else "the group gave it no partition: it waits, or there are too many"

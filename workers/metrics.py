"""Every metric of the processes: its name, unit and help, written once.

Prometheus asks when it likes; the loop is not disturbed: what is shown is the worker's last report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workers.errors import SettingsError
from workers.steps.condition import SensorState
from workers.vitals import Report, Vitals

if TYPE_CHECKING:
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

ANSWERED = "crosscheck_answered"
HELD = "crosscheck_held_parts"
HELD_BYTES = "crosscheck_held_bytes"
PAUSED = "crosscheck_paused"
PARTITIONS = "crosscheck_partitions"
DEAD_LETTERS = "crosscheck_dead_letters"
SENSOR_STATE = "crosscheck_sensor_state"
CLOCK_OFFSET = "crosscheck_clock_offset_seconds"
CLOCK_REFUSED = "crosscheck_clock_refused"

HELP = {
    ANSWERED: "Parts and unreadable records answered since the worker started",
    HELD: "Parts read and not answered",
    HELD_BYTES: "Bytes of their records and images",
    PAUSED: "1 while the worker's partitions are paused",
    PARTITIONS: "Partitions the worker holds",
    DEAD_LETTERS: "Records that could not be read since the worker started",
    SENSOR_STATE: "1 for the state a sensor is in, 0 for the others",
    CLOCK_OFFSET: "By how much the clock of a station's worst agent is ahead of the worker's",
    CLOCK_REFUSED: "1 for a station whose deadlines are refused for its clock",
}


@dataclass(frozen=True, slots=True)
class WorkerCollector(Collector):
    """A worker's last report as metrics; nothing before its first."""

    vitals: Vitals

    def collect(self) -> Iterator[Metric]:
        """What the report says now."""
        report = self.vitals.last
        if report is not None:
            yield from families(report)


def families(report: Report) -> Iterator[Metric]:
    """The metrics of one report."""
    for name, count in ((ANSWERED, report.answered), (DEAD_LETTERS, report.dead_letters)):
        yield CounterMetricFamily(name, HELP[name], value=count)
    for name, value in (
        (HELD, report.held),
        (HELD_BYTES, report.held_bytes),
        (PAUSED, int(report.paused)),
        (PARTITIONS, len(report.partitions)),
    ):
        yield GaugeMetricFamily(name, HELP[name], value=value)
    states = GaugeMetricFamily(SENSOR_STATE, HELP[SENSOR_STATE], labels=("station", "sensor", "state"))
    for (station, sensor), current in report.sensors.items():
        for state in SensorState:
            states.add_metric((station, sensor, state.value), float(state is current))
    yield states
    offsets = GaugeMetricFamily(CLOCK_OFFSET, HELP[CLOCK_OFFSET], labels=("station",))
    refused = GaugeMetricFamily(CLOCK_REFUSED, HELP[CLOCK_REFUSED], labels=("station",))
    for station, offset in report.clocks.items():
        offsets.add_metric((station,), offset)
        refused.add_metric((station,), float(station in report.untrusted))
    yield offsets
    yield refused


def serve(vitals: Vitals, address: str) -> tuple[WSGIServer, Thread]:
    """Answer ``/metrics`` at HOST:PORT, on a thread of its own; the server is for ``shutdown``.

    Raises:
        SettingsError: no such address, or its port is taken.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"CROSSCHECK_METRICS: {address!r}; write it as HOST:PORT, as 127.0.0.1:9101")
    registry = CollectorRegistry()
    registry.register(WorkerCollector(vitals))
    try:
        return start_http_server(int(port), addr=host, registry=registry)
    except OSError as error:
        raise SettingsError(
            f"CROSSCHECK_METRICS: cannot listen at {address} ({error.strerror}); choose another port"
        ) from None

"""What a gate tells Prometheus, and whether it is alive and ready."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Event

from prometheus_client.core import Metric as Family

from schemas.verdict import Decision
from workers.contact import Contact
from workers.gate import Gate
from workers.gate.decision import GateDecision
from workers.gate.journal import Entry
from workers.telemetry import names
from workers.telemetry.assembly import Assembly
from workers.telemetry.families import family, histogram
from workers.telemetry.tallies import Histogram

REDIS_S = 5.0
"""A gate asks Redis many times a second: one that has not for so long does not hear verdicts."""


@dataclass(slots=True)
class GateWaits:
    """How long verdicts took to reach the gate; told of each decision on the gate's own thread."""

    seconds: Histogram = field(default_factory=lambda: Histogram(names.GATE_WAIT.buckets))

    def decided(self, final: GateDecision, entry: Entry) -> None:
        """One part is decided."""
        if entry.seen_at is not None:
            self.seconds.add((entry.seen_at - entry.triggered_at) / 1e9)


@dataclass(frozen=True, slots=True)
class GateCollector:
    """Reads what the gate counts."""

    gate: Gate
    waits: GateWaits
    station: str

    def collect(self) -> Iterable[Family]:
        """The numbers now."""
        state, station = self.gate.state(), self.station
        yield family(names.GATE_TRIGGERS, {(station,): float(state.triggers)})
        # All of them from the start: the increase from nothing at all to one is none to Prometheus.
        decided = {(station, d.value): float(state.by_decision.get(d.value, 0)) for d in Decision}
        yield family(names.GATE_DECISIONS, decided)
        yield histogram(names.GATE_WAIT, self.waits.seconds)
        yield family(names.GATE_ALARMS, {(station, kind): float(n) for kind, n in state.alarms.items()})
        yield family(names.GATE_LOCKED, {(station,): float(state.locked is not None)})


def watch_gate(
    watch: Assembly, gate: Gate, waits: GateWaits, *, station: str, redis: Contact, stop: Event
) -> None:
    """Numbers and checks of one gate. One that is not ready is closed, or lets nothing new through."""
    watch.collect(GateCollector(gate, waits, station))
    watch.live("loop", gate.pulse.trouble)
    watch.service(redis, REDIS_S)
    watch.ready("lock", lambda: _lock(gate))
    watch.ready("actuator", lambda: None if gate.state().actuator else "it does not answer: counts as closed")
    watch.ready("journal", lambda: gate.state().down["journal"])
    watch.ready("source", lambda: gate.state().down["source"])
    watch.stopping(stop)


def _lock(gate: Gate) -> str | None:
    locked = gate.state().locked
    return None if locked is None else f"locked ({locked}) until a challenge part is rejected"

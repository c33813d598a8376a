"""What a worker tells Prometheus: counts of its answers, kept on the loop's thread, and its last report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import Metric as Family

from schemas.verdict import Decision, Mode
from workers.stages import StageTimes
from workers.steps.condition import SensorState
from workers.steps.flow import Flow
from workers.steps.pending import PendingPart
from workers.steps.publishing import Outcome
from workers.telemetry import names
from workers.telemetry.families import family, histogram
from workers.telemetry.names import OTHER
from workers.telemetry.tallies import Histogram, Known, Tally
from workers.vitals import Report, Vitals

MOST_BEGUN = 1000
"""Pairs of station and product whose counts begin at 0 before there is anything to count."""
NOBODY = ""
"""The station of a record that cannot be read."""


@dataclass(slots=True)
class AnswerTally:
    """Counts what the loop answers: an observer of the loop and a collector in one.

    The loop spends some microseconds a part on it, without a lock.
    """

    _stations: Known = field(default_factory=Known)
    _products: Known = field(default_factory=Known)
    _frames: Tally = field(default_factory=Tally)
    _verdicts: Tally = field(default_factory=lambda: Tally(open=(0, 1)))
    _begun: set[tuple[str, str]] = field(default_factory=set)
    _repeats: Tally = field(default_factory=Tally)
    _dead: Tally = field(default_factory=Tally)
    _latency: Histogram = field(default_factory=lambda: Histogram(names.VERDICT_LATENCY.buckets))
    _size: Histogram = field(default_factory=lambda: Histogram(names.BATCH_SIZE.buckets))
    _wait: Histogram = field(default_factory=lambda: Histogram(names.BATCH_WAIT.buckets))

    def batched(self, parts: Sequence[PendingPart], now: float) -> None:
        """Count one model run."""
        self._size.add(len(parts))
        for pending in parts:
            self._wait.add(now - pending.arrived)

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        """Count answers."""
        for outcome in outcomes:
            verdict = outcome.verdict
            station = NOBODY if verdict is None else self._stations(verdict.part.station)
            if outcome.tickets:
                self._frames.add(station, by=len(outcome.tickets))
            for _, error in outcome.dead:
                self._dead.add(error.reason)
            if verdict is None:
                continue
            if outcome.standing is not None or outcome.belated:
                self._repeats.add()
                continue
            mode = "" if verdict.mode is None else verdict.mode.value
            product = self._products(verdict.product)
            if (station, product) not in self._begun and len(self._begun) < MOST_BEGUN:
                self._begin(station, product)
            self._verdicts.add(station, product, verdict.decision.value, mode)
            self._latency.add((verdict.decided_at - verdict.captured_at) / 1e9)

    def _begin(self, station: str, product: str) -> None:
        """Those that alerts are for, from the first part on: to Prometheus the step from nothing at all to
        one is no increase."""
        self._begun.add((station, product))
        for decision in (Decision.STALE, Decision.ERROR, Decision.MISSING):
            self._verdicts.add(station, product, decision.value, "", by=0.0)
        self._verdicts.add(station, product, Decision.REJECT.value, Mode.FUSED.value, by=0.0)

    def collect(self) -> Iterable[Family]:
        """The counts now."""
        yield family(names.FRAMES, self._frames.values())
        yield family(names.VERDICTS, self._verdicts.values())
        yield family(names.REPEATS, self._repeats.values() or 0.0)
        yield family(names.DEAD_LETTERS, self._dead.values())
        yield histogram(names.VERDICT_LATENCY, self._latency)
        yield histogram(names.BATCH_SIZE, self._size)
        yield histogram(names.BATCH_WAIT, self._wait)


@dataclass(frozen=True, slots=True)
class LoopCollector:
    """A worker's stages and its last report; of the report nothing before its first.

    A worker that waits for a sink reports nothing meanwhile: whether it is paused is asked of ``flow``.
    """

    stages: StageTimes
    vitals: Vitals
    flow: Flow
    _stations: Known = field(default_factory=Known)

    def collect(self) -> Iterable[Family]:
        """What they say now."""
        totals = self.stages.totals.copy()
        yield family(names.STAGE_SECONDS, {(name,): total.seconds for name, total in totals.items()})
        yield family(names.STAGE_ENTRIES, {(name,): float(total.count) for name, total in totals.items()})
        report, lags = self.vitals.last, self.vitals.lags
        if lags is not None:
            yield family(names.LAG, {(str(number),): float(lag) for number, lag in lags.items()})
        if report is not None:
            yield from self._of(report)

    def _of(self, report: Report) -> Iterable[Family]:
        yield family(names.HELD, report.held)
        yield family(names.HELD_BYTES, report.held_bytes)
        yield family(names.PAUSED, int(self.flow.paused))
        yield family(names.PARTITIONS, len(report.partitions))
        yield family(names.SENSOR_STATE, self._sensors(report))
        clocks = {station: offset for station, offset in report.clocks.items() if self._told(station)}
        yield family(names.CLOCK_OFFSET, {(station,): offset for station, offset in clocks.items()})
        yield family(
            names.CLOCK_REFUSED, {(station,): float(station in report.untrusted) for station in clocks}
        )
        yield family(names.STATION_PARKED, {(name,): 1.0 for name in report.parked if self._told(name)})
        yield family(names.MODEL_INFO, dict(map(_model, report.bundles)))
        yield family(names.MODEL_SWAPS, {key: float(count) for key, count in report.swaps.items()})

    def _sensors(self, report: Report) -> Mapping[tuple[str, ...], float]:
        return {
            (station, sensor, state.value): float(state is current)
            for (station, sensor), current in report.sensors.items()
            if self._told(station)
            for state in SensorState
        }

    def _told(self, station: str) -> bool:
        """A state of one station says nothing about another: those beyond the bound are left out."""
        return self._stations(station) != OTHER


def _model(bundle: str) -> tuple[tuple[str, str, str], float]:
    """``PRODUCT/VERSION@HASH`` as labels."""
    name, _, digest = bundle.partition("@")
    return (name.partition("/")[0], name, digest), 1.0

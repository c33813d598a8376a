"""Capture agent, worker and gate together in one process, over any bus and any Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis

from inference.datasets.synthetic import SyntheticPart
from schemas.part import PartKey
from schemas.verdict import Verdict
from schemas.wire import decode_verdict
from workers.bus.base import Bus, TopicPartition
from workers.capture.agent import CaptureAgent
from workers.capture.log import AgentLog
from workers.capture.publisher import Publisher
from workers.capture.sources.line import SyntheticLine
from workers.clock import SystemClock
from workers.demo.script import Script
from workers.errors import BusError
from workers.gate import (
    Audit,
    Gate,
    GateDecision,
    GateReport,
    Journal,
    RecordingActuator,
    SimulatedPartSource,
    audit,
)
from workers.inspection import InspectionWorker
from workers.models import Models
from workers.settings import Settings
from workers.store.verdicts import VerdictStore
from workers.topics import StationMap

STATION = "demo"
PRODUCT = "demo-part"
OnDecision = Callable[[GateDecision], None]


@dataclass(slots=True)
class LineRun:
    """What is left when the line has stopped.

    Attributes:
        parts: part key of every trigger, in order.
        audit: the agent's log against the gate's journal.
        gate: the gate's own counts.
        published: records the bus has acknowledged.
        on_topic: every verdict on the result topic, in the order of reading; repeats are kept.
        standing: the verdict in Redis of each part, None where it has none.
        heatmaps: encoded heatmaps by part, where Redis still has them.
        seconds: from the first trigger to the last decision.
    """

    line: SyntheticLine
    parts: list[PartKey]
    audit: Audit
    gate: GateReport
    published: int
    on_topic: list[Verdict]
    standing: dict[PartKey, Verdict | None]
    heatmaps: dict[PartKey, bytes] = field(repr=False)
    seconds: float


def read_topic(bus: Bus, topic: str) -> list[Verdict]:
    """Every verdict on a result topic."""
    consumer = bus.consumer(None)
    partitions = {TopicPartition(topic, p) for p in range(bus.partitions(topic) or 0)}
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    verdicts: list[Verdict] = []
    for partition, first in consumer.beginning_offsets(partitions).items():
        consumer.seek(partition, first)
    until = time.monotonic() + 30
    while any((consumer.position(p) or 0) < ends[p] for p in partitions):
        verdicts.extend(decode_verdict(record.value) for record in consumer.poll(0.2))
        if time.monotonic() > until:
            raise BusError(f"{topic}: not read to its end within 30 s")
    consumer.close()
    return verdicts


def run_line(
    *,
    bus: Bus,
    client: redis.Redis,
    models: Models,
    settings: Settings,
    script: Script,
    rate: float,
    folder: Path,
    size: int,
    seed: int,
    deadline_s: float,
    on_decision: OnDecision,
) -> LineRun:
    """Run the script at ``rate`` parts a second and return when the gate has decided about every part.

    Raises:
        CrosscheckError: a piece of the line could not be started, or stopped with an error.
    """
    clock = SystemClock()
    store = VerdictStore(client)
    parts: list[PartKey] = []
    eye = SimulatedPartSource(travel_s=deadline_s)
    stop_worker, stop_gate = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def guard(run: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                failures.append(error)

        return guarded

    worker = InspectionWorker(settings, bus, store, models, clock=clock)
    line = SyntheticLine(
        SyntheticPart(seed, size), count=script.parts, script=script.defects, depth_out=script.drop, seed=seed
    )
    log_path, journal_path = folder / "triggers.jsonl", folder / "gate.jsonl"
    # With what the lock file knows of the last run's journal: it would be missed in this one.
    for path in (log_path, journal_path, folder / "gate.jsonl.lock"):
        path.unlink(missing_ok=True)
    with AgentLog(log_path) as log, Journal(journal_path) as journal:
        gate = Gate(
            store,
            eye,
            RecordingActuator(),
            journal,
            station=STATION,
            product=PRODUCT,
            early=True,
            on_decision=lambda decision, entry: on_decision(decision),
        )
        threads = [
            threading.Thread(target=guard(lambda: worker.run(stop_worker)), name="worker", daemon=True),
            threading.Thread(target=guard(lambda: gate.run(stop_gate)), name="gate", daemon=True),
        ]
        for thread in threads:
            thread.start()
        publisher = Publisher(
            bus,
            station=STATION,
            product=PRODUCT,
            station_map=StationMap({STATION: 0}),
            topic=settings.topic("frames"),
            deadline_s=deadline_s,
            depth_scale=line.depth_scale,
            log=log,
            clock=clock,
        )

        def trigger(part: PartKey, at: int) -> None:
            parts.append(part)
            eye.trigger(part, at)

        started = clock.monotonic()
        with publisher:
            agent = CaptureAgent(line, publisher, rate=rate, clock=clock, on_trigger=trigger)
            agent.run()
            publisher.settle(10.0)
        until = clock.monotonic() + deadline_s + 10
        while gate.report().decisions < len(parts) and not failures and clock.monotonic() < until:
            clock.sleep(0.05)
        seconds = clock.monotonic() - started
        stop_worker.set()
        stop_gate.set()
        for thread in threads:
            thread.join(timeout=15)
        report = gate.report()
    if failures:
        raise failures[0]
    standing = dict(zip(parts, store.standing_many(parts), strict=True))
    heatmaps = {part: value for part in parts if (value := store.get_heatmap(part)) is not None}
    return LineRun(
        line=line,
        parts=parts,
        audit=audit(log_path, journal_path, station=STATION),
        gate=report,
        published=publisher.published,
        on_topic=read_topic(bus, settings.topic("verdicts")),
        standing={part: None if v is None else decode_verdict(v) for part, v in standing.items()},
        heatmaps=heatmaps,
        seconds=seconds,
    )

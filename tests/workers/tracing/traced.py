"""A whole line in one process, traced: agent, bus, workers, Redis and gate on one clock set by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from opentelemetry.sdk.trace import ReadableSpan

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.part import PartKey
from tests.workers.line import Line
from tests.workers.standin import StandInModel
from tests.workers.tracing.helpers import Collected
from workers.bus.base import Record
from workers.capture.log import AgentLog
from workers.capture.publisher import Publisher
from workers.clock import ManualClock
from workers.gate import Gate, Journal, LogPartSource, RecordingActuator
from workers.inspection import InspectionWorker
from workers.settings import Settings
from workers.steps.step import Step
from workers.topics import StationMap
from workers.tracing.agent import AgentTrace
from workers.tracing.context import trace_id
from workers.tracing.gate import GateTrace
from workers.tracing.worker import WorkerTrace

MODEL_S, STORE_S, PUBLISH_S = 0.030, 0.005, 0.002
"""What the model, Redis and the result topic take on this line."""
TRAVEL_S = 1.0
MS = 1_000_000


class SlowModel(StandInModel):
    """The stand-in, and the time it takes."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        self._clock.advance(MODEL_S)
        return super().inspect(batch)


class TracedLine:
    """Parts go through it one call after the other; `spans` is what OpenTelemetry was given."""

    def __init__(self, folder: Path, *, ratio: float = 1.0, **settings: Any) -> None:
        self.line = Line()
        self.clock = self.line.clock
        self.collected = Collected(ratio)
        tracing = self.collected.tracing
        self.settings = Settings(worker="w1", max_delay_ms=0, heatmaps="all", **settings)
        agent = AgentTrace(tracing)
        self.log = AgentLog(folder / "triggers.jsonl")
        self.log.listener = agent
        self.publisher = Publisher(
            agent.marked(self.line.bus, self.settings),
            station="s1",
            product="widget",
            station_map=StationMap({"s1": 0, "s2": 1}),
            clock=self.clock,
            log=self.log,
        )
        self.actuator = RecordingActuator()
        self.journal = Journal(folder / "gate.jsonl", sync=False)
        self.source = LogPartSource(self.log.path, station="s1", travel_s=TRAVEL_S)
        self.gate = Gate(
            self.line.store,
            self.source,
            self.actuator,
            self.journal,
            station="s1",
            clock=self.clock,
            on_decision=GateTrace(tracing),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.publisher.close()
        self.log.close()
        self.source.close()
        self.journal.close()

    def worker(self, name: str = "w1", *, model: StandInModel | None = None, **more: str) -> InspectionWorker:
        """A traced worker, whose sinks take their time."""
        settings = self.settings.model_copy(update={"worker": name, **more})
        trace = WorkerTrace(self.collected.tracing, worker=name, clock=self.clock)

        def on_step(step: Step) -> None:
            self.clock.advance({Step.STORED: STORE_S, Step.PRODUCED: PUBLISH_S}.get(step, 0.0))
            trace.stepped(step)

        return InspectionWorker(
            settings,
            trace.marked(self.line.bus, settings),
            self.line.store,
            model or SlowModel(self.clock),
            clock=self.clock,
            on_step=on_step,
            observers=[trace],
        )

    def capture(self, *, seed: int = 0, rgb: bool = True, depth: bool = True) -> PartKey:
        """A trigger, and its frame 4 ms later."""
        rng = np.random.default_rng(seed)
        part = self.publisher.next_part()
        self.clock.advance(0.004)
        self.publisher.publish(
            part,
            rng.integers(0, 255, (16, 16, 3), dtype=np.uint8) if rgb else None,
            rng.integers(1, 60_000, (16, 16), dtype=np.uint16) if depth else None,
        )
        self.publisher.flush()
        return part

    def through_the_gate(self) -> None:
        """The time that parts need to the gate."""
        for _ in range(round(1.2 * TRAVEL_S / 0.01)):
            self.clock.advance(0.01)
            self.gate.step()

    def spans(self, part: PartKey) -> dict[str, ReadableSpan]:
        """Of one part, by name; a name stands once."""
        trace = trace_id(str(part).encode())
        found = [span for span in self.collected.spans() if span.context.trace_id == trace]
        assert len({span.name for span in found}) == len(found)
        return {span.name: span for span in found}

    def records(self, topic: str) -> list[Record]:
        """What lies on one of our topics."""
        return self.line.read(self.settings.topic(topic))

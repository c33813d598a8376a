"""Tracing into memory: OpenTelemetry's own exporter for tests, and what it was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from workers.tracing.assembly import Tracing
from workers.tracing.context import Sampler
from workers.tracing.export import OtelExporter
from workers.tracing.recorder import Recorder
from workers.tracing.span import Span


@dataclass(slots=True)
class Collected:
    """Spans kept in memory by OpenTelemetry's SDK; nothing runs on a thread, `spans` sends what waits."""

    ratio: float = 1.0
    theirs: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    tracing: Tracing = field(init=False)

    def __post_init__(self) -> None:
        exporter = OtelExporter(self.theirs, {"service.name": "crosscheck-test"})
        self.tracing = Tracing(Recorder(exporter), Sampler(self.ratio))

    def spans(self) -> list[ReadableSpan]:
        """All that were told so far."""
        assert self.tracing.recorder.flush()
        return list(self.theirs.get_finished_spans())


@dataclass(slots=True)
class Away:
    """A collector that takes nothing, until it is back."""

    away: bool = True
    got: list[Span] = field(default_factory=list)
    asked: int = 0

    def export(self, spans: Sequence[Span]) -> str | None:
        """Refuse, or keep."""
        self.asked += 1
        if self.away:
            return "connection refused"
        self.got.extend(spans)
        return None

    def close(self) -> None:
        """Nothing to let go of."""

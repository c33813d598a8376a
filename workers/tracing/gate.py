"""The last span of a part: from the gate's own trigger to its decision."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from workers.gate.decision import GateDecision
from workers.gate.journal import Entry
from workers.tracing.assembly import Tracing
from workers.tracing.context import CAPTURE, trace_id
from workers.tracing.span import Span

NAME = "gate"


class GateTrace:
    """For ``Gate``'s ``on_decision``. One thread calls it."""

    def __init__(self, tracing: Tracing) -> None:
        self._recorder = tracing.recorder
        self._sampler = tracing.sampler

    def __call__(self, decision: GateDecision, entry: Entry) -> None:
        """The gate has decided."""
        if self._sampler(trace_id(str(decision.part).encode())):
            self._recorder.tell(partial(spans, decision, entry))


def spans(decision: GateDecision, entry: Entry) -> Iterator[Span]:
    """The decision as a span; it knows of the verdict what the gate knew, and when."""
    yield Span(
        part=decision.part,
        name=NAME,
        parent=CAPTURE,
        start=entry.triggered_at,
        end=entry.decided_at,
        attributes={
            "crosscheck.decision": decision.decision.value,
            "crosscheck.opened": decision.opened,
            "crosscheck.reason": decision.reason.value,
            "crosscheck.before_due_ms": (entry.due - entry.decided_at) / 1e6,
        },
        events=() if entry.seen_at is None else (("verdict held", entry.seen_at),),
    )

"""What a worker did with a part, told after the fact: the loop writes down times and pays for no span."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from workers.bus.base import Bus
from workers.clock import Clock, SystemClock
from workers.settings import Settings
from workers.steps.pending import PendingPart
from workers.steps.publishing import Outcome
from workers.steps.step import Step
from workers.tracing.assembly import Tracing
from workers.tracing.context import CAPTURE, HEADER, Context, trace_id
from workers.tracing.span import Span, Value

_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Seen:
    """When a part came to the model; integer nanoseconds since the epoch.

    Attributes:
        sent: when its agent sent its first record, by the agent's clock, to the millisecond.
        read: when that was read.
        batched: when its batch was handed to the model.
        size: parts of that batch.
        header: the ``traceparent`` of its first record.
    """

    sent: int
    read: int
    batched: int
    size: int
    header: bytes | None


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer, and the moments around it."""

    verdict: Verdict
    seen: Seen | None
    inspected: int
    stored: int
    published: int
    repeated: bool


class WorkerTrace:
    """An observer of the loop, and its ``on_step``. One thread calls it.

    Args:
        worker: its name: two workers that answer a part are two spans.
    """

    def __init__(self, tracing: Tracing, *, worker: str, clock: Clock | None = None) -> None:
        self._tracing = tracing
        self._recorder = tracing.recorder
        self._sampler = tracing.sampler
        self._worker = worker
        self._clock: Clock = clock or SystemClock()
        self._seen: OrderedDict[PartKey, Seen] = OrderedDict()
        self._inspected = 0
        self._stored = 0

    def marked(self, bus: Bus, settings: Settings) -> Bus:
        """The bus, with the context of a part's span here on its verdict and its heatmap."""
        topics = (settings.topic("verdicts"), settings.topic("heatmaps"))
        return self._tracing.marked(bus, *topics, span=ident(self._worker))

    def stepped(self, step: Step) -> None:
        """A step of the loop is done."""
        if step is Step.INSPECTED:
            self._inspected = self._clock.now()
        elif step is Step.STORED:
            self._stored = self._clock.now()

    def batched(self, parts: Sequence[PendingPart], now: float) -> None:
        """A batch goes to the model."""
        at = self._clock.now()
        for pending in parts:
            if self._sampler(trace_id(str(pending.part).encode())):
                first = pending.records[0] if pending.records else None
                self._seen[pending.part] = Seen(
                    pending.read_at if first is None else first.timestamp_ms * 1_000_000,
                    pending.read_at,
                    at,
                    len(parts),
                    None if first is None else first.header(HEADER),
                )
        while len(self._seen) > _REMEMBERED:  # those whose partitions went before they were answered
            self._seen.popitem(last=False)

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        """Both sinks have acknowledged these."""
        at = self._clock.now()
        for outcome in outcomes:
            verdict = outcome.verdict
            if verdict is None or not self._sampler(trace_id(str(verdict.part).encode())):
                continue
            seen = self._seen.pop(verdict.part, None)
            repeated = outcome.standing is not None
            told = Answered(verdict, seen, self._inspected, self._stored, at, repeated)
            self._recorder.tell(partial(spans, told, self._worker))


def ident(worker: str) -> str:
    """What the id of a worker's own span of a part is made from."""
    return f"part {worker}"


def spans(told: Answered, worker: str) -> Iterator[Span]:
    """Everything a worker did with one part."""
    verdict, seen = told.verdict, told.seen
    part, own = verdict.part, ident(worker)
    read = verdict.decided_at if seen is None else seen.read
    header = None if seen is None else seen.header
    yield Span(
        part=part,
        name="part",
        ident=own,
        parent=CAPTURE,
        start=read,
        end=told.published,
        attributes=_about(told, worker),
        error=verdict.reason or "error" if verdict.decision is Decision.ERROR else "",
        link=header if _foreign(header, part) else None,
    )

    def step(name: str, start: int, end: int, **more: Value) -> Span:
        return Span(
            part=part,
            name=name,
            ident=f"{name} {worker}",
            parent=own,
            start=start,
            end=end,
            attributes=more,
        )

    decided = verdict.decided_at
    if seen is not None:
        # By two clocks: one that is ahead must not make it end before it begins.
        sent = min(seen.sent, seen.read)
        yield Span(
            part=part, name="transit", ident=f"transit {worker}", parent=CAPTURE, start=sent, end=seen.read
        )
        yield step("wait", seen.read, seen.batched)
        timings = verdict.timings
        if "inspect" in timings and "wait" in timings:
            started = min(max(seen.batched, seen.read + round(timings["wait"] * 1e6)), decided)
            yield step("decode", seen.batched, started)
            ours = {
                f"crosscheck.ms.{name.removeprefix('inspect.')}": value
                for name, value in timings.items()
                if name.startswith("inspect.")
            }
            yield step(
                "inspect",
                started,
                decided,
                **{"crosscheck.batch.size": seen.size, "crosscheck.share_ms": timings["inspect"]},
                **ours,
            )
        decided = max(decided, told.inspected)
    stored = min(max(told.stored, decided), told.published)
    yield step("store", min(decided, stored), stored)
    yield step("publish", stored, told.published)


def _about(told: Answered, worker: str) -> dict[str, Value]:
    verdict = told.verdict
    found: dict[str, Value | None] = {
        "crosscheck.worker": worker,
        "crosscheck.product": verdict.product,
        "crosscheck.decision": verdict.decision.value,
        "crosscheck.mode": None if verdict.mode is None else verdict.mode.value,
        "crosscheck.score": verdict.score,
        "crosscheck.threshold": verdict.threshold,
        "crosscheck.pass_limit": verdict.pass_limit,
        "crosscheck.reason": verdict.reason,
        "crosscheck.degraded": ",".join(verdict.degraded) or None,
        "crosscheck.bundle": verdict.bundle,
        "crosscheck.attempt": verdict.attempt,
        "crosscheck.repeated": told.repeated or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _foreign(header: bytes | None, part: PartKey) -> bool:
    """Whether a frame came with a trace of somebody else's: the part's own is linked to it."""
    found = None if header is None else Context.parse(header)
    return found is not None and found.trace != trace_id(str(part).encode())

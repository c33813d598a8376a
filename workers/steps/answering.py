"""Steps 5 and 6: from a batch to verdicts that both sinks have acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from workers.clock import Clock
from workers.patience import Patience
from workers.stages import STORE, StageTimes
from workers.steps.aside import Aside
from workers.steps.deadletter import DeadLetters
from workers.steps.inspecting import BatchInspector
from workers.steps.observing import Observers
from workers.steps.offsets import OffsetTracker
from workers.steps.parking import Parking
from workers.steps.pending import PendingPart
from workers.steps.publishing import Outcome, ResultPublisher
from workers.steps.shedding import More, Round, Shedding, nothing_more
from workers.steps.step import OnStep, Step
from workers.steps.triage import Triage
from workers.store.verdicts import VerdictStore

MODEL_POLL_S = 0.5
"""A model run that takes longer is waited for with polls in between."""


@dataclass(slots=True)
class Answering:
    """Answers parts: by the model, or without it where there is a reason. One thread calls it.

    Attributes:
        busy: called as a model run begins.
        meanwhile: called every ``MODEL_POLL_S`` while the model runs: to poll, so that the group keeps us.
        learn: told of every part that was scored, with what its images showed.
        observers: told of batches and answers.
    """

    store: VerdictStore
    triage: Triage
    inspector: BatchInspector
    publisher: ResultPublisher
    dead_letters: DeadLetters
    parking: Parking
    offsets: OffsetTracker
    aside: Aside
    shedding: Shedding
    patience: Patience
    clock: Clock
    stages: StageTimes
    on_step: OnStep
    busy: Callable[[], None]
    meanwhile: Callable[[], None]
    learn: Callable[[PendingPart, Outcome], None]
    observers: Observers = field(default_factory=Observers)
    answered: int = 0
    _bench: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="model")
    )

    def answer(self, batch: Sequence[PendingPart], backlog: int, more: More = nothing_more) -> int:
        """Answer a batch; returns how many parts of it were.

        Args:
            backlog: how many parts wait behind it.
            more: gives parts for the places of those that were shed.
        """
        done = 0
        for planned in self.shedding.plan(batch, backlog=backlog, now=self.clock.now(), more=more):
            done += self._round(planned)
        return done

    def _round(self, planned: Round) -> int:
        parts = [p for p in planned.begin() if any(map(self.offsets.current, p.tickets))]
        if not parts:
            return 0
        self.on_step(Step.BATCHED)
        with self.stages.stage(STORE):
            spoilt = self.aside.of({pending.part for pending in parts})
            groups = self.patience.call(lambda: self.triage.sort(parts, planned.shed, spoilt))
        for group in groups:
            seen = [pending for _, pending in group.parts]
            started = self.clock.monotonic()
            outcomes = self._inspect(seen)
            self.publish(self.aside.among(group.with_scored(outcomes)))
            if seen:
                self.shedding.observe(seen, self.clock.monotonic() - started)
            for pending, outcome in zip(seen, outcomes, strict=True):
                self.learn(pending, outcome)
        return len(parts)

    def _inspect(self, parts: Sequence[PendingPart]) -> list[Outcome]:
        """The model on its own thread: however long it takes, polling keeps our place in the group."""
        if not parts:
            return []
        keys = [pending.part for pending in parts]
        with self.stages.stage(STORE):
            attempts = self.patience.call(lambda: self.store.begin_attempts(keys))
        self.busy()
        self.observers.batched(parts, self.clock.monotonic())
        running = self._bench.submit(self.inspector.inspect, parts, attempts)
        while not wait([running], MODEL_POLL_S).done:
            self.meanwhile()
        outcomes = running.result()
        self.on_step(Step.INSPECTED)
        return outcomes

    def publish(self, outcomes: list[Outcome]) -> None:
        """Have outcomes on both sinks, and their records ready to be committed.

        Raises:
            DeadLetterFlood: too many of the last records could not be read, of all stations.
        """
        if not outcomes:
            return
        committed = self.patience.call(lambda: self.publisher.publish(outcomes))
        for outcome in outcomes:
            if outcome.tickets:
                self.parking.answered(outcome.station, outcome.partition, dead=bool(outcome.dead))
            for ticket in outcome.tickets:
                self.offsets.finish(ticket)
        self.dead_letters.answered()
        self.offsets.committed(committed)
        self.answered += len(outcomes)
        self.observers.answered(outcomes)
        self.parking.check()

    def close(self) -> None:
        """Let go of the model's thread; a run that hangs is left to itself."""
        self._bench.shutdown(wait=False)

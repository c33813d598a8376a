"""Step 6, second half: write each verdict once, say the one that stands, wait until both sinks have it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from inference.inspection import HeatmapArray
from schemas.errors import CrosscheckError
from schemas.heatmap import Heatmap
from schemas.images import encode_map
from schemas.verdict import Verdict
from schemas.wire import encode
from workers.bus.base import Producer, Record
from workers.stages import PUBLISH, STORE, StageTimes
from workers.steps.deadletter import DeadLetters
from workers.steps.delivery import Delivery, Offsets, Outgoing
from workers.steps.looking import Look
from workers.steps.offsets import Ticket
from workers.steps.pending import PendingPart
from workers.steps.step import OnStep, Step, ignore
from workers.store.verdicts import VerdictStore


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one part, or one unreadable record, ends in.

    Attributes:
        partition: where its verdict goes on the result topic: where its frame came from.
        verdict: the worker's own answer; None where not even the part key can be read.
        dead: the records that go to the dead-letter topic, each with its error.
        tickets: what may be committed once all of it is acknowledged.
        standing: the verdict that already stands, when the worker knew before asking.
        look: what the part's images said of their sensors, where the model saw it.
        belated: a record of a part that has its answer already, or gets it before: this one will not stand.
    """

    partition: int
    verdict: Verdict | None
    tickets: tuple[Ticket, ...]
    heatmap: HeatmapArray | None = None
    dead: tuple[tuple[Record, CrosscheckError], ...] = ()
    standing: bytes | None = None
    look: Look | None = None
    belated: bool = False

    @property
    def station(self) -> str | None:
        """Whose verdict it is; None where nobody knows."""
        return None if self.verdict is None else self.verdict.part.station

    @property
    def place(self) -> tuple[int, int]:
        """Where its first record lay: partition and offset. One without a record stands before all others."""
        if not self.tickets:
            return (-1, -1)
        return self.tickets[0].partition.partition, self.tickets[0].offset

    @classmethod
    def of(
        cls,
        pending: PendingPart,
        verdict: Verdict,
        *,
        heatmap: HeatmapArray | None = None,
        dead: tuple[tuple[Record, CrosscheckError], ...] = (),
        standing: bytes | None = None,
        look: Look | None = None,
        belated: bool = False,
    ) -> Outcome:
        """The outcome of a part: on the partition of its first record, for all of its tickets."""
        place = pending.tickets[0].partition.partition
        return cls(place, verdict, tuple(pending.tickets), heatmap, dead, standing, look, belated)

    def with_records_of(self, other: Outcome) -> Outcome:
        """This answer, given for the other's records too."""
        return replace(self, tickets=(*self.tickets, *other.tickets), dead=(*self.dead, *other.dead))


@dataclass(slots=True)
class ResultPublisher:
    """Writes outcomes to Redis and to the result topics."""

    producer: Producer
    delivery: Delivery
    store: VerdictStore
    dead_letters: DeadLetters
    stages: StageTimes
    heatmap_topic: str
    partitions: int
    on_step: OnStep = ignore
    timeout_s: float = 10.0

    def publish(self, outcomes: Sequence[Outcome]) -> Offsets:
        """Publish all of them; returns the offsets that were committed in the same transaction, if any were.

        Calling it again after an error is safe: the first write stands, and readers keep the first of a part.

        Raises:
            StoreError, BusError: a sink is away; nothing may be committed.
        """
        with self.stages.stage(STORE):
            fresh = [o.verdict for o in outcomes if o.verdict is not None and o.standing is None]
            decided = iter(self.store.decide_many(fresh))
            outgoing = [
                Outgoing(
                    str(o.verdict.part).encode(),
                    next(decided).standing if o.standing is None else o.standing,
                    o.partition % self.partitions,
                )
                for o in outcomes
                if o.verdict is not None
            ]
        self.on_step(Step.STORED)
        with self.stages.stage(PUBLISH):
            # Waited for one by one, before any verdict is on its way: a record that the broker refuses for
            # its size takes others in flight down with it.
            for outcome in outcomes:
                for record, error in outcome.dead:
                    self.dead_letters.keep(record, error, self.timeout_s)
            committed = self.delivery.deliver(outgoing, [t for o in outcomes for t in o.tickets])
            for outcome in outcomes:
                self._heatmap(outcome)
        self.on_step(Step.PRODUCED)
        return committed

    def _heatmap(self, outcome: Outcome) -> None:
        """Best effort: a heatmap never holds a verdict or a commit back."""
        array, verdict = outcome.heatmap, outcome.verdict
        if array is None or verdict is None or verdict.mode is None:
            return
        image = encode_map(np.ascontiguousarray(array.values))
        value = encode(
            Heatmap(part=verdict.part, mode=verdict.mode, image=image, low=array.low, high=array.high)
        )
        self.store.put_heatmap(verdict.part, value)
        with suppress(CrosscheckError):
            self.producer.send(
                self.heatmap_topic,
                value,
                key=str(verdict.part).encode(),
                partition=outcome.partition % self.partitions,
            )

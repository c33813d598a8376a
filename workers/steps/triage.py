"""Between steps 4 and 5: which parts of a batch the model is to see, and in which company."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType

from schemas.errors import CrosscheckError
from schemas.part import PartKey
from workers.clock import Clock
from workers.steps.deadletter import REPLAYED
from workers.steps.deciding import Judge
from workers.steps.pending import PendingPart
from workers.steps.publishing import Outcome
from workers.store.verdicts import VerdictStore

Refusal = Callable[[PendingPart], CrosscheckError | None]
"""Why a part is not to be scored at all, or None."""
NOTHING_SPOILT: Mapping[PartKey, Outcome] = MappingProxyType({})


@dataclass(slots=True)
class Group:
    """A stretch of a batch: parts that go through the model together, and those answered without it.

    Attributes:
        parts: what the model sees, each with its place in the batch.
        answered: the outcomes of the others, likewise.
    """

    parts: list[tuple[int, PendingPart]] = field(default_factory=list)
    answered: list[tuple[int, Outcome]] = field(default_factory=list)

    def with_scored(self, scored: Sequence[Outcome]) -> list[Outcome]:
        """All outcomes in the order of the batch; ``scored`` are those of ``parts``."""
        places = [place for place, _ in self.parts]
        both = [*self.answered, *zip(places, scored, strict=True)]
        return [outcome for _, outcome in sorted(both, key=lambda entry: entry[0])]


@dataclass(frozen=True, slots=True)
class Triage:
    """Sorts a batch by what is known of its parts."""

    store: VerdictStore
    judge: Judge
    clock: Clock
    max_attempts: int
    refuse: Refusal

    def sort(
        self,
        batch: Sequence[PendingPart],
        shed: AbstractSet[PartKey],
        spoilt: Mapping[PartKey, Outcome] = NOTHING_SPOILT,
    ) -> list[Group]:
        """The batch in stretches that are answered one after the other, in the order of the batch.

        Fresh parts go together. A part that was on the bench when a worker died goes alone, so that only the
        one that kills is counted again; a part that has used up its attempts does not go at all.

        Args:
            shed: parts that give way to others.
            spoilt: parts one of whose records has its answer already, such as that it cannot be read.

        Raises:
            StoreError: Redis is away.
        """
        groups: list[Group] = []
        alone = True
        against = dict(spoilt)
        for place, (pending, standing, tried) in enumerate(self._known(batch)):
            outcome = self._without_model(pending, standing, tried, pending.part in shed)
            bad = against.pop(pending.part, None)
            if bad is not None and bad.verdict is not None:
                outcome = (outcome or Outcome.of(pending, bad.verdict)).with_records_of(bad)
            if not groups or (outcome is None and (alone or tried > 0)):
                groups.append(Group())
                alone = False
            if outcome is not None:
                groups[-1].answered.append((place, outcome))
                continue
            groups[-1].parts.append((place, pending))
            alone = tried > 0
        return groups

    def _without_model(
        self, pending: PendingPart, standing: bytes | None, tried: int, shed: bool
    ) -> Outcome | None:
        if standing is not None:
            # Answered before, by us or by a worker that died before its commit: the same is said again.
            return Outcome.of(pending, self.judge.stale(pending), standing=standing)
        if pending.late is not None:
            # Its part is in front of it in this very batch, and decided first: this one will not stand.
            return Outcome.of(pending, self.judge.stale(pending), belated=True)
        if any(record.header(REPLAYED) is not None for record in pending.records):
            # A dead letter sent again is answered for the record: whatever it says, its time is long gone.
            return Outcome.of(pending, self.judge.stale(pending))
        refused = self.refuse(pending)
        if refused is not None:
            return Outcome.of(pending, self.judge.failed(pending, refused))
        if shed:
            return Outcome.of(pending, self.judge.shed(pending))
        if self.clock.now() > pending.frame.deadline:
            return Outcome.of(pending, self.judge.stale(pending))
        if tried >= self.max_attempts:
            return Outcome.of(pending, self.judge.worn_out(pending, tried))
        return None

    def _known(self, batch: Sequence[PendingPart]) -> Iterator[tuple[PendingPart, bytes | None, int]]:
        known = self.store.standing_and_attempts([pending.part for pending in batch])
        for pending, (standing, tried) in zip(batch, known, strict=True):
            yield pending, standing, tried

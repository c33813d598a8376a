"""Between steps 4 and 5: which parts of a batch the model is to see, and in which company."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workers.clock import Clock
from workers.steps.deciding import Judge
from workers.steps.pending import PendingPart
from workers.steps.publishing import Outcome
from workers.store.verdicts import VerdictStore


@dataclass(frozen=True, slots=True)
class Triage:
    """Sorts a batch by what the store knows of its parts."""

    store: VerdictStore
    judge: Judge
    clock: Clock
    max_attempts: int

    def sort(self, batch: Sequence[PendingPart]) -> tuple[list[Outcome], list[list[PendingPart]]]:
        """What is answered without the model, and the groups that are to be scored one after the other.

        Fresh parts go together. A part that was on the bench when a worker died goes alone, so that only the
        one that kills is counted again; a part that has used up its attempts does not go at all.

        Raises:
            StoreError: Redis is away.
        """
        answered: list[Outcome] = []
        fresh: list[PendingPart] = []
        groups: list[list[PendingPart]] = []
        for pending, standing, tried in self._known(batch):
            if standing is not None:
                # Answered before, by us or by a worker that died before its commit: the same is said again.
                answered.append(Outcome.of(pending, self.judge.stale(pending), standing=standing))
            elif self.clock.now() > pending.frame.deadline:
                answered.append(Outcome.of(pending, self.judge.stale(pending)))
            elif tried >= self.max_attempts:
                answered.append(Outcome.of(pending, self.judge.worn_out(pending, tried)))
            elif tried > 0:
                groups.append([pending])
            else:
                fresh.append(pending)
        return answered, ([fresh] if fresh else []) + groups

    def _known(self, batch: Sequence[PendingPart]) -> Iterator[tuple[PendingPart, bytes | None, int]]:
        parts = [pending.part for pending in batch]
        return zip(batch, self.store.standing_many(parts), self.store.attempts(parts), strict=True)

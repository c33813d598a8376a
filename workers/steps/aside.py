"""Answers that need no model, held back until the parts before them in their station have theirs.

Verdicts of a station are published in the order of its records. A record that cannot be read, or a notice
that no frame will come, is answered at once, but parts in front of it may still wait for a sensor or a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from schemas.part import PartKey
from workers.steps.offsets import Ticket
from workers.steps.publishing import Outcome


class Aside:
    """Outcomes that are ready and not published yet."""

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Hold one back; it has at least one ticket."""
        self._outcomes.append(outcome)

    def ready(self, behind: Callable[[str], bool]) -> list[Outcome]:
        """Take out what nothing of its station is in front of.

        Args:
            behind: whether parts of a station are still on their way through the worker.
        """
        kept: list[Outcome] = []
        ready: list[Outcome] = []
        for outcome in self._outcomes:
            waits = outcome.station is not None and behind(outcome.station)
            (kept if waits else ready).append(outcome)
        self._outcomes = kept
        return ready

    def of(self, parts: Set[PartKey]) -> dict[PartKey, Outcome]:
        """Take out what is held against parts whose other records are about to be judged, one outcome a part.

        What is wrong with one of its records must be said before the others can make it a PASS.
        """
        found: dict[PartKey, Outcome] = {}
        kept: list[Outcome] = []
        for outcome in self._outcomes:
            part = None if outcome.verdict is None else outcome.verdict.part
            if part is None or part not in parts:
                kept.append(outcome)
            else:
                found[part] = found[part].with_records_of(outcome) if part in found else outcome
        self._outcomes = kept
        return found

    def among(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """These outcomes, and what must come out with them: of the same stations, and read before them."""
        if not self._outcomes:
            return list(outcomes)
        last: dict[str, tuple[int, int]] = {}
        for outcome in outcomes:
            if outcome.station is not None:
                last[outcome.station] = max(last.get(outcome.station, (-1, -1)), outcome.place)
        kept: list[Outcome] = []
        due: list[Outcome] = []
        for outcome in self._outcomes:
            until = None if outcome.station is None else last.get(outcome.station)
            (kept if until is None or outcome.place > until else due).append(outcome)
        self._outcomes = kept
        merged = list(outcomes)
        for outcome in sorted(due, key=lambda outcome: outcome.place):
            # The others keep their turn: a station's parts come in the order of their triggers.
            behind = (
                at
                for at, other in enumerate(merged)
                if other.station == outcome.station and other.place >= outcome.place
            )
            merged.insert(next(behind), outcome)
        return merged

    def drop(self, keep: Callable[[Ticket], bool]) -> None:
        """Forget what is no longer ours to commit: its next owner answers it."""
        self._outcomes = [o for o in self._outcomes if any(map(keep, o.tickets))]

    def __len__(self) -> int:
        return len(self._outcomes)

    @property
    def size(self) -> int:
        """Bytes held: of the records that go to the dead letters."""
        return sum(len(record.value) for outcome in self._outcomes for record, _ in outcome.dead)

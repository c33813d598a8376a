"""Who watches the line cannot stop it."""

from __future__ import annotations

from collections.abc import Sequence

from workers.steps.observing import Observers
from workers.steps.pending import PendingPart
from workers.steps.publishing import Outcome


class Counting:
    def __init__(self) -> None:
        self.batches = 0
        self.answers = 0

    def batched(self, parts: Sequence[PendingPart], now: float) -> None:
        self.batches += 1

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        self.answers += 1


class Failing(Counting):
    def answered(self, outcomes: Sequence[Outcome]) -> None:
        super().answered(outcomes)
        raise ZeroDivisionError


def test_an_observer_that_fails_is_not_asked_again_and_the_others_are() -> None:
    failing, counting = Failing(), Counting()
    observers = Observers([failing, counting])
    observers.answered([])
    observers.answered([])
    observers.batched([], 0.0)
    assert (failing.answers, failing.batches) == (1, 0)
    assert (counting.answers, counting.batches) == (2, 1)

"""Counts and latencies of the last half hour in steps of ten seconds, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from schemas.verdict import Decision

STEP_S = 10
STEPS = 180
SECONDS = 16
"""How many single seconds are kept beside the steps, for the rate of the last ten."""
_LEAST_MS = 0.5
_RATIO = math.log(1.08)
_BINS = 200  # up to 40 minutes
SCORED = tuple(each.value for each in (Decision.PASS, Decision.REJECT, Decision.REVIEW))
"""Decisions that rest on a score: what a share of rejects is of."""


@dataclass(slots=True)
class Step:
    """What came in one step.

    Attributes:
        number: seconds since the epoch over ``STEP_S``.
        decisions: how many of each.
        latencies: how many by the bin of their latency.
    """

    number: int
    decisions: Counter[str] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)


class Window:
    """The last half hour of one station, or of all. Times are seconds since the epoch, when it was decided.

    What is older than the window is not counted, and what claims to come from the future counts as now.
    """

    def __init__(self) -> None:
        self._steps: dict[int, Step] = {}
        self._seconds: dict[int, int] = {}

    def add(self, decision: str, latency_ms: float | None, at: float, now: float) -> None:
        """Count one verdict; ``latency_ms`` is None where it says nothing of the line."""
        at = min(at, now)
        if now - at > STEP_S * STEPS:
            return
        number = int(at // STEP_S)
        step = self._steps.get(number)
        if step is None:
            step = self._steps[number] = Step(number)
            self._drop(now)
        step.decisions[decision] += 1
        if latency_ms is not None:
            step.latencies[_bin(latency_ms)] += 1
        if now - at < SECONDS:
            second = int(at)
            if second not in self._seconds:
                for old in [each for each in self._seconds if each < now - SECONDS]:
                    del self._seconds[old]
            self._seconds[second] = self._seconds.get(second, 0) + 1

    def rate(self, now: float, over_s: int = 10) -> float:
        """Verdicts a second over the last whole ``over_s`` seconds."""
        last = int(now) - 1
        return sum(self._seconds.get(second, 0) for second in range(last - over_s + 1, last + 1)) / over_s

    def counts(self, now: float, over_s: int = 600) -> Counter[str]:
        """How many of each decision in the last ``over_s`` seconds, to the step."""
        newest = int(now // STEP_S)
        total: Counter[str] = Counter()
        for number in range(newest - over_s // STEP_S + 1, newest + 1):
            step = self._steps.get(number)
            if step is not None:
                total.update(step.decisions)
        return total

    def series(self, now: float) -> dict[str, list[float | None]]:
        """Per step of the half hour, oldest first: ``t`` (its begin, milliseconds), ``verdicts``, ``scored``
        and ``rejected`` of them, ``p50`` and ``p95`` (milliseconds; None where nothing came). The step that
        runs is left out."""
        newest = int(now // STEP_S) - 1
        out: dict[str, list[float | None]] = {
            name: [] for name in ("t", "verdicts", "scored", "rejected", "p50", "p95")
        }
        for number in range(newest - STEPS + 1, newest + 1):
            step = self._steps.get(number) or Step(number)
            out["t"].append(number * STEP_S * 1000)
            out["verdicts"].append(step.decisions.total())
            out["scored"].append(sum(step.decisions[each] for each in SCORED))
            out["rejected"].append(step.decisions[Decision.REJECT.value])
            out["p50"].append(percentile(step.latencies, 0.50))
            out["p95"].append(percentile(step.latencies, 0.95))
        return out

    def _drop(self, now: float) -> None:
        oldest = int(now // STEP_S) - STEPS
        for number in [each for each in self._steps if each < oldest]:
            del self._steps[number]


def _bin(latency_ms: float) -> int:
    return min(_BINS, max(0, int(math.log(max(latency_ms, _LEAST_MS) / _LEAST_MS) / _RATIO)))


def percentile(latencies: Counter[int], share: float) -> float | None:
    """The latency, in milliseconds and to 4 %, that ``share`` of them do not exceed; None without any."""
    wanted = share * latencies.total()
    seen = 0
    for number in sorted(latencies):
        seen += latencies[number]
        if seen >= wanted:
            return round(_LEAST_MS * math.exp((number + 0.5) * _RATIO), 1)
    return None

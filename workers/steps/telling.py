"""What a worker says of parts that it cannot judge: at once, once a cause, and then how many there were.

Each such part has its verdict; a log that repeats it a hundred times a second hides what else it has to say.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from schemas.verdict import Decision, Verdict
from workers.clock import Clock, SystemClock
from workers.steps.pending import PendingPart
from workers.steps.publishing import Outcome

log = structlog.get_logger(__name__)

EVERY_S = 60.0
OVER_S = 300.0
MAX_CAUSES = 1024

Cause = tuple[str, str, str]
"""(station, product, code of the reason)."""


@dataclass(slots=True)
class _Count:
    parts: int
    told_at: float
    last: float
    why: str


class ErrorTeller:
    """An observer that logs ERROR verdicts by station, product and the code of their reason.

    The first of a cause is ``worker.part_error`` with the whole reason; then ``worker.parts_error`` says each
    minute how many more there were. A cause that was quiet for five minutes is told anew.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._counts: OrderedDict[Cause, _Count] = OrderedDict()

    def batched(self, parts: Sequence[PendingPart], now: float) -> None:
        """Nothing is told of a batch."""

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        """Count the errors among these answers."""
        for outcome in outcomes:
            verdict = outcome.verdict
            if verdict is not None and verdict.decision is Decision.ERROR and outcome.standing is None:
                self._error(verdict)
        self._tell()

    def _error(self, verdict: Verdict) -> None:
        why = verdict.reason or "unknown"
        code = why.partition(":")[0]
        cause, now = (verdict.part.station, verdict.product, code), self._clock.monotonic()
        known = self._counts.get(cause)
        if known is not None and now - known.last <= OVER_S:
            known.parts, known.last, known.why = known.parts + 1, now, why
            return
        log.error(
            "worker.part_error",
            part=str(verdict.part),
            product=verdict.product,
            why=why,
            more="counted from here on, told every minute",
        )
        self._counts[cause] = _Count(0, now, now, why)
        self._counts.move_to_end(cause)
        if len(self._counts) > MAX_CAUSES:
            self._counts.popitem(last=False)

    def _tell(self) -> None:
        now = self._clock.monotonic()
        for (station, product, _), count in self._counts.items():
            if count.parts and now - count.told_at >= EVERY_S:
                log.error(
                    "worker.parts_error",
                    station=station,
                    product=product,
                    parts=count.parts,
                    within_s=round(now - count.told_at),
                    why=count.why,
                )
                count.parts, count.told_at = 0, now

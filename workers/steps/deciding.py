"""Step 6, first half: from evidence to the one decision. The only place where a PASS can come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference.inspection import Inspection
from schemas.codes import ReasonCode
from schemas.errors import CrosscheckError
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.verdict import Decision, Source, Verdict
from workers.bus.base import Record
from workers.clock import Clock
from workers.steps.pending import PendingPart
from workers.steps.shedding import SHED


def decide(inspection: Inspection, min_coverage: float) -> tuple[Decision, str | None]:
    """The decision on what the model saw, and a reason for everything but a plain PASS or REJECT.

    Args:
        inspection: the evidence.
        min_coverage: with less of the part inspected, a score that is good is REVIEW.
    """
    if inspection.error is not None:
        return Decision.ERROR, f"{inspection.error.reason}: {inspection.error}"
    score, threshold, pass_limit = inspection.score, inspection.threshold, inspection.pass_limit
    # Comparisons are written so that a NaN, which compares false with everything, cannot pass.
    if inspection.mode is None or score is None or threshold is None or pass_limit is None:
        return Decision.ERROR, f"{ReasonCode.NOT_FINITE}: no finite score"
    if not all(abs(number) < float("inf") for number in (score, threshold, pass_limit)):
        return Decision.ERROR, f"{ReasonCode.NOT_FINITE}: no finite score"
    if not score <= threshold:
        return Decision.REJECT, None
    if not score <= pass_limit:
        return Decision.REVIEW, ReasonCode.BETWEEN.value
    if not inspection.coverage >= min_coverage:
        return Decision.REVIEW, ReasonCode.COVERAGE.value
    if not inspection.degraded_pass:
        return Decision.REVIEW, ReasonCode.DEGRADED.value
    return Decision.PASS, None


@dataclass(frozen=True, slots=True)
class Judge:
    """Makes the verdicts of one worker."""

    worker: str
    clock: Clock
    min_coverage: float

    def inspected(
        self,
        pending: PendingPart,
        inspection: Inspection,
        *,
        bundle: str,
        bundle_hash: str,
        attempt: int,
        timings: Mapping[str, float],
    ) -> Verdict:
        """The verdict of a part the model has seen."""
        if inspection.error is not None:
            return self.failed(pending, inspection.error, attempt=attempt, timings=timings)
        decision, reason = decide(inspection, self.min_coverage)
        if decision is Decision.ERROR:
            return self._unscored(pending, decision, reason or "", attempt, timings)
        return Verdict(
            part=pending.part,
            product=pending.frame.product,
            decision=decision,
            reason=reason,
            mode=inspection.mode,
            score=inspection.score,
            threshold=inspection.threshold,
            pass_limit=inspection.pass_limit,
            degraded=self._degraded(pending, inspection),
            coverage=min(1.0, max(0.0, inspection.coverage)),
            branches=dict(inspection.branches),
            regions=inspection.regions,
            bundle=bundle,
            bundle_hash=bundle_hash,
            sources=pending.sources,
            worker=self.worker,
            attempt=attempt,
            captured_at=pending.frame.captured_at,
            decided_at=self.clock.now(),
            deadline=pending.frame.deadline,
            timings=dict(timings),
            foreground=inspection.foreground,
        )

    @staticmethod
    def _degraded(pending: PendingPart, inspection: Inspection) -> tuple[str, ...]:
        # The worker knows why a sensor was left out; the inspector only knows that it was not there.
        told = {reason.split(":")[0] for reason in pending.reasons}
        rest = (r for r in inspection.degraded if not (r.endswith(":absent") and r.split(":")[0] in told))
        return (*pending.reasons, *rest)

    def failed(
        self,
        pending: PendingPart,
        error: CrosscheckError,
        *,
        attempt: int = 1,
        timings: Mapping[str, float] | None = None,
    ) -> Verdict:
        """ERROR: the part could not be scored."""
        return self._unscored(pending, Decision.ERROR, f"{error.reason}: {error}", attempt, timings)

    def stale(self, pending: PendingPart) -> Verdict:
        """STALE: the deadline was gone when the part reached the worker."""
        return self._unscored(pending, Decision.STALE, ReasonCode.DEADLINE.value, 1, None)

    def shed(self, pending: PendingPart) -> Verdict:
        """STALE: it could not be in time any more, and gave way to parts that can."""
        return self._unscored(pending, Decision.STALE, SHED, 1, None)

    def worn_out(self, pending: PendingPart, attempt: int) -> Verdict:
        """ERROR: this part has already taken its workers down with it."""
        return self._unscored(pending, Decision.ERROR, ReasonCode.ATTEMPTS.value, attempt, None)

    def _unscored(
        self,
        pending: PendingPart,
        decision: Decision,
        reason: str,
        attempt: int,
        timings: Mapping[str, float] | None,
    ) -> Verdict:
        return Verdict(
            part=pending.part,
            product=pending.frame.product,
            decision=decision,
            reason=reason[:1000],
            degraded=pending.reasons,
            sources=pending.sources,
            worker=self.worker,
            attempt=attempt,
            captured_at=pending.frame.captured_at,
            decided_at=self.clock.now(),
            deadline=pending.frame.deadline,
            timings=dict(timings or {}),
        )

    def missing(self, notice: Notice, record: Record) -> Verdict:
        """MISSING: the line saw the part, and its agent says that no frame will come."""
        return Verdict(
            part=notice.part,
            product=notice.product,
            decision=Decision.MISSING,
            reason=f"{ReasonCode.NOTICE}: {notice.why}",
            sources=(Source(record.topic, record.partition, record.offset),),
            worker=self.worker,
            captured_at=notice.captured_at,
            decided_at=self.clock.now(),
            deadline=notice.deadline,
        )

    def unreadable(self, part: PartKey, error: CrosscheckError) -> Verdict:
        """ERROR: nothing of the record can be read but whose it is."""
        now = self.clock.now()
        return Verdict(
            part=part,
            product="unknown",
            decision=Decision.ERROR,
            reason=f"{error.reason}: {error}"[:1000],
            worker=self.worker,
            captured_at=now,
            decided_at=now,
            deadline=now,
        )

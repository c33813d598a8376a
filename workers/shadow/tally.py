"""Counts of a shadow run, and what Redis is given of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.verdict import Decision, Verdict
from workers.shadow.report import COUNTS, QUANTILES, ShadowPart, ShadowReport

LAST = 10_000
"""Parts whose ratios and times are kept for their distribution."""


@dataclass(slots=True)
class Tally:
    """What a run has found so far. Times are milliseconds since the epoch.

    Attributes:
        product, candidate: whose run it is, and NAME/VERSION of the candidate.
        active: NAME/VERSION of the bundle that judged the last part.
        news: parts that Redis has not been told of yet.
    """

    product: str
    candidate: str
    started: int
    active: str = ""
    count: int = 0
    agree: int = 0
    active_pass_candidate_reject: int = 0
    active_reject_candidate_pass: int = 0
    active_reject_candidate_review: int = 0
    active_review_candidate_reject: int = 0
    failed: int = 0
    unmatched: int = 0
    unscored: int = 0
    skipped: int = 0
    news: deque[ShadowPart] = field(default_factory=lambda: deque(maxlen=1000))
    _ratios: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=LAST))
    _times: deque[float] = field(default_factory=lambda: deque(maxlen=LAST))

    def compared(
        self, verdict: Verdict, candidate: Decision, candidate_ratio: float | None, took_ms: float, at: int
    ) -> None:
        """One part that both have judged."""
        active_ratio = ratio(verdict.score, verdict.threshold)
        part = ShadowPart(
            part=str(verdict.part),
            mode="" if verdict.mode is None else verdict.mode.value,
            active=verdict.decision.value,
            candidate=candidate.value,
            active_ratio=active_ratio,
            candidate_ratio=candidate_ratio,
            at=at,
        )
        self.active = verdict.bundle or self.active
        self.count += 1
        if part.agrees:
            self.agree += 1
            moved = (verdict.decision, candidate)
            self.active_reject_candidate_review += moved == (Decision.REJECT, Decision.REVIEW)
            self.active_review_candidate_reject += moved == (Decision.REVIEW, Decision.REJECT)
        elif verdict.decision is Decision.PASS:
            self.active_pass_candidate_reject += 1
        else:
            self.active_reject_candidate_pass += 1
        if active_ratio is not None and candidate_ratio is not None:
            self._ratios.append((active_ratio, candidate_ratio))
        self._times.append(took_ms)
        self.news.append(part)

    def fell(self, took_ms: float) -> None:
        """One part that the candidate could not score."""
        self.failed += 1
        self._times.append(took_ms)

    def latency(self, share: float) -> float | None:
        """Milliseconds of the candidate for one part that a ``share`` of the last parts took at most."""
        return float(np.quantile(self._times, share)) if self._times else None

    def report(self, at: int, *, running: bool) -> ShadowReport:
        """As the board shows it, without single parts."""
        quantiles: tuple[tuple[float, ...], ...] = ((), ())
        if self._ratios:
            found = np.quantile(np.asarray(self._ratios), QUANTILES, axis=0)
            quantiles = tuple(tuple(round(float(one), 4) for one in column) for column in found.T)
        counts: dict[str, Any] = {name: at if name == "at" else getattr(self, name) for name in COUNTS}
        return ShadowReport(
            product=self.product,
            active=self.active,
            candidate=self.candidate,
            latency_ms=round(float(np.mean(self._times)), 2) if self._times else None,
            running=running,
            active_ratios=quantiles[0],
            candidate_ratios=quantiles[1],
            **counts,
        )


def fields_of(report: ShadowReport) -> dict[str, str | int]:
    """A report as the fields of its hash."""
    out: dict[str, str | int] = {name: getattr(report, name) for name in COUNTS}
    out |= {"active": report.active, "candidate": report.candidate, "running": int(report.running)}
    out["latency_ms"] = "" if report.latency_ms is None else f"{report.latency_ms:g}"
    for name in ("active_ratios", "candidate_ratios"):
        out[name] = " ".join(f"{one:g}" for one in getattr(report, name))
    return out


def entry_of(part: ShadowPart) -> dict[str, Any]:
    """A part as the fields of a stream's entry."""
    values = part.to_map()
    del values["agrees"]
    return {name: "" if value is None else value for name, value in values.items()}


def ratio(score: float | None, threshold: float | None) -> float | None:
    """Score / reject limit; None where there is no score, or the limit is none to divide by."""
    if score is None or threshold is None or not threshold > 0:
        return None
    return score / threshold

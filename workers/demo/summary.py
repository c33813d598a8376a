"""Counting the run: what was lost, what was caught at which size, whether anything passed that may not."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from inference.datasets.base import GOOD
from inference.datasets.defects import Defect, DefectKind
from schemas.part import PartKey
from schemas.verdict import Decision, Mode, Verdict
from workers.demo.run import LineRun
from workers.demo.script import Script

KINDS = tuple(kind.value for kind in DefectKind)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One part: what was planted, and what became of it."""

    trigger: int
    part: PartKey
    defect: Defect | None
    in_drop: bool
    verdict: Verdict | None
    decision: Decision
    opened: bool

    @property
    def kind(self) -> str:
        """``good``, or the kind of defect."""
        return GOOD if self.defect is None else self.defect.kind


@dataclass(frozen=True, slots=True)
class Summary:
    """The run in numbers; ``to_json`` has the stable keys."""

    outcomes: tuple[Outcome, ...]
    published: int
    verdicts: int
    decisions: int
    lost: int
    duplicates: int
    unsafe_passes: int
    latency_ms: dict[str, float | None]
    frames_per_second: float
    defects: tuple[dict[str, Any], ...]

    def of(self, kind: str, *, in_drop: bool | None = None) -> list[Outcome]:
        """The outcomes of one kind."""
        return [o for o in self.outcomes if o.kind == kind and in_drop in (None, o.in_drop)]

    @property
    def degraded_mode_seen(self) -> bool:
        """Whether the drop was scored from colour alone, and the line was fused again afterwards."""
        drop = [o for o in self.outcomes if o.in_drop]
        last = [o for o in self.outcomes if o.trigger > max((d.trigger for d in drop), default=-1)]
        modes = {o.verdict.mode for o in drop if o.verdict is not None}
        after = [o.verdict.mode for o in last[-10:] if o.verdict is not None]
        return modes == {Mode.RGB} and bool(after) and set(after) == {Mode.FUSED}

    @property
    def hidden_passed(self) -> int:
        """Shape-only defects that passed while the depth sensor was out."""
        return sum(o.opened for o in self.of(DefectKind.SHAPE.value, in_drop=True))

    @property
    def ok(self) -> bool:
        """Whether the line kept its promises."""
        return not (self.lost or self.duplicates or self.unsafe_passes or self.hidden_passed) and (
            self.degraded_mode_seen
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        by_kind: dict[str, Counter[str]] = defaultdict(Counter)
        for o in self.outcomes:
            by_kind[o.kind][o.decision.value] += 1
        modes = Counter(o.verdict.mode.value for o in self.outcomes if o.verdict and o.verdict.mode)

        def count(kind: str, decision: Decision) -> int:
            return sum(o.decision is decision for o in self.of(kind))

        return {
            "triggers": len(self.outcomes),
            "published": self.published,
            "verdicts": self.verdicts,
            "decisions": self.decisions,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "modes": {mode.value: modes[mode.value] for mode in Mode},
            "decisions_by_kind": {kind: dict(by_kind[kind]) for kind in (GOOD, *KINDS)},
            "caught": {kind: count(kind, Decision.REJECT) for kind in KINDS},
            "held": {
                kind: sum(not o.opened and o.decision is not Decision.REJECT for o in self.of(kind))
                for kind in KINDS
            },
            "missed": {kind: sum(o.opened for o in self.of(kind)) for kind in KINDS},
            "unsafe_passes": self.unsafe_passes,
            "false_rejects": count(GOOD, Decision.REJECT),
            "good_held": sum(not o.opened and o.decision is not Decision.REJECT for o in self.of(GOOD)),
            "latency_ms": {name: self.latency_ms.get(name) for name in ("p50", "p95", "p99")},
            "frames_per_second": self.frames_per_second,
            "defects": list(self.defects),
        }


def _unsafe(outcome: Outcome, granted: frozenset[Mode]) -> bool:
    """A gate that opened without a PASS that its mode may give and that a model run stands behind."""
    if not outcome.opened:
        return False
    verdict = outcome.verdict
    if verdict is None or verdict.decision is not Decision.PASS or verdict.part != outcome.part:
        return True
    may_pass = verdict.mode is Mode.FUSED or verdict.mode in granted
    return not (may_pass and verdict.bundle_hash and verdict.timings.get("inspect", 0) > 0)


def summarise(run: LineRun, script: Script, granted: frozenset[Mode] = frozenset()) -> Summary:
    """Count a run.

    Args:
        granted: single modes whose PASS the bundle permits.
    """
    opened = set(run.audit.opened)
    outcomes = []
    for trigger, part in enumerate(run.parts):
        entry = run.audit.decided.get(part)
        outcomes.append(
            Outcome(
                trigger=trigger,
                part=part,
                defect=script.defects.get(trigger),
                in_drop=script.in_drop(trigger),
                verdict=run.standing[part],
                decision=Decision.MISSING if entry is None else entry.decision.decision,
                opened=part in opened,
            )
        )
    first: dict[PartKey, Verdict] = {}
    conflicting = 0
    for verdict in run.on_topic:
        conflicting += first.setdefault(verdict.part, verdict) != verdict
    defects = tuple(
        {
            "trigger": o.trigger,
            "kind": o.kind,
            "size": o.defect.size,
            "contrast": o.defect.contrast,
            "in_drop": o.in_drop,
            "mode": o.verdict.mode.value if o.verdict and o.verdict.mode else None,
            "decision": o.decision.value,
        }
        for o in outcomes
        if o.defect is not None
    )
    return Summary(
        outcomes=tuple(outcomes),
        published=run.published,
        verdicts=len(first),
        decisions=run.audit.decisions,
        lost=len(run.audit.lost),
        duplicates=len(run.audit.duplicates) + conflicting,
        unsafe_passes=sum(_unsafe(o, granted) for o in outcomes),
        latency_ms=run.gate.latency_ms,
        frames_per_second=len(run.parts) / run.seconds,
        defects=defects,
    )

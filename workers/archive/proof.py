"""The proof that triggers = decisions = verdicts, and each exception to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from schemas.part import PartKey
from schemas.verdict import Decision
from workers.archive.line import Recorded
from workers.gate.decision import Reason


class Fault(StrEnum):
    """What is wrong about a part, or about a file; every one of them ends the proof."""

    UNDECIDED = "part without decision"
    NO_VERDICT = "decision without verdict"
    UNSAFE = "gate opened without a PASS verdict"
    DIFFERS = "decision is not the verdict's"
    CONFLICT = "conflicting verdicts"
    DUPLICATE = "verdict filed twice"
    NO_TRIGGER = "verdict without trigger"
    UNKNOWN = "decision without trigger"
    TWICE = "part decided twice"
    DAMAGED = "damaged line or record"
    ARCHIVE = "archive does not hold"


ORDER = (
    Fault.UNSAFE,
    Fault.UNDECIDED,
    Fault.CONFLICT,
    Fault.DIFFERS,
    Fault.TWICE,
    Fault.NO_VERDICT,
    Fault.NO_TRIGGER,
    Fault.UNKNOWN,
    Fault.DUPLICATE,
    Fault.DAMAGED,
    Fault.ARCHIVE,
)
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One exception: what, of which part or at which place, and the facts."""

    fault: Fault
    where: str
    says: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """The first verdict of a part: its decision, the part's capture time, the digest of its bytes."""

    decision: Decision
    captured_at: int
    digest: str
    where: str


@dataclass(slots=True)
class Verdicts:
    """Every verdict that was found, from as many places as were asked."""

    first: dict[PartKey, Seen] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    repeated: int = 0

    def add(self, part: PartKey, seen: Seen, *, once: bool = False) -> None:
        """One more; ``once``: its place promises to hold a part's verdict only once."""
        known = self.first.setdefault(part, seen)
        if known is seen:
            return
        if known.digest != seen.digest:
            says = f"{known.decision} in {known.where}, {seen.decision} in {seen.where}"
            self.findings.append(Finding(Fault.CONFLICT, str(part), says))
        elif once:
            self.findings.append(Finding(Fault.DUPLICATE, str(part), f"{known.where} and {seen.where}"))
        elif known.where == seen.where:
            self.repeated += 1

    def conflict(self, part: PartKey, says: str) -> None:
        """Another verdict, which is known to differ from the first or cannot be shown to be the same."""
        self.findings.append(Finding(Fault.CONFLICT, str(part), says))


@dataclass(slots=True)
class Proof:
    """What was counted, and what is wrong.

    Attributes:
        triggers, decisions, verdicts: of the parts triggered in the window.
        alone: parts that the gate decided without a verdict: none had come when they were in front of it.
        earlier: parts decided in segments of the journal that are no longer kept.
        by_verdict, by_decision: of the parts triggered in the window.
        late: parts whose verdict was PASS and that were not passed: it came too late, or the gate did,
            or the gate was locked.
    """

    triggers: int = 0
    decisions: int = 0
    verdicts: int = 0
    opened: int = 0
    alone: int = 0
    earlier: int = 0
    late: int = 0
    repeated: int = 0
    by_verdict: Counter[str] = field(default_factory=Counter)
    by_decision: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every trigger ended in one decision, and every decision rests on its verdict."""
        return not self.findings

    def counts(self) -> Counter[Fault]:
        """Findings by fault."""
        return Counter(finding.fault for finding in self.findings)


_FROM_A_VERDICT = {
    Reason.PASS,
    Reason.LATE,
    Reason.REJECT,
    Reason.REVIEW,
    Reason.STALE,
    Reason.ERROR,
    Reason.OTHER_PART,
    Reason.UNREADABLE,
    Reason.ACTUATOR,
    Reason.RESTART,
}
"""Reasons that a gate gives only when it held the bytes of a verdict."""
_SAYS_THE_SAME = {Reason.REJECT, Reason.REVIEW, Reason.STALE, Reason.ERROR}


def prove(recorded: Recorded, verdicts: Verdicts, since: int, until: int) -> Proof:
    """Compare what the line recorded with the verdicts, for parts triggered in [since, until).

    Args:
        since, until: nanoseconds since the epoch.
    """
    proof = Proof(repeated=verdicts.repeated)
    for part, at in recorded.triggers.items():
        if since <= at < until:
            proof.triggers += 1
            _part(proof, part, recorded, verdicts)
    stations = {part.station for part in recorded.triggers}
    for part, seen in verdicts.first.items():
        mine = since <= seen.captured_at < until and part.station in stations
        if mine and part not in recorded.triggers:
            says = f"{seen.decision} in {seen.where}"
            proof.findings.append(Finding(Fault.NO_TRIGGER, str(part), says))
    for part, entry in recorded.decided.items():
        if since <= entry.triggered_at < until and part not in recorded.triggers:
            proof.findings.append(Finding(Fault.UNKNOWN, str(part), entry.decision.decision))
    proof.findings += [
        Finding(Fault.TWICE, str(part)) for part in _inside(recorded.twice, recorded, since, until)
    ]
    proof.findings += [Finding(Fault.DAMAGED, place) for place in recorded.damaged]
    proof.findings += verdicts.findings
    proof.findings.sort(key=lambda finding: ORDER.index(finding.fault))
    return proof


def _inside(parts: Iterable[PartKey], recorded: Recorded, since: int, until: int) -> list[PartKey]:
    return [p for p in parts if since <= recorded.triggers.get(p, since) < until]


def _part(proof: Proof, part: PartKey, recorded: Recorded, verdicts: Verdicts) -> None:
    entry, seen = recorded.decided.get(part), verdicts.first.get(part)
    if seen is not None:
        proof.verdicts += 1
        proof.by_verdict[seen.decision] += 1
    if entry is None:
        if part in recorded.before:
            proof.earlier += 1
        else:
            proof.findings.append(Finding(Fault.UNDECIDED, str(part)))
        return
    proof.decisions += 1
    decision, reason = entry.decision.decision, entry.decision.reason
    proof.by_decision[decision] += 1
    opened = entry.decision.opened or part in recorded.opened
    proof.opened += opened
    if opened and (seen is None or seen.decision is not Decision.PASS):
        says = "no verdict" if seen is None else f"{seen.decision} in {seen.where}"
        proof.findings.append(Finding(Fault.UNSAFE, str(part), says))
    elif seen is None:
        if reason in _FROM_A_VERDICT:
            says = f"the gate says {decision} ({reason})"
            proof.findings.append(Finding(Fault.NO_VERDICT, str(part), says))
        else:
            proof.alone += 1
    elif reason in _SAYS_THE_SAME and decision is not seen.decision:
        says = f"the gate says {decision}, {seen.where} says {seen.decision}"
        proof.findings.append(Finding(Fault.DIFFERS, str(part), says))
    elif not opened and seen.decision is Decision.PASS:
        proof.late += 1

"""The proof that triggers = decisions = verdicts, and each exception to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from schemas.part import PartKey
from schemas.verdict import Decision
from workers.archive.line import Recorded
from workers.gate.decision import Reason
from workers.gate.lines import OPENED


class Fault(StrEnum):
    """What is wrong about a part, or about a file; every one of them ends the proof."""

    UNDECIDED = "part without decision"
    NO_VERDICT = "decision without verdict"
    UNSAFE = "gate opened without a PASS verdict"
    ABOVE = "PASS with a score above its pass limit"
    DIFFERS = "decision is not the verdict's"
    CONFLICT = "conflicting verdicts"
    DUPLICATE = "verdict filed twice"
    NO_TRIGGER = "verdict without trigger"
    UNKNOWN = "decision without trigger"
    TWICE = "part decided twice"
    UNTOLD = "opening without outcome"
    GONE = "decided in a segment that is gone"
    CHAIN = "journal's chain is broken"
    VERSION = "journal of an earlier version"
    DAMAGED = "damaged line or record"
    ARCHIVE = "archive does not hold"


ORDER = (
    Fault.UNSAFE,
    Fault.ABOVE,
    Fault.CHAIN,
    Fault.UNDECIDED,
    Fault.UNTOLD,
    Fault.GONE,
    Fault.CONFLICT,
    Fault.DIFFERS,
    Fault.TWICE,
    Fault.NO_VERDICT,
    Fault.NO_TRIGGER,
    Fault.UNKNOWN,
    Fault.DUPLICATE,
    Fault.VERSION,
    Fault.DAMAGED,
    Fault.ARCHIVE,
)
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One exception: what, of which part or at which place, and the facts.

    Attributes:
        part: whose it is; None for one of a place.
        at: when the part was captured, nanoseconds since the epoch, where that is known.
    """

    fault: Fault
    where: str
    says: str = ""
    part: PartKey | None = None
    at: int | None = None

    @classmethod
    def of(cls, fault: Fault, part: PartKey, says: str = "", at: int | None = None) -> Finding:
        """About one part."""
        return cls(fault, str(part), says, part, at)


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
    repeated: list[PartKey] = field(default_factory=list)

    def add(self, part: PartKey, seen: Seen, *, once: bool = False) -> None:
        """One more; ``once``: its place promises to hold a part's verdict only once."""
        known = self.first.setdefault(part, seen)
        if known is seen:
            return
        if known.digest != seen.digest:
            says = f"{known.decision} in {known.where}, {seen.decision} in {seen.where}"
            self.findings.append(Finding.of(Fault.CONFLICT, part, says, known.captured_at))
        elif once:
            says = f"{known.where} and {seen.where}"
            self.findings.append(Finding.of(Fault.DUPLICATE, part, says, known.captured_at))
        elif known.where == seen.where:
            self.repeated.append(part)

    def conflict(self, part: PartKey, says: str) -> None:
        """Another verdict, which is known to differ from the first or cannot be shown to be the same."""
        first = self.first.get(part)
        at = None if first is None else first.captured_at
        self.findings.append(Finding.of(Fault.CONFLICT, part, says, at))


@dataclass(slots=True)
class Proof:
    """What was counted, and what is wrong.

    Attributes:
        triggers, decisions, verdicts: of the parts triggered in the window.
        meant: parts that a gate decided to open for.
        opened: those of them for which the actuator confirmed that it opened.
        not_opened: the others, by why: ``behind`` (too late), ``actuator`` (it did not confirm), ``restart``
            (the gate ended in between: nobody knows), ``untold`` (it noted nothing).
        alone: parts that the gate decided without a verdict: none had come when they were in front of it.
        repeated: verdicts on the result topic that say the same again.
        by_verdict, by_decision: of the parts triggered in the window.
        late: parts whose verdict was PASS and for which no opening was confirmed: it came too late, or the
            gate or its actuator did, or the gate was locked.
    """

    triggers: int = 0
    decisions: int = 0
    verdicts: int = 0
    meant: int = 0
    opened: int = 0
    alone: int = 0
    late: int = 0
    repeated: int = 0
    by_verdict: Counter[str] = field(default_factory=Counter)
    by_decision: Counter[str] = field(default_factory=Counter)
    not_opened: Counter[str] = field(default_factory=Counter)
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


_TRAVEL_NS = 3_600 * 10**9
"""A part is decided at most so long after it was triggered, as far as breaks of the chain are looked for."""


def prove(recorded: Recorded, verdicts: Verdicts, since: int, until: int) -> Proof:
    """Compare what the line recorded with the verdicts, for parts triggered in [since, until).

    Args:
        since, until: nanoseconds since the epoch.
    """

    def inside(part: PartKey, at: int | None) -> bool:
        at = recorded.triggers.get(part, at)
        return at is None or since <= at < until

    proof = Proof()
    for part in verdicts.repeated:
        proof.repeated += inside(part, verdicts.first[part].captured_at)
    for part, at in recorded.triggers.items():
        if since <= at < until:
            proof.triggers += 1
            _part(proof, part, recorded, verdicts)
    stations = {part.station for part in recorded.triggers}
    for part, seen in verdicts.first.items():
        mine = since <= seen.captured_at < until and part.station in stations
        if mine and part not in recorded.triggers:
            says = f"{seen.decision} in {seen.where}"
            proof.findings.append(Finding.of(Fault.NO_TRIGGER, part, says, seen.captured_at))
    for part, entry in recorded.decided.items():
        if since <= entry.triggered_at < until and part not in recorded.triggers:
            says = entry.decision.decision.value
            proof.findings.append(Finding.of(Fault.UNKNOWN, part, says, entry.triggered_at))
    for part in recorded.twice:
        at = recorded.decided[part].triggered_at
        if inside(part, at):
            proof.findings.append(Finding.of(Fault.TWICE, part, at=at))
    for found in recorded.breaks:
        if found.touches(since, until + _TRAVEL_NS):
            proof.findings.append(Finding(Fault.CHAIN, found.where, found.says))
    for name, (first, last) in recorded.unchained.items():
        if first < until and last >= since:
            says = "its lines are not numbered: whether one is missing or was changed cannot be told"
            proof.findings.append(Finding(Fault.VERSION, name, says, at=last))
    proof.findings += [Finding(Fault.DAMAGED, place) for place in recorded.damaged]
    proof.findings += [
        finding for finding in verdicts.findings if finding.part is None or inside(finding.part, finding.at)
    ]
    proof.findings.sort(key=lambda finding: ORDER.index(finding.fault))
    return proof


def _part(proof: Proof, part: PartKey, recorded: Recorded, verdicts: Verdicts) -> None:
    entry, seen = recorded.decided.get(part), verdicts.first.get(part)
    outcome = recorded.outcomes.get(part)

    def finding(fault: Fault, says: str = "") -> None:
        proof.findings.append(Finding.of(fault, part, says, recorded.triggers[part]))

    if seen is not None:
        proof.verdicts += 1
        proof.by_verdict[seen.decision] += 1
    confirmed = outcome == OPENED
    if entry is None:
        if part in recorded.before:
            finding(Fault.GONE, "what was decided stood there; a checkpoint knows only that it was")
        else:
            finding(Fault.UNDECIDED, "and the actuator opened for it" if confirmed else "")
        return
    proof.decisions += 1
    decision, reason = entry.decision.decision, entry.decision.reason
    meant = entry.decision.opened
    proof.by_decision[decision] += 1
    proof.opened += confirmed
    proof.meant += meant
    if meant and not confirmed:
        proof.not_opened["untold" if outcome is None else outcome] += 1
    if meant and outcome is None:
        finding(Fault.UNTOLD, "it was to open, and what became of it is not in the journal")
    if confirmed and not meant:
        finding(Fault.UNSAFE, f"the gate decided {decision} ({reason}), and its actuator opened")
    elif (meant or confirmed) and (seen is None or seen.decision is not Decision.PASS):
        # Also where no opening was confirmed: nobody can swear that it stayed shut.
        finding(Fault.UNSAFE, "no verdict" if seen is None else f"{seen.decision} in {seen.where}")
    elif seen is None:
        if reason in _FROM_A_VERDICT:
            finding(Fault.NO_VERDICT, f"the gate says {decision} ({reason})")
        else:
            proof.alone += 1
    elif reason in _SAYS_THE_SAME and decision is not seen.decision:
        finding(Fault.DIFFERS, f"the gate says {decision}, {seen.where} says {seen.decision}")
    elif not confirmed and seen.decision is Decision.PASS:
        proof.late += 1

"""The decision itself: a pure function of what the gate holds, and the one place from which it may open."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import decode_verdict


class Reason(StrEnum):
    """Why the gate did what it did: codes for journals, metrics and people."""

    PASS = "pass"
    MISSING = "missing"
    """No verdict had come when the part was in front of the gate, or the verdict itself says MISSING."""
    LATE = "late"
    """A verdict came, but after the part was due."""
    BEHIND = "behind"
    """The gate itself came too late: the part had left."""
    CLOCK = "clock"
    """The wall clock was set while the part was on its way: nobody knows when it is in front of the gate."""
    REJECT = "reject"
    REVIEW = "review"
    STALE = "stale"
    ERROR = "error"
    OTHER_PART = "other_part"
    """The bytes filed under this part speak of another one."""
    UNREADABLE = "unreadable"
    """The bytes are no valid verdict."""
    ACTUATOR = "actuator"
    """It was to pass, but the actuator did not open."""
    RESTART = "restart"
    """It was to pass, but the gate ended before the actuator had confirmed."""
    CHALLENGE_PART = "challenge_part"
    """A part known to be bad: never let through. Its decision is REJECT when that came in time, else not."""
    CHALLENGE = "challenge"
    """The gate is locked: a challenge part was not rejected, or none was shown for a shift."""
    PRODUCT = "product"
    """It was to pass, but by the PLC's word it is not known to be of the product that it was judged as."""


_CLOSED = {
    Decision.REJECT: Reason.REJECT,
    Decision.REVIEW: Reason.REVIEW,
    Decision.STALE: Reason.STALE,
    Decision.ERROR: Reason.ERROR,
    Decision.MISSING: Reason.MISSING,
}


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What the gate did with one part.

    Attributes:
        opened: whether the gate let it pass.
        decision: ``PASS`` exactly when opened. For a closed gate the verdict's own decision; ``MISSING``
            where no usable verdict was there in time, ``ERROR`` where its bytes or the actuator failed,
            ``STALE`` where the part had left, or may have.
        reason: why.

    Raises:
        ValueError: opened without PASS, or PASS without having opened.
    """

    part: PartKey
    opened: bool
    decision: Decision
    reason: Reason

    def __post_init__(self) -> None:
        if self.opened is not (self.decision is Decision.PASS and self.reason is Reason.PASS):
            raise ValueError(f"part {self.part}: opened={self.opened} with {self.decision}, {self.reason}")


def closed(part: PartKey, decision: Decision, reason: Reason) -> GateDecision:
    """A decision that keeps the gate shut."""
    return GateDecision(part, False, decision, reason)


def decide(
    part: PartKey,
    verdict: bytes | None,
    now: int,
    deadline: int,
    *,
    seen_at: int | None = None,
    hold: int = 0,
) -> GateDecision:
    """Decide about the part in front of the gate.

    It opens only for bytes that decode to a ``Verdict`` (whose reader refuses a PASS without its proof) of
    this very part, whose decision is PASS, seen at or before ``deadline``, while the part is still there.

    Args:
        part: the part in front of the gate.
        verdict: the standing verdict's bytes, or None where the gate holds none.
        now: the moment of this decision; integer nanoseconds since the epoch, as all times here.
        deadline: when the part is in front of the gate; a verdict seen later never opens.
        seen_at: when the gate first held those bytes; ``now`` where not given.
        hold: nanoseconds after the deadline during which the part is still in front of the gate, so that a
            gate that wakes a moment late can still let it pass.
    """
    if verdict is None:
        return closed(part, Decision.MISSING, Reason.MISSING)
    try:
        found = decode_verdict(verdict)
    except SchemaError:
        return closed(part, Decision.ERROR, Reason.UNREADABLE)
    if found.part != part:
        return closed(part, Decision.ERROR, Reason.OTHER_PART)
    if found.decision is not Decision.PASS:
        return closed(part, found.decision, _CLOSED[found.decision])
    if (now if seen_at is None else seen_at) > deadline:
        return closed(part, Decision.MISSING, Reason.LATE)
    if now > deadline + hold:
        return closed(part, Decision.STALE, Reason.BEHIND)
    return GateDecision(part, True, Decision.PASS, Reason.PASS)

"""What the journal knows of challenge parts: a fold over its lines, so that a restart forgets nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.part import PartKey
from schemas.verdict import Decision
from workers.gate.decision import Reason
from workers.gate.lines import Entry, Mark

SINCE = "challenges_since"
"""Mark: from here on the station owes a challenge every shift."""
ARMED = "challenge_armed"
EXPIRED = "challenge_expired"
OVERDUE = "challenge_overdue"
"""Mark: no challenge was rejected for a shift and its grace; the gate locks."""

FAILED = "failed"
LATE = "overdue"
"""Why a gate is locked."""


@dataclass(slots=True)
class Arm:
    """The next parts are challenge parts.

    Attributes:
        id: of the set.
        parts: how many.
        at, until: parts triggered between these belong to it; integer nanoseconds since the epoch.
        taken, rejected: how many were seen, and how many of these were rejected.
        failed: one of them was not.
    """

    id: str
    parts: int
    at: int
    until: int
    taken: int = 0
    rejected: int = 0
    failed: bool = False


@dataclass(slots=True)
class ChallengeState:
    """Where a station stands.

    Attributes:
        since: when challenges began to be owed, or None where they never were.
        passed_at: the last challenge that was rejected as it should be.
        locked: why the gate lets nothing through, or None.
        arm: what an operator asked for and is not finished.
        armed_id: the last set that was armed; one that is told of again is not armed again.
        pending: challenge parts not decided yet, with the set of each.
    """

    since: int | None = None
    passed_at: int | None = None
    locked: str | None = None
    arm: Arm | None = None
    armed_id: str | None = None
    pending: dict[PartKey, str] = field(default_factory=dict)

    def mark(self, mark: Mark) -> None:
        """Take in a mark; those of other things change nothing."""
        if mark.kind == SINCE:
            self.since = mark.at if self.since is None else self.since
        elif mark.kind == ARMED:
            facts = mark.facts
            self.arm = Arm(str(facts["id"]), int(facts["parts"]), mark.at, int(facts["until"]))
            self.armed_id = self.arm.id
        elif mark.kind == EXPIRED:
            self.arm = None
        elif mark.kind == OVERDUE and self.locked is None:
            self.locked = LATE

    def designated(self, part: PartKey, name: str) -> None:
        """This part is a challenge part of the set ``name``."""
        if part in self.pending:
            return
        self.pending[part] = name
        if self.arm is not None and self.arm.id == name:
            self.arm.taken += 1

    def decided(self, entry: Entry) -> None:
        """Take in a decision; only those of challenge parts count.

        A single failure locks. A set of several proves something only when all of it was rejected, and a part
        of a set that another one has replaced proves nothing.
        """
        if entry.decision.reason is not Reason.CHALLENGE_PART:
            return
        name = self.pending.pop(entry.part, "")
        good = entry.decision.decision is Decision.REJECT
        arm = self.arm
        proven = good and not name
        if arm is not None and arm.id == name:
            arm.rejected += good
            arm.failed |= not good
            proven = not arm.failed and arm.rejected == arm.parts
            if arm.taken >= arm.parts and name not in self.pending.values():
                self.arm = None
        if not good:
            self.locked = FAILED
        elif proven:
            self.locked = None
            self.passed_at = entry.decided_at

    def to_json(self) -> dict[str, Any]:
        """The state as a map that travels."""
        return {
            "since": self.since,
            "passed_at": self.passed_at,
            "locked": self.locked,
            "arm": None if self.arm is None else asdict(self.arm),
            "armed_id": self.armed_id,
            "pending": {str(part): name for part, name in self.pending.items()},
        }

    def restore(self, raw: Mapping[str, Any]) -> None:
        """Become what ``to_json`` gave. Raises KeyError, TypeError, ValueError or SchemaError."""
        arm = raw["arm"]
        pending = {PartKey.parse(part): str(name) for part, name in raw["pending"].items()}
        self.arm = None if arm is None else Arm(**arm)
        self.since, self.passed_at, self.locked = raw["since"], raw["passed_at"], raw["locked"]
        self.armed_id = raw["armed_id"]
        self.pending = pending

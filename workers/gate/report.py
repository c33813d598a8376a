"""What a gate counts, and the check of its journal against the trigger log of the line."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.regular import read_regular
from schemas.verdict import Decision
from workers.errors import SourceError
from workers.gate.decision import GateDecision, Reason
from workers.gate.journal import ACTUATED, OPENED, Entry, Mark, Note, read_lines
from workers.gate.segments import journal_segments, log_segments

_LATENCIES = 100_000


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of unsorted values, or None for none of them; ``share`` from 0 to 1."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -int(-share * len(ranked) // 1) - 1))]


@dataclass(frozen=True, slots=True)
class GateReport:
    """The counts of one gate process.

    Attributes:
        triggers: parts seen by the photo-eye and not decided by an earlier process.
        decisions: of these, how many have their decision on disk.
        waiting: of these, how many are still on their way.
        opened: decisions after which the actuator confirmed that it opened.
        by_decision, by_reason: final decisions.
        repeated: arrivals of parts that were known already.
        late_verdicts: verdicts that came after the gate had closed for want of them.
        unwritten: MISSING verdicts that the store has not got yet.
        alarms: how often each alarm was raised.
        latency_ms: p50, p95, p99, max from trigger to verdict held, of the last 100,000 parts with one.
        actuator_ms: the same from the moment that the gate could open (an early gate: the verdict held; else:
            the part due) to the actuator's confirmation.
        round_trip_ms: the same of the actuator alone, from the word to its confirmation.
        challenges_passed, challenges_failed: challenge parts that were rejected, and that were not.
        locked: why the gate lets nothing through, or None.
        unseen: parts that the PLC has counted and the gate has not seen.
        untold: parts that the agent numbered, or that have verdicts, and that its log did not tell of.
    """

    station: str
    triggers: int
    decisions: int
    waiting: int
    opened: int
    by_decision: dict[str, int]
    by_reason: dict[str, int]
    repeated: int
    late_verdicts: int
    unwritten: int
    alarms: dict[str, int]
    latency_ms: dict[str, float | None]
    actuator_ms: dict[str, float | None] = field(default_factory=dict)
    round_trip_ms: dict[str, float | None] = field(default_factory=dict)
    challenges_passed: int = 0
    challenges_failed: int = 0
    locked: str | None = None
    unseen: int = 0
    untold: int = 0

    @property
    def lost(self) -> int:
        """Triggers without a decision. Those on their way count: read it after the last part has passed."""
        return self.triggers - self.decisions

    def to_json(self) -> dict[str, Any]:
        """The report with stable keys."""
        return {
            "station": self.station,
            "triggers": self.triggers,
            "decisions": self.decisions,
            "waiting": self.waiting,
            "lost": self.lost,
            "opened": self.opened,
            "by_decision": dict(self.by_decision),
            "by_reason": dict(self.by_reason),
            "repeated": self.repeated,
            "late_verdicts": self.late_verdicts,
            "unwritten": self.unwritten,
            "alarms": dict(self.alarms),
            "latency_ms": dict(self.latency_ms),
            "actuator_ms": dict(self.actuator_ms),
            "round_trip_ms": dict(self.round_trip_ms),
            "challenges_passed": self.challenges_passed,
            "challenges_failed": self.challenges_failed,
            "locked": self.locked,
            "unseen": self.unseen,
            "untold": self.untold,
        }


@dataclass(frozen=True, slots=True)
class GateState:
    """How a gate is at one moment.

    Attributes:
        triggers, by_decision, alarms, locked: as in ``GateReport``.
        actuator: whether it answers.
        down: why the ``journal`` cannot be written and the ``source`` not be trusted; None where they can.
    """

    triggers: int
    by_decision: Mapping[str, int]
    alarms: Mapping[str, int]
    locked: str | None
    actuator: bool
    down: Mapping[str, str | None]


@dataclass(slots=True)
class GateCounts:
    """What the gate adds up while it runs."""

    triggers: int = 0
    decisions: int = 0
    opened: int = 0
    repeated: int = 0
    by_decision: Counter[str] = field(default_factory=Counter)
    by_reason: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    challenges_passed: int = 0
    challenges_failed: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    actuator: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    round_trip: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))

    def state(self, *, locked: str | None, actuator: bool, down: Mapping[str, str | None]) -> GateState:
        """With what the gate knows beside its counts."""
        return GateState(self.triggers, dict(self.by_decision), dict(self.alarms), locked, actuator, down)

    def decided(self, final: GateDecision, entry: Entry) -> None:
        """Count one decision after its actuation."""
        self.decisions += 1
        self.opened += final.opened
        self.by_decision[final.decision.value] += 1
        self.by_reason[final.reason.value] += 1
        if entry.seen_at is not None:
            self.latencies.append((entry.seen_at - entry.triggered_at) / 1e6)
        if final.reason is Reason.CHALLENGE_PART:
            good = final.decision is Decision.REJECT
            self.challenges_passed += good
            self.challenges_failed += not good

    def confirmed(self, since_ms: float, round_trip_ms: float) -> None:
        """The actuator confirmed that it opened, so long after it could have, and after its own word."""
        self.actuator.append(since_ms)
        self.round_trip.append(round_trip_ms)


def percentiles(values: Iterable[float]) -> dict[str, float | None]:
    """p50, p95, p99 and max."""
    found = list(values)
    return {
        "p50": percentile(found, 0.50),
        "p95": percentile(found, 0.95),
        "p99": percentile(found, 0.99),
        "max": max(found, default=None),
    }


@dataclass(frozen=True, slots=True)
class Audit:
    """A trigger log against a gate's journal, across every restart of either.

    Attributes:
        triggers: different parts in the trigger log.
        decisions: different parts in the journal.
        lost: parts triggered and never decided.
        duplicates: parts decided more than once.
        unknown: parts decided that no trigger speaks of.
        opened: parts for which the actuator confirmed that it opened.
        decided: what the journal says of each part.
        damaged_lines: complete lines of either file that cannot be read.
        challenges: the decisions about challenge parts; one that is not REJECT locked the gate.
        marks: what befell the station: challenges armed, expired, overdue.
    """

    triggers: int
    decisions: int
    lost: tuple[PartKey, ...]
    duplicates: tuple[PartKey, ...]
    unknown: tuple[PartKey, ...]
    opened: tuple[PartKey, ...]
    decided: dict[PartKey, Entry]
    damaged_lines: int
    challenges: tuple[Entry, ...] = ()
    marks: tuple[Mark, ...] = ()


def _data(segments: Sequence[Path], path: Path, what: str) -> Iterator[bytes]:
    try:
        for segment in segments or [path]:
            yield read_regular(segment)
    except OSError as error:
        raise SourceError(f"{what} {path}: {error.strerror}; name the file that was written") from None


def audit(triggers: Path, journal: Path, *, station: str | None = None) -> Audit:
    """Compare the agent's log with the gate's journal, each with all its rotated files.

    Args:
        triggers: a capture agent's log.
        journal: a gate's journal.
        station: only this station's triggers; None for all.

    Raises:
        SourceError: a file cannot be read.
    """
    seen: dict[PartKey, None] = {}
    damaged = 0
    for data in _data(log_segments(triggers), triggers, "trigger log"):
        for line in data.split(b"\n")[:-1]:
            try:
                raw = json.loads(line)
                if raw["event"] == "trigger":
                    part = PartKey.parse(raw["part"])
                    if station is None or part.station == station:
                        seen[part] = None
            except (ValueError, KeyError, TypeError, RecursionError, SchemaError):
                damaged += bool(line.strip())
    decided: dict[PartKey, Entry] = {}
    twice: list[PartKey] = []
    opened: list[PartKey] = []
    marks: list[Mark] = []
    for data in _data(journal_segments(journal), journal, "gate journal"):
        for item in read_lines(data):
            match item:
                case None:
                    damaged += 1
                case Note(part, kind, value) if kind == ACTUATED and value == OPENED:
                    opened.append(part)
                case Mark():
                    marks.append(item)
                case Entry() if item.part in decided:
                    twice.append(item.part)
                case Entry():
                    decided[item.part] = item
    return Audit(
        triggers=len(seen),
        decisions=len(decided),
        lost=tuple(part for part in seen if part not in decided),
        duplicates=tuple(twice),
        unknown=tuple(part for part in decided if part not in seen),
        opened=tuple(opened),
        decided=decided,
        damaged_lines=damaged,
        challenges=tuple(e for e in decided.values() if e.decision.reason is Reason.CHALLENGE_PART),
        marks=tuple(marks),
    )

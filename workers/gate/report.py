"""What a gate counts, and the check of its journal against the trigger log of the line."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import SchemaError
from schemas.part import PartKey
from workers.errors import SourceError
from workers.gate.decision import GateDecision
from workers.gate.journal import ACTUATED, Entry, Note, read_lines

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
        }


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
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))

    def decided(self, final: GateDecision, entry: Entry) -> None:
        """Count one decision after its actuation."""
        self.decisions += 1
        self.opened += final.opened
        self.by_decision[final.decision.value] += 1
        self.by_reason[final.reason.value] += 1
        if entry.seen_at is not None:
            self.latencies.append((entry.seen_at - entry.triggered_at) / 1e6)

    def latency_ms(self) -> dict[str, float | None]:
        """Percentiles of trigger to verdict held, in milliseconds."""
        values = list(self.latencies)
        return {
            "p50": percentile(values, 0.50),
            "p95": percentile(values, 0.95),
            "p99": percentile(values, 0.99),
            "max": max(values, default=None),
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
    """

    triggers: int
    decisions: int
    lost: tuple[PartKey, ...]
    duplicates: tuple[PartKey, ...]
    unknown: tuple[PartKey, ...]
    opened: tuple[PartKey, ...]
    decided: dict[PartKey, Entry]
    damaged_lines: int


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{what} {path}: {error.strerror}; name the file that was written") from None


def audit(triggers: Path, journal: Path, *, station: str | None = None) -> Audit:
    """Compare the agent's log with the gate's journal.

    Args:
        triggers: a capture agent's log.
        journal: a gate's journal.
        station: only this station's triggers; None for all.

    Raises:
        SourceError: a file cannot be read.
    """
    seen: dict[PartKey, None] = {}
    damaged = 0
    for line in _read(triggers, "trigger log").split(b"\n")[:-1]:
        try:
            raw = json.loads(line)
            if raw["event"] == "trigger":
                part = PartKey.parse(raw["part"])
                if station is None or part.station == station:
                    seen[part] = None
        except (ValueError, KeyError, TypeError, SchemaError):
            damaged += bool(line.strip())
    decided: dict[PartKey, Entry] = {}
    twice: list[PartKey] = []
    opened: list[PartKey] = []
    for item in read_lines(_read(journal, "gate journal")):
        if item is None:
            damaged += 1
        elif isinstance(item, Note):
            if item.kind == ACTUATED and item.value == "opened":
                opened.append(item.part)
        elif item.part in decided:
            twice.append(item.part)
        else:
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
    )

"""What is left of a line after its faults, held against its promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_verdict
from tests.e2e.topics import records_of
from tests.faults.crew import Resources
from tests.faults.rig import Injection, Line
from tests.faults.shots import Stamp
from workers.bus.base import Record
from workers.gate import Audit, audit
from workers.gate.decision import Reason
from workers.gate.report import percentile

CLOSED_FOR_TIME = {Reason.MISSING, Reason.LATE, Reason.BEHIND, Reason.CLOCK, Reason.RESTART}
"""The gate was shut because nothing was there in time, whatever came to stand in Redis afterwards."""
RSS_GROWTH_MB = 150.0
"""A worker that catches up with a backlog takes some 110 MB more than one that just started, once."""
FD_GROWTH = 6


@dataclass(slots=True, kw_only=True)
class Row:
    """One row of the fault table.

    Attributes:
        lost: triggers without a decision at the gate, or with more than one.
        repeated: verdict records on the topic beyond the first of their part.
        conflicting: parts with two different answers: on the topic, between topic and Redis, or at the gate.
        reworded: parts answered twice with the same decision in different bytes (Redis had lost the first).
        unsafe: opened without a PASS that a model run stands behind, or opened for a part known to be bad.
        unordered: first verdicts of a station that came after a later part's.
        offsets_back: commits that moved an offset back.
        recovery_s: per fault and station.
        before, after: what a worker took.
    """

    fault: str
    times: int = 0
    parts: int = 0
    real: bool = False
    seconds: float = 0.0
    lost: int = 0
    repeated: int = 0
    conflicting: int = 0
    reworded: int = 0
    unsafe: int = 0
    unordered: int = 0
    offsets_back: int = 0
    unwarranted: int = 0
    recovery_s: list[float] = field(default_factory=list)
    before: Resources | None = None
    after: Resources | None = None
    decisions: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failed: str | None = None

    @property
    def p50(self) -> float | None:
        """Median recovery, seconds."""
        return percentile(self.recovery_s, 0.5)

    @property
    def worst(self) -> float | None:
        """Longest recovery, seconds."""
        return max(self.recovery_s, default=None)

    @property
    def resources_back(self) -> bool:
        """Whether no worker takes much more than before the first fault."""
        if self.before is None or self.after is None:
            return True
        grown = self.after.rss_mb - self.before.rss_mb
        return grown <= RSS_GROWTH_MB and self.after.fds - self.before.fds <= FD_GROWTH

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        broken = (
            self.lost + self.conflicting + self.unsafe + self.unordered + self.offsets_back + self.unwarranted
        )
        return broken == 0 and self.failed is None and self.resources_back

    def to_json(self) -> dict[str, Any]:
        """Stable keys, with the percentiles."""
        return asdict(self) | {
            "recovery_p50_s": self.p50,
            "recovery_max_s": self.worst,
            "resources_back": self.resources_back,
            "kept": self.kept,
        }


def check(line: Line, row: Row, *, data_lost: bool = False) -> Row:
    """Fill a row from what the line has left behind.

    Args:
        data_lost: Redis was emptied: a part may be judged anew, and its key may be gone.
    """
    records = sorted(records_of(line.bus, line.verdicts), key=lambda r: (r.partition, r.offset))
    on_topic: dict[PartKey, list[bytes]] = {}
    row.unordered += _unordered(records, line)
    for record in records:
        on_topic.setdefault(decode_verdict(record.value).part, []).append(record.value)
    parts = list(line.traffic.parts)
    standing = dict(zip(parts, line.store.standing_many(parts), strict=True))
    decisions: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for station in sorted(line.stations):
        found = audit(line.agent_log(station), line.journal(station), station=station)
        row.lost += len(found.lost) + len(found.duplicates) + len(found.unknown) + found.damaged_lines
        row.unsafe += _unsafe(found, on_topic, standing, line.traffic.parts, row)
        for part, entry in found.decided.items():
            decisions[entry.decision.decision.value] += 1
            reasons[entry.decision.reason.value] += 1
            _compare(part, entry.decision.decision, entry.decision.reason, on_topic, standing, row, data_lost)
            excused = part in line.exempt or line.excused_failures
            if entry.decision.decision in (Decision.MISSING, Decision.ERROR, Decision.STALE) and not excused:
                _say(row, f"{part}: {entry.decision.decision.value} ({entry.decision.reason.value})")
                row.unwarranted += 1
    row.parts = len(parts)
    row.repeated = sum(len(values) - 1 for values in on_topic.values())
    row.decisions, row.reasons = dict(decisions), dict(reasons)
    row.times = len(line.injections)
    row.kinds = dict(Counter(injection.what for injection in line.injections))
    first = _first_of_all(records)
    row.recovery_s = [s for injection in line.injections for s in _recoveries(line, injection, first)]
    row.offsets_back = len(line.offsets.back)
    for moved in line.offsets.back[:3]:
        _say(row, f"offset back, {moved}")
    row.notes.extend(line.notes)
    return row


def _first_of_all(records: list[Record]) -> list[Verdict]:
    """The first verdict of each part, in the order in which they were decided."""
    found: dict[PartKey, Verdict] = {}
    for record in records:
        verdict = decode_verdict(record.value)
        found.setdefault(verdict.part, verdict)
    return sorted(found.values(), key=lambda verdict: verdict.decided_at)


def _recoveries(line: Line, injection: Injection, verdicts: list[Verdict]) -> list[float]:
    """Seconds from a fault to the first verdict of each station that it hit.

    Where a worker is gone: to the first verdict that another made. Else to the first one, as the gate sees
    it, of a part that was triggered after the fault, behind whatever had piled up by then; where something
    was away, from the moment when it was back.
    """
    found = []
    begin = line.ended.get(injection, injection.at)
    for station in injection.stations:
        if injection.victim is None:
            seen = line.answered_since(injection.at, station)
        else:
            seen = next(
                (
                    v.decided_at
                    for v in verdicts
                    if v.part.station == station and v.decided_at > injection.at and another(v, injection)
                ),
                None,
            )
        if seen is not None:
            found.append(max(0, seen - begin) / 1e9)
    return found


def another(verdict: Verdict, injection: Injection) -> bool:
    """Whether a worker other than the victim made this verdict; a gate's own MISSING is nobody's takeover."""
    return verdict.worker != injection.victim and not verdict.worker.startswith("gate:")


def _say(row: Row, what: str) -> None:
    if len(row.notes) < 12:
        row.notes.append(what)


def _unordered(records: list[Record], line: Line) -> int:
    """First verdicts that came after the first verdict of a later part of their station."""
    newest: dict[str, tuple[int, int]] = {}
    seen: set[PartKey] = set()
    wrong = 0
    for record in records:
        part = decode_verdict(record.value).part
        if part in seen:
            continue
        seen.add(part)
        if part.order < newest.get(part.station, (-1, -1)):
            wrong += 1
            if wrong <= 3:
                line.notes.append(f"out of order: {part} after {newest[part.station][1]}")
        newest[part.station] = max(part.order, newest.get(part.station, (-1, -1)))
    return wrong


def _proved(verdict: Verdict) -> bool:
    """Whether a model run stands behind a PASS."""
    return (
        verdict.decision is Decision.PASS
        and verdict.score is not None
        and verdict.threshold is not None
        and verdict.score <= verdict.threshold
        and bool(verdict.bundle_hash)
        and bool(verdict.branches)
    )


def _unsafe(
    found: Audit,
    on_topic: Mapping[PartKey, list[bytes]],
    standing: Mapping[PartKey, bytes | None],
    stamps: Mapping[PartKey, Stamp],
    row: Row,
) -> int:
    unsafe = 0
    for part in found.opened:
        known = [*on_topic.get(part, ()), *((standing[part] or b"",) if standing.get(part) else ())]
        proofs = [decode_verdict(value) for value in known if value]
        if not any(map(_proved, proofs)):
            _say(row, f"unsafe: {part} passed without a model's PASS")
            unsafe += 1
        if stamps.get(part) is Stamp.BAD:
            _say(row, f"unsafe: {part} is bad and passed")
            unsafe += 1
    for part, values in on_topic.items():
        for value in values:
            verdict = decode_verdict(value)
            if part.station == _station(found) and verdict.decision is Decision.PASS and not _proved(verdict):
                _say(row, f"unsafe: {part} has a PASS without a model run")
                unsafe += 1
    return unsafe


def _station(found: Audit) -> str | None:
    return next((part.station for part in found.decided), None)


def _compare(
    part: PartKey,
    decision: Decision,
    reason: Reason,
    on_topic: Mapping[PartKey, list[bytes]],
    standing: Mapping[PartKey, bytes | None],
    row: Row,
    data_lost: bool,
) -> None:
    """Count a part whose answers differ."""
    values = on_topic.get(part, [])
    kept = standing.get(part)
    everywhere = set(values) | ({kept} if kept is not None else set())
    told = {decode_verdict(value).decision for value in everywhere}
    if len(everywhere) > 1 and (len(told) > 1 or not data_lost):
        _say(row, f"conflict: {part} has {sorted(d.value for d in told)} in {len(everywhere)} wordings")
        row.conflicting += 1
    elif len(everywhere) > 1:
        row.reworded += 1
    elif told and decision not in told and reason not in CLOSED_FOR_TIME:
        _say(row, f"conflict: gate {decision.value} ({reason.value}), verdict {sorted(told)} of {part}")
        row.conflicting += 1
    elif not told and decision not in (Decision.MISSING,) and not data_lost:
        _say(row, f"conflict: gate {decision.value}, and no verdict anywhere of {part}")
        row.conflicting += 1

"""The lines of a gate's journal: JSON, each with the CRC-32C of its text behind it: ``{...} #1a2b3c4d``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import crc32c

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.verdict import Decision
from workers.gate.decision import GateDecision, Reason

ACTUATED = "actuated"
RECORDED = "recorded"
"""Note: the MISSING verdict is in the store."""
CHALLENGE = "challenge"
"""Note: this part is a challenge part, of the set that its value names."""

_TAG = b" #"
_DECISION, _CARRIED, _SPAN, _HEAD, _MARK = "decision", "carried", "decided", "segment", "mark"


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision as it stands in the journal.

    Attributes:
        decision: what was decided.
        triggered_at, due, decided_at: integer nanoseconds since the epoch.
        seen_at: when the verdict was first held, or None.
    """

    decision: GateDecision
    triggered_at: int
    due: int
    decided_at: int
    seen_at: int | None = None

    @property
    def part(self) -> PartKey:
        """Whose decision it is."""
        return self.decision.part


@dataclass(frozen=True, slots=True)
class Note:
    """What belongs to a part, beside its decision: ``ACTUATED``, ``RECORDED``, ``CHALLENGE``."""

    part: PartKey
    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something of the station and not of one part.

    Attributes:
        kind: what.
        at: integer nanoseconds since the epoch.
        facts: what belongs to it.
    """

    kind: str
    at: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """The first line of a segment that follows another one.

    Attributes:
        number: how many segments came before it.
        lines: how many lines behind this one belong to the checkpoint.
        challenges: the state of the challenge parts.
    """

    number: int
    lines: int
    challenges: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """Checkpoint: the triggers of one run that earlier segments decided, as first and last of each range."""

    station: str
    run: int
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Carried:
    """Checkpoint: a decision of an earlier segment whose ``ACTUATED`` or ``RECORDED`` was still to come."""

    entry: Entry
    awaits: str


Item = Entry | Note | Mark | Head | Span | Carried


def encode(items: Iterable[Item]) -> bytes:
    """The lines, each with its newline."""
    return b"".join(_line(item) for item in items)


def _line(item: Item) -> bytes:
    text = json.dumps(_to_body(item), separators=(",", ":")).encode("ascii")
    return text + _TAG + b"%08x\n" % crc32c.crc32c(text)


def _to_body(item: Item) -> dict[str, object]:
    match item:
        case Entry():
            return {"line": _DECISION, **_entry_body(item)}
        case Note():
            return {"line": item.kind, "part": str(item.part), "value": item.value}
        case Mark():
            return {"line": _MARK, "kind": item.kind, "at": item.at, "facts": dict(item.facts)}
        case Head():
            facts = {"number": item.number, "lines": item.lines, "challenges": dict(item.challenges)}
            return {"line": _HEAD, **facts}
        case Span():
            return {"line": _SPAN, "station": item.station, "run": item.run, "ranges": item.ranges}
        case Carried():
            return {"line": _CARRIED, "awaits": item.awaits, **_entry_body(item.entry)}


def _entry_body(entry: Entry) -> dict[str, object]:
    return {
        "part": str(entry.part),
        "opened": entry.decision.opened,
        "decision": entry.decision.decision.value,
        "reason": entry.decision.reason.value,
        "triggered_at": entry.triggered_at,
        "due": entry.due,
        "at": entry.decided_at,
        "seen_at": entry.seen_at,
    }


def read_lines(data: bytes) -> Iterator[Item | None]:
    """Every complete line of a journal; None for a damaged one. A last line without newline is not given."""
    for line in data.split(b"\n")[:-1]:
        text, tag, check = line.rpartition(_TAG)
        if not tag or check != b"%08x" % crc32c.crc32c(text):
            yield None
            continue
        try:
            yield _from_body(json.loads(text))
        except (KeyError, TypeError, ValueError, RecursionError, SchemaError):
            yield None


def _from_body(body: dict[str, Any]) -> Item:
    match body["line"]:
        case "decision":
            return _to_entry(body)
        case "carried":
            return Carried(_to_entry(body), str(body["awaits"]))
        case "decided":
            ranges = tuple((_integer(first), _integer(last)) for first, last in body["ranges"])
            return Span(str(body["station"]), _integer(body["run"]), ranges)
        case "segment":
            return Head(_integer(body["number"]), _integer(body["lines"]), dict(body["challenges"]))
        case "mark":
            return Mark(str(body["kind"]), _integer(body["at"]), dict(body["facts"]))
        case kind:
            return Note(PartKey.parse(str(body["part"])), str(kind), str(body["value"]))


def _to_entry(body: dict[str, Any]) -> Entry:
    seen = body.get("seen_at")
    decision = GateDecision(
        PartKey.parse(str(body["part"])),
        body["opened"] is True,
        Decision(str(body["decision"])),
        Reason(str(body["reason"])),
    )
    triggered_at, due, decided_at = (_integer(body[name]) for name in ("triggered_at", "due", "at"))
    return Entry(decision, triggered_at, due, decided_at, None if seen is None else _integer(seen))


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError(value)
    return value

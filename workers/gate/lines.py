"""The lines of a gate's journal: JSON, each with the CRC-32C of its text behind it: ``{...} #1a2b3c4d``.

``n`` numbers the lines over all segments and ``prev`` is the digest of the line before
(``workers.gate.chain``). Journals of earlier versions have neither.
"""

from __future__ import annotations

import hashlib
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
OPENED = "opened"
"""Value of an ``ACTUATED`` note: the actuator confirmed that it opened. Other values say why it did not."""
RECORDED = "recorded"
"""Note: the MISSING verdict is in the store."""
CHALLENGE = "challenge"
"""Note: this part is a challenge part, of the set that its value names."""

TAG = b" #"
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


@dataclass(frozen=True, slots=True)
class Tip:
    """A line's number and a digest: its own for the last of a chain; in a link that of the line before."""

    n: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it stands in a file.

    Attributes:
        item: None where it is damaged.
        link: its number, and the digest that it gives of the line before; None where it has none.
        digest: its own.
    """

    item: Item | None
    link: Tip | None
    digest: str


def line_digest(line: bytes) -> str:
    """What the next line says of this one; ``line`` without its newline."""
    return hashlib.sha256(line).hexdigest()[:32]


def encode(items: Iterable[Item], tip: Tip) -> tuple[bytes, Tip]:
    """The lines behind ``tip``, each with its newline, and the last of them."""
    lines = []
    for item in items:
        body = {"n": tip.n + 1, "prev": tip.digest, **_to_body(item)}
        text = json.dumps(body, separators=(",", ":")).encode("ascii")
        line = text + TAG + b"%08x" % crc32c.crc32c(text)
        tip = Tip(tip.n + 1, line_digest(line))
        lines.append(line + b"\n")
    return b"".join(lines), tip


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
    return (line.item for line in read_chained(data))


def read_chained(data: bytes) -> Iterator[Line]:
    """Every complete line of a journal with its place in the chain."""
    for raw in data.split(b"\n")[:-1]:
        item, link = _read(raw)
        yield Line(item, link, line_digest(raw))


def _read(line: bytes) -> tuple[Item | None, Tip | None]:
    text, tag, check = line.rpartition(TAG)
    if not tag or check != b"%08x" % crc32c.crc32c(text):
        return None, None
    try:
        body = json.loads(text)
        link = Tip(_integer(body["n"]), str(body["prev"])) if "n" in body else None
        return _from_body(body), link
    except (KeyError, TypeError, ValueError, RecursionError, SchemaError):
        return None, None


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

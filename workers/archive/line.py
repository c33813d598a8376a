"""What the line itself recorded: the triggers of its agents and the journals of its gates."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.regular import read_regular
from workers.archive.ranges import PartRanges
from workers.errors import SourceError
from workers.gate.chain import Break, Chain, follow, unpack_mark
from workers.gate.journal import FILE
from workers.gate.lines import ACTUATED, Entry, Line, Mark, Note, Span, read_chained
from workers.gate.segments import identity, journal_segments, log_segments

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """How far one journal's chain reaches.

    Attributes:
        path: the journal.
        first, last: numbers of its lines; ``first`` is None where none has one.
        digest: of its last line: whoever keeps it can tell later whether the journal was written anew.
        unlocked: its lock file is gone, and with it what would miss a tail that was cut off.
        told: what befell its file while a gate held it, in words.
    """

    path: Path
    first: int | None
    last: int
    digest: str
    unlocked: bool
    told: tuple[str, ...] = ()


@dataclass(slots=True)
class Recorded:
    """Everything that logs and journals say.

    Attributes:
        triggers: when each part was seen, nanoseconds since the epoch.
        decided: the first decision about each part.
        twice: parts decided more than once.
        outcomes: what the gate noted of the actuator for a part, the first one: ``opened`` or why not.
        before: parts decided in segments of a journal that are no longer kept.
        damaged: complete lines that cannot be read, as FILE:LINE.
        breaks: where a journal's chain does not hold.
        unchained: of files that were written before there was a chain, the name and the times of the first
            and the last trigger decided in them.
        journals: how far each reaches.
    """

    triggers: dict[PartKey, int] = field(default_factory=dict)
    decided: dict[PartKey, Entry] = field(default_factory=dict)
    twice: list[PartKey] = field(default_factory=list)
    outcomes: dict[PartKey, str] = field(default_factory=dict)
    before: PartRanges = field(default_factory=PartRanges)
    damaged: list[str] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    unchained: dict[str, tuple[int, int]] = field(default_factory=dict)
    journals: list[Evidence] = field(default_factory=list)


def read_line(triggers: Sequence[Path], journals: Sequence[Path]) -> Recorded:
    """Read logs and journals, each with the files it was rotated into.

    Raises:
        SourceError: a file cannot be read.
    """
    found = Recorded()
    for path in triggers:
        for file, data in _data(log_segments(path), path, "trigger log"):
            _read_triggers(found, file, data)
    for path in journals:
        _read_journal(found, path)
    return found


def _data(segments: Sequence[Path], path: Path, what: str) -> Iterator[tuple[Path, bytes]]:
    try:
        for segment in segments or [path]:
            yield segment, read_regular(segment)
    except OSError as error:
        raise SourceError(f"{what} {path}: {error.strerror}; name the file that was written") from None


def _read_triggers(found: Recorded, file: Path, data: bytes) -> None:
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            if raw["event"] == "trigger":
                found.triggers.setdefault(PartKey.parse(raw["part"]), int(raw["at"]))
        except (ValueError, KeyError, TypeError, RecursionError, SchemaError):
            found.damaged.append(f"{file.name}:{number}")


def _segments(path: Path) -> list[tuple[Path, list[Line]]]:
    """All segments in the order of their lines: another program may have numbered them its own way."""
    for _ in range(_TRIES):
        files = journal_segments(path)
        before = [identity(file.stat()) for file in files if file.exists()]
        read = [(file, list(read_chained(data))) for file, data in _data(files, path, "gate journal")]
        if [identity(file.stat()) for file in journal_segments(path)] == before:
            break  # else a gate has begun a new segment meanwhile

    def place(segment: tuple[Path, list[Line]]) -> tuple[bool, int]:
        link = next((line.link for line in segment[1] if line.link is not None), None)
        return (False, 0) if link is None else (True, link.n)

    return sorted(read, key=place)


def _read_journal(found: Recorded, path: Path) -> None:
    # What the lock file knows is read first: a gate may be writing.
    lock = path.with_name(path.name + ".lock")
    mark = unpack_mark(lock.read_bytes()) if lock.exists() else None
    chain = Chain(mark)
    told: list[str] = []
    for file, lines in _segments(path):
        before = chain.first
        for where, item in follow(iter(lines), file.name, chain):
            match item:
                case None:
                    found.damaged.append(where)
                case Note(part, kind, value) if kind == ACTUATED:
                    found.outcomes.setdefault(part, value)
                case Entry() if item.part in found.decided:
                    found.twice.append(item.part)
                case Entry():
                    found.decided[item.part] = item
                    if before is None and chain.first is None:
                        first, last = found.unchained.get(file.name, (item.triggered_at, 0))
                        span = min(first, item.triggered_at), max(last, item.triggered_at)
                        found.unchained[file.name] = span
                case Span(station, run, ranges):
                    for begin, end in ranges:
                        found.before.span(station, run, begin, end)
                case Mark(kind, _, facts) if kind == FILE:
                    told.append(f"{file.name} was {facts.get('was')}: {facts.get('done')}")
                case _:
                    pass
    chain.end()
    found.breaks += chain.breaks
    tip = chain.tip
    found.journals.append(
        Evidence(path, chain.first, tip.n, tip.digest, mark is None and chain.first is not None, tuple(told))
    )

"""What the line itself recorded: the triggers of its agents and the journals of its gates."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import SchemaError
from schemas.part import PartKey
from workers.archive.ranges import PartRanges
from workers.errors import SourceError
from workers.gate.lines import ACTUATED, Entry, Note, Span, read_lines
from workers.gate.segments import journal_segments, log_segments


@dataclass(slots=True)
class Recorded:
    """Everything that logs and journals say.

    Attributes:
        triggers: when each part was seen, nanoseconds since the epoch.
        decided: the first decision about each part.
        twice: parts decided more than once.
        opened: parts for which an actuator confirmed that it opened.
        before: parts decided in segments of a journal that are no longer kept.
        damaged: complete lines that cannot be read, as FILE:LINE.
    """

    triggers: dict[PartKey, int] = field(default_factory=dict)
    decided: dict[PartKey, Entry] = field(default_factory=dict)
    twice: list[PartKey] = field(default_factory=list)
    opened: set[PartKey] = field(default_factory=set)
    before: PartRanges = field(default_factory=PartRanges)
    damaged: list[str] = field(default_factory=list)


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
        for file, data in _data(journal_segments(path), path, "gate journal"):
            _read_journal(found, file, data)
    return found


def _data(segments: Sequence[Path], path: Path, what: str) -> Iterator[tuple[Path, bytes]]:
    try:
        for segment in segments or [path]:
            yield segment, segment.read_bytes()
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


def _read_journal(found: Recorded, file: Path, data: bytes) -> None:
    for number, item in enumerate(read_lines(data), 1):
        match item:
            case None:
                found.damaged.append(f"{file.name}:{number}")
            case Note(part, kind, value) if kind == ACTUATED and value == "opened":
                found.opened.add(part)
            case Entry() if item.part in found.decided:
                found.twice.append(item.part)
            case Entry():
                found.decided[item.part] = item
            case Span(station, run, ranges):
                for first, last in ranges:
                    found.before.span(station, run, first, last)
            case _:
                pass

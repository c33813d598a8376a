"""The index of a chunk: written last, it is what makes the chunk's files part of the archive."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.archive.ranges import PartRanges
from workers.archive.rows import digest_of
from workers.archive.shifts import Shift
from workers.bus.base import TopicPartition

VERSION = 1
ROOT = "shifts"
HEAD = "head.json"
"""Names the newest sealed shift and its manifest's digest, so that its removal is seen too."""
MANIFEST = "manifest.json"
INDEX = "index"


def folder_of(shift: str) -> str:
    """The folder of a shift by its name."""
    return f"{ROOT}/{shift}"


def manifest_of(shift: str) -> str:
    """The manifest of a shift by its name."""
    return f"{ROOT}/{shift}/{MANIFEST}"


@dataclass(frozen=True, slots=True)
class Filed:
    """One file of the archive: its name within the shift's folder, its SHA-256 and its length in bytes."""

    name: str
    sha256: str
    size: int
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, data: bytes, **facts: Any) -> Filed:
        """The entry of a file with these bytes; ``facts`` are kept beside it."""
        return cls(name, digest_of(data), len(data), facts)

    def to_json(self) -> dict[str, Any]:
        """With stable keys."""
        return {"name": self.name, "sha256": self.sha256, "bytes": self.size, **self.facts}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Filed:
        """What ``to_json`` wrote. Raises KeyError, TypeError or ValueError."""
        facts = {k: v for k, v in raw.items() if k not in ("name", "sha256", "bytes")}
        return cls(str(raw["name"]), str(raw["sha256"]), int(raw["bytes"]), facts)


@dataclass(slots=True, kw_only=True)
class Index:
    """What one chunk covers: the records ``first`` to ``next`` (excluded) of one partition.

    Attributes:
        era: how often the topic had been made anew, and its offsets had begun again.
        rows: the table of a chunk of verdicts, within the shift's folder; None where there is none.
    """

    place: TopicPartition
    era: int
    first: int
    next: int
    shift: Shift
    rows: str | None = None
    files: list[Filed] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    parts: PartRanges = field(default_factory=PartRanges)
    gaps: list[dict[str, int]] = field(default_factory=list)

    @property
    def stem(self) -> str:
        """What its files are called: a chunk read again has the same name."""
        return f"{_plain(self.place.topic)}-{self.place.partition:05d}-{self.era:03d}-{self.first:019d}"

    @property
    def name(self) -> str:
        """Its full name in the archive."""
        return f"{folder_of(self.shift.name)}/{INDEX}/{self.stem}.json"

    def to_bytes(self) -> bytes:
        """As it is written."""
        return dumped(
            {
                "v": VERSION,
                "topic": self.place.topic,
                "partition": self.place.partition,
                "era": self.era,
                "first": self.first,
                "next": self.next,
                "start": self.shift.start,
                "end": self.shift.end,
                "rows": self.rows,
                "files": [filed.to_json() for filed in self.files],
                "counts": dict(sorted(self.counts.items())),
                "parts": self.parts.to_json(),
                "gaps": self.gaps,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Index:
        """What ``to_bytes`` wrote.

        Raises:
            ValueError: something else.
        """
        try:
            raw = loaded(data)
            return cls(
                place=TopicPartition(str(raw["topic"]), int(raw["partition"])),
                era=int(raw["era"]),
                first=int(raw["first"]),
                next=int(raw["next"]),
                shift=Shift(int(raw["start"]), int(raw["end"])),
                rows=None if raw["rows"] is None else str(raw["rows"]),
                files=[Filed.from_json(item) for item in raw["files"]],
                counts=Counter({str(k): int(v) for k, v in raw["counts"].items()}),
                parts=PartRanges.from_json(raw["parts"]),
                gaps=[{str(k): int(v) for k, v in gap.items()} for gap in raw["gaps"]],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a chunk's index ({type(error).__name__}: {str(error)[:120]})") from None


def dumped(value: Mapping[str, Any]) -> bytes:
    """JSON with one key a line, so that people can read it; the same bytes for the same value."""
    return (json.dumps(value, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def loaded(data: bytes) -> dict[str, Any]:
    """A map of version 1. Raises ValueError."""
    raw = json.loads(data)
    if not isinstance(raw, dict) or raw.get("v") != VERSION:
        raise ValueError("not a file of this archive's version")
    return raw


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in text) or "_"

"""What an archive already holds: where each partition is to be read on, and which parts are in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workers.archive.index import INDEX, ROOT, Index, folder_of, loaded, manifest_of
from workers.archive.ranges import PartRanges
from workers.archive.rows import digest_of
from workers.archive.shifts import Shift, start_of
from workers.archive.storage import Storage
from workers.bus.base import TopicPartition
from workers.errors import ArchiveError

REMEMBERED = 30
"""Sealed shifts whose parts are known: a verdict that is repeated later would be filed as new."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition is read on: behind the last chunk that is in the archive."""

    era: int
    next: int
    shift: Shift | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed shift: its name, its manifest and the digest of the manifest's bytes."""

    name: str
    manifest: dict[str, Any] = field(repr=False)
    sha256: str


@dataclass(slots=True)
class State:
    """The archive as it was found.

    Attributes:
        last: the newest sealed shift.
        open: chunks of shifts that are not sealed.
        seen: parts whose verdict is in.
        mapped: parts whose heatmap is in, of the shifts that are not sealed.
    """

    last: Sealed | None = None
    open: list[Index] = field(default_factory=list)
    positions: dict[TopicPartition, Position] = field(default_factory=dict)
    seen: PartRanges = field(default_factory=PartRanges)
    mapped: PartRanges = field(default_factory=PartRanges)

    def add(self, index: Index, *, verdicts: bool) -> None:
        """A chunk that is in the archive now."""
        self.open.append(index)
        known = self.positions.get(index.place)
        if known is None or (known.era, known.next) <= (index.era, index.next):
            self.positions[index.place] = Position(index.era, index.next, index.shift)
        (self.seen if verdicts else self.mapped).update(index.parts)

    @property
    def floor(self) -> int:
        """When the first shift begins that may still be written; nanoseconds since the epoch."""
        return 0 if self.last is None else int(self.last.manifest["end"])


def read_sealed(storage: Storage, shift: str) -> Sealed | None:
    """The manifest of a shift, or None while it is not sealed.

    Raises:
        ValueError: it cannot be read.
    """
    data = storage.get(manifest_of(shift))
    return None if data is None else Sealed(shift, loaded(data), digest_of(data))


def shift_names(storage: Storage) -> list[str]:
    """The shifts of an archive, the oldest first."""
    return [name for name in storage.folders(ROOT) if start_of(name) is not None]


def load(storage: Storage, verdict_topic: str) -> State:
    """Read what an archive holds.

    Raises:
        ArchiveError: the store is away, or what it holds is damaged where the next shift has to begin.
    """
    state = State()
    unsealed: list[str] = []
    sealed = 0
    for name in reversed(shift_names(storage)):
        try:
            found = read_sealed(storage, name)
        except ValueError as error:
            raise ArchiveError(
                f"archive {storage.where}: the manifest of {name} is damaged ({error}); restore it"
            ) from None
        if found is None:
            if not sealed:
                unsealed.append(name)
            continue
        sealed += 1
        if state.last is None:
            state.last = found
            for place, position in found.manifest["next"].items():
                topic, _, partition = place.rpartition("/")
                state.positions[TopicPartition(topic, int(partition))] = Position(
                    int(position["era"]), int(position["next"])
                )
        state.seen.update(PartRanges.from_json(found.manifest["parts"]))
        if sealed >= REMEMBERED:
            break
    for name in reversed(unsealed):
        for index in read_indexes(storage, name):
            state.add(index, verdicts=index.place.topic == verdict_topic)
    return state


def read_indexes(storage: Storage, shift: str) -> list[Index]:
    """The chunks of a shift. Raises ArchiveError for one that is damaged."""
    found = []
    for name in storage.files(f"{folder_of(shift)}/{INDEX}"):
        data = storage.get(name)
        try:
            found.append(Index.from_bytes(data or b""))
        except ValueError as error:
            raise ArchiveError(f"archive {storage.where}: {name} is damaged: {error}") from None
    return found

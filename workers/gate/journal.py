"""The gate's own record: every decision on disk before the actuator moves, so that none is made twice.

The journal is a file of lines (``workers.gate.lines``) and, once it has grown over its limit, of segments:
``JOURNAL.1`` is the oldest, ``JOURNAL`` the one that is written. A segment begins with a checkpoint of all
that came before it, so that a start reads the current one alone. A rotation is: write the new segment's
checkpoint beside it, rename ``JOURNAL`` to its number, rename the new one into its place. A start that finds
no ``JOURNAL`` takes the second step back.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.verdict import Decision
from workers.durable import sync_folder
from workers.errors import WorkerError
from workers.gate.challenge_state import ChallengeState
from workers.gate.decided import DecidedParts
from workers.gate.lines import (
    ACTUATED,
    CHALLENGE,
    RECORDED,
    Carried,
    Entry,
    Head,
    Item,
    Mark,
    Note,
    Span,
    encode,
    read_lines,
)
from workers.gate.segments import numbered

__all__ = [
    "ACTUATED",
    "CHALLENGE",
    "MAX_BYTES",
    "RECORDED",
    "DecidedParts",
    "Entry",
    "Journal",
    "JournalError",
    "Mark",
    "Note",
    "Recovery",
    "read_lines",
]

_log = structlog.get_logger(__name__)

MAX_BYTES = 32 << 20
_MOST_OPEN = 65_536
_ROTATION_FAILED = "gate_journal_not_rotated"


class JournalError(WorkerError):
    """The gate's journal cannot be opened or written. While that lasts the gate stays closed."""

    reason = "journal"
    retriable = True


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a journal held when it was opened.

    Attributes:
        decided: how many parts have a decision.
        torn_bytes: length of a last line that was cut off while being written; it is removed.
        damaged_lines: complete lines whose checksum does not hold; they are left in place and not believed.
        unconfirmed: decided to pass, but the actuator's outcome is not known: the process ended in between.
        unrecorded: decided MISSING, but not known to be in the store.
        read_bytes: how much of it was read.
    """

    decided: int
    torn_bytes: int
    damaged_lines: int
    unconfirmed: tuple[Entry, ...]
    unrecorded: tuple[Entry, ...]
    read_bytes: int = 0


class Journal:
    """Append-only decisions. ``append`` returns when they are on disk. One process at a time may hold one.

    Args:
        path: the file; it and its folder are made where they do not exist. ``PATH.lock`` stays beside it.
        sync: False leaves out fsync, for runs whose journal need not outlive the machine (the demo).
        max_bytes: a segment over this size is followed by a new one.

    Raises:
        JournalError: the file cannot be opened.
    """

    def __init__(self, path: Path, *, sync: bool = True, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._sync = sync
        self._max = max_bytes
        self._rotate_at = max_bytes
        self._new = path.with_name(path.name + ".new")
        self.decided = DecidedParts()
        self.challenges = ChallengeState()
        self._unconfirmed: OrderedDict[PartKey, Entry] = OrderedDict()
        self._unrecorded: OrderedDict[PartKey, Entry] = OrderedDict()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Two gates on one journal would each decide every part. The lock outlives every rename.
            self._lock = path.with_name(path.name + ".lock").open("ab")
        except OSError as error:
            raise JournalError(f"gate journal {path}: {error.strerror}; name a writable file") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._undo_rotation()
            self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
            data = self._file.readall()
            self._end = data.rfind(b"\n") + 1
            self._dirty = self._end < len(data)
            self.recovery = self._recover(data)
        except BlockingIOError:
            self._lock.close()
            raise JournalError(
                f"gate journal {path}: another gate holds it; stop that one or name another file"
            ) from None
        except OSError as error:
            self._lock.close()
            raise JournalError(f"gate journal {path}: {error.strerror}; name a writable file") from None

    # Opening

    def _undo_rotation(self) -> None:
        older = numbered(self._path)
        if not self._path.exists() and older:
            older[-1][1].rename(self._path)
        self._new.unlink(missing_ok=True)

    def _recover(self, data: bytes) -> Recovery:
        items = list(read_lines(data))
        older = numbered(self._path)
        head = items[0] if items else None
        whole = isinstance(head, Head) and None not in items[1 : 1 + head.lines] and len(items) > head.lines
        read, damaged = len(data), items.count(None)
        if older and not whole:
            # The checkpoint cannot be trusted: what it said is in the segments before it.
            for _, path in older:
                before = path.read_bytes()
                read += len(before)
                for item in read_lines(before):
                    damaged += not self._fold(item)
        for item in items:
            # A line that is whole and says nothing that can be understood is damaged too.
            damaged += not self._fold(item) and item is not None
        return Recovery(
            len(self.decided),
            len(data) - self._end,
            damaged,
            tuple(self._unconfirmed.values()),
            tuple(self._unrecorded.values()),
            read,
        )

    def _fold(self, item: Item | None) -> bool:
        """Take in one line; False where it is damaged."""
        try:
            match item:
                case Entry():
                    self.decided.add(item.part)
                    self.challenges.decided(item)
                    if item.decision.opened:
                        self._await(item, ACTUATED)
                    if item.decision.decision is Decision.MISSING:
                        self._await(item, RECORDED)
                case Carried():
                    self.decided.add(item.entry.part)
                    self._await(item.entry, item.awaits)
                case Span():
                    for first, last in item.ranges:
                        self.decided.fill(item.station, item.run, first, last)
                case Note(part, kind, value):
                    if kind == CHALLENGE:
                        self.challenges.designated(part, value)
                    else:
                        self._awaiting(kind).pop(part, None)
                case Mark():
                    self.challenges.mark(item)
                case Head():
                    self.challenges.restore(item.challenges)
                case None:
                    return False
        except (KeyError, TypeError, ValueError, AttributeError, SchemaError):
            return False
        return True

    def _awaiting(self, kind: str) -> OrderedDict[PartKey, Entry]:
        return {ACTUATED: self._unconfirmed, RECORDED: self._unrecorded}.get(kind, OrderedDict())

    def _await(self, entry: Entry, kind: str) -> None:
        entries = self._awaiting(kind)
        entries[entry.part] = entry
        if len(entries) > _MOST_OPEN:
            # Days without the store: that these are missing in it is told by this journal alone.
            entries.popitem(last=False)

    # Writing

    def append(self, entries: Sequence[Entry]) -> None:
        """Write decisions and wait until they are on disk.

        Raises:
            JournalError: they are not, none of them; the same call may be made again.
            ValueError: a part among them has a decision already.
        """
        for entry in entries:
            if entry.part in self.decided:
                raise ValueError(f"part {entry.part} has a decision in {self._path} already")
        if self._end > 2 * self._rotate_at:
            self._rotate()  # a belt that never rests
        self._write(entries, sync=True)

    def note(self, part: PartKey, kind: str, value: str, *, sync: bool = False) -> None:
        """Add what belongs to a part (``ACTUATED``, ``RECORDED``, ``CHALLENGE``).

        On disk with the next decision, or at once with ``sync``.

        Raises:
            JournalError: it could not be written.
        """
        self._write([Note(part, kind, value)], sync=sync)

    def mark(self, mark: Mark) -> None:
        """Add what belongs to the station, and wait until it is on disk.

        Raises:
            JournalError: it could not be written.
        """
        self._write([mark], sync=True)

    def _write(self, items: Sequence[Item], *, sync: bool) -> None:
        data = encode(items)
        try:
            if self._dirty:
                # What an earlier failure or a crash left behind the last good line would spoil the next one.
                self._file.truncate(self._end)
                self._dirty = False
            self._dirty = True
            self._file.seek(self._end)
            _write_all(self._file, data)
            if sync and self._sync:
                os.fsync(self._file.fileno())
            self._end += len(data)
            self._dirty = False
        except OSError as error:
            raise JournalError(
                f"gate journal {self._path}: {error.strerror}; the gate stays closed until it can be written"
            ) from None
        for item in items:
            self._fold(item)

    # Rotation

    def tidy(self) -> bool:
        """Begin a new segment where the current one is over its size. For moments without haste.

        True where it did. A rotation that fails is logged and tried again later: the current segment can be
        written on.
        """
        return self._end > self._rotate_at and not self._dirty and self._rotate()

    def _rotate(self) -> bool:
        number = 1 + max((number for number, _ in numbered(self._path)), default=0)
        old = self._path.with_name(f"{self._path.name}.{number}")
        new: io.FileIO | None = None
        try:
            new = self._new.open("w+b", buffering=0)
            head = self._checkpoint(number)
            _write_all(new, head)
            for file in (new, self._file):
                self._to_disk(file.fileno())
            self._path.rename(old)
            self._folder_to_disk()
            self._new.rename(self._path)
        except BaseException as error:
            if new is not None:
                new.close()
            if not isinstance(error, OSError):
                raise
            self._rotate_at = self._end + self._max // 8
            if not self._path.exists() and old.exists():
                with suppress(OSError):  # where this fails too, the next start does it
                    old.rename(self._path)
            _log.error(_ROTATION_FAILED, path=str(self._path), error=str(error))
            return False
        # From here on the new file is the journal, whatever else fails.
        self._file.close()
        self._file, self._end = new, len(head)
        # A checkpoint that is itself long must not make every turn a rotation.
        self._rotate_at = max(self._max, 2 * self._end)
        with suppress(OSError):
            self._folder_to_disk()
        return True

    def _checkpoint(self, number: int) -> bytes:
        items: list[Item] = [
            *(Span(station, run, tuple(ranges)) for station, run, ranges in self.decided.runs()),
            *(Carried(entry, ACTUATED) for entry in self._unconfirmed.values()),
            *(Carried(entry, RECORDED) for entry in self._unrecorded.values()),
        ]
        return encode([Head(number, len(items), self.challenges.to_json()), *items])

    def _to_disk(self, descriptor: int) -> None:
        if self._sync:
            os.fsync(descriptor)

    def _folder_to_disk(self) -> None:
        if self._sync:
            sync_folder(self._path.parent)

    def close(self) -> None:
        """Flush and let go of the file."""
        if not self._file.closed:
            self._to_disk(self._file.fileno())
            self._file.close()
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_all(file: io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]

"""The gate's own record: every decision on disk before the actuator moves, so that none is made twice.

The journal is a file of lines (``workers.gate.lines``) and, once it has grown over its limit, of segments:
``JOURNAL.1`` is the oldest, ``JOURNAL`` the one that is written. A segment begins with a checkpoint of all
that came before it, so that a start reads the current one alone. A rotation is: write the new segment's
checkpoint beside it, rename ``JOURNAL`` to its number, rename the new one into its place. A start that finds
no ``JOURNAL`` takes the second step back. The lines of all segments are one chain (``workers.gate.chain``).

A name is not a file: ``JOURNAL`` may be removed, moved, replaced or cut while the gate holds it open. Before
each decision, and whenever ``look`` is called, the name is compared with the open file. What was taken away
is written back from the open file; what was cut stays where it is, and a new segment begins behind it. Either
way a mark in the journal says so.
"""

from __future__ import annotations

import errno
import io
import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import time_ns
from types import TracebackType
from typing import Self

import structlog

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.verdict import Decision
from workers.durable import sync_folder
from workers.errors import WorkerError
from workers.gate.chain import Chain, follow
from workers.gate.challenge_state import ChallengeState
from workers.gate.decided import DecidedParts
from workers.gate.held import LockFile, at, befallen, copied, hold, opened, set_aside, write_all
from workers.gate.lines import (
    ACTUATED,
    CHALLENGE,
    OPENED,
    RECORDED,
    Carried,
    Entry,
    Head,
    Item,
    Mark,
    Note,
    Span,
    Tip,
    encode,
    read_chained,
    read_lines,
)
from workers.gate.recovery import Recovery
from workers.gate.segments import identity, numbered

__all__ = [
    "ACTUATED",
    "CHALLENGE",
    "FILE",
    "MAX_BYTES",
    "OPENED",
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
FILE = "file"
"""Mark: what befell the journal's own file, and what was done about it."""


class JournalError(WorkerError):
    """The gate's journal cannot be opened or written. While that lasts the gate stays closed."""

    reason = "journal"
    retriable = True


class Journal:
    """Append-only decisions. ``append`` returns when they are on disk. One process at a time may hold one.

    The lock is on the open file itself: it holds whatever becomes of names. ``PATH.lock`` beside it keeps two
    starts apart that find no file, and remembers the last line on disk.

    Args:
        path: the file; it and its folder are made where they do not exist.
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
        self._tip = self._on_disk = Tip()
        self._befallen: list[str] = []
        lock: LockFile | None = None
        file: io.FileIO | None = None
        try:
            self._lock = lock = LockFile(path.with_name(path.name + ".lock"))
            self._undo_rotation()
            self._file = file = opened(path)
            data = self._file.readall()
            self._end = data.rfind(b"\n") + 1
            self._dirty = self._end < len(data)
            self.recovery = self._recover(data)
        except OSError as error:
            for held in (lock, file):
                if held is not None:
                    held.close()
            why = f"{error.strerror}; name a writable file"
            if isinstance(error, BlockingIOError):
                why = "another gate holds it; stop that one or name another file"
            raise JournalError(f"gate journal {path}: {why}") from None

    # Opening

    def _undo_rotation(self) -> None:
        older = numbered(self._path)
        if not self._path.exists() and older:
            older[-1][1].rename(self._path)
        self._new.unlink(missing_ok=True)

    def _recover(self, data: bytes) -> Recovery:
        chain = Chain(self._lock.mark)
        items = [item for _, item in follow(read_chained(data), self._path.name, chain)]
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
        if not items and older:
            # Emptied by hand: the chain goes on behind what is left of it, and its gap shows.
            chain = Chain(self._lock.mark)
            for _ in follow(read_chained(older[-1][1].read_bytes()), older[-1][1].name, chain):
                pass
        chain.end()
        # Where the lock file knows of more lines than there are, the next one says so by its number.
        self._tip = self._on_disk = chain.tip if chain.known is None else chain.known
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
            tuple(f"{found.where}: {found.says}" for found in chain.breaks),
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
        self.look()
        if self._end > 2 * self._rotate_at:
            self._rotate()  # a belt that never rests
        self._write(entries, sync=True)

    def note(self, part: PartKey, kind: str, value: str, *, sync: bool = False) -> None:
        """Add what belongs to a part (``ACTUATED``, ``RECORDED``, ``CHALLENGE``).

        On disk with the next decision, or at once with ``sync``.

        Raises:
            JournalError: it could not be written.
        """
        self.look()
        self._write([Note(part, kind, value)], sync=sync)

    def mark(self, mark: Mark) -> None:
        """Add what belongs to the station, and wait until it is on disk.

        Raises:
            JournalError: it could not be written.
        """
        self.look()
        self._write([mark], sync=True)

    def _write(self, items: Sequence[Item], *, sync: bool) -> None:
        data, tip = encode(items, self._tip)
        try:
            if self._dirty:
                # What an earlier failure or a crash left behind the last good line would spoil the next one.
                self._file.truncate(self._end)
                self._dirty = False
            self._dirty = True
            self._file.seek(self._end)
            write_all(self._file, data)
            if sync and self._sync:
                os.fsync(self._file.fileno())
            self._end += len(data)
            self._dirty = False
            self._tip = tip
            if sync or not self._sync:
                self._on_disk = tip
        except OSError as error:
            raise JournalError(
                f"gate journal {self._path}: {error.strerror}; the gate stays closed until it can be written"
            ) from None
        for item in items:
            self._fold(item)

    # The file and its name

    def look(self) -> None:
        """Compare the name with the open file, and make good what befell it; ``befallen`` then tells.

        Raises:
            JournalError: it could not be made good. Nothing is written until it can be.
        """
        what: str | None = None
        try:
            what = self._what_befell()
            if what is not None:
                self._make_good(what)
        except BlockingIOError:
            raise JournalError(
                f"gate journal {self._path}: another gate holds the file of that name now; stop one of them"
            ) from None
        except OSError as error:
            raise JournalError(
                f"gate journal {self._path} was {what or 'looked for'}: {error.strerror}; the gate stays"
                " closed until it can be written in its place"
            ) from None
        self._lock.look()

    def befallen(self) -> list[str]:
        """What befell the file since the last call, and what was done about it."""
        told, self._befallen = self._befallen, []
        return told

    def remember(self) -> None:
        """Write into ``PATH.lock`` which line is the last on disk: a tail that is cut off is missed by it."""
        self._lock.remember(self._on_disk)

    def _what_befell(self) -> str | None:
        return befallen(self._path, self._file, self._end, longer=self._dirty)

    def _make_good(self, what: str) -> None:
        mine = identity(os.fstat(self._file.fileno()))
        moved_to = next((path for _, path in numbered(self._path) if at(path) == mine), None)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if what.startswith("replaced"):
            set_aside(self._path)
        if what.startswith(("removed", "replaced")) and moved_to is None:
            done = "written back from the open file, nothing is lost"
            self._write_back()
            self._write([_mark(what, done)], sync=True)
        else:
            # What was rotated from outside is a segment already: to copy it would double its lines.
            kept = moved_to.name if moved_to else self._next_segment().name
            done = f"a new segment goes on behind {kept}"
            if not self._rotate(_mark(what, done), named=moved_to is None):
                raise OSError(errno.EIO, "no new segment can be begun")
        self._befallen.append(f"gate journal {self._path} was {what}: {done}")

    def _write_back(self) -> None:
        """A copy of the open file at the journal's name, and that one open from now on."""
        copy, length = copied(self._file, self._end, self._new)
        try:
            self._to_disk(copy.fileno())
            self._new.rename(self._path)
        except BaseException:
            copy.close()
            raise
        self._file.close()
        self._file, self._end, self._dirty = copy, length, False
        self._folder_to_disk()

    # Rotation

    def tidy(self) -> bool:
        """Begin a new segment where the current one is over its size. For moments without haste.

        True where it did. A rotation that fails is logged and tried again later: the current segment can be
        written on.
        """
        due = self._end > self._rotate_at and not self._dirty
        return due and self._what_befell() is None and self._rotate()

    def _next_segment(self) -> Path:
        number = 1 + max((number for number, _ in numbered(self._path)), default=0)
        return self._path.with_name(f"{self._path.name}.{number}")

    def _rotate(self, mark: Mark | None = None, *, named: bool = True) -> bool:
        """Begin a new segment, ``mark`` in it; ``named``: the open file is at the journal's name."""
        old = self._next_segment()
        new: io.FileIO | None = None
        try:
            if self._dirty:
                self._file.truncate(self._end)
                self._dirty = False
            new = self._new.open("w+b", buffering=0)
            hold(new)
            head, tip = self._checkpoint(int(old.suffix[1:]), mark)
            write_all(new, head)
            for file in (new, self._file):
                self._to_disk(file.fileno())
            if named:
                self._path.rename(old)
            self._folder_to_disk()
            self._new.rename(self._path)
        except BaseException as error:
            if new is not None:
                new.close()
            if not isinstance(error, OSError):
                raise
            self._rotate_at = self._end + self._max // 8
            if named and not self._path.exists() and old.exists():
                with suppress(OSError):  # where this fails too, the next start does it
                    old.rename(self._path)
            _log.error(_ROTATION_FAILED, path=str(self._path), error=str(error))
            return False
        # From here on the new file is the journal, whatever else fails.
        self._file.close()
        self._file, self._end = new, len(head)
        self._tip = self._on_disk = tip
        # A checkpoint that is itself long must not make every turn a rotation.
        self._rotate_at = max(self._max, 2 * self._end)
        with suppress(OSError):
            self._folder_to_disk()
        return True

    def _checkpoint(self, number: int, mark: Mark | None) -> tuple[bytes, Tip]:
        items: list[Item] = [
            *(Span(station, run, tuple(ranges)) for station, run, ranges in self.decided.runs()),
            *(Carried(entry, ACTUATED) for entry in self._unconfirmed.values()),
            *(Carried(entry, RECORDED) for entry in self._unrecorded.values()),
        ]
        head = Head(number, len(items), self.challenges.to_json())
        return encode([head, *items, *([] if mark is None else [mark])], self._tip)

    def _to_disk(self, descriptor: int) -> None:
        if self._sync:
            os.fsync(descriptor)

    def _folder_to_disk(self) -> None:
        if self._sync:
            sync_folder(self._path.parent)

    def close(self) -> None:
        """Flush and let go of the file. What befell it since the last look is made good before."""
        if not self._file.closed:
            with suppress(JournalError):
                self.look()
            self._to_disk(self._file.fileno())
            self._on_disk = self._tip
            self.remember()
            self._file.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _mark(what: str, done: str) -> Mark:
    return Mark(FILE, time_ns(), {"was": what, "done": done})

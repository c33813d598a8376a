"""The gate's own record: every decision on disk before the actuator moves, so that none is made twice."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import crc32c

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.verdict import Decision
from workers.errors import WorkerError
from workers.gate.decision import GateDecision, Reason

_TAG = b" #"


class JournalError(WorkerError):
    """The gate's journal cannot be opened or written. While that lasts the gate stays closed."""

    reason = "journal"
    retriable = True


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


class DecidedParts:
    """Which parts are decided, in memory that does not grow while triggers count up without gaps."""

    def __init__(self) -> None:
        self._upto: dict[tuple[str, int], int] = {}
        self._beyond: dict[tuple[str, int], set[int]] = {}

    def add(self, part: PartKey) -> bool:
        """Note a decision; False where the part had one already."""
        if part in self:
            return False
        run = (part.station, part.run)
        beyond = self._beyond.setdefault(run, set())
        beyond.add(part.trigger)
        upto = self._upto.get(run, -1)
        while upto + 1 in beyond:
            upto += 1
            beyond.remove(upto)
        self._upto[run] = upto
        return True

    def __contains__(self, part: PartKey) -> bool:
        run = (part.station, part.run)
        return part.trigger <= self._upto.get(run, -1) or part.trigger in self._beyond.get(run, ())


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a journal held when it was opened.

    Attributes:
        decided: how many parts have a decision.
        torn_bytes: length of a last line that was cut off while being written; it is removed.
        damaged_lines: complete lines whose checksum does not hold; they are left in place and not believed.
        unconfirmed: decided to pass, but the actuator's outcome is not known: the process ended in between.
        unrecorded: decided MISSING, but not known to be in the store.
    """

    decided: int
    torn_bytes: int
    damaged_lines: int
    unconfirmed: tuple[Entry, ...]
    unrecorded: tuple[Entry, ...]


def _line(body: dict[str, object]) -> bytes:
    text = json.dumps(body, separators=(",", ":")).encode("ascii")
    return text + _TAG + b"%08x\n" % crc32c.crc32c(text)


def _body(line: bytes) -> dict[str, object] | None:
    text, tag, check = line.rpartition(_TAG)
    if not tag or check != b"%08x" % crc32c.crc32c(text):
        return None
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _entry(body: dict[str, object]) -> Entry | None:
    try:
        times = [body["triggered_at"], body["due"], body["at"]]
        seen = body.get("seen_at")
        if any(type(t) is not int for t in times) or not (seen is None or type(seen) is int):
            return None
        triggered_at, due, decided_at = (int(str(t)) for t in times)
        decision = GateDecision(
            PartKey.parse(str(body["part"])),
            body["opened"] is True,
            Decision(str(body["decision"])),
            Reason(str(body["reason"])),
        )
        return Entry(decision, triggered_at, due, decided_at, None if seen is None else int(str(seen)))
    except (KeyError, ValueError, SchemaError):
        return None


@dataclass(frozen=True, slots=True)
class Note:
    """A line that follows a decision: ``actuated``, ``recorded`` (in the store), with its value."""

    part: PartKey
    kind: str
    value: str


ACTUATED = "actuated"
RECORDED = "recorded"


def read_lines(data: bytes) -> Iterator[Entry | Note | None]:
    """Every complete line of a journal; None for a damaged one. A last line without newline is not given."""
    for line in data.split(b"\n")[:-1]:
        body = _body(line)
        if body is None:
            yield None
        elif body.get("line") == "decision":
            yield _entry(body)
        else:
            try:
                yield Note(PartKey.parse(str(body["part"])), str(body["line"]), str(body["value"]))
            except (KeyError, SchemaError):
                yield None


class Journal:
    """Append-only lines of JSON, each with the CRC-32C of its text: ``{...} #1a2b3c4d``.

    ``append`` returns when the decisions are on disk. One process at a time may hold a journal.

    Args:
        path: the file; it and its folder are made where they do not exist.
        sync: False leaves out fsync, for runs whose journal need not outlive the machine (the demo).

    Raises:
        JournalError: the file cannot be opened.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self._path = path
        self._sync = sync
        self.decided = DecidedParts()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
            # Two gates on one journal would each decide every part.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = self._file.read()
        except BlockingIOError:
            self._file.close()
            raise JournalError(
                f"gate journal {path}: another gate holds it; stop that one or name another file"
            ) from None
        except OSError as error:
            raise JournalError(f"gate journal {path}: {error.strerror}; name a writable file") from None
        self._end = data.rfind(b"\n") + 1
        self._dirty = self._end < len(data)
        self.recovery = self._recover(data)

    def _recover(self, data: bytes) -> Recovery:
        unconfirmed: dict[PartKey, Entry] = {}
        unrecorded: dict[PartKey, Entry] = {}
        damaged = decided = 0
        for item in read_lines(data):
            if item is None:
                damaged += 1
            elif isinstance(item, Entry):
                decided += self.decided.add(item.part)
                if item.decision.opened:
                    unconfirmed[item.part] = item
                if item.decision.decision is Decision.MISSING:
                    unrecorded[item.part] = item
            elif item.kind == ACTUATED:
                unconfirmed.pop(item.part, None)
            elif item.kind == RECORDED:
                unrecorded.pop(item.part, None)
        return Recovery(
            decided,
            len(data) - self._end,
            damaged,
            tuple(unconfirmed.values()),
            tuple(unrecorded.values()),
        )

    def append(self, entries: Sequence[Entry]) -> None:
        """Write decisions and wait until they are on disk.

        Raises:
            JournalError: they are not, none of them; the same call may be made again.
            ValueError: a part among them has a decision already.
        """
        for entry in entries:
            if entry.part in self.decided:
                raise ValueError(f"part {entry.part} has a decision in {self._path} already")
        lines = [
            _line(
                {
                    "line": "decision",
                    "part": str(entry.part),
                    "opened": entry.decision.opened,
                    "decision": entry.decision.decision.value,
                    "reason": entry.decision.reason.value,
                    "triggered_at": entry.triggered_at,
                    "due": entry.due,
                    "at": entry.decided_at,
                    "seen_at": entry.seen_at,
                }
            )
            for entry in entries
        ]
        self._write(b"".join(lines), sync=True)
        for entry in entries:
            self.decided.add(entry.part)

    def note(self, part: PartKey, kind: str, value: str) -> None:
        """Add what followed a decision (``ACTUATED``, ``RECORDED``). On disk with the next decision.

        Raises:
            JournalError: it could not be written.
        """
        self._write(_line({"line": kind, "part": str(part), "value": value}), sync=False)

    def _write(self, data: bytes, *, sync: bool) -> None:
        try:
            if self._dirty:
                # What an earlier failure or a crash left behind the last good line would spoil the next one.
                self._file.truncate(self._end)
                self._dirty = False
            self._dirty = True
            self._file.seek(self._end)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
            if sync and self._sync:
                os.fsync(self._file.fileno())
            self._end += len(data)
            self._dirty = False
        except OSError as error:
            raise JournalError(
                f"gate journal {self._path}: {error.strerror}; the gate stays closed until it can be written"
            ) from None

    def close(self) -> None:
        """Flush and let go of the file."""
        if not self._file.closed:
            if self._sync:
                os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

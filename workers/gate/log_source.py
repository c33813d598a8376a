"""The trigger log of a capture agent as the gate's part source, through rotations and truncation."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from schemas.errors import SchemaError
from schemas.part import PartKey
from workers.errors import SourceError
from workers.gate.parts import Arrival, travel_ns
from workers.gate.segments import identity, numbered

_READ_BYTES = 1 << 20
_MAX_LINE = 1 << 16
_REMEMBERED = 64
_LEFT = 4
"""Files that were left and are still read: whoever writes may not have noticed that his was renamed."""
_NOT_SET = (None, False, 0, "", "false", "False", "0", "no")

_Inode = tuple[int, int]


class _Cut(Exception):
    """What was read of a file does not stand in it any more."""


class _File:
    """One open file, read line by line; the rest of a line that is still being written waits."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self.path = path
        self.inode: _Inode = identity(os.fstat(file.fileno()))
        self.late = False
        """It was told that lines still come in it after it was left."""
        self._offset = 0
        self._seen = b""
        self.rest = b""

    def read(self) -> list[bytes] | None:
        """Whole lines, or None where nothing is new. Raises _Cut, and begins again at its start."""
        seen = self._seen
        data = os.pread(self._file.fileno(), _READ_BYTES + len(seen), self._offset - len(seen))
        if not data.startswith(seen):
            self._offset, self._seen, self.rest = 0, b"", b""
            raise _Cut
        fresh = data[len(seen) :]
        if not fresh:
            return None
        self._offset += len(fresh)
        self._seen = data[-_REMEMBERED:]
        *lines, self.rest = (self.rest + fresh).split(b"\n")
        return lines

    def close(self) -> None:
        self._file.close()


class LogPartSource:
    """Follows the trigger lines of a capture agent's log (``workers.capture.log``) from another process.

    Each line is a JSON object; those with ``"event": "trigger"`` carry ``part`` and ``at``, and ``challenge``
    where the part is known to be bad. A last line without its newline is still being written and is left for
    the next call. The file may not exist yet.

    A rotated log is read oldest first: ``PATH.2``, ``PATH.1``, ``PATH``. A name is not a file: when the one
    that is being read is renamed, moved, deleted or replaced, it is read to its end through the open handle,
    then the one after it, and its handle is kept for lines of a writer who has not noticed. A file whose
    beginning is not what was read of it was truncated: that is an error once, and the file is read again from
    its start. Reading again does no harm: the gate's journal knows which parts are decided.

    Args:
        path: the agent's log.
        station: parts of other stations in the same log are not this gate's.
        travel_s: seconds that a part takes from the trigger to the gate.
    """

    def __init__(self, path: Path, *, station: str, travel_s: float) -> None:
        self._file: _File | None = None
        self._left: deque[_File] = deque()
        self._path = path
        self._station = station
        self._travel = travel_ns(travel_s)
        self._befallen: list[str] = []
        self._missed = 0
        self.damaged_lines = 0
        """Complete lines that could not be read."""
        self.away: str | None = None

    def rewind(self) -> None:
        self.close()

    def poll(self) -> Sequence[Arrival]:
        try:
            lines = self._read()
        except FileNotFoundError:
            lines = []
        except _Cut:
            raise SourceError(
                f"part source {self._path}: it became shorter while it was read and is read again from its"
                " start; lines may be lost, let logs be rotated by renaming"
            ) from None
        except OSError as error:
            raise SourceError(f"part source {self._path}: {error.strerror}; check the agent's log") from None
        if self._file is not None and len(self._file.rest) > _MAX_LINE:
            raise SourceError(
                f"part source {self._path}: a line of over {_MAX_LINE} bytes; this is not an agent's log"
            )
        lines = self._late_lines() + lines
        return [arrival for line in lines if (arrival := self._arrival(line)) is not None]

    def settled(self, part: PartKey) -> None:
        """Nothing to forget: the log keeps every part."""

    def look(self) -> Sequence[str]:
        try:
            self._path.stat()
        except OSError:
            # Once it may be between the renames of a rotation.
            self._missed += self._file is not None
        else:
            self._missed, self.away = 0, None
        if self._missed == 2:
            self.away = f"part source {self._path}: there is no such file any more; parts may come by unseen"
            self._befallen.append(self.away)
        told, self._befallen = self._befallen, []
        return told

    def close(self) -> None:
        """Let go of all files."""
        for file in (self._file, *self._left):
            if file is not None:
                file.close()
        self._file = None
        self._left.clear()

    def __del__(self) -> None:
        self.close()

    # Files

    def _read(self) -> list[bytes]:
        if self._file is None and not self._open_next():
            return []
        assert self._file is not None
        lines = self._file.read()
        if lines is not None or self._is_current(self._file):
            return lines or []
        # Renamed or replaced: read to its end, and then what comes behind it.
        lines = self._file.read()
        if lines is not None or not self._open_next():
            return lines or []
        return self._file.read() or []

    def _late_lines(self) -> list[bytes]:
        found: list[bytes] = []
        for file in self._left:
            try:
                lines = file.read()
            except (_Cut, OSError):
                continue  # all that it held was read
            if lines is None:
                continue
            found += lines
            if not file.late:
                file.late = True
                self._befallen.append(
                    f"part source {self._path}: lines still come in the file that was moved away from there;"
                    " they are read, but whoever writes them must open the log again"
                )
        return found

    def _is_current(self, file: _File) -> bool:
        try:
            return identity(self._path.stat()) == file.inode
        except (FileNotFoundError, NotADirectoryError):
            # Between the renames of a rotation, or taken away: ``look`` tells, and poll sees what it becomes.
            return True

    def _open_next(self) -> bool:
        """Open the file behind the one that was read, or the oldest of all. False where there is none yet."""
        files = self._files()
        before = self._file
        # While a file is held open, no other one can get its inode: it is found, or it is gone as too old.
        known = [inode for inode, _ in files]
        at = known.index(before.inode) + 1 if before is not None and before.inode in known else 0
        held = {left.inode for left in self._left}
        files = [(inode, path) for inode, path in files[at:] if inode not in held]
        if not files:
            return False
        inode, path = files[0]
        file = _File(path.open("rb", buffering=0), path)
        if file.inode != inode:
            file.close()
            return False  # renamed in between: look again in the next call
        if before is not None:
            self._leave(before, replaced=before.inode not in known)
        self._file = file
        return True

    def _leave(self, file: _File, *, replaced: bool) -> None:
        if replaced:
            self._befallen.append(
                f"part source {self._path}: it was moved away, deleted or replaced by another file; that one"
                " was read to its end and the new one is followed"
            )
        self._left.append(file)
        if len(self._left) > _LEFT:
            gone = self._left.popleft()
            self.damaged_lines += bool(gone.rest.strip())
            gone.close()

    def _files(self) -> list[tuple[_Inode, Path]]:
        """The log's files, oldest first. Read until two readings agree: renames may run meanwhile."""
        before: list[tuple[_Inode, Path]] | None = None
        for _ in range(10):
            files = []
            for path in [*(path for _, path in reversed(numbered(self._path))), self._path]:
                try:
                    files.append((identity(path.stat()), path))
                except FileNotFoundError:
                    continue
            if files == before and len({inode for inode, _ in files}) == len(files):
                return files
            before = files
        raise SourceError(f"part source {self._path}: it is renamed faster than it can be read")

    # Lines

    def _arrival(self, line: bytes) -> Arrival | None:
        if not line.strip():
            return None
        try:
            raw = json.loads(line)
            if raw["event"] != "trigger":
                return None
            part, at = PartKey.parse(raw["part"]), raw["at"]
            if type(at) is not int:
                raise TypeError("at")
            # Whatever else it says means yes: a good part kept out costs less than a bad one let through.
            challenge = raw.get("challenge") not in _NOT_SET
        except (ValueError, KeyError, TypeError, RecursionError, SchemaError):
            self.damaged_lines += 1
            return None
        return Arrival(part, at, at + self._travel, challenge) if part.station == self._station else None

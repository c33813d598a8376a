"""The trigger log of a capture agent as the gate's part source, through rotations and truncation."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from schemas.errors import SchemaError
from schemas.part import PartKey
from workers.errors import SourceError
from workers.gate.parts import Arrival, travel_ns
from workers.gate.segments import numbered

_READ_BYTES = 1 << 20
_MAX_LINE = 1 << 16
_NOT_SET = (None, False, 0, "", "false", "False", "0", "no")

_Inode = tuple[int, int]


class LogPartSource:
    """Follows the trigger lines of a capture agent's log (``workers.capture.log``) from another process.

    Each line is a JSON object; those with ``"event": "trigger"`` carry ``part`` and ``at``, and ``challenge``
    where the part is known to be bad. A last line without its newline is still being written and is left for
    the next call. The file may not exist yet.

    A rotated log is read oldest first: ``PATH.2``, ``PATH.1``, ``PATH``. When the agent renames the file that
    is being read, it is read to its end through the open handle, and then the one after it. A file that has
    become shorter was truncated: that is an error once, and the file is read again from its start. Reading
    again does no harm: the gate's journal knows which parts are decided.

    Args:
        path: the agent's log.
        station: parts of other stations in the same log are not this gate's.
        travel_s: seconds that a part takes from the trigger to the gate.
    """

    def __init__(self, path: Path, *, station: str, travel_s: float) -> None:
        self._file: BinaryIO | None = None
        self._path = path
        self._station = station
        self._travel = travel_ns(travel_s)
        self._inode: _Inode | None = None
        self._offset = 0
        self._rest = b""
        self.damaged_lines = 0
        """Complete lines that could not be read."""

    def rewind(self) -> None:
        self._let_go()
        self._inode = None

    def poll(self) -> Sequence[Arrival]:
        try:
            data = self._read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SourceError(f"part source {self._path}: {error.strerror}; check the agent's log") from None
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_LINE:
            raise SourceError(
                f"part source {self._path}: a line of over {_MAX_LINE} bytes; this is not an agent's log"
            )
        return [arrival for line in lines if (arrival := self._arrival(line)) is not None]

    def settled(self, part: PartKey) -> None:
        """Nothing to forget: the log keeps every part."""

    def close(self) -> None:
        """Let go of the file."""
        self._let_go()

    def __del__(self) -> None:
        self._let_go()

    # Files

    def _read(self) -> bytes:
        if self._file is None and not self._open_next():
            return b""
        data = self._more()
        if data or self._is_current():
            return data
        # Renamed or replaced: whoever wrote to it until then had it open. Nothing comes behind its end now.
        data = self._more()
        return data or (self._more() if self._open_next() else b"")

    def _more(self) -> bytes:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._offset:
            self._offset, self._rest = 0, b""
            raise SourceError(
                f"part source {self._path}: it became shorter while it was read and is read again from its"
                " start; let logs be rotated by renaming"
            )
        data = os.pread(self._file.fileno(), _READ_BYTES, self._offset)
        self._offset += len(data)
        return data

    def _is_current(self) -> bool:
        try:
            return _identity(self._path.stat()) == self._inode
        except FileNotFoundError:
            # Between the renames of a rotation, or taken away: the next call sees what it becomes.
            return True

    def _open_next(self) -> bool:
        """Open the file behind the one that was read, or the oldest of all. False where there is none yet."""
        files = self._files()
        # While a file is held open, no other one can get its inode: it is found, or it is gone as too old.
        known = [inode for inode, _ in files]
        at = known.index(self._inode) + 1 if self._inode in known else 0
        if at >= len(files):
            return False
        inode, path = files[at]
        file = path.open("rb", buffering=0)
        if _identity(os.fstat(file.fileno())) != inode:
            file.close()
            return False  # renamed in between: look again in the next call
        self.damaged_lines += bool(self._rest.strip())
        self._let_go()
        self._file, self._inode = file, inode
        return True

    def _files(self) -> list[tuple[_Inode, Path]]:
        """The log's files, oldest first. Read until two readings agree: renames may run meanwhile."""
        before: list[tuple[_Inode, Path]] | None = None
        for _ in range(10):
            files = []
            for path in [*(path for _, path in reversed(numbered(self._path))), self._path]:
                try:
                    files.append((_identity(path.stat()), path))
                except FileNotFoundError:
                    continue
            if files == before and len({inode for inode, _ in files}) == len(files):
                return files
            before = files
        raise SourceError(f"part source {self._path}: it is renamed faster than it can be read")

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._offset, self._rest = None, 0, b""

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


def _identity(status: os.stat_result) -> _Inode:
    return status.st_dev, status.st_ino

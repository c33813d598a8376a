"""The agent's log: every trigger on disk before its frame is sent, so that any check can start from it.

Rotation, where a size is given: before a line that would make NAME larger, NAME.1 becomes NAME.2 and so on,
NAME becomes NAME.1, and a new NAME is made. Lines are never moved or changed: the inode of a file stays with
its lines, so a reader that keeps the file open reads it to its end, sees that NAME is another inode now, and
goes on with NAME.1, NAME.2, ... backwards from the inode that it had. Only files past ``keep`` are deleted.

Others rotate too: each line is to be in the file that NAME stands for. Where NAME was moved, deleted or
replaced, the log goes on at NAME with an alarm, and a line that met the old file is written once more.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from schemas.errors import SchemaError
from schemas.part import PartKey
from workers.capture import events
from workers.errors import SourceError

_log = structlog.get_logger(__name__)

TRIGGER = "trigger"
SENT = "sent"
FAILED = "failed"
DROPPED = "dropped"
TOLD = "told"
RECOVERED = "recovered"

_TAIL_BYTES = 1 << 20


class AgentLog:
    """Append-only lines of JSON, each with ``event``, ``part`` and ``at`` (nanoseconds since the epoch).

    ``trigger`` is written when the line saw the part, ``sent`` when the bus has acknowledged its frame,
    ``failed`` (with ``why``) when it will not. Where frames are buffered: ``dropped`` (with ``why``) when the
    images of a part were given up, ``told`` when the bus has the notice that says so, and ``recovered``
    (with ``station``, no part) when a start has seen to all triggers before it.
    A line torn by a crash is ended when the log is opened again.
    Each line is one write to the operating system: it outlives the process, and with ``sync`` the machine.

    Args:
        path: the file; it and its folder are made where they do not exist.
        sync: fsync after each trigger.
        rotate_bytes: begin a new file before this one gets larger; never where not given.
        keep: how many earlier files stay.

    Raises:
        SourceError: the file cannot be opened; from the methods, that it cannot be written.
    """

    def __init__(
        self, path: Path, *, sync: bool = False, rotate_bytes: int | None = None, keep: int = 10
    ) -> None:
        if rotate_bytes is not None and (rotate_bytes < 1 or keep < 1):
            raise ValueError("rotate_bytes and keep: expected numbers above 0")
        self.path = path
        self.listener: Callable[[Mapping[str, Any]], None] | None = None
        """Told of each line once it is written, on the thread that wrote it; it must not raise, nor wait."""
        self._sync = sync
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._lock = threading.Lock()
        # A full disk takes a part of a line: the next one is not to be lost with it.
        self._torn = False
        self._end = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = self._opened()
            tail = self._tail()
            if tail and not tail.endswith(b"\n"):
                _log.warning(events.LOG_TORN, path=str(path))
                self._write(b"\n")
            self._runs = _runs(tail)
            if not self._runs and (earlier := self._numbered(1)).exists():
                # The crash came right after a rotation.
                self._runs = _runs(earlier.read_bytes()[-_TAIL_BYTES:])
        except OSError as error:
            raise SourceError(f"agent log {path}: {error.strerror}; name a writable file") from None

    def _opened(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)

    def _tail(self) -> bytes:
        size = os.fstat(self._fd).st_size
        return os.pread(self._fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def runs(self, station: str) -> frozenset[int]:
        """The runs of the station at the log's end, as it was when it was opened."""
        return frozenset(self._runs.get(station, ()))

    # Lines

    def trigger(self, part: PartKey, at: int, facts: Mapping[str, str] | None = None) -> None:
        """The line saw a part. ``facts`` are added to the line (a name, what is known to be true)."""
        self._line({"event": TRIGGER, "part": str(part), "at": at, **(facts or {})})
        if self._sync:
            os.fsync(self._fd)

    def sent(self, part: PartKey, at: int, sensors: str) -> None:
        """The bus has the frame; ``sensors`` says of which, as ``rgb+depth``."""
        self._line({"event": SENT, "part": str(part), "at": at, "sensors": sensors})

    def failed(self, part: PartKey, at: int, why: str) -> None:
        """The frame will not reach the bus."""
        self._line({"event": FAILED, "part": str(part), "at": at, "why": why[:500]})

    def dropped(self, part: PartKey, at: int, why: str) -> None:
        """The images of a part were given up; a notice is on its way."""
        self._line({"event": DROPPED, "part": str(part), "at": at, "why": why[:500]})

    def told(self, part: PartKey, at: int, why: str) -> None:
        """The bus has the notice of a part without images."""
        self._line({"event": TOLD, "part": str(part), "at": at, "why": why[:500]})

    def recovered(self, station: str, at: int) -> None:
        """All triggers before this line are seen to."""
        self._line({"event": RECOVERED, "station": station, "at": at})

    def _line(self, body: Mapping[str, object]) -> None:
        self._write(json.dumps(body, separators=(",", ":")).encode("ascii") + b"\n")
        if self.listener is not None:
            self.listener(body)

    def _write(self, data: bytes) -> None:
        with self._lock:
            try:
                self._follow_name()
                self._rotate_for(len(data))
                self._append(data)
                if self._follow_name():  # moved in this very moment: readers of the name miss it else
                    self._append(data)
            except OSError as error:
                raise SourceError(
                    f"agent log {self.path}: {error.strerror}; without it parts cannot be counted"
                ) from None

    def _append(self, data: bytes) -> None:
        if self._torn:
            data = b"\n" + data
        while data:
            data = data[os.write(self._fd, data) :]
            self._torn = bool(data)
        self._end = os.lseek(self._fd, 0, os.SEEK_CUR)

    def _follow_name(self) -> bool:
        """See that the open file is the one at the name, or go on with that one; whether it was another."""
        mine = os.fstat(self._fd)
        try:
            there = self.path.stat()
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                if mine.st_size < self._end:
                    _log.error(
                        events.LOG_CUT, alarm=True, path=str(self.path), bytes=self._end - mine.st_size
                    )
                    self._end = mine.st_size
                return False
            was = "replaced by another file"
        except (FileNotFoundError, NotADirectoryError):
            was = "moved away or deleted"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        old, self._fd = self._fd, self._opened()
        os.close(old)
        size = os.fstat(self._fd).st_size
        self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        self._end = size
        _log.error(events.LOG_MOVED, alarm=True, path=str(self.path), was=was)
        return True

    def _rotate_for(self, size: int) -> None:
        if self._rotate_bytes is None:
            return
        used = os.fstat(self._fd).st_size
        if not used or used + size <= self._rotate_bytes:
            return
        free = 1
        while free < self._keep and self._numbered(free).exists():
            free += 1
        self._numbered(free).unlink(missing_ok=True)
        for number in range(free - 1, 0, -1):
            self._numbered(number).rename(self._numbered(number + 1))
        if self._sync:
            os.fsync(self._fd)
        self.path.rename(self._numbered(1))
        full, self._fd = self._fd, self._opened()
        os.close(full)
        self._end = 0

    # After a crash

    def unsettled(self, station: str) -> list[tuple[PartKey, int]]:
        """Triggers, with their times, for which the bus acknowledged neither a frame nor a notice.

        Looked for since the last ``recovered`` line of the station; where there is none, in its last run.
        What an earlier agent without a buffer lost long ago is not told today.

        Raises:
            SourceError: a file of the log cannot be read.
        """
        open_parts: dict[PartKey, int] = {}
        marked, last = False, 0
        try:
            for line in self._lines():
                if line.get("event") == RECOVERED and line.get("station") == station:
                    open_parts.clear()
                    marked = True
                    continue
                try:
                    part = PartKey.parse(line["part"])
                except (KeyError, TypeError, ValueError, SchemaError):
                    continue
                if part.station != station:
                    continue
                if line["event"] == TRIGGER and type(line.get("at")) is int:
                    # The last in the file, not the highest: a clock that was ahead once names no last run.
                    last = part.run
                    open_parts[part] = line["at"]
                elif line["event"] in (SENT, TOLD):
                    open_parts.pop(part, None)
        except OSError as error:
            raise SourceError(f"agent log {self.path}: {error.strerror}; it cannot be read") from None
        return sorted(
            ((part, at) for part, at in open_parts.items() if marked or part.run == last),
            key=lambda found: found[0].order,
        )

    def _lines(self) -> Iterator[dict[str, Any]]:
        numbered = [self._numbered(i) for i in range(self._keep, 0, -1)]
        for path in (*(p for p in numbered if p.exists()), self.path):
            with path.open("rb") as file:
                for raw in file:
                    try:
                        line = json.loads(raw)
                    except (ValueError, RecursionError):
                        continue
                    if isinstance(line, dict) and isinstance(line.get("event"), str):
                        yield line

    def close(self) -> None:
        """Let go of the file. Closing twice is allowed."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _runs(tail: bytes) -> dict[str, set[int]]:
    runs: dict[str, set[int]] = {}
    for line in tail.split(b"\n"):
        try:
            part = PartKey.parse(json.loads(line)["part"])
        except (ValueError, KeyError, TypeError, SchemaError):
            continue
        runs.setdefault(part.station, set()).add(part.run)
    return runs

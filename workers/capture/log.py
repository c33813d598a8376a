"""The agent's log: every trigger on disk before its frame is sent, so that any check can start from it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from schemas.errors import SchemaError
from schemas.part import PartKey
from workers.capture import events
from workers.errors import SourceError

_log = structlog.get_logger(__name__)

TRIGGER = "trigger"
SENT = "sent"
FAILED = "failed"

_TAIL_BYTES = 1 << 20


class AgentLog:
    """Append-only lines of JSON, each with ``event``, ``part`` and ``at`` (nanoseconds since the epoch).

    ``trigger`` is written when the line saw the part, ``sent`` when the bus has acknowledged its frame,
    ``failed`` (with ``why``) when it will not. A line torn by a crash is ended when the log is opened again.
    Each line is one write to the operating system: it outlives the process, and with ``sync`` the machine.

    Args:
        path: the file; it and its folder are made where they do not exist.
        sync: fsync after each trigger.

    Raises:
        SourceError: the file cannot be opened; from the methods, that it cannot be written.
    """

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        self.path = path
        self._sync = sync
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            tail = self._tail()
        except OSError as error:
            raise SourceError(f"agent log {path}: {error.strerror}; name a writable file") from None
        if tail and not tail.endswith(b"\n"):
            _log.warning(events.LOG_TORN, path=str(path))
            self._write(b"\n")
        self._last_run = _last_runs(tail)

    def _tail(self) -> bytes:
        size = os.fstat(self._fd).st_size
        return os.pread(self._fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES))

    def last_run(self, station: str) -> int | None:
        """The newest run of the station when the log was opened, or None."""
        return self._last_run.get(station)

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

    def _line(self, body: Mapping[str, object]) -> None:
        self._write(json.dumps(body, separators=(",", ":")).encode("ascii") + b"\n")

    def _write(self, data: bytes) -> None:
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError as error:
                raise SourceError(
                    f"agent log {self.path}: {error.strerror}; without it parts cannot be counted"
                ) from None

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


def _last_runs(tail: bytes) -> dict[str, int]:
    runs: dict[str, int] = {}
    for line in tail.split(b"\n"):
        try:
            part = PartKey.parse(json.loads(line)["part"])
        except (ValueError, KeyError, TypeError, SchemaError):
            continue
        runs[part.station] = max(part.run, runs.get(part.station, 0))
    return runs

"""The agent's disk buffer: what the broker has not acknowledged, bounded, and safe from a crash.

Files of a folder, one agent and one station each:

* ``frames-N.seg``: frames, at most ``max_bytes`` and ``max_records`` of them; a file is deleted when none of
  its records is needed any more;
* ``notices-N.seg``: parts whose images were given up. They have ``reserve_bytes`` of their own, so that a
  full buffer can still tell; a ``ballast`` of that kind is given back to a full disk when they need it;
* ``acked``: the place in the queue before which the broker has everything.

A process that is killed loses nothing that was written. A machine that loses its power loses what was written
in the last ``sync_s`` seconds at most: each file is flushed to the disk that often, and when it is finished.
After a crash, what was acknowledged but not yet marked is sent once more; no crash makes it grow.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from workers.capture import events, segments
from workers.capture.entry import Entry
from workers.capture.segments import Place, Stored, Watermark
from workers.durable import sync_folder
from workers.errors import BufferFull, SettingsError, SourceError

_log = structlog.get_logger(__name__)

Keep = Literal["oldest", "newest"]

_FRAMES, _NOTICES = "frames", "notices"
_MIN_SEGMENT = 1 << 16
_MAX_SEGMENT = 64 << 20
_BALLAST = 1 << 18
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(slots=True, eq=False)
class _Segment:
    path: Path
    size: int = 0
    live: int = 0
    """Records that are still needed."""


class DiskBuffer:
    """See the module. Threads may share it.

    Args:
        folder: made where it does not exist.
        max_bytes, max_records: how much of frames is kept.
        keep: which frames stay when it is full: the ``oldest``, or the ``newest``.
        reserve_bytes: what notices may take beside the frames.
        sync_s: the longest time, seconds, that a power cut may take back.
        spare_bytes: frames leave so much of the disk free for others, the log of triggers above all.

    Raises:
        SettingsError: another agent uses the folder, or a bound is impossible.
        SourceError: the folder cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = 1 << 30,
        max_records: int = 100_000,
        keep: Keep = "newest",
        reserve_bytes: int = 4 << 20,
        sync_s: float = 1.0,
        spare_bytes: int = 0,
    ) -> None:
        if max_bytes < 1 or max_records < 1 or reserve_bytes < 0:
            raise SettingsError(f"buffer {folder}: its bounds are numbers above 0")
        if keep not in ("oldest", "newest"):
            raise SettingsError(f"buffer {folder}: keep {keep!r}: use oldest or newest")
        self.folder = folder
        self.keep: Keep = keep
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._reserve = reserve_bytes
        self._segment_bytes = min(max(max_bytes // 16, _MIN_SEGMENT), _MAX_SEGMENT)
        self._sync_s = sync_s
        self._spare = spare_bytes
        self._lock = threading.RLock()
        self._segments: dict[str, dict[int, _Segment]] = {_FRAMES: {}, _NOTICES: {}}
        self._open: dict[str, tuple[int, int]] = {}
        self._dirty: set[int] = set()
        self._synced = time.monotonic()
        self._number = 0
        self.records = 0
        """Frames on disk that are still needed."""
        self.damaged_bytes = 0
        """Bytes that were found damaged when the buffer was opened; a torn tail is among them."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._guard = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._guard)
                raise SettingsError(
                    f"buffer {folder}: another agent uses it; give each station and agent a folder of its own"
                ) from None
            self._mark = Watermark(folder / "acked")
            self.recovered = self._recover()
            """What an earlier run left, in the order of the queue; the caller empties the list."""
        except OSError as error:
            raise SourceError(
                f"buffer {folder}: {error.strerror}; name a folder that can be written"
            ) from None
        self.next_seq = max([self._mark.value, *(s.last_seq + 1 for s in self.recovered)])
        """The first place in the queue that was never used."""
        self._grow_ballast()

    @property
    def size(self) -> int:
        """What the frames take on disk, done ones in unfinished files included."""
        with self._lock:
            return sum(segment.size for segment in self._segments[_FRAMES].values())

    @property
    def share(self) -> float:
        """How full it is, 0 to 1, by whichever of its bounds is nearer."""
        return max(self.size / self._max_bytes, self.records / self._max_records)

    # Writing

    def append(self, seq: int, last_seq: int, entry: Entry, value: bytes = b"") -> Place:
        """Keep a frame, or notices where the entry has no images.

        Raises:
            BufferFull: there is no room for it, by our own bound or by the disk's; nothing was written.
        """
        data = segments.pack(seq, last_seq, entry, value)
        kind = _NOTICES if entry.told else _FRAMES
        with self._lock:
            if kind == _NOTICES:
                used = sum(segment.size for segment in self._segments[_NOTICES].values())
                if used + len(data) > self._reserve:
                    raise BufferFull(f"buffer {self.folder}: its reserve for notices is used up")
            elif not self._room(len(data)):
                raise BufferFull(f"buffer {self.folder}: full, {self.records} frames in {self.size} bytes")
            try:
                place = self._write(kind, data)
            except OSError as error:
                if kind == _NOTICES and error.errno in _NO_ROOM and self._drop_ballast():
                    return self.append(seq, last_seq, entry, value)
                raise BufferFull(f"buffer {self.folder}: {error.strerror}") from None
            if kind == _FRAMES:
                self.records += 1
        return place

    def could_hold(self, size: int) -> bool:
        """Whether a message of so many bytes would fit if the buffer were empty."""
        return size + segments.OVERHEAD_BYTES <= self._max_bytes

    def _room(self, size: int) -> bool:
        opened = self._open.get(_FRAMES)
        if opened is not None and not self._segments[_FRAMES][opened[0]].live:
            self._finish(_FRAMES)
        if self.records >= self._max_records or self.size + size > self._max_bytes:
            return False
        if not self._spare:
            return True
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize >= self._spare + size

    def _write(self, kind: str, data: bytes) -> Place:
        number, fd = self._segment_for(kind, len(data))
        segment = self._segments[kind][number]
        segments.write_all(fd, data)
        place = Place(number, segment.size, len(data))
        segment.size += len(data)
        segment.live += 1
        self._dirty.add(fd)
        return place

    def _segment_for(self, kind: str, size: int) -> tuple[int, int]:
        opened = self._open.get(kind)
        if opened is not None:
            segment = self._segments[kind][opened[0]]
            if not segment.size or segment.size + size <= self._segment_bytes:
                return opened
            self._finish(kind)
        self._number += 1
        path = self.folder / f"{kind}-{self._number:08d}.seg"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._segments[kind][self._number] = _Segment(path)
        self._open[kind] = self._number, fd
        with contextlib.suppress(OSError):
            sync_folder(self.folder)
        return self._open[kind]

    def _finish(self, kind: str) -> None:
        """The file takes no more records; it goes when none of its records is needed."""
        number, fd = self._open.pop(kind)
        with contextlib.suppress(OSError):
            os.fsync(fd)
        self._dirty.discard(fd)
        os.close(fd)
        self._drop_if_done(kind, number)

    def sync(self, *, now: bool = False) -> None:
        """Flush to the disk if ``sync_s`` have passed since the last time, or at once. Raises OSError."""
        with self._lock:
            if not self._dirty or (not now and time.monotonic() - self._synced < self._sync_s):
                return
            dirty, self._dirty = self._dirty, set()
            copies = [os.dup(fd) for fd in dirty]
            self._synced = time.monotonic()
        # Outside the lock: a slow disk is not to hold up who reads.
        try:
            for fd in copies:
                os.fsync(fd)
        finally:
            for fd in copies:
                os.close(fd)

    # Reading and letting go

    def read(self, place: Place) -> bytes:
        """The message of a record.

        Raises:
            SourceError: it is damaged, or cannot be read.
        """
        with self._lock:
            segment = self._segments[_FRAMES].get(place.segment)
        if segment is None:
            raise SourceError(f"buffer {self.folder}: the record is gone")
        try:
            with segment.path.open("rb") as file:
                record = segments.unpack(memoryview(os.pread(file.fileno(), place.length, place.offset)))
        except OSError as error:
            raise SourceError(f"buffer {segment.path}: {error.strerror}") from None
        if record is None:
            raise SourceError(f"buffer {segment.path}: the record at {place.offset} is damaged")
        return record[3]

    def done(self, place: Place) -> None:
        """A record is not needed any more."""
        with self._lock:
            for kind, many in self._segments.items():
                if (segment := many.get(place.segment)) is not None:
                    segment.live -= 1
                    self.records -= kind == _FRAMES
                    self._drop_if_done(kind, place.segment)

    def acked(self, seq: int) -> None:
        """The broker has everything before this place in the queue."""
        with self._lock, contextlib.suppress(OSError):
            self._mark.advance(seq)

    def oldest_frames(self) -> int | None:
        """The number of the oldest file of frames whose end would make room, or None."""
        with self._lock:
            return min((n for n, segment in self._segments[_FRAMES].items() if segment.size), default=None)

    def give_up(self, number: int) -> None:
        """Delete a file of frames with all that is in it: its parts are told by notices from now on."""
        with self._lock:
            if (opened := self._open.get(_FRAMES)) is not None and opened[0] == number:
                self._finish(_FRAMES)
            if (segment := self._segments[_FRAMES].pop(number, None)) is not None:
                self.records -= segment.live
                with contextlib.suppress(OSError):
                    segment.path.unlink(missing_ok=True)

    def finish_notices(self) -> None:
        """Begin a new file of notices: what replaces many of them is not to keep their files alive."""
        with self._lock:
            if _NOTICES in self._open:
                self._finish(_NOTICES)

    def close(self) -> None:
        """Flush to the disk and let go of the folder. Closing twice is allowed."""
        with self._lock:
            if self._guard < 0:
                return
            for kind in list(self._open):
                self._finish(kind)
            self._mark.close()
            os.close(self._guard)
            self._guard = -1

    def _drop_if_done(self, kind: str, number: int) -> None:
        segment = self._segments[kind].get(number)
        if segment is None or segment.live > 0:
            return
        opened = self._open.get(kind)
        if opened is not None and opened[0] == number:
            # A file that is still short is used on: else a trickle would make a file of each record.
            if segment.size >= self._segment_bytes // 2:
                self._finish(kind)
            return
        del self._segments[kind][number]
        with contextlib.suppress(OSError):
            segment.path.unlink(missing_ok=True)
        self._grow_ballast()

    # Room for notices on a full disk

    def _drop_ballast(self) -> bool:
        path = self.folder / "ballast"
        if not path.exists():
            return False
        with contextlib.suppress(OSError):
            path.unlink()
            return True
        return False

    def _grow_ballast(self) -> None:
        path = self.folder / "ballast"
        if path.exists() or not self._reserve:
            return
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                os.posix_fallocate(fd, 0, min(_BALLAST, self._reserve))
            finally:
                os.close(fd)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    # After a crash

    def _recover(self) -> list[Stored]:
        found: list[Stored] = []
        for kind in (_FRAMES, _NOTICES):
            for path in sorted(self.folder.glob(f"{kind}-*.seg")):
                number = int(path.stem.removeprefix(f"{kind}-"))
                self._number = max(self._number, number)
                stored, good_end, damaged = segments.scan(path, number)
                self.damaged_bytes += damaged
                if good_end < path.stat().st_size:
                    os.truncate(path, good_end)
                self._segments[kind][number] = _Segment(path, good_end, len(stored))
                self.records += len(stored) * (kind == _FRAMES)
                found += stored
        if self.damaged_bytes:
            _log.warning(events.BUFFER_TORN, folder=str(self.folder), bytes=self.damaged_bytes)
        # Notices first where places overlap, the longest before all: it replaced what it stands for.
        found.sort(key=lambda s: (s.seq, not s.entry.told, -s.last_seq))
        kept: list[Stored] = []
        covered = self._mark.value
        for one in found:
            if one.last_seq < covered:
                self.done(one.place)
                continue
            kept.append(one)
            covered = one.last_seq + 1
        for kind in (_FRAMES, _NOTICES):
            for number in list(self._segments[kind]):
                self._drop_if_done(kind, number)
        return kept

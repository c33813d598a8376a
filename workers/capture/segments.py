"""Files of records that are only ever appended to, each record with its own checksum.

A record is ``XCB1``, the first and last place in the queue that it stands for, two lengths and a CRC-32C
over all of it; then the entry and the bytes of the message. A crash leaves at most one record torn, at the
end of a file. Bytes that are no record are skipped up to the next one that is: a bad sector costs what it
hit.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crc32c import crc32c

from schemas.errors import SchemaError
from schemas.wire import MAX_MESSAGE_BYTES
from workers.capture.entry import Entry

_MAGIC = b"XCB1"
_HEADER = struct.Struct("<4sQQIII")
_MAX_META = 4096
OVERHEAD_BYTES = _HEADER.size + 256
"""What a record takes beside its message, at most for names of usual length."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is: file number, offset and length in bytes."""

    segment: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it was found: it stands for the places ``seq`` to ``last_seq`` of the queue."""

    seq: int
    last_seq: int
    entry: Entry
    place: Place


def pack(seq: int, last_seq: int, entry: Entry, value: bytes) -> bytes:
    """The bytes of a record."""
    meta = entry.pack()
    head = _HEADER.pack(_MAGIC, seq, last_seq, len(meta), len(value), 0)[:-4]
    crc = crc32c(value, crc32c(meta, crc32c(head)))
    return head + crc.to_bytes(4, "little") + meta + value


def unpack(data: memoryview) -> tuple[int, int, Entry, bytes] | None:
    """First place, last place, entry and message of the record that ``data`` begins with, or None."""
    if len(data) < _HEADER.size:
        return None
    magic, seq, last_seq, meta_bytes, value_bytes, crc = _HEADER.unpack_from(data)
    end = _HEADER.size + meta_bytes + value_bytes
    if magic != _MAGIC or meta_bytes > _MAX_META or value_bytes > MAX_MESSAGE_BYTES or len(data) < end:
        return None
    body = data[_HEADER.size : end]
    if crc32c(body, crc32c(data[: _HEADER.size - 4])) != crc:
        return None
    try:
        entry = Entry.unpack(bytes(body[:meta_bytes]))
    except SchemaError:
        return None
    return seq, last_seq, entry, bytes(body[meta_bytes:])


def scan(path: Path, segment: int) -> tuple[list[Stored], int, int]:
    """The good records of a file, where the last of them ends, and how many bytes between them are not.

    Raises:
        OSError: the file cannot be read.
    """
    data = memoryview(path.read_bytes())
    found: list[Stored] = []
    at, good_end, damaged = 0, 0, 0
    while at < len(data):
        record = unpack(data[at:])
        if record is None:
            following = data.obj.find(_MAGIC, at + 1)  # type: ignore[attr-defined]
            skipped = (following if following >= 0 else len(data)) - at
            damaged += skipped
            at += skipped
            continue
        seq, last_seq, entry, value = record
        length = _HEADER.size + len(entry.pack()) + len(value)
        found.append(Stored(seq, last_seq, entry, Place(segment, at, length)))
        at += length
        good_end = at
    return found, good_end, damaged


def write_all(fd: int, data: bytes) -> None:
    """Append all of it or nothing: what a full disk left of it is cut off again. Raises OSError."""
    start = os.lseek(fd, 0, os.SEEK_END)
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        os.ftruncate(fd, start)
        raise


class Watermark:
    """The place in the queue before which everything is done; it survives a write torn by a crash.

    Two slots are written in turn, each with its checksum; the larger good one counts.
    """

    _SLOT = struct.Struct("<QI")

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.value = max(self._slots(), default=0)
        self._turn = 0
        # Both slots have their blocks from now on: a full disk cannot keep us from writing them.
        for _ in range(2):
            self._write()

    def _slots(self) -> Iterator[int]:
        data = os.pread(self._fd, 2 * self._SLOT.size, 0)
        for at in range(0, len(data) - self._SLOT.size + 1, self._SLOT.size):
            value, crc = self._SLOT.unpack_from(data, at)
            if crc32c(data[at : at + 8]) == crc:
                yield value

    def advance(self, value: int) -> None:
        """Everything before ``value`` is done. Going back is ignored. Raises OSError."""
        if value > self.value:
            self.value = value
            self._write()

    def _write(self) -> None:
        number = self.value.to_bytes(8, "little")
        slot = self._SLOT.pack(self.value, crc32c(number))
        os.pwrite(self._fd, slot, self._turn * self._SLOT.size)
        self._turn = 1 - self._turn

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

"""What kafka-python (3.0.12) cannot decode comes back as a record that says so, and its partition goes on.

A header whose name is not UTF-8, a batch in a codec that is not there, a checksum that is wrong, a format
nobody knows: the client raises, stands where it stood, and raises again at the next poll, for ever. Here each
batch is looked at before the client iterates over it. What is sound it reads as ever. What is not becomes one
record of the whole stretch that cannot be read, whose ``checksum`` holds an `Undecoded`: of a single record
where its neighbours can be told from it, else of what is left of the batch. Offsets only go forward.

Decompression is bounded here too: a few kilobytes can claim to be gigabytes, and would take every worker's
memory, one after the other.
"""

from __future__ import annotations

import gzip
import io
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import lz4.frame
import zstandard

from workers.bus._client import DefaultRecordBatch, LegacyRecordBatch, codec, decode_varint, kafka_errors
from workers.bus.base import MAX_RECORD_BYTES, Undecoded

LARGEST_BATCH = 8 * MAX_RECORD_BYTES
"""Bytes of a decompressed batch, at most."""
BROKER_PATIENCE_S = 3.0
"""How long a broker may say that it cannot read its own disk, before what lies there counts as lost."""

_FRAME = struct.Struct(">qi")
_MAGIC_AT = 16
# Offset, length, and what the oldest format has in front of its first field.
_LEAST = 14
_CODECS = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}


def survive_undecodable(client: Any) -> None:
    """Let a ``KafkaConsumer`` return what it cannot decode instead of raising it at every poll."""
    fetcher = client._fetcher
    theirs, parse = fetcher.PartitionRecords, fetcher._parse_fetched_data
    refused: dict[Any, tuple[int, float]] = {}

    def end_of(place: Any) -> int | None:
        """The first offset that the partition does not hold yet, where it is known."""
        state = fetcher._subscriptions.assignment.get(place)
        return None if state is None else state.highwater

    def records_of(fetch_offset: int, tp: Any, records: Any, **named: Any) -> Any:
        return theirs(fetch_offset, tp, _Batches(records._buffer, fetch_offset, lambda: end_of(tp)), **named)

    def lost(completed: Any, why: str, content: bytes) -> Any:
        place, offset = completed.topic_partition, completed.fetched_offset
        one = _Lost(offset, Undecoded(offset, why), content)
        return theirs(
            offset,
            place,
            _One(one),
            metric_aggregator=None,
            on_drain=fetcher._on_partition_records_drain,
        )

    def parsed(completed: Any) -> Any:
        place, offset = completed.topic_partition, completed.fetched_offset
        data = completed.partition_data
        state = fetcher._subscriptions.assignment.get(place)
        wanted = state is not None and state.position is not None and state.position.offset == offset
        if wanted and data.error_code == kafka_errors.CorruptRecordError.errno:
            known = refused.get(place)
            since = known[1] if known is not None and known[0] == offset else time.monotonic()
            refused[place] = (offset, since)
            # Another replica may become the leader and have it whole.
            if time.monotonic() - since >= BROKER_PATIENCE_S:
                return lost(completed, "the broker cannot read it from its disk (CORRUPT_MESSAGE)", b"")
        try:
            return parse(completed)
        except Exception as error:
            if data.error_code or not wanted:
                raise
            return lost(
                completed, f"no batch can be told from its bytes: {error}", bytes(data.records or b"")
            )

    fetcher.PartitionRecords = records_of
    fetcher._parse_fetched_data = parsed


class _Lost:
    """In the place of a client's record: what cannot be decoded. ``offset`` is its last."""

    abort = False
    timestamp_type = 0

    def __init__(
        self,
        offset: int,
        undecoded: Undecoded,
        content: bytes,
        *,
        key: bytes | None = None,
        headers: list[tuple[str, bytes | None]] | None = None,
        timestamp: int | None = None,
    ) -> None:
        self.offset = offset
        self.checksum = undecoded
        self.value = content
        self.key = key
        self.headers = headers or []
        # Nobody says when: it was read now.
        self.timestamp = round(time.time() * 1000) if timestamp is None else timestamp
        self.size_in_bytes = len(content)

    def validate_crc(self) -> bool:
        """The client asks each record; this one is told apart already."""
        return True


class _Whole:
    """In the place of a client's batch: one of which nothing can be read."""

    # Not that of any format, so that the client looks for no transaction in it.
    magic = -1

    def __init__(self, lost: _Lost) -> None:
        self.base_offset = lost.checksum.first
        self._lost = lost

    def validate_crc(self) -> bool:
        """See ``_Lost``."""
        return True

    def __iter__(self) -> Iterator[_Lost]:
        yield self._lost


class _One:
    """In the place of a client's records: a single batch."""

    def __init__(self, lost: _Lost) -> None:
        self._batch: _Whole | None = _Whole(lost)

    def next_batch(self) -> _Whole | None:
        """The batch, once."""
        batch, self._batch = self._batch, None
        return batch


class _Batches:
    """In the place of the client's ``MemoryRecords``: the batches of one answer, each looked at first.

    Args:
        start: the offset that was asked for.
        end: the first offset that is not in the partition yet, or None where that is not known.
    """

    def __init__(self, content: Any, start: int, end: Callable[[], int | None]) -> None:
        self._content = memoryview(content)
        self._at = 0
        self._next = start
        self._end = end

    def next_batch(self) -> Any:
        """The next batch that is whole, or None. Never raises.

        Behind one that cannot be read nothing more of the answer is believed, where the next one begins least
        of all: it is asked for again, and the broker's index finds it.
        """
        rest = self._content[self._at :]
        if len(rest) < _FRAME.size:
            return None
        base, length = _FRAME.unpack_from(rest)
        size = _FRAME.size + length
        # A broker cuts at the limit of the request, but never its first.
        if self._at and size > len(rest):
            return None
        if length < _LEAST - _FRAME.size or size > len(rest):
            return self._whole(self._next, f"a batch claims to have {length} bytes", bytes(rest))
        # Of the first one, part may have been read before.
        follows = self._at == 0 or base >= self._next
        self._at += size
        return self._opened(rest[:size], base, follows)

    def _opened(self, piece: memoryview, base: int, follows: bool) -> Any:
        magic, end = piece[_MAGIC_AT], self._end()
        try:
            if magic > 2:
                raise ValueError(f"record format {magic} is not known")
            batch = _Legacy(piece, magic) if magic < 2 else _Batch(piece)
            last = base if magic < 2 else int(batch.last_offset)
            if not batch.sound():
                raise ValueError("its checksum is wrong: it was changed on the way or on disk")
            if not follows or last < self._next or (end is not None and last >= end):
                raise ValueError(f"it claims offsets {base} to {last}, which are not where it lies")
            batch.open(self._next)
        except Exception as error:  # whatever it is, it is of this batch and holds up no other
            return self._whole(self._last_of(piece, base, end), _said(error), bytes(piece))
        self._next = last + 1
        return batch

    def _last_of(self, piece: memoryview, base: int, end: int | None) -> int:
        """The last offset of a batch that cannot be read, as far as its head can be believed."""
        known = self._next if end is None else end - 1
        if not 0 <= base <= known or piece[_MAGIC_AT] != 2 or len(piece) < 27:
            return self._next
        last = base + int(struct.unpack_from(">i", piece, 23)[0])
        if len(self._content) - self._at >= 8:
            following = int(struct.unpack_from(">q", self._content, self._at)[0])
            last = min(last, following - 1)
        return min(last, max(known, self._next))

    def _whole(self, last: int, why: str, content: bytes) -> _Whole:
        first, last = self._next, max(self._next, last)
        self._next, self._at = last + 1, len(self._content)
        return _Whole(_Lost(last, Undecoded(first, why, batch=True), content))


class _Batch(DefaultRecordBatch):  # type: ignore[misc]
    """A batch of today's format that survives a record in it."""

    # Of the client.
    _buffer: bytearray
    _pos: int
    _decompressed: bool
    _next_record_index: int

    def sound(self) -> bool:
        """Whether its checksum is right."""
        return bool(super().validate_crc())

    def validate_crc(self) -> bool:
        """It was checked before the client saw the batch."""
        return True

    def open(self, first: int) -> None:
        """Decompress it; what lies before ``first`` has been read. Raises whatever the codec does."""
        self._first, self._seen, self._failed = first, self.base_offset - 1, False
        self._maybe_uncompress()

    def _maybe_uncompress(self) -> None:
        if self._decompressed:
            return
        if self.compression_type:
            self._assert_has_codec(self.compression_type)
            content = bytes(memoryview(self._buffer)[self._pos :])
            self._buffer = bytearray(_decompressed(self.compression_type, content))
            self._pos = 0
        self._decompressed = True

    def __next__(self) -> Any:
        if self._failed:
            raise StopIteration
        if self._next_record_index >= self._num_records and self._pos == len(self._buffer):
            raise StopIteration
        start = self._pos
        try:
            record = super().__next__()
            self._saw(record.offset)
        except Exception as error:  # as above, of this record
            return self._lost(start, _said(error))
        return record

    def _saw(self, offset: int) -> None:
        if not self._seen < offset <= self.last_offset:
            raise ValueError(f"a record claims offset {offset}, which cannot follow {self._seen}")
        self._seen, self._first = offset, max(self._first, offset + 1)

    def _lost(self, start: int, why: str) -> _Lost:
        """The record at ``start``, if what is behind it can be told from it, else all that is left."""
        at = self._next_record_index
        try:
            size, begin = decode_varint(self._buffer, start)
            end = begin + size
            if size <= 0 or end > len(self._buffer) or at >= self._num_records:
                raise ValueError("where it ends cannot be told")
            offset, timestamp, key, value, headers = _salvaged(self._buffer, begin, end)
            offset += self.base_offset
            self._saw(offset)
        except Exception as error:
            why = f"{why}; {_said(error)}"
        else:
            self._pos, self._next_record_index = end, at + 1
            timestamp += self.first_timestamp
            return _Lost(offset, Undecoded(offset, why), value, key=key, headers=headers, timestamp=timestamp)
        self._failed = True
        if self._first > self.last_offset:
            raise StopIteration  # every record was read; what is left over is none
        content = bytes(memoryview(self._buffer)[start:])
        return _Lost(self.last_offset, Undecoded(self._first, why, batch=True), content)


class _Legacy(LegacyRecordBatch):  # type: ignore[misc]
    """A batch of the formats before 2017, as old logs still hold them."""

    def sound(self) -> bool:
        """Whether its checksum is right."""
        return bool(super().validate_crc())

    def validate_crc(self) -> bool:
        """See ``_Batch``."""
        return True

    def open(self, first: int) -> None:
        """Read all of it; raises what the client raises."""
        self._records = list(super().__iter__())
        if not all(record.validate_crc() for record in self._records):
            raise kafka_errors.CorruptRecordError("the checksum of a record in it is wrong")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._records)


def _salvaged(
    content: bytearray, at: int, end: int
) -> tuple[int, int, bytes | None, bytes, list[tuple[str, bytes | None]]]:
    """Offset and time (less those of the batch), key, value and headers of a record, while lengths are sane.

    A name that is not UTF-8 is written with backslashes in the place of the bytes that are not.

    Raises:
        ValueError, IndexError: they are not.
    """

    def block(length: int, at: int) -> bytes | None:
        if at + max(0, length) > end:
            raise ValueError("a length in the record is beyond its end")
        return bytes(content[at : at + length]) if length >= 0 else None

    _, at = decode_varint(content, at)
    time_delta, at = decode_varint(content, at)
    offset_delta, at = decode_varint(content, at)
    size, at = decode_varint(content, at)
    key = block(size, at)
    at += max(0, size)
    size, at = decode_varint(content, at)
    value = block(size, at) or b""
    at += max(0, size)
    headers: list[tuple[str, bytes | None]] = []
    try:
        count, at = decode_varint(content, at)
        for _ in range(count):
            size, at = decode_varint(content, at)
            name = block(size, at) or b""
            at += max(0, size)
            size, at = decode_varint(content, at)
            headers.append((name.decode("utf-8", "backslashreplace"), block(size, at)))
            at += max(0, size)
    except (ValueError, IndexError):
        pass  # key and value are sound; the headers before the broken one are kept
    return offset_delta, time_delta, key, value, headers


def _decompressed(kind: int, content: bytes) -> bytes:
    if kind == 1:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            found = stream.read(LARGEST_BATCH + 1)
    elif kind == 3:
        with lz4.frame.LZ4FrameFile(io.BytesIO(content)) as stream:
            found = stream.read(LARGEST_BATCH + 1)
    elif kind == 4:
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True)
        with reader as stream:
            found = stream.read(LARGEST_BATCH + 1)
    else:
        # A byte of this one becomes at most some twenty.
        found = codec.snappy_decode(content)
    if len(found) > LARGEST_BATCH:
        raise ValueError(
            f"a {_CODECS[kind]} batch of {len(content)} bytes holds more than {LARGEST_BATCH} bytes"
        )
    return bytes(found)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__

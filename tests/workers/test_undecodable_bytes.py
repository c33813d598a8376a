"""Batches with any byte changed, cut or of strange content: the client's own loop reads them to their end."""

from __future__ import annotations

import gzip
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.foreign import RawName
from workers.bus import _undecodable
from workers.bus._undecodable import survive_undecodable

# Behind ours, which imports the client without the warning of its schema loader.
from kafka.consumer.fetcher import Fetcher  # isort: skip
from kafka.record import MemoryRecords, MemoryRecordsBuilder  # isort: skip
from kafka.record.util import calc_crc32c  # isort: skip
from kafka.structs import TopicPartition  # isort: skip

PLACE = TopicPartition("t", 0)
COUNT = 3


def batch(base: int, *, codec: int = 0, name: str = "a header", magic: int = 2) -> bytes:
    """Three records from ``base`` on, as they lie in a log."""
    builder = MemoryRecordsBuilder(magic, codec, 2**20)
    for at in range(COUNT):
        headers = [(name if at == 1 else "a header", b"h")] if magic == 2 else None
        builder.append(1_700_000_000_000, b"key %d" % (base + at), b"value " * 50, headers)
    builder.close()
    content = bytearray(builder.buffer())
    if magic == 2:
        struct.pack_into(">q", content, 0, base)
    return bytes(content)


def sealed(content: bytes) -> bytes:
    """The same with a checksum that is right."""
    changed = bytearray(content)
    struct.pack_into(">I", changed, 17, calc_crc32c(memoryview(changed)[21:]))
    return bytes(changed)


def read(content: bytes, start: int = 0, end: int = 9) -> list[Any]:
    """What a consumer gets of an answer, and of those to the same question asked again behind it."""
    state = SimpleNamespace(highwater=end, position=SimpleNamespace(offset=start))
    fetcher = SimpleNamespace(
        PartitionRecords=Fetcher.PartitionRecords,
        _parse_fetched_data=None,
        _subscriptions=SimpleNamespace(assignment={PLACE: state}),
        _on_partition_records_drain=lambda _: None,
    )
    survive_undecodable(SimpleNamespace(_fetcher=fetcher))
    found: list[Any] = []
    position = start
    while position < end:
        # As a broker answers: from the batch on that holds the position, by where it wrote it.
        answer = b"".join(
            content[at : at + size] for at, size, last in PLACES.get(id(content), []) if last >= position
        )
        records = fetcher.PartitionRecords(
            position, PLACE, MemoryRecords(answer or content), isolation_level=0, check_crcs=True
        )
        got: list[Any] = []
        while records:
            got += records.take(100)
        assert records.next_fetch_offset > position or not got
        if records.next_fetch_offset == position:
            break
        position = records.next_fetch_offset
        found += got
    return found


PLACES: dict[int, list[tuple[int, int, int]]] = {}


def laid_out(*batches: bytes) -> bytes:
    content = b"".join(batches)
    PLACES.clear()
    places, at = [], 0
    for number, each in enumerate(batches):
        places.append((at, len(each), COUNT * number + COUNT - 1))
        at += len(each)
    PLACES[id(content)] = places
    return content


def offsets(found: list[Any]) -> list[int]:
    """Every offset that was told of, a stretch with all of its own."""
    told: list[int] = []
    for record in found:
        told += range(getattr(record.checksum, "first", record.offset), record.offset + 1)
    return told


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_sound_batches_of_every_codec_are_read_as_ever(codec: int) -> None:
    found = read(laid_out(*(batch(base, codec=codec) for base in (0, 3, 6))))
    assert offsets(found) == list(range(9))
    assert {record.checksum for record in found} == {None}


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_a_name_that_is_no_text_costs_its_record_alone_and_keeps_key_and_value(codec: int) -> None:
    found = read(laid_out(batch(0), batch(3, codec=codec, name=RawName("café")), batch(6)))
    assert offsets(found) == list(range(9))
    (lost,) = [record for record in found if record.checksum is not None]
    assert (lost.offset, lost.key, lost.value) == (4, b"key 4", b"value " * 50)
    assert lost.headers == [("caf\\xe9", b"h")]
    assert lost.timestamp == 1_700_000_000_000


def test_what_lies_before_the_offset_that_was_asked_for_is_not_told_again() -> None:
    found = read(laid_out(batch(0), batch(3, name=RawName("café")), batch(6)), start=5)
    assert [(record.offset, record.checksum) for record in found] == [
        (5, None),
        (6, None),
        (7, None),
        (8, None),
    ]


@pytest.mark.parametrize("what", ["codec", "stream", "bomb", "count", "length of a record"])
def test_a_batch_that_cannot_be_opened_is_one_record_of_its_offsets(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = bytearray(batch(3, codec=1 if what in ("stream", "bomb") else 0))
    if what == "codec":
        bad[22] = 7
    elif what == "stream":
        bad[80] ^= 0xFF
    elif what == "bomb":
        monkeypatch.setattr(_undecodable, "LARGEST_BATCH", 100)
        bad[61:] = gzip.compress(b"0" * 10_000)
        struct.pack_into(">i", bad, 8, len(bad) - 12)
    elif what == "count":
        struct.pack_into(">i", bad, 57, 900)
    else:
        bad[61:63] = b"\xfe\x7f"
    found = read(laid_out(batch(0), sealed(bytes(bad)), batch(6)))
    assert offsets(found) == list(range(9))
    lost = [record for record in found if record.checksum is not None]
    if what != "count":
        assert [(record.checksum.first, record.offset, record.checksum.batch) for record in lost] == [
            (3, 5, True)
        ]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    at=st.integers(0, 2000),
    byte=st.integers(0, 255),
    codec=st.sampled_from([0, 1, 2, 3, 4]),
    right=st.booleans(),
)
def test_any_byte_may_be_changed_and_every_offset_is_told_of_once(
    at: int, byte: int, codec: int, right: bool
) -> None:
    sound = batch(3, codec=codec)
    bad = bytearray(sound)
    bad[at % len(bad)] = byte
    changed = sealed(bytes(bad)) if right else bytes(bad)
    told = offsets(read(laid_out(batch(0), changed, batch(6))))
    assert told == sorted(set(told))
    assert set(told) <= set(range(9))
    assert {0, 1, 2} <= set(told)
    # A batch may say of itself, by a checksum that is right, that it holds fewer.
    if not right:
        assert told == list(range(9))


@settings(max_examples=100, deadline=None)
@given(content=st.binary(min_size=12, max_size=200))
def test_bytes_that_are_no_batch_never_hold_the_reader_up(content: bytes) -> None:
    told = offsets(read(content, end=4))
    assert told == sorted(set(told))


def test_old_formats_are_read_and_a_changed_byte_is_told() -> None:
    one = batch(0, magic=1)
    assert [record.value for record in read(one, end=1)][:1] == [b"value " * 50]
    changed = bytearray(one)
    changed[60] ^= 1
    found = read(bytes(changed), end=1)
    assert found[0].checksum.first == 0

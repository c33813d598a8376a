"""No message makes a reader allocate more than it says."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace

import cv2
import msgpack
import numpy as np
import pytest
import zstandard

from schemas.errors import MessageTooLarge, SchemaError
from schemas.frame import Frame
from schemas.images import BYTES_PER_PIXEL, decode_colour, decode_depth, decode_map
from schemas.part import PartKey
from schemas.payload import ImagePayload
from schemas.scan import MAX_ITEMS, scan
from schemas.wire import (
    MAX_MESSAGE_BYTES,
    MAX_OVERHEAD_BYTES,
    decode_command,
    decode_frame,
    decode_heatmap,
    decode_verdict,
    encode,
    salvage_part,
)

MIB = 2**20


def peak(call: Callable[[], object]) -> int:
    """Bytes allocated at the highest point of the call, beyond those before it."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def nested(head: bytes, fill: bytes, depth: int) -> bytes:
    """Containers in one another, each filled up but for its last item."""
    return (head + fill) * depth + b"\xc0"


def list_of(count: int) -> bytes:
    return b"\xdd" + struct.pack(">I", count)


def map_of(count: int) -> bytes:
    return b"\xdf" + struct.pack(">I", count)


WIDE = "\N{HOT BEVERAGE}a".encode() * 6  # more than one byte a character in memory
SIZE = MAX_MESSAGE_BYTES
HEAD = encode(
    Frame(
        part=PartKey("a", 1, 1),
        product="p",
        captured_at=1,
        deadline=2,
        rgb=ImagePayload.of("raw", 1, 1, b"123"),
    )
)
HOSTILE: dict[str, bytes] = {
    "empty lists": b"\xdd" + struct.pack(">I", SIZE - 5) + b"\x90" * (SIZE - 5),
    "empty lists in lists": (list_of(512) + b"\x90" * 512) * (SIZE // 517),
    "empty maps": list_of(512) + (list_of(512) + b"\x80" * 512) * 512,
    "lists in lists": b"\x91" * SIZE,
    "maps in maps": b"\x81\xa1a" * (SIZE // 3),
    "claimed list": list_of(2**32 - 1),
    "claimed map": map_of(2**32 - 1),
    "claimed string": b"\xdb\xff\xff\xff\xff",
    "claimed bytes": b"\xc6\xff\xff\xff\xff",
    "claimed extension": b"\xc9\xff\xff\xff\xff\x01",
    "open lists full of text": nested(list_of(512), (bytes([0xA0 | len(WIDE)]) + WIDE) * 511, 900)[:SIZE],
    "open lists full of numbers": nested(list_of(512), b"\xcb" + b"\x7f" * 8, 3600)[:SIZE],
    "open maps": nested(
        map_of(128), b"".join(b"\xa3%03d\x01" % n for n in range(127)) + b"\xa1z", 900
    )[:SIZE],
    "long texts": list_of(512) + (
        list_of(512) + (b"\xda\x0f\xff" + b"\xf0\x9f\x98\x80" + b"a" * 4091) * 512
    ) * 7,
    "many texts": b"\x81\xa1a" + list_of(500) + (b"\xd9\xff" + "é".encode() * 127 + b"a") * 500,
    "items at the limit": map_of(8) + b"".join(
        b"\xa1%d" % n + list_of(500) + b"\xcb\x3f\xf0\0\0\0\0\0\0" * 500 for n in range(8)
    ),
    "maps at the limit": map_of(30) + b"".join(
        b"\xa2%02d" % n + map_of(128) + b"".join(b"\xa4%04d\xcf" % m + b"\x7f" * 8 for m in range(128))
        for n in range(30)
    ),
    "extension": HEAD[:-1] + b"\xd4\x01\x01",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_cost_little_and_are_refused(name: str) -> None:
    data = HOSTILE[name]
    assert len(data) <= MAX_MESSAGE_BYTES  # beyond it the reader looks at nothing

    def read() -> None:
        for reader in (decode_frame, decode_verdict, decode_heatmap, decode_command):
            with pytest.raises(SchemaError):
                reader(data)
        assert salvage_part(data) is None or name == "extension"

    read()  # what the first call imports and caches is not the message's
    assert peak(read) < MAX_OVERHEAD_BYTES


def test_bytes_where_text_belongs_are_copied_once_and_not_printed() -> None:
    blob = bytes(15 * MIB)
    for value in ([blob, 1, 1], ["a", blob, 1], blob):
        data = msgpack.packb({"v": 1, "kind": "frame", "part": value})

        def read(data: bytes = data) -> None:
            with pytest.raises(SchemaError) as caught:
                decode_frame(data)
            assert len(str(caught.value)) < 300

        read()
        assert peak(read) < len(blob) + MAX_OVERHEAD_BYTES


def test_a_large_honest_frame_costs_its_payloads_and_little_more() -> None:
    image = np.zeros((1000, 1500, 3), np.uint8).tobytes()
    frame = Frame(
        part=PartKey("a", 1, 1),
        product="p",
        captured_at=1,
        deadline=2,
        rgb=ImagePayload.of("raw", 1000, 1500, image),
        depth=ImagePayload.of("raw16", 1000, 1500, image[: 2 * 1000 * 1500]),
    )
    data = encode(frame)
    assert peak(lambda: decode_frame(data)) < len(data) + MAX_OVERHEAD_BYTES


def test_the_scan_stops_at_its_limit_of_items() -> None:
    scan(b"\xdd" + struct.pack(">I", MAX_ITEMS) + b"\x01" * MAX_ITEMS)
    with pytest.raises(MessageTooLarge, match="items"):
        scan(b"\xdd" + struct.pack(">I", MAX_ITEMS + 1) + b"\x01" * (MAX_ITEMS + 1))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb(side: int, bits: int, colour: int, middle: bytes = b"") -> bytes:
    channels = 3 if colour == 2 else 1
    packer = zlib.compressobj(9)
    row = bytes(1 + side * channels * bits // 8)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + middle + chunk(b"IDAT", body) + chunk(b"IEND", b"")


BOMBS: dict[str, tuple[ImagePayload, Callable[[ImagePayload], object]]] = {
    "zstd": (
        ImagePayload.of("delta16", 8, 8, zstandard.compress(bytes(512 * MIB))),
        decode_depth,
    ),
    "zstd without a size": (
        ImagePayload.of(
            "delta16", 8, 8, zstandard.ZstdCompressor(write_content_size=False).compress(bytes(512 * MIB))
        ),
        decode_depth,
    ),
    "png": (ImagePayload.of("png", 8, 8, png_bomb(6000, 8, 2)), decode_colour),
    "png16": (ImagePayload.of("png16", 8, 8, png_bomb(6000, 16, 0)), decode_depth),
    "png8": (ImagePayload.of("png8", 8, 8, png_bomb(6000, 8, 0)), decode_map),
    "png text": (
        ImagePayload.of(
            "png", 8, 8, png_bomb(8, 8, 2, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(256 * MIB))))
        ),
        decode_colour,
    ),
    "jpeg of 65500 x 65500": (
        ImagePayload.of(
            "jpeg",
            8,
            8,
            b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xdc\xff\xdc\x03\x01\x22\0\x02\x11\x01\x03\x11\x01"
            b"\xff\xda\x00\x0c\x03\x01\0\x02\x11\x03\x11\0\x3f\0\xff\xd9",
        ),
        decode_colour,
    ),
    "raw of 16384 x 16384": (ImagePayload.of("raw", 16384, 16384, b""), decode_colour),
    "delta16 of 16384 x 16384": (ImagePayload.of("delta16", 16384, 16384, b""), decode_depth),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_not_inflated(name: str) -> None:
    payload, decode = BOMBS[name]

    def read() -> None:
        try:
            decode(payload)
        except SchemaError:
            assert name != "png text"  # harmless: the chunk is left out and the image is fine

    read()
    assert peak(read) < 8 * 8 * BYTES_PER_PIXEL + len(payload.data) + MIB


CHILD = """
import sys
from schemas.errors import SchemaError
from schemas.images import decode_colour
from schemas.payload import ImagePayload
data, side = sys.stdin.buffer.read(), int(sys.argv[2])
payload = ImagePayload.of(sys.argv[1], side, side, data)
def peak():
    # Not getrusage: its maximum counts the parent's memory at the fork.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
before = peak()
try:
    decode_colour(payload)
except SchemaError:
    pass
print((peak() - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_decoders_stay_within_the_stated_bytes_a_pixel(kind: str) -> None:
    # Native decoders allocate where tracemalloc does not look: a process of its own is weighed instead.
    side = 3000
    rgb = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    ok, data = cv2.imencode(".jpg" if kind == "jpeg" else ".png", rgb, options if kind == "jpeg" else [])
    assert ok
    child = subprocess.run(
        [sys.executable, "-c", CHILD, kind, str(side)], input=data.tobytes(), capture_output=True, check=True
    )
    grown = int(child.stdout)
    assert side * side * 3 * 0.9 < grown < side * side * BYTES_PER_PIXEL + 8 * MIB


def test_a_payload_of_a_size_no_camera_has_is_refused() -> None:
    payload = ImagePayload.of("raw", 1, 1, b"123")
    for side in (0, -1, 16385, 2**40):
        with pytest.raises(SchemaError):
            replace(payload, width=side)

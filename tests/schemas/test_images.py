"""Image payloads: lossless where they say so, and refused where a single bit is not what was sent."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.errors import BadImage, DigestMismatch, MessageTooLarge, SchemaError
from schemas.headers import Header, jpeg_end, read_jpeg, read_png
from schemas.heatmap import HeatmapEncoding
from schemas.images import (
    decode_colour,
    decode_depth,
    decode_map,
    encode_colour,
    encode_depth,
    encode_map,
)
from schemas.payload import ColourEncoding, DepthEncoding, ImagePayload
from tests.schemas.strategies import (
    colour_arrays,
    colour_payloads,
    depth_arrays,
    depth_payloads,
    map_arrays,
    map_payloads,
)

Decoder = Callable[[ImagePayload], NDArray[Any]]


def smooth(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3 % 256, y * 4 % 256, (x + y) % 256], axis=2).astype(np.uint8)


def pixels(count: int = 48 * 64) -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 2**16, count, dtype=np.uint16).reshape(-1, 64)


SAMPLES: list[tuple[ImagePayload, Decoder]] = [
    *[(encode_colour(smooth(), kind), decode_colour) for kind in ColourEncoding],
    *[(encode_depth(pixels(), kind), decode_depth) for kind in DepthEncoding],
    *[(encode_map(smooth()[:, :, 0].copy(), kind), decode_map) for kind in HeatmapEncoding],
]
every_sample = pytest.mark.parametrize(
    ("payload", "decode"), SAMPLES, ids=lambda v: getattr(v, "encoding", "")
)


@settings(deadline=None)
@given(colour_arrays, st.sampled_from([ColourEncoding.PNG, ColourEncoding.RAW]))
def test_lossless_colour_comes_back_exactly(rgb: NDArray[np.uint8], kind: ColourEncoding) -> None:
    back = decode_colour(encode_colour(rgb, kind))
    assert back.dtype == np.uint8
    assert back.flags.writeable
    assert np.array_equal(back, rgb)


@settings(deadline=None)
@given(depth_arrays, st.sampled_from(DepthEncoding))
def test_depth_comes_back_exactly(depth: NDArray[np.uint16], kind: DepthEncoding) -> None:
    back = decode_depth(encode_depth(depth, kind))
    assert back.dtype == np.uint16
    assert back.flags.writeable
    assert np.array_equal(back, depth)


def test_delta16_is_the_format_that_its_description_says() -> None:
    # Written out by hand, as an agent in another language would: 2 rows, 3 columns.
    depth = np.array([[0, 1, 65535], [1000, 0, 300]], np.uint16)
    steps = [[0, 1, -2], [1000, -1000, 300]]
    zigzag = [[0, 2, 3], [2000, 1999, 600]]
    assert zigzag == [[2 * s if s >= 0 else -2 * s - 1 for s in row] for row in steps]
    columns = [zigzag[row][column] for column in range(3) for row in range(2)]
    planes = bytes(z & 255 for z in columns) + bytes(z >> 8 for z in columns)
    assert zstandard.decompress(encode_depth(depth).data) == planes
    assert np.array_equal(decode_depth(ImagePayload.of("delta16", 2, 3, zstandard.compress(planes))), depth)


@settings(deadline=None)
@given(map_arrays, st.sampled_from(HeatmapEncoding))
def test_maps_come_back_exactly(image: NDArray[np.uint8], kind: HeatmapEncoding) -> None:
    back = decode_map(encode_map(image, kind))
    assert back.flags.writeable
    assert np.array_equal(back, image)


def test_jpeg_keeps_colours_in_rgb_order_and_close() -> None:
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[:] = (200, 40, 90)
    back = decode_colour(encode_colour(rgb, ColourEncoding.JPEG))
    assert back.shape == rgb.shape
    assert np.abs(back.astype(int) - rgb).max() <= 4


def test_arrays_that_are_views_are_encoded_as_they_look() -> None:
    rgb, depth = smooth()[:, ::-2], pixels().T[::3]
    assert np.array_equal(decode_colour(encode_colour(rgb, ColourEncoding.PNG)), rgb)
    for kind in DepthEncoding:
        assert np.array_equal(decode_depth(encode_depth(depth, kind)), depth)


def test_depth_of_a_smooth_surface_is_smaller_as_delta16_than_as_png() -> None:
    y, x = np.mgrid[:200, :200]
    depth = (20_000 + 300 * np.sin(x / 30) + 3 * y).astype(np.uint16)
    assert len(encode_depth(depth).data) < len(encode_depth(depth, DepthEncoding.PNG16).data)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_any_single_flipped_bit_is_refused(sample: tuple[ImagePayload, Decoder], data: st.DataObject) -> None:
    payload, decode = sample
    bit = data.draw(st.integers(0, 8 * len(payload.data) - 1))
    flipped = bytearray(payload.data)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DigestMismatch):
        decode(replace(payload, data=bytes(flipped)))


@every_sample
def test_any_flipped_bit_of_the_digest_or_the_size_is_refused(payload: ImagePayload, decode: Decoder) -> None:
    for bit in range(32):
        with pytest.raises(DigestMismatch):
            decode(replace(payload, digest=payload.digest ^ 1 << bit))
    for bit in range(14):
        for name in ("height", "width"):
            side = getattr(payload, name) ^ 1 << bit
            with pytest.raises(SchemaError):
                decode(ImagePayload(**{**_fields(payload), name: side}))


def _fields(payload: ImagePayload) -> dict[str, Any]:
    names = ("encoding", "height", "width", "data", "digest")
    return {name: getattr(payload, name) for name in names}


@every_sample
def test_every_truncation_with_a_right_digest_is_refused(payload: ImagePayload, decode: Decoder) -> None:
    step = max(1, len(payload.data) // 200)
    for length in [*range(0, len(payload.data), step), len(payload.data) - 1]:
        cut = ImagePayload.of(payload.encoding, payload.height, payload.width, payload.data[:length])
        with pytest.raises(SchemaError):
            decode(cut)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_a_faulty_encoder_yields_an_image_of_the_stated_size_or_a_schema_error(
    sample: tuple[ImagePayload, Decoder], data: st.DataObject
) -> None:
    # The digest is right here: the bytes were wrong before it was taken.
    payload, decode = sample
    broken = bytearray(payload.data)
    for at in data.draw(st.lists(st.integers(0, len(broken) - 1), min_size=1, max_size=4)):
        broken[at] = data.draw(st.integers(0, 255))
    try:
        image = decode(ImagePayload.of(payload.encoding, payload.height, payload.width, bytes(broken)))
    except SchemaError:
        return
    assert image.shape[:2] == (payload.height, payload.width)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x28\xb5\x2f\xfd"]),
    st.sampled_from([*ColourEncoding, *DepthEncoding, *HeatmapEncoding, "webp"]),
    st.sampled_from([decode_colour, decode_depth, decode_map]),
)
def test_arbitrary_bytes_raise_schema_errors_only(
    data: bytes, magic: bytes, kind: str, decode: Decoder
) -> None:
    payload = ImagePayload.of(kind, 3, 5, magic + data)
    try:
        image = decode(payload)
    except SchemaError:
        return
    assert image.shape[:2] == (3, 5)


@settings(deadline=None)
@given(st.one_of(colour_payloads, depth_payloads, map_payloads))
def test_the_pixel_limit_of_the_reader_holds(payload: ImagePayload) -> None:
    count = payload.height * payload.width
    decode: Any = {
        **dict.fromkeys(ColourEncoding, decode_colour),
        **dict.fromkeys(DepthEncoding, decode_depth),
    }
    decoder = decode.get(payload.encoding, decode_map)
    assert decoder(payload, max_pixels=count).shape[:2] == (payload.height, payload.width)
    with pytest.raises(MessageTooLarge):
        decoder(payload, max_pixels=count - 1)


def test_exif_orientation_is_ignored() -> None:
    plain = encode_colour(smooth()).data
    tiff = b"MM\x00*\x00\x00\x00\x08" + b"\x00\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + b"\0" * 4
    body = b"Exif\0\0" + tiff
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    # The decoder's own habit would be to turn it: the tag is a valid one.
    habit = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert habit is not None
    assert habit.shape[:2] == (64, 48)
    back = decode_colour(ImagePayload.of("jpeg", 48, 64, turned))
    assert np.array_equal(back, decode_colour(encode_colour(smooth())))


PADDING = {
    "zeros": bytes(4096),
    "ones": b"\xff" * 5000,
    "markers": b"\xff\xd8\xff\xda\xff\xd9" * 2000,
    "noise": np.random.default_rng(3).bytes(1 << 16),
}


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_that_is_padded_behind_its_end_is_read_and_a_cut_one_is_not(
    padding: str, progressive: int
) -> None:
    ok, coded = cv2.imencode(".jpg", smooth(), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
    assert ok
    plain = coded.tobytes()
    padded = plain + PADDING[padding]
    assert jpeg_end(padded) == len(plain)
    back = decode_colour(ImagePayload.of("jpeg", 48, 64, padded))
    np.testing.assert_array_equal(back, decode_colour(ImagePayload.of("jpeg", 48, 64, plain)))
    with pytest.raises(BadImage, match=r"cut short|claims"):
        decode_colour(ImagePayload.of("jpeg", 48, 64, plain[: len(plain) * 2 // 3] + bytes(4096)))


@pytest.mark.parametrize("padding", PADDING)
def test_a_png_that_is_padded_behind_its_end_is_read(padding: str) -> None:
    plain = encode_colour(smooth(), ColourEncoding.PNG).data
    header, kept = read_png(plain + PADDING[padding])
    assert (header, kept) == (Header(48, 64, 3, 8), plain)
    padded = ImagePayload.of("png", 48, 64, plain + PADDING[padding])
    np.testing.assert_array_equal(decode_colour(padded), smooth())


def test_progressive_and_grey_jpegs_with_restarts_are_read() -> None:
    grey = smooth()[:, :, 0]
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    ok, data = cv2.imencode(".jpg", grey, options)
    assert ok
    assert read_jpeg(data.tobytes()) == Header(48, 64, 1, 8)
    back = decode_colour(ImagePayload.of("jpeg", 48, 64, data.tobytes()))
    assert np.array_equal(back[:, :, 0], back[:, :, 2])


def jpeg_with(sof: bytes) -> bytes:
    plain = encode_colour(smooth()).data
    at = plain.index(b"\xff\xc0")
    length = int.from_bytes(plain[at + 2 : at + 4], "big")
    return plain[:at] + sof + plain[at + 2 + length :]


def sof(marker: int = 0xC0, bits: int = 8, height: int = 48, width: int = 64, channels: int = 3) -> bytes:
    body = struct.pack(">BHHB", bits, height, width, channels) + bytes([1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
    if channels != 3:
        body = body[:6] + b"\x01\x11\x00" * channels
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (sof(height=65500, width=65500), "65500 x 65500"),
        (sof(height=0), "64 x 0"),
        (sof(bits=12), "12 bits"),
        (sof(channels=4), "4 components"),
        (sof(marker=0xC3), "coding process"),
        (sof(marker=0xC9), "coding process"),
        (sof() + sof(), "two frame headers"),
        (b"", "without a frame header"),
        (b"\xff\xc0\x00\x01", "claims 1 bytes"),
    ],
)
def test_jpeg_headers_no_camera_writes_are_refused(header: bytes, match: str) -> None:
    with pytest.raises(BadImage, match=match):
        decode_colour(ImagePayload.of("jpeg", 48, 64, jpeg_with(header)))


def test_jpeg_with_too_many_scans_is_refused() -> None:
    ok, data = cv2.imencode(".jpg", smooth(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert ok
    plain = data.tobytes()
    scan = plain[plain.rindex(b"\xff\xda") : -2]
    with pytest.raises(BadImage, match="scans"):
        decode_colour(ImagePayload.of("jpeg", 48, 64, plain[:-2] + scan * 100 + b"\xff\xd9"))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(ihdr: tuple[int, ...], *middle: bytes, size: tuple[int, int] = (64, 48), raw: int = 9264) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, *ihdr))
    tail = chunk(b"IDAT", zlib.compress(bytes(raw))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(middle) + tail


def test_png_chunks_nobody_needs_are_left_out_before_decoding() -> None:
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10_000_000)))
    data = png((8, 2, 0, 0, 0), bomb, chunk(b"acTL", struct.pack(">II", 2, 0)))
    header, kept = read_png(data)
    assert header == Header(48, 64, 3, 8)
    assert b"zTXt" not in kept
    assert not decode_colour(ImagePayload.of("png", 48, 64, data)).any()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (png((8, 2, 0, 0, 1)), "interlaced"),
        (png((8, 3, 0, 0, 0)), "colour type 3"),
        (png((8, 6, 0, 0, 0)), "colour type 6"),
        (png((16, 2, 0, 0, 0), raw=18480), "16 bits"),
        (png((8, 0, 0, 0, 0)), "1 channels"),
        (png((8, 2, 0, 0, 0), size=(65500, 65500)), "cannot hold"),
        (png((8, 2, 0, 0, 0), size=(65, 48), raw=9408), "65 x 48"),
        (png((8, 2, 0, 0, 0), chunk(b"PLTE", b"\0\0\0")), "critical chunk"),
        (png((8, 2, 0, 0, 0), chunk(b"IHDR", bytes(13))), "one IHDR"),
        (png((8, 2, 0, 0, 0))[:-1], "claims|cut short"),
        (png((8, 2, 0, 0, 0)).replace(b"IDAT", b"IDAU"), "checksum"),
        (png((8, 2, 0, 0, 0), raw=4000), "cannot be decoded"),
    ],
)
def test_png_files_that_are_not_the_stated_image_are_refused(data: bytes, match: str) -> None:
    with pytest.raises(BadImage, match=match):
        decode_colour(ImagePayload.of("png", 48, 64, data))


@pytest.mark.parametrize(
    "data",
    [
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(24)),
        zstandard.compress(bytes(23)),
        zstandard.compress(bytes(2**20)),
        zstandard.compress(bytes(24)) + b"x",
        zstandard.compress(bytes(24)) + zstandard.compress(bytes(24)),
        zstandard.compress(bytes(24))[:-1],
        b"",
    ],
)
def test_delta16_needs_one_zstd_frame_of_the_stated_size(data: bytes) -> None:
    assert not decode_depth(ImagePayload.of("delta16", 3, 4, zstandard.compress(bytes(24)))).any()
    with pytest.raises(BadImage):
        decode_depth(ImagePayload.of("delta16", 3, 4, data))


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3))]
)
def test_arrays_that_are_not_colour_images_are_refused(bad: NDArray[Any]) -> None:
    with pytest.raises(BadImage, match=r"expected|allowed"):
        encode_colour(bad)


def test_arrays_that_are_not_depth_images_or_maps_are_refused() -> None:
    with pytest.raises(BadImage, match="uint16"):
        encode_depth(np.zeros((4, 4), np.float32))
    with pytest.raises(BadImage, match="uint8"):
        encode_map(np.zeros((4, 4), np.uint16))
    with pytest.raises(BadImage, match="1 to 16384"):
        encode_map(np.zeros((1, 16385), np.uint8))
    with pytest.raises(BadImage, match="quality"):
        encode_colour(smooth(), quality=0)

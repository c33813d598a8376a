"""Arrays to image payloads and back.

Every ``decode_*`` goes the same way: digest, our own header parser, agreement with the message, pixel limit,
decoder. So the decoder runs only on the bytes that were sent, and allocates only what the message said it
would: at most ``max_pixels`` pixels of ``BYTES_PER_PIXEL`` each, whatever the bytes are.

EXIF orientation is ignored: turning the colour image alone would shift it against the depth image.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import cv2.typing
import numpy as np
import zstandard
from numpy.typing import NDArray

from schemas.errors import BadImage, MessageTooLarge
from schemas.headers import Header, read_jpeg, read_png
from schemas.heatmap import HeatmapEncoding
from schemas.payload import MAX_SIDE, ColourEncoding, DepthEncoding, ImagePayload

MAX_PIXELS = 64 * 2**20
"""Pixels of the largest image a reader decodes unless it is told otherwise."""
BYTES_PER_PIXEL = 16
"""Upper bound of what decoding one pixel allocates: the result, the decoder's own planes (a progressive
JPEG keeps 6 bytes of coefficients) and one copy."""

_COLOUR_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_ZSTD_LEVEL = 3

Scalar = TypeVar("Scalar", np.uint8, np.uint16)


def encode_colour(
    rgb: NDArray[np.uint8], encoding: ColourEncoding = ColourEncoding.JPEG, *, quality: int = 92
) -> ImagePayload:
    """A colour image (H, W, 3), RGB, as a payload. ``quality`` (1 to 100) is for JPEG, which is lossy.

    Raises:
        BadImage: the array has another shape or type, or cannot be encoded.
    """
    _expect(rgb, "colour", np.uint8, 3)
    encoding = ColourEncoding(encoding)
    if encoding is ColourEncoding.RAW:
        return _payload(encoding, rgb, rgb.tobytes())
    bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
    if encoding is ColourEncoding.PNG:
        return _payload(encoding, rgb, _imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 3]))
    if not 1 <= quality <= 100:
        raise BadImage(f"colour image: JPEG quality {quality}; use 1 to 100")
    return _payload(encoding, rgb, _imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)]))


def encode_depth(depth: NDArray[np.uint16], encoding: DepthEncoding = DepthEncoding.DELTA16) -> ImagePayload:
    """A depth image (H, W) in counts, 0 where there is no reading, as a payload. All encodings are lossless.

    Raises:
        BadImage: the array has another shape or type, or cannot be encoded.
    """
    _expect(depth, "depth", np.uint16, 0)
    encoding = DepthEncoding(encoding)
    if encoding is DepthEncoding.RAW16:
        return _payload(encoding, depth, depth.astype("<u2", copy=False).tobytes())
    if encoding is DepthEncoding.PNG16:
        png = _imencode(".png", np.ascontiguousarray(depth), [cv2.IMWRITE_PNG_COMPRESSION, 3])
        return _payload(encoding, depth, png)
    return _payload(encoding, depth, _delta_encode(depth))


def encode_map(image: NDArray[np.uint8], encoding: HeatmapEncoding = HeatmapEncoding.PNG8) -> ImagePayload:
    """An 8-bit map (H, W) as a payload. All encodings are lossless.

    Raises:
        BadImage: the array has another shape or type, or cannot be encoded.
    """
    _expect(image, "map", np.uint8, 0)
    encoding = HeatmapEncoding(encoding)
    if encoding is HeatmapEncoding.RAW8:
        return _payload(encoding, image, image.tobytes())
    png = _imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    return _payload(encoding, image, png)


def decode_colour(payload: ImagePayload, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The colour image (H, W, 3), RGB, writable. A JPEG with one component comes back as three equal ones.

    Raises:
        DigestMismatch: the bytes are not those that were sent.
        MessageTooLarge: more than ``max_pixels`` pixels.
        BadImage: the bytes are not the image that the message describes.
    """
    payload.verify()
    if payload.encoding == ColourEncoding.RAW:
        _limit(payload, max_pixels)
        return _raw(payload, "u1", np.uint8, 3)
    if payload.encoding == ColourEncoding.JPEG:
        header, data = read_jpeg(payload.data), payload.data
        channels: tuple[int, ...] = (1, 3)
    elif payload.encoding == ColourEncoding.PNG:
        header, data = read_png(payload.data)
        channels = (3,)
    else:
        raise BadImage(f"colour image: encoding {payload.encoding[:40]!r} is not one of colour images")
    _agree(payload, header, channels, 8)
    _limit(payload, max_pixels)
    bgr = _imdecode(payload, data, _COLOUR_FLAGS, np.uint8, 3)
    cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)
    return bgr


def decode_depth(payload: ImagePayload, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint16]:
    """The depth image (H, W) in counts, 0 where there is no reading, writable.

    Raises:
        DigestMismatch: the bytes are not those that were sent.
        MessageTooLarge: more than ``max_pixels`` pixels.
        BadImage: the bytes are not the image that the message describes.
    """
    payload.verify()
    if payload.encoding == DepthEncoding.PNG16:
        header, data = read_png(payload.data)
        _agree(payload, header, (1,), 16)
        _limit(payload, max_pixels)
        return _imdecode(payload, data, cv2.IMREAD_UNCHANGED, np.uint16, 0)
    _limit(payload, max_pixels)
    if payload.encoding == DepthEncoding.RAW16:
        return _raw(payload, "<u2", np.uint16, 0)
    if payload.encoding == DepthEncoding.DELTA16:
        return _delta_decode(payload)
    raise BadImage(f"depth image: encoding {payload.encoding[:40]!r} is not one of depth images")


def decode_map(payload: ImagePayload, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The 8-bit map (H, W), writable.

    Raises:
        DigestMismatch: the bytes are not those that were sent.
        MessageTooLarge: more than ``max_pixels`` pixels.
        BadImage: the bytes are not the image that the message describes.
    """
    payload.verify()
    if payload.encoding == HeatmapEncoding.RAW8:
        _limit(payload, max_pixels)
        return _raw(payload, "u1", np.uint8, 0)
    if payload.encoding != HeatmapEncoding.PNG8:
        raise BadImage(f"map: encoding {payload.encoding[:40]!r} is not one of maps")
    header, data = read_png(payload.data)
    _agree(payload, header, (1,), 8)
    _limit(payload, max_pixels)
    return _imdecode(payload, data, cv2.IMREAD_UNCHANGED, np.uint8, 0)


def _delta_encode(depth: NDArray[np.uint16]) -> bytes:
    """Differences along each row (the first against 0), zigzag, low then high byte plane, zstd.

    Differences wrap modulo 2^16, so every image survives; neighbours differ by little, so that nearly all
    of the high plane is zero. The planes are written column by column: a reader then adds whole columns,
    which processors do many at a time, where a sum along a row waits for each addition.
    """
    step = np.array(depth.T, np.uint16, order="C")
    step[1:] -= depth.T[:-1]
    zigzag = (step << 1) ^ (np.uint16(0) - (step >> 15))
    planes = np.empty((2, *zigzag.shape), np.uint8)
    np.bitwise_and(zigzag, 0xFF, out=planes[0], casting="unsafe")
    np.right_shift(zigzag, 8, out=planes[1], casting="unsafe")
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=True)
    return compressor.compress(planes.tobytes())


def _delta_decode(payload: ImagePayload) -> NDArray[np.uint16]:
    expected = 2 * payload.height * payload.width
    try:
        frame = zstandard.get_frame_parameters(payload.data)
        # The frame header decides what is allocated: it is compared before anything is decompressed.
        if frame.content_size != expected or frame.dict_id != 0:
            raise BadImage(f"{_name(payload)}: its zstd frame does not state {expected} bytes of content")
        planes = zstandard.ZstdDecompressor().decompress(
            payload.data, max_output_size=expected, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise BadImage(f"{_name(payload)}: {error}") from None
    except MemoryError:
        raise MessageTooLarge(f"{_name(payload)}: not enough memory to decode it") from None
    if len(planes) != expected:
        raise BadImage(f"{_name(payload)}: {len(planes)} bytes of content, expected {expected}")
    low, high = np.frombuffer(planes, np.uint8).reshape(2, payload.width, payload.height)
    zigzag = high.astype(np.uint16)
    zigzag <<= 8
    zigzag |= low
    sign = np.uint16(0) - (zigzag & 1)
    zigzag >>= 1
    zigzag ^= sign
    for column in range(1, payload.width):  # twice as fast as numpy.cumsum, which adds one by one
        np.add(zigzag[column - 1], zigzag[column], out=zigzag[column])
    return np.ascontiguousarray(zigzag.T)


def _raw(payload: ImagePayload, wire: str, kind: type[Scalar], channels: int) -> NDArray[Scalar]:
    shape = (payload.height, payload.width, channels) if channels else (payload.height, payload.width)
    expected = int(np.prod(shape)) * np.dtype(wire).itemsize
    if len(payload.data) != expected:
        raise BadImage(f"{_name(payload)}: {len(payload.data)} bytes, expected {expected}")
    # A copy, since a view of bytes cannot be written to.
    return np.frombuffer(payload.data, wire).reshape(shape).astype(kind, copy=True)


def _imdecode(
    payload: ImagePayload, data: bytes, flags: int, kind: type[Scalar], channels: int
) -> NDArray[Scalar]:
    shape = (payload.height, payload.width, channels) if channels else (payload.height, payload.width)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except MemoryError:
        raise MessageTooLarge(f"{_name(payload)}: not enough memory to decode it") from None
    except cv2.error as error:
        raise BadImage(f"{_name(payload)}: the decoder refuses it ({str(error).strip()[:200]})") from None
    if image is None or image.shape != shape or image.dtype != kind:
        raise BadImage(f"{_name(payload)}: its header is right but its image data cannot be decoded")
    return image.astype(kind, copy=False)


def _imencode(suffix: str, image: cv2.typing.MatLike, options: list[int]) -> bytes:
    try:
        ok, data = cv2.imencode(suffix, image, options)
    except cv2.error as error:
        raise BadImage(f"image {image.shape}: cannot be written ({str(error).strip()[:200]})") from None
    if not ok:
        raise BadImage(f"image {image.shape}: cannot be written as {suffix[1:]}")
    return data.tobytes()


def _expect(image: NDArray[Scalar], what: str, kind: type[Scalar], channels: int) -> None:
    shape = "(H, W, 3)" if channels else "(H, W)"
    fits = image.ndim == 3 and image.shape[2] == channels if channels else image.ndim == 2
    if not fits or image.dtype != kind:
        raise BadImage(
            f"{what} image: shape {image.shape} of {image.dtype}, expected {shape} of {np.dtype(kind)}"
        )
    if not all(1 <= side <= MAX_SIDE for side in image.shape[:2]):
        raise BadImage(f"{what} image: shape {image.shape}, sides of 1 to {MAX_SIDE} pixels are allowed")


def _payload(encoding: str, image: NDArray[Scalar], data: bytes) -> ImagePayload:
    return ImagePayload.of(encoding, int(image.shape[0]), int(image.shape[1]), data)


def _agree(payload: ImagePayload, header: Header, channels: tuple[int, ...], bits: int) -> None:
    if (header.height, header.width) != (payload.height, payload.width):
        raise BadImage(f"{_name(payload)}: its own header says {header.width} x {header.height}")
    if header.channels not in channels or header.bits != bits:
        raise BadImage(f"{_name(payload)}: {header.channels} channels of {header.bits} bits")


def _limit(payload: ImagePayload, max_pixels: int) -> None:
    if payload.height * payload.width > max_pixels:
        raise MessageTooLarge(f"{_name(payload)}: more than {max_pixels} pixels")


def _name(payload: ImagePayload) -> str:
    return f"{payload.encoding} image {payload.width} x {payload.height}"

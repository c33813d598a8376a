"""TIFF files written byte by byte, so that what is read back does not depend on the library that reads it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray


def write_tiff(
    path: Path,
    pixels: NDArray[np.floating] | NDArray[np.uint16],
    *,
    order: Literal["<", ">"] = "<",
    tags_first: bool = False,
    big: bool = False,
    planar: int = 1,
) -> None:
    """``pixels`` (H, W) or (H, W, C) as one uncompressed strip, in the order of the array."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    bits = 8 * pixels.dtype.itemsize
    body = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    word, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    size = struct.calcsize(order + word)
    start = 16 if big else 8
    number = 11
    table = struct.calcsize(order + count) + number * entry + size
    extra = 0 if channels == 1 else 4 * channels
    place = start if tags_first else start + len(body)
    strip = start + table + extra if tags_first else start
    long_values = place + table
    is_float = pixels.dtype.kind == "f"

    def field(tag: int, kind: int, values: list[int]) -> bytes:
        code = {3: "H", 4: "I", 16: "Q"}[kind]
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        head = struct.pack(order + "HH" + word, tag, kind, len(values))
        return head + packed.ljust(size, b"\0")

    def triple(tag: int, value: int, index: int) -> bytes:
        if channels == 1 or 2 * channels <= size:
            return field(tag, 3, [value] * channels)
        return struct.pack(order + "HH" + word + word, tag, 3, channels, long_values + index * 2 * channels)

    long = 16 if big else 4
    fields = [
        field(256, 3, [width]),
        field(257, 3, [height]),
        triple(258, bits, 0),
        field(259, 3, [1]),
        field(262, 3, [2 if channels == 3 else 1]),
        field(273, long, [strip]),
        field(277, 3, [channels]),
        field(278, 3, [height]),
        field(279, long, [len(body)]),
        field(284, 3, [planar]),
        triple(339, 3 if is_float else 1, 1),
    ]
    mark = b"II" if order == "<" else b"MM"
    head = mark + (
        struct.pack(order + "HHHQ", 43, 8, 0, place) if big else struct.pack(order + "HI", 42, place)
    )
    values = b"".join(
        struct.pack(f"{order}{channels}H", *[v] * channels) for v in (bits, 3 if is_float else 1)
    )
    tags = struct.pack(order + count, number) + b"".join(fields) + struct.pack(order + word, 0)
    tags += values if extra else b""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + (tags + body if tags_first else body + tags))


def cloud(height: int, width: int, z: float, *, focal: float = 40.0, seed: int = 0) -> NDArray[np.float32]:
    """(H, W, 3) metres of a slightly rough wall at ``z`` before a pinhole camera."""
    rng = np.random.default_rng(seed)
    points = np.empty((height, width, 3), np.float32)
    points[..., 2] = z + rng.uniform(0, 0.01, (height, width))
    points[..., 0] = (np.arange(width) - (width - 1) / 2) / focal * points[..., 2]
    points[..., 1] = ((np.arange(height) - (height - 1) / 2) / focal)[:, None] * points[..., 2]
    return points

"""The pool file: encoded frames that the capture process sends again and again."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from schemas.frame import Frame
from schemas.wire import decode_frame, encode

_HEAD = struct.Struct("<I")


def write_pool(path: Path, frames: Iterable[Frame]) -> None:
    """Write the frames, each behind its length."""
    with path.open("wb") as file:
        for frame in frames:
            message = encode(frame)
            file.write(_HEAD.pack(len(message)) + message)


def read_pool(path: Path) -> Iterator[Frame]:
    """The frames of a pool file, all under one made-up part key."""
    data = path.read_bytes()
    at = 0
    while at < len(data):
        (size,) = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield decode_frame(data[at : at + size])
        at += size

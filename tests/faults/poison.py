"""Records that no camera would send: what bad memory, bad cables and bad programs make of a frame."""

from __future__ import annotations

import random
from enum import StrEnum

import numpy as np

from schemas.frame import Frame
from schemas.images import encode_colour, encode_depth
from schemas.part import PartKey
from schemas.payload import ColourEncoding, ImagePayload
from schemas.wire import encode
from tests.faults.shots import PRODUCT, Picture
from workers.capture.sources import SyntheticLine

LIMIT_BYTES = 336 * 1024
"""Setting of the workers in this class, so that an oversized record need not be of 16 MiB."""


class Poison(StrEnum):
    """How a record is spoilt."""

    RANDOM = "random bytes"
    FLIPPED = "bit flips"
    CUT = "truncated"
    OTHER_PART = "names another part than its key"
    IMAGE = "image that cannot be decoded"
    OVERSIZED = "oversized"
    KEYLESS = "random bytes without a key"


def frame_of(part: PartKey, picture: Picture, *, at: int, deadline_s: float) -> Frame:
    """The frame that the part would have had."""
    return Frame(
        part=part,
        product=PRODUCT,
        captured_at=at,
        deadline=at + round(deadline_s * 1e9),
        rgb=encode_colour(picture.rgb, ColourEncoding.PNG),
        depth=encode_depth(picture.depth),
        depth_scale=SyntheticLine.depth_scale,
    )


def spoilt(frame: Frame, kind: Poison, rng: random.Random) -> bytes:
    """The bytes of a frame, spoilt in one way."""
    data = bytearray(encode(frame))
    if kind in (Poison.RANDOM, Poison.KEYLESS):
        return rng.randbytes(rng.randint(1, 3000))
    if kind is Poison.FLIPPED:
        for _ in range(rng.randint(1, 3)):
            # In the images, which a digest guards; a flip in a product's name would be another product's.
            at = rng.randrange(len(data) // 2, len(data))
            data[at] ^= 1 << rng.randrange(8)
        return bytes(data)
    if kind is Poison.CUT:
        return bytes(data[: rng.randrange(1, len(data) - 1)])
    if kind is Poison.OTHER_PART:
        other = PartKey(frame.part.station, frame.part.run, frame.part.trigger + 10**6)
        return encode(_changed(frame, part=other))
    if kind is Poison.IMAGE:
        assert frame.rgb is not None
        return encode(_changed(frame, rgb=_undecodable(frame.rgb, rng)))
    large = np.frombuffer(rng.randbytes(400 * 400 * 3), np.uint8).reshape(400, 400, 3)
    return encode(_changed(frame, rgb=encode_colour(large, ColourEncoding.PNG)))


def _changed(frame: Frame, *, part: PartKey | None = None, rgb: ImagePayload | None = None) -> Frame:
    return Frame(
        part=part or frame.part,
        product=frame.product,
        captured_at=frame.captured_at,
        deadline=frame.deadline,
        rgb=rgb or frame.rgb,
        depth=frame.depth,
        depth_scale=frame.depth_scale,
    )


def _undecodable(image: ImagePayload, rng: random.Random) -> ImagePayload:
    """Bytes that carry a right digest and the header of a PNG, and no picture."""
    data = image.data[:60] + rng.randbytes(400)
    return ImagePayload.of(image.encoding, image.height, image.width, data)

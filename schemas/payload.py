"""One encoded image inside a message: its bytes, what they are said to be, and their digest."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import crc32c

from schemas.errors import DigestMismatch, InvalidField
from schemas.fields import Fields

MAX_SIDE = 16384
"""Pixels. No side of an image may be longer."""


class ColourEncoding(StrEnum):
    """How a colour image is written. ``RAW`` is RGB, 8 bits, row by row."""

    JPEG = "jpeg"
    PNG = "png"
    RAW = "raw"


class DepthEncoding(StrEnum):
    """How a 16-bit depth image is written. ``RAW16`` is little-endian, row by row."""

    PNG16 = "png16"
    RAW16 = "raw16"
    DELTA16 = "delta16"
    """Differences along each row modulo 2^16 (the first against 0), zigzag; all low bytes, then all high
    bytes, each column by column from the left; one zstd frame that states its content size."""


def digest(data: bytes) -> int:
    """CRC-32C of the bytes: any single flipped bit changes it."""
    return int(crc32c.crc32c(data))


@dataclass(frozen=True, slots=True)
class ImagePayload:
    """An encoded image as it travels. ``repr`` never shows the bytes.

    Attributes:
        encoding: a ``ColourEncoding`` or ``DepthEncoding`` value.
        height, width: pixels.
        data: the encoded bytes.
        digest: CRC-32C of ``data``, checked before any decoder runs.
    """

    encoding: str
    height: int
    width: int
    data: bytes = field(repr=False)
    digest: int

    def __post_init__(self) -> None:
        for name, value in (("height", self.height), ("width", self.width)):
            if type(value) is not int or not 1 <= value <= MAX_SIDE:
                raise InvalidField(f"image {name} {value!r}: expected 1 to {MAX_SIDE} pixels")
        if not isinstance(self.data, bytes):
            raise InvalidField(f"image data: expected bytes, found {type(self.data).__name__}")

    @classmethod
    def of(cls, encoding: str, height: int, width: int, data: bytes) -> ImagePayload:
        """A payload with the digest of its bytes."""
        return cls(str(encoding), height, width, data, digest(data))

    def verify(self) -> None:
        """Check the digest.

        Raises:
            DigestMismatch: the bytes are not those that were sent.
        """
        found = digest(self.data)
        if found != self.digest:
            raise DigestMismatch(
                f"{self.encoding} image: crc32c of its {len(self.data)} bytes is {found:08x}, "
                f"the message says {self.digest & 0xFFFFFFFF:08x}; the bytes changed on the way"
            )

    def to_map(self) -> dict[str, object]:
        """The map that travels."""
        return {
            "encoding": self.encoding,
            "height": self.height,
            "width": self.width,
            "digest": self.digest,
            "data": self.data,
        }

    @classmethod
    def from_fields(cls, fields: Fields, encodings: type[StrEnum]) -> ImagePayload:
        """Read a payload whose encoding must be one of ``encodings``.

        Raises:
            InvalidField: a field is missing, of the wrong type or out of range.
        """
        return cls(
            encoding=fields.choice("encoding", encodings).value,
            height=fields.integer("height", 1, MAX_SIDE),
            width=fields.integer("width", 1, MAX_SIDE),
            digest=fields.integer("digest", 0, 2**32 - 1),
            data=fields.binary("data"),
        )

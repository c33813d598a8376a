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
    """How a colour image is written."""

    JPEG = "jpeg"
    """A JPEG file: baseline or progressive, Huffman-coded, 8 bits, 1 or 3 components. Its EXIF orientation is
    ignored."""
    PNG = "png"
    """A PNG file: 8 bits a sample, RGB, no alpha, no palette, not interlaced."""
    RAW = "raw"
    """height x width x 3 bytes: red, green, blue of each pixel, row by row from the top left."""


class DepthEncoding(StrEnum):
    """How a 16-bit depth image is written: sensor counts, 0 where there is no reading."""

    PNG16 = "png16"
    """A PNG file: one channel of 16 bits (big-endian, as in every PNG), not interlaced."""
    RAW16 = "raw16"
    """height x width x 2 bytes, little-endian, row by row from the top left."""
    DELTA16 = "delta16"
    """One zstd frame that states its content size of 2 x height x width bytes and uses no dictionary. With z
    = the zigzag of d = (pixel - its left neighbour) modulo 2^16, where the left neighbour of a row's first
    pixel is 0, and zigzag is z = ((d << 1) xor (0xFFFF if d >= 0x8000 else 0)) and 0xFFFF, its content is:
    the low bytes of all z, then the high bytes of all z; each of the two column by column from the left,
    within a column from the top, so that the byte of (row, column) is at column x height + row. Back: d = (z
    >> 1) xor (0xFFFF if z is odd else 0); pixel = (left neighbour + d) modulo 2^16."""


def digest(data: bytes) -> int:
    """CRC-32C of the bytes: any single flipped bit changes it."""
    return int(crc32c.crc32c(data))


@dataclass(frozen=True, slots=True)
class ImagePayload:
    """An encoded image as it travels.

    ``repr`` never shows the bytes.

    Attributes:
        encoding: how ``data`` is written.
        height, width: pixels; an image file must say the same in its own header.
        data: the encoded bytes.
        digest: CRC-32C (Castagnoli) of ``data`` as an unsigned 32-bit integer, checked before any decoder
            runs. Of the nine bytes "123456789" it is 0xE3069283.
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

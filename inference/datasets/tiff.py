"""Headers of TIFF files, whose pixels OpenCV reads without checking.

Pillow knows no float image of three channels. OpenCV reads one, and may fill what a cut file lacks with
zeros, which here would read as missing points; of several pages it reads the first alone. So the header is
read before (TIFF 6.0, and BigTIFF): it gives size and type without decoding, says where in the file the
pixels must be, and counts the pages.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from inference.errors import DatasetError

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q", 18: "Q"}
_WIDTH, _HEIGHT, _BITS, _SAMPLES, _PLANAR, _FORMAT = 256, 257, 258, 277, 284, 339
_OFFSETS, _LENGTHS = (273, 324), (279, 325)  # of strips, of tiles
_SUBFILE = 254
_FLOAT = 3
_MOST_PAGES = 1000


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """The first image of a TIFF file.

    Attributes:
        size: (width, height) pixels.
        channels: samples of a pixel.
        bits: of a sample.
        is_float: samples are IEEE floats, not integers.
        planar: channels are stored one after the other instead of pixel by pixel.
        end: the last byte of the pixels, plus one; a shorter file was cut off.
        pages: images in the file, smaller copies of the first left out.
    """

    size: tuple[int, int]
    channels: int
    bits: int
    is_float: bool
    planar: bool
    end: int
    pages: int = 1

    @property
    def kind(self) -> str:
        """In words: "3-channel 32-bit float"."""
        return f"{self.channels}-channel {self.bits}-bit {'float' if self.is_float else 'integer'}"


def tiff_header(data: bytes | mmap.mmap, path: Path) -> TiffHeader:
    """Of the file ``path`` with the content ``data``. Raises DatasetError where it is no TIFF file."""
    try:
        tags, following = _tags(data)
        sizes = tags[_WIDTH][0], tags[_HEIGHT][0]
        offsets = next(tags[tag] for tag in _OFFSETS if tag in tags)
        lengths = next(tags[tag] for tag in _LENGTHS if tag in tags)
        ends = [offset + length for offset, length in zip(offsets, lengths, strict=True)]
        return TiffHeader(
            size=sizes,
            channels=tags.get(_SAMPLES, (1,))[0],
            bits=tags.get(_BITS, (1,))[0],
            is_float=tags.get(_FORMAT, (1,))[0] == _FLOAT,
            planar=tags.get(_PLANAR, (1,))[0] == 2 and tags.get(_SAMPLES, (1,))[0] > 1,
            end=max(ends),
            pages=1 + _further_pages(data, following),
        )
    except (struct.error, KeyError, IndexError, ValueError, StopIteration):
        raise DatasetError(
            f"{path}: not a TIFF image that can be read; it may be cut off: copy it again"
        ) from None


def _further_pages(data: bytes | mmap.mmap, at: int) -> int:
    count, seen = 0, set[int]()
    while 0 < at < len(data) and at not in seen and len(seen) < _MOST_PAGES:
        seen.add(at)
        tags, at = _tags(data, at)
        count += not tags.get(_SUBFILE, (0,))[0] & 1
    return count


def _tags(data: bytes | mmap.mmap, at: int | None = None) -> tuple[dict[int, tuple[int, ...]], int]:
    """The tags of the page at a byte, the first where none is given, and where the next page is, or 0."""
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version not in (42, 43):
        raise ValueError(version)
    big = version == 43
    word, count_code, entry, inline = ("Q", "Q", 20, 8) if big else ("I", "H", 12, 4)
    if at is None:
        (at,) = struct.unpack_from(order + word, data, 8 if big else 4)
    (entries,) = struct.unpack_from(order + count_code, data, at)
    at += struct.calcsize(order + count_code)
    tags: dict[int, tuple[int, ...]] = {}
    for index in range(entries):
        place = at + index * entry
        tag, kind = struct.unpack_from(order + "HH", data, place)
        (count,) = struct.unpack_from(order + word, data, place + 4)
        if kind not in _CODES or count * _SIZES[kind] > len(data):
            continue
        value = place + entry - inline
        if count * _SIZES[kind] > inline:
            (value,) = struct.unpack_from(order + word, data, value)
        tags[tag] = struct.unpack_from(f"{order}{count}{_CODES[kind]}", data, value)
    (following,) = struct.unpack_from(order + word, data, at + entries * entry)
    return tags, following


def read_tiff(path: Path) -> TiffHeader:
    """The header alone. Raises DatasetError where there is none."""
    try:
        # Mapped, not read: the tags may lie behind megabytes of pixels.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return tiff_header(data, path)
    except ValueError:
        raise DatasetError(f"{path}: empty file; copy it again") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None

"""Image headers read by ourselves, before any decoder is given the bytes.

A decoder allocates what the header asks for. These two parsers read the few fields that decide it, refuse
the variants that no capture agent writes, and never look further than the bytes they were given.
Formats: ITU-T T.81 annex B (JPEG markers); PNG, third edition, sections 5 and 11 (chunks).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from schemas.errors import BadImage

MAX_JPEG_SCANS = 64
"""A progressive JPEG walks the whole image once a scan; common encoders write about ten."""

_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_RST = range(0xD0, 0xD8)
# Baseline, extended sequential and progressive, all Huffman-coded: what decoders in the field read.
_SOF_ACCEPTED = (0xC0, 0xC1, 0xC2)
# C4 is DHT, C8 is reserved, CC is DAC: the rest of C0 to CF start a frame.
_SOF_ALL = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

# A marker behind a scan's data: in it, FF is followed by 00 or is a restart marker.
_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEFLATE_RATIO = 1032
"""Deflate writes at most 258 bytes for 2 bits; less compressed data than this cannot fill the image."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an image file says about itself. ``bits`` is per sample."""

    height: int
    width: int
    channels: int
    bits: int


def read_jpeg(data: bytes) -> Header:
    """Walk the segments of a JPEG up to its end.

    EXIF and other application segments are stepped over, their embedded thumbnails with them. What lies
    behind the end marker is padding, as some cameras write it, and is not looked at.

    Raises:
        BadImage: not a JPEG, cut short, no frame header before the first scan, two of them, a coding process
            other than 8-bit Huffman, a component count other than 1 or 3, or too many scans.
    """
    if data[:2] != b"\xff\xd8":
        raise BadImage("jpeg image: does not start with a JPEG marker (FF D8)")
    header: Header | None = None
    at, end = 2, len(data)
    while True:
        if at + 2 > end or data[at] != 0xFF:
            raise BadImage(f"jpeg image: no marker at byte {at} of {end}")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _TEM or marker in _RST:  # these stand alone, without a length
            at += 2
            continue
        if marker in (0x00, _SOI, _EOI):
            raise BadImage(f"jpeg image: marker FF {marker:02X} at byte {at}, before any scan")
        if at + 4 > end:
            raise BadImage(f"jpeg image: cut short at byte {end}")
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > end:
            raise BadImage(f"jpeg image: segment FF {marker:02X} at byte {at} claims {length} bytes of {end}")
        if marker in _SOF_ALL:
            if header is not None:
                raise BadImage("jpeg image: two frame headers")
            header = _read_sof(marker, data[at + 4 : at + 2 + length])
        at += 2 + length
        if marker == _SOS:
            break
    if header is None:
        raise BadImage("jpeg image: a scan without a frame header")
    _walk_scans(data, at)
    return header


def jpeg_end(data: bytes) -> int:
    """How many bytes of ``data`` are the JPEG that it starts with; the rest is padding.

    Raises:
        BadImage: not a JPEG, cut short, or too many scans.
    """
    if data[:2] != b"\xff\xd8":
        raise BadImage("jpeg image: does not start with a JPEG marker (FF D8)")
    at, end = 2, len(data)
    while at + 4 <= end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == _TEM or marker in _RST:
            at += 2
        elif marker == _EOI:
            break
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == _SOS:
                return _walk_scans(data, at)
    raise BadImage("jpeg image: no scan in it")


def _walk_scans(data: bytes, at: int) -> int:
    """The byte behind the end marker, from the first byte of the first scan's compressed data."""
    scans = 1
    while True:
        found = _IN_SCAN.search(data, at)
        if found is None:
            raise BadImage("jpeg image: no end marker (FF D9); the image is cut short")
        at = found.start()
        marker = data[at + 1]
        if marker == _EOI:
            return at + 2
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(data):
            raise BadImage(
                f"jpeg image: segment FF {marker:02X} at byte {at} claims {length} bytes of {len(data)}"
            )
        if marker == _SOS:
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise BadImage(f"jpeg image: more than {MAX_JPEG_SCANS} scans")
        at += 2 + length


def _read_sof(marker: int, body: bytes) -> Header:
    if marker not in _SOF_ACCEPTED:
        raise BadImage(f"jpeg image: coding process FF {marker:02X}; use baseline or progressive Huffman")
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise BadImage(f"jpeg image: frame header of {len(body)} bytes")
    bits, channels = body[0], body[5]
    if bits != 8:
        raise BadImage(f"jpeg image: {bits} bits a sample, expected 8")
    if channels not in (1, 3):
        raise BadImage(f"jpeg image: {channels} components, expected 1 or 3")
    return Header(
        height=int.from_bytes(body[1:3], "big"),
        width=int.from_bytes(body[3:5], "big"),
        channels=channels,
        bits=bits,
    )


def read_png(data: bytes) -> tuple[Header, bytes]:
    """Walk every chunk of a PNG, and return its header and the same image without ancillary chunks.

    Ancillary chunks are left out because decoders inflate, animate or rotate by them; none of them is needed.
    Bytes behind the end are padding, as some encoders write it, and are left out too.

    Raises:
        BadImage: not a PNG, cut short, a wrong chunk checksum, an unknown critical chunk,
            interlaced, palette or alpha, or too little compressed data to fill the image.
    """
    if data[:8] != _PNG_SIGNATURE:
        raise BadImage("png image: does not start with the PNG signature")
    view = memoryview(data)
    kept: list[bytes | memoryview] = [_PNG_SIGNATURE]
    header: Header | None = None
    compressed, ancillary = 0, False
    at, end = 8, len(data)
    while True:
        if at + 12 > end:
            raise BadImage(f"png image: cut short at byte {end}")
        length = int.from_bytes(view[at : at + 4], "big")
        kind = bytes(view[at + 4 : at + 8])
        after = at + 12 + length
        if after > end:
            raise BadImage(f"png image: chunk {kind!r} at byte {at} claims {length} bytes of {end}")
        if zlib.crc32(view[at + 4 : after - 4]) != int.from_bytes(view[after - 4 : after], "big"):
            raise BadImage(f"png image: chunk {kind!r} at byte {at} has a wrong checksum")
        if (header is None) != (kind == b"IHDR"):
            raise BadImage("png image: expected one IHDR chunk, first of all")
        if kind == b"IHDR":
            header = _read_ihdr(bytes(view[at + 8 : after - 4]))
        elif kind == b"IDAT":
            compressed += length
        elif kind != b"IEND" and not kind[0] & 0x20:
            raise BadImage(f"png image: critical chunk {kind!r} is not one a grey or RGB image has")
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            kept.append(view[at:after])
        else:
            ancillary = True
        at = after
        if kind == b"IEND":
            break
    assert header is not None
    filled = header.height * (1 + header.width * header.channels * header.bits // 8)
    if compressed * _DEFLATE_RATIO < filled:
        raise BadImage(f"png image: {compressed} compressed bytes cannot hold {filled}")
    return header, b"".join(kept) if ancillary or at != end else data


def _read_ihdr(body: bytes) -> Header:
    if len(body) != 13:
        raise BadImage(f"png image: IHDR of {len(body)} bytes, expected 13")
    bits, colour, compression, filtering, interlace = body[8:13]
    channels = {0: 1, 2: 3}.get(colour)
    if channels is None or bits not in (8, 16):
        raise BadImage(
            f"png image: colour type {colour} with {bits} bits; expected grey or RGB, 8 or 16 bits"
        )
    if compression or filtering or interlace:
        raise BadImage("png image: interlaced or of unknown compression; write it plain")
    return Header(
        height=int.from_bytes(body[4:8], "big"),
        width=int.from_bytes(body[0:4], "big"),
        channels=channels,
        bits=bits,
    )

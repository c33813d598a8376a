"""Hostile messages: valid ones, changed in the ways that get furthest into a reader."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgpack
import numpy as np

from schemas.command import Action, Command
from schemas.errors import SchemaError
from schemas.frame import Frame
from schemas.headers import read_jpeg, read_png
from schemas.heartbeat import Heartbeat
from schemas.heatmap import Heatmap, HeatmapEncoding
from schemas.images import decode_colour, decode_depth, decode_map, encode_colour, encode_depth, encode_map
from schemas.label import Label, LabelKind
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.payload import ColourEncoding, DepthEncoding, ImagePayload, digest
from schemas.verdict import Decision, Mode, Region, Source, Verdict
from schemas.wire import (
    decode_capture,
    decode_command,
    decode_frame,
    decode_heartbeat,
    decode_heatmap,
    decode_label,
    decode_notice,
    decode_verdict,
    encode,
    salvage_part,
)

MAX_PIXELS = 2**16
"""What the attacked readers decode at most: small, so that a bound that does not hold shows."""

PART = PartKey("north-1", 1_700_000_000_000_000_000, 41)

_PNG = b"\x89PNG\r\n\x1a\n"

# Numbers at which something overflows, wraps or turns negative.
EDGES = [
    0,
    1,
    -1,
    127,
    128,
    255,
    256,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
]
ODD: list[Any] = [
    *EDGES,
    None,
    True,
    "",
    "north-1",
    "x" * 5000,
    "\ud7ff\U0010ffff\0",
    b"",
    b"\0" * 300,
    [],
    [None] * 600,
    {},
    {str(n): n for n in range(200)},
    float("nan"),
    float("inf"),
    -0.0,
    1e308,
    5e-324,
]
DEEP = [
    b"\x91" * 300 + b"\xc0",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\x7f\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
]


def corpus() -> list[bytes]:
    """A message of each kind and image encoding, and image files by themselves."""
    noise = np.random.default_rng(7)
    colour = noise.integers(0, 255, (24, 20, 3), dtype=np.uint8)
    depth = noise.integers(0, 4000, (24, 20), dtype=np.uint16)
    times: dict[str, Any] = {"captured_at": 10, "deadline": 20}
    messages: list[Any] = [
        Frame(
            part=PART,
            product="casting",
            rgb=encode_colour(colour, kind),
            depth=encode_depth(depth, other),
            **times,
        )
        for kind, other in zip(ColourEncoding, DepthEncoding, strict=True)
    ]
    messages += [
        Heatmap(part=PART, mode=Mode.RGB, image=encode_map(colour[:, :, 0].copy(), kind), low=0.0, high=1.0)
        for kind in HeatmapEncoding
    ]
    messages += [
        Notice(part=PART, product="casting", why="buffer full", **times),
        Heartbeat(station="north-1", agent="agent-1", sent_at=9, run=1, triggers=2, buffered=3, dropped=4),
        Command(id="c1", action=Action.DRAIN, issued_at=5),
        Label(
            part=PART,
            product="casting",
            decision=Decision.REJECT,
            label=LabelKind.TRUE_REJECT,
            at=9,
            by="operator",
        ),
        Verdict(
            part=PART,
            product="casting",
            decision=Decision.PASS,
            decided_at=15,
            worker="w1",
            mode=Mode.FUSED,
            score=0.5,
            threshold=1.0,
            bundle="casting/1",
            bundle_hash="ab",
            regions=(Region(1, 2, 3, 4, 0.5),),
            sources=(Source("frames", 0, 7),),
            branches={"mapping": 0.1},
            **times,
        ),
    ]
    files = [encode_colour(colour, kind).data for kind in (ColourEncoding.JPEG, ColourEncoding.PNG)]
    return [*(encode(message) for message in messages), *files]


def _images(found: Any) -> Iterator[ImagePayload]:
    for name in ("rgb", "depth", "image"):
        payload = getattr(found, name, None)
        if payload is not None:
            yield payload


READERS: dict[str, Callable[[bytes], Any]] = {
    "capture": decode_capture,
    "frame": decode_frame,
    "notice": decode_notice,
    "heartbeat": decode_heartbeat,
    "verdict": decode_verdict,
    "heatmap": decode_heatmap,
    "command": decode_command,
    "label": decode_label,
    "png": lambda data: read_png(data)[0],
    "jpeg": read_jpeg,
}
DECODERS = (decode_colour, decode_depth, decode_map)


def attack(data: bytes) -> dict[str, str]:
    """Give the bytes to every reader, and every image found to every decoder; what became of it, by reader.

    Whatever is no SchemaError is left to fly.
    """
    became: dict[str, str] = {}
    key = salvage_part(data, data[:40])
    became["salvage"] = "key" if isinstance(key, PartKey) else "none"
    for name, read in READERS.items():
        try:
            found = read(data)
        except SchemaError as error:
            became[name] = type(error).__name__
            str(error)
            continue
        became[name] = "read"
        repr(found)
        for payload in _images(found):
            for decode in DECODERS:
                label = f"{name}/{payload.encoding}/{decode.__name__}"
                try:
                    image = decode(payload, max_pixels=MAX_PIXELS)
                except SchemaError as error:
                    became[label] = type(error).__name__
                    continue
                assert image.shape[:2] == (payload.height, payload.width)
                became[label] = "decoded"
    return became


def mutate(random: Random, seeds: list[bytes]) -> bytes:
    """A changed message: fields replaced, images changed under a digest that is right again, or raw bytes."""
    data = random.choice(seeds)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        try:
            raw = msgpack.unpackb(data, strict_map_key=False)
        except Exception:  # it is no message any more: only bytes can be changed
            raw = None
        if isinstance(raw, dict) and random.random() < 0.75:
            data = _changed_map(random, raw)
        else:
            data = _changed_bytes(random, data, seeds)
            if data.startswith(_PNG) and random.random() < 0.7:
                data = right_checksums(data)
    return data


def _changed_map(random: Random, raw: dict[Any, Any]) -> bytes:
    images = [
        value for value in raw.values() if isinstance(value, dict) and isinstance(value.get("data"), bytes)
    ]
    if images and random.random() < 0.6:
        _changed_image(random, random.choice(images))
    else:
        target: Any = raw
        while True:
            names = list(target) if isinstance(target, dict) else list(range(len(target)))
            if not names:
                break
            name = random.choice(names)
            inner = target[name]
            if isinstance(inner, dict | list) and inner and random.random() < 0.6:
                target = inner
                continue
            kind = random.randrange(4)
            if kind == 0:
                del target[name]
            elif kind == 1 and isinstance(target, dict):
                target[random.choice([*names, 7, b"k", "", "v", "kind"])] = inner
            else:
                target[name] = random.choice(ODD)
            break
    try:
        return bytes(msgpack.packb(raw))
    except (ValueError, OverflowError):
        return b"\xc1"


def _changed_image(random: Random, image: dict[Any, Any]) -> None:
    kind = random.randrange(5)
    if kind == 0:
        image[random.choice(("width", "height"))] = random.choice([1, 2, 20, 24, 480, 16384, *EDGES])
    elif kind == 1:
        encodings = [*ColourEncoding, *DepthEncoding, *HeatmapEncoding]
        image["encoding"] = random.choice(encodings).value
    else:
        image["data"] = _changed_bytes(random, image["data"], [image["data"]])
        if image["data"].startswith(_PNG) and random.random() < 0.7:
            image["data"] = right_checksums(image["data"])
    if random.random() < 0.9:
        image["digest"] = digest(image["data"])


def right_checksums(png: bytes) -> bytes:
    """The PNG with each chunk's checksum made right, so that a reader gets past it."""
    fixed = bytearray(png)
    at = 8
    while at + 12 <= len(fixed):
        (length,) = struct.unpack_from(">I", fixed, at)
        end = at + 8 + length
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


def _changed_bytes(random: Random, data: bytes, seeds: list[bytes]) -> bytes:
    if not data:
        return random.randbytes(random.randrange(1, 40))
    at = random.randrange(len(data))
    to = min(len(data), at + random.choice((1, 2, 4, 16, 200)))
    kind = random.randrange(8)
    if kind == 0:
        flipped = bytearray(data)
        flipped[at] ^= 1 << random.randrange(8)
        return bytes(flipped)
    if kind == 1:
        return data[:at] + random.randbytes(to - at) + data[to:]
    if kind == 2:
        return data[:at] + data[to:]
    if kind == 3:
        return data[:to] + data[at:to] * random.choice((1, 3, 50)) + data[to:]
    if kind == 4:
        width = random.choice("BHIQ")
        size = struct.calcsize(width)
        number = struct.pack((">", "<")[random.randrange(2)] + width, random.choice(EDGES) % 2 ** (8 * size))
        return data[:at] + number + data[at + size :]
    if kind == 5:
        return data[:at]
    if kind == 6:
        return data[:at] + random.choice(DEEP) + data[to:]
    other = random.choice(seeds)
    return data[:at] + other[random.randrange(len(other) or 1) :]

"""Small frames, records and pending parts for the worker's tests."""

from __future__ import annotations

import numpy as np

from schemas.frame import Frame
from schemas.images import encode_colour, encode_depth
from schemas.part import PartKey
from schemas.payload import ColourEncoding, ImagePayload
from schemas.wire import encode
from workers.bus.base import Record, TopicPartition
from workers.steps.offsets import Ticket
from workers.steps.pending import PendingPart

START = 1_700_000_000_000_000_000


def colour(seed: int, size: int = 16) -> ImagePayload:
    rng = np.random.default_rng(seed)
    return encode_colour(rng.integers(0, 255, (size, size, 3), dtype=np.uint8), ColourEncoding.PNG)


def depth(seed: int, size: int = 16) -> ImagePayload:
    rng = np.random.default_rng(seed + 10_000)
    return encode_depth(rng.integers(1, 60_000, (size, size), dtype=np.uint16))


def frame(
    trigger: int,
    *,
    station: str = "s1",
    rgb: bool = True,
    with_depth: bool = True,
    captured_at: int = START,
    deadline_s: float = 10.0,
    product: str = "widget",
    seed: int | None = None,
    expects: tuple[str, ...] = ("rgb", "depth"),
) -> Frame:
    chosen = trigger if seed is None else seed
    return Frame(
        part=PartKey(station, 1, trigger),
        product=product,
        captured_at=captured_at,
        deadline=captured_at + int(deadline_s * 1e9),
        rgb=colour(chosen) if rgb else None,
        depth=depth(chosen) if with_depth else None,
        expects=expects,
    )


def record(of: Frame, *, offset: int = 0, partition: int = 0, value: bytes | None = None) -> Record:
    return Record(
        topic="inspection.frames",
        partition=partition,
        offset=offset,
        key=str(of.part).encode(),
        value=encode(of) if value is None else value,
        headers=(),
        timestamp_ms=0,
    )


def ticket(offset: int = 0, partition: int = 0, epoch: int = 1) -> Ticket:
    return Ticket(TopicPartition("inspection.frames", partition), offset, epoch)


def pending(of: Frame, *, offset: int = 0, arrived: float = 0.0) -> PendingPart:
    return PendingPart(
        of,
        arrived=arrived,
        read_at=of.captured_at,
        records=[record(of, offset=offset)],
        tickets=[ticket(offset)],
    )

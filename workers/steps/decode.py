"""Step 2: check one record by itself, and later turn its images into arrays."""

from __future__ import annotations

from inference.sample import Sample
from schemas.errors import InvalidField, SchemaError
from schemas.frame import Frame
from schemas.images import decode_colour, decode_depth
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.wire import decode_capture, salvage_part
from workers.bus.base import Record
from workers.errors import UndecodableRecord


def require_decoded(record: Record) -> None:
    """Refuse what the Kafka client could not decode.

    Raises:
        UndecodableRecord: the text says where it lies and what is wrong with it.
    """
    if (undecoded := record.undecoded) is None:
        return
    until = "" if record.count == 1 else f" to {record.offset}"
    raise UndecodableRecord(
        f"{record.source} at {undecoded.first}{until}: {undecoded.why}; whoever sends there is to be mended"
    )


def open_record(record: Record, limit: int) -> Frame | Notice:
    """The frame in a record, its image digests checked and nothing decoded yet, or the notice in its place.

    Raises:
        SchemaError: the record is neither, or its bytes changed on the way.
    """
    found = decode_capture(record.value, limit)
    named = _key_of(record)
    if named is not None and named != found.part:
        raise InvalidField(
            f"record key says part {named}, its content says {found.part}: one of them was changed"
        )
    if isinstance(found, Frame):
        for payload in (found.rgb, found.depth):
            if payload is not None:
                payload.verify()
    return found


def _key_of(record: Record) -> PartKey | None:
    return None if record.key is None else salvage_part(b"", record.key)


def part_of(record: Record) -> PartKey | None:
    """Whose record this is, as far as the record can still say."""
    if record.undecoded is not None and record.undecoded.batch:
        # It may hold several, and the first to be found would be one of them.
        return None
    return salvage_part(record.value, record.key)


def decode_sample(frame: Frame, *, use_rgb: bool = True, use_depth: bool = True) -> Sample:
    """The arrays of a frame; a sensor that is not to be used is left out, and not decoded.

    Raises:
        SchemaError: an image is not what its header says, or cannot be decoded.
    """
    rgb = depth = None
    if use_rgb and frame.rgb is not None:
        try:
            rgb = decode_colour(frame.rgb)
        except SchemaError as error:
            raise type(error)(f"{frame.part} rgb: {error}") from None
    if use_depth and frame.depth is not None:
        try:
            depth = decode_depth(frame.depth)
        except SchemaError as error:
            raise type(error)(f"{frame.part} depth: {error}") from None
    return Sample(rgb=rgb, depth=depth, depth_scale=frame.depth_scale)

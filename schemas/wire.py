"""msgpack in and out: schema version, size limits, and the part key read from what is left of a message."""

from __future__ import annotations

from typing import Any

import msgpack

from schemas.command import Command
from schemas.errors import MalformedMessage, MessageTooLarge, SchemaError, UnsupportedVersion
from schemas.fields import Fields
from schemas.frame import Frame
from schemas.heartbeat import Heartbeat
from schemas.heatmap import Heatmap
from schemas.label import Label
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.scan import scan
from schemas.verdict import Verdict

VERSION = 1
MAX_MESSAGE_BYTES = 16 * 2**20
"""The largest message any reader accepts, in bytes; settings may only lower it."""
MAX_OVERHEAD_BYTES = 4 * 2**20
"""What decoding may allocate beyond the bytes of its payloads, whatever the message claims."""

_MAX_LIST = 512
_MAX_MAP = 128
_MAX_TEXT = 4096


def _unpack(data: bytes, limit: int) -> Any:
    if len(data) > limit:
        raise MessageTooLarge(f"message: {len(data)} bytes, at most {limit}")
    scan(data)
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_str_len=_MAX_TEXT,
            max_bin_len=limit,
            max_array_len=_MAX_LIST,
            max_map_len=_MAX_MAP,
            max_ext_len=0,
        )
    except Exception as error:  # msgpack raises many types for bad bytes; every one of them means the same
        why = str(error)[:200]
        raise MalformedMessage(f"message of {len(data)} bytes: not readable as msgpack ({why})") from None


def _pack(kind: str, part: PartKey | None, body: dict[str, Any]) -> bytes:
    message: dict[str, Any] = {"v": VERSION, "kind": kind}
    if part is not None:
        # First in the map, so that a truncated message still says whose it was.
        message["part"] = [part.station, part.run, part.trigger]
    message.update(body)
    return bytes(msgpack.packb(message, use_bin_type=True))


def _open(data: bytes, kind: str, limit: int) -> Fields:
    return _checked(Fields(_unpack(data, limit), kind), kind)


def _checked(fields: Fields, kind: str) -> Fields:
    if not fields.has("v"):
        raise UnsupportedVersion(f"{kind}.v: missing; expected schema version {VERSION}")
    version = fields.integer("v")
    if version != VERSION:
        raise UnsupportedVersion(f"{kind}.v: {version}; this reader knows {VERSION}")
    found = fields.text("kind")
    if found != kind:
        raise MalformedMessage(f"message: is a {found[:40]!r}, expected a {kind!r}")
    return fields


def _part(fields: Fields) -> PartKey:
    items = fields.items("part", 3)
    if len(items) != 3:
        raise MalformedMessage("part: expected [station, run, trigger]")
    station, run, trigger = items
    # PartKey checks the types itself; the casts below are for the type checker only.
    return PartKey(station, run, trigger)  # type: ignore[arg-type]


def encode(message: Frame | Notice | Verdict | Heatmap | Heartbeat | Command | Label) -> bytes:
    """The bytes of a message."""
    part = None if isinstance(message, Command | Heartbeat) else message.part
    return _pack(message.KIND, part, message.to_map())


def decode_frame(data: bytes, limit: int = MAX_MESSAGE_BYTES) -> Frame:
    """Read a frame. Digests are not checked here but where an image is decoded. Raises SchemaError only."""
    fields = _open(data, Frame.KIND, limit)
    return Frame.from_map(_part(fields), fields)


def decode_notice(data: bytes, limit: int = MAX_MESSAGE_BYTES) -> Notice:
    """Read a notice. Raises SchemaError only."""
    fields = _open(data, Notice.KIND, limit)
    return Notice.from_map(_part(fields), fields)


def decode_capture(data: bytes, limit: int = MAX_MESSAGE_BYTES) -> Frame | Notice:
    """Read what the frames topic carries: a frame, or a notice in its place. Raises SchemaError only."""
    raw = _unpack(data, limit)
    if isinstance(raw, dict) and raw.get("kind") == Notice.KIND:
        fields = _checked(Fields(raw, Notice.KIND), Notice.KIND)
        return Notice.from_map(_part(fields), fields)
    fields = _checked(Fields(raw, Frame.KIND), Frame.KIND)
    return Frame.from_map(_part(fields), fields)


def decode_verdict(data: bytes, limit: int = MAX_MESSAGE_BYTES) -> Verdict:
    """Read a verdict. Raises SchemaError only."""
    fields = _open(data, Verdict.KIND, limit)
    return Verdict.from_map(_part(fields), fields)


def decode_heatmap(data: bytes, limit: int = MAX_MESSAGE_BYTES) -> Heatmap:
    """Read a heatmap. Raises SchemaError only."""
    fields = _open(data, Heatmap.KIND, limit)
    return Heatmap.from_map(_part(fields), fields)


def decode_label(data: bytes, limit: int = MAX_MESSAGE_BYTES) -> Label:
    """Read a label. Raises SchemaError only."""
    fields = _open(data, Label.KIND, limit)
    return Label.from_map(_part(fields), fields)


def decode_heartbeat(data: bytes, limit: int = MAX_MESSAGE_BYTES) -> Heartbeat:
    """Read a heartbeat. Raises SchemaError only."""
    return Heartbeat.from_map(_open(data, Heartbeat.KIND, limit))


def decode_command(data: bytes, limit: int = MAX_MESSAGE_BYTES) -> Command:
    """Read a command. Raises SchemaError only."""
    return Command.from_map(_open(data, Command.KIND, limit))


def salvage_part(data: bytes, record_key: bytes | None = None) -> PartKey | None:
    """The part key of a message that cannot be read as a whole, or None.

    The record key (``str(part)``) is tried first, then the head of the message: the key is the map's third
    entry, so a message cut anywhere behind it still names its part.
    """
    if record_key is not None:
        try:
            return PartKey.parse(record_key.decode("ascii"))
        except (SchemaError, UnicodeDecodeError):
            pass
    head = bytes(data[:512])
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=1024, max_array_len=8, max_str_len=256)
    try:
        unpacker.feed(head)
        for _ in range(min(unpacker.read_map_header(), 8)):
            name = unpacker.unpack()
            value = unpacker.unpack()
            if name == "part" and isinstance(value, list) and len(value) == 3:
                return PartKey(value[0], value[1], value[2])
    except Exception:  # anything at all may be wrong with these bytes; there is then no key to save
        return None
    return None

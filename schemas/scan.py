"""What a message claims, counted before anything is allocated for it.

A msgpack decoder allocates a list of the length its header claims, and holds every open container until the
end. This walk over the bytes builds nothing: it follows the type bytes (msgpack specification, "Formats"),
adds up what decoding would have to build, and refuses the message as soon as a limit is passed.
"""

from __future__ import annotations

from schemas.errors import MalformedMessage, MessageTooLarge

MAX_ITEMS = 8192
"""Values and keys in one message. A verdict with every list full has about 1,500."""
MAX_DEPTH = 8
"""Containers inside one another. A verdict has 3."""
MAX_TEXT_BYTES = 256 * 1024
"""All strings of a message together, as UTF-8."""

# Type bytes with a body of fixed size: how many bytes follow.
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8}
_FIXED.update({0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8})
# Type bytes followed by a length: how many bytes the length takes.
_BINARY = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXT = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_LIST = {0xDC: 2, 0xDD: 4}
_MAP = {0xDE: 2, 0xDF: 4}


def scan(data: bytes) -> None:
    """Walk one message from end to end.

    Raises:
        MalformedMessage: cut short, trailing bytes, or a type that is not part of the schema.
        MessageTooLarge: more items, nesting or text than any message of the schema has.
    """
    at, end = 0, len(data)
    items, text, left = 0, 0, 1
    # ``left`` values are still to come in the container being read; those around it wait here.
    waiting: list[int] = []
    while True:
        while left == 0:
            if not waiting:
                if at != end:
                    raise MalformedMessage(f"message: {end - at} bytes behind its end")
                return
            left = waiting.pop()
        if at >= end:
            raise MalformedMessage(f"message: cut short at byte {end}")
        left -= 1
        kind = data[at]
        at += 1
        inner = -1
        if kind < 0x80 or kind >= 0xE0:  # small integers
            continue
        if kind < 0x90:
            inner = 2 * (kind & 0x0F)
        elif kind < 0xA0:
            inner = kind & 0x0F
        elif kind < 0xC0:
            at += kind & 0x1F
            text += kind & 0x1F
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            size = _BINARY.get(kind) or _TEXT.get(kind) or _LIST.get(kind) or _MAP.get(kind)
            if size is None:
                raise MalformedMessage(f"message: type byte {kind:02X} at byte {at - 1} is not of the schema")
            count = int.from_bytes(data[at : at + size], "big")
            at += size
            if kind in _BINARY:
                at += count
            elif kind in _TEXT:
                at += count
                text += count
            else:
                inner = 2 * count if kind in _MAP else count
        if at > end:
            raise MalformedMessage(f"message: cut short at byte {end}")
        if text > MAX_TEXT_BYTES:
            raise MessageTooLarge(f"message: more than {MAX_TEXT_BYTES} bytes of text")
        if inner >= 0:
            items += inner
            if items > MAX_ITEMS:
                raise MessageTooLarge(f"message: more than {MAX_ITEMS} items")
            waiting.append(left)
            left = inner
            if len(waiting) > MAX_DEPTH:
                raise MessageTooLarge(f"message: more than {MAX_DEPTH} containers inside one another")

"""What each message looks like on the wire, as JSON Schema, from its dataclass and docstring."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from enum import StrEnum
from typing import Any

from schemas.fields import INT64_MAX
from schemas.part import PartKey
from schemas.wire import VERSION

Schema = dict[str, Any]

_ATTRIBUTES = re.compile(r"^\s*Attributes:\s*$")
_ENTRY = re.compile(r"^(?P<names>[a-z_]+(?:, [a-z_]+)*): (?P<text>.*)$")


def schema_of(message: type[Any]) -> Schema:
    """The map of one message kind: what ``schemas.wire.encode`` packs, before msgpack."""
    hints = typing.get_type_hints(message)
    told = attributes(message)
    properties: Schema = {
        "v": {"const": VERSION, "description": "Schema version."},
        "kind": {"const": message.KIND},
    }
    for field in dataclasses.fields(message):
        described = dict(_schema(hints[field.name]))
        if field.name in told:
            described["description"] = told[field.name]
        properties[field.name] = described
    return {
        "type": "object",
        "description": summary(message),
        "required": list(properties),
        "properties": properties,
    }


def summary(kind: type[Any]) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def attributes(kind: type[Any]) -> dict[str, str]:
    """What the ``Attributes:`` of a docstring say of each field, on one line."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in (kind.__doc__ or "").splitlines():
        text = line.strip()
        if _ATTRIBUTES.match(line):
            inside = True
        elif inside and not text:
            break
        elif inside:
            entry = _ENTRY.match(text)
            names = entry["names"].split(", ") if entry else names
            for name in names:
                found[name] = entry["text"] if entry else f"{found[name]} {text}"
    return found


def _schema(kind: Any) -> Schema:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        choices = [_schema(each) for each in arguments]
        return {"anyOf": choices} if len(choices) > 1 else choices[0]
    if kind is type(None):
        return {"type": "null"}
    if kind is PartKey:
        integer = {"type": "integer", "minimum": 0, "maximum": INT64_MAX}
        return {
            "type": "array",
            "description": "Station, run and trigger.",
            "prefixItems": [{"type": "string"}, integer, integer],
            "minItems": 3,
            "maxItems": 3,
        }
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    if isinstance(kind, type):
        if issubclass(kind, StrEnum):
            return {"type": "string", "enum": [member.value for member in kind]}
        if dataclasses.is_dataclass(kind):
            return _nested(kind)
        if kind in _PLAIN:
            return dict(_PLAIN[kind])
    raise TypeError(f"{kind}: no schema is known for this type; add it to {__name__}")


_PLAIN: dict[type, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    # JSON has no bytes: msgpack's bin, not text.
    bytes: {"format": "binary", "description": "msgpack bin."},
}


def _nested(kind: type[Any]) -> Schema:
    hints, told = typing.get_type_hints(kind), attributes(kind)
    properties: Schema = {}
    for field in dataclasses.fields(kind):
        described = dict(_schema(hints[field.name]))
        if field.name in told:
            described["description"] = told[field.name]
        properties[field.name] = described
    return {
        "type": "object",
        "description": summary(kind),
        "required": list(properties),
        "properties": properties,
    }

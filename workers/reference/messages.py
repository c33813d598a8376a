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
from workers.reference.limits import EXTRAS, IMAGES, MAY_LACK, STATION
from workers.reference.words import listed, members, plain, summary

Schema = dict[str, Any]

_ATTRIBUTES = re.compile(r"^\s*Attributes:\s*$")
_ENTRY = re.compile(r"^(?P<names>[a-z_]+(?:, [a-z_]+)*): (?P<text>.*)$")


def schema_of(message: type[Any]) -> Schema:
    """The map of one message kind: what ``schemas.wire.encode`` packs, before msgpack.

    Required is what readers refuse to miss; our own writers always write every field.
    """
    head: Schema = {
        "v": {"const": VERSION, "description": "Schema version."},
        "kind": {"const": message.KIND},
    }
    return _object(message, head)


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
    return {name: plain(text) for name, text in found.items()}


def _object(kind: type[Any], head: Schema, inner: Schema | None = None) -> Schema:
    hints, told = typing.get_type_hints(kind), attributes(kind)
    properties = dict(head)
    required = list(head)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        described = _schema(hint, IMAGES.get((kind, field.name)))
        if field.name in told:
            described["description"] = f"{told[field.name]} {described.get('description', '')}".strip()
        extra = EXTRAS.get((kind, field.name), {}) | (inner or {}).get(field.name, {})
        properties[field.name] = _with(described, extra)
        if not _nullable(hint) and (kind, field.name) not in MAY_LACK:
            required.append(field.name)
    return {"type": "object", "description": summary(kind), "required": required, "properties": properties}


def _with(schema: Schema, extra: Schema) -> Schema:
    """A field's schema and what limits it; a limit goes to the choice that is not null."""
    if "anyOf" in schema and "anyOf" not in extra:
        said = {name: extra[name] for name in extra if name == "description"}
        limits = {name: extra[name] for name in extra if name != "description"}
        choices = [each if each.get("type") == "null" else each | limits for each in schema["anyOf"]]
        return {**schema, "anyOf": choices, **said}
    return {**schema, **extra}


def _nullable(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def _schema(kind: Any, inner: Schema | None = None) -> Schema:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        choices = [_schema(each, inner) for each in arguments]
        return {"anyOf": choices} if len(choices) > 1 else choices[0]
    if kind is type(None):
        return {"type": "null"}
    if kind is PartKey:
        return {
            "type": "array",
            "description": "Station, run and trigger. Run is about 1.7e18: read it as a 64-bit integer.",
            "prefixItems": [{"type": "string", "pattern": STATION}, dict(_INTEGER), dict(_INTEGER)],
            "minItems": 3,
            "maxItems": 3,
        }
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "maxProperties": 64, "additionalProperties": _schema(arguments[1])}
    if isinstance(kind, type):
        if issubclass(kind, StrEnum):
            described: Schema = {"type": "string", "enum": [member.value for member in kind]}
            told = members(kind)
            return described | ({"description": listed(told)} if any(told.values()) else {})
        if dataclasses.is_dataclass(kind):
            return _object(kind, {}, inner)
        if kind in _PLAIN:
            return dict(_PLAIN[kind])
    raise TypeError(f"{kind}: no schema is known for this type; add it to {__name__}")


_INTEGER: Schema = {"type": "integer", "format": "int64", "minimum": 0, "maximum": INT64_MAX}
_PLAIN: dict[type, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: _INTEGER,
    float: {"type": "number", "format": "double", "description": "Finite."},
    # JSON has no bytes: msgpack's bin, not text.
    bytes: {"format": "binary", "description": "msgpack bin."},
}

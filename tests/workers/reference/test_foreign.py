"""The AsyncAPI document says all that a client in another language needs, and no word of Python."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import msgpack
import pytest

import schemas
from schemas.codes import DEGRADED, ReasonCode, SensorCode
from schemas.command import Action, Command
from schemas.errors import SchemaError
from schemas.fields import INT64_MAX
from schemas.frame import Frame
from schemas.heartbeat import Heartbeat
from schemas.heatmap import Heatmap
from schemas.label import Label, LabelKind
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.payload import ColourEncoding, DepthEncoding, ImagePayload
from schemas.verdict import Decision, Mode, Region, Source, Verdict
from schemas.wire import (
    decode_command,
    decode_frame,
    decode_heartbeat,
    decode_heatmap,
    decode_label,
    decode_notice,
    decode_verdict,
    encode,
)
from tests.workers.gate_line import key, verdict
from workers.reference.__main__ import files
from workers.reference.asyncapi import document
from workers.reference.messages import schema_of
from workers.store import keys
from workers.store.verdicts import VerdictStore

PART = PartKey("s1", 1_700_000_000_123_456_789, 7)
IMAGE = ImagePayload.of("raw", 1, 1, b"abc")
DEPTH = ImagePayload.of("raw16", 1, 1, b"ab")
ROOT = Path(__file__).parents[3]

EXAMPLES: dict[type[Any], tuple[Any, Any]] = {
    Frame: (
        Frame(
            part=PART,
            product="cap",
            captured_at=5,
            deadline=6,
            rgb=IMAGE,
            depth=DEPTH,
            depth_scale=0.001,
            encoder=-4,
            calibration="c",
        ),
        decode_frame,
    ),
    Notice: (Notice(part=PART, product="cap", captured_at=5, deadline=6, why="gone"), decode_notice),
    Verdict: (
        dataclasses.replace(
            verdict(PART, Decision.REVIEW),
            regions=(Region(1, 2, 3, 4, 0.5, "both"),),
            sources=(Source("t", 0, 5),),
            degraded=("depth:missing",),
            reason="degraded",
            heatmap_key="k",
            foreground="depth",
        ),
        decode_verdict,
    ),
    Heatmap: (
        Heatmap(part=PART, mode=Mode.RGB, image=ImagePayload.of("raw8", 1, 1, b"a"), low=0.0, high=1.0),
        decode_heatmap,
    ),
    Heartbeat: (Heartbeat(station="s1", agent="a", sent_at=1), decode_heartbeat),
    Command: (
        Command(id="i", action=Action.DRAIN, issued_at=9, product="cap", value="2", since=8, digest="a" * 64),
        decode_command,
    ),
    Label: (
        Label(
            part=PART,
            product="cap",
            decision=Decision.REJECT,
            label=LabelKind.TRUE_REJECT,
            at=1,
            by="ann",
            mode=Mode.RGB,
            score=1.0,
            threshold=0.5,
            bundle="cap/1",
        ),
        decode_label,
    ),
}
KINDS = pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: str(kind.KIND))


def changed(wire: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json_like(wire)
    at = copy
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return copy


def json_like(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: json_like(each) for name, each in node.items()}
    return [json_like(each) for each in node] if isinstance(node, list) else node


def limits(schema: Any, wire: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Path and a value just beyond each limit that the schema states, where the example has a value."""
    choices = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    if len(choices) == 1:
        (one,) = choices
        if isinstance(wire, dict):
            for name, inner in one.get("properties", {}).items():
                yield from limits(inner, wire[name], (*path, name))
            return
        if "maximum" in one:
            yield path, one["maximum"] + 1
        if "minimum" in one:
            yield path, one["minimum"] - 1
        if "exclusiveMinimum" in one:
            yield path, float(one["exclusiveMinimum"])
        if "maxLength" in one:
            yield path, "x" * (one["maxLength"] + 1)
        if one.get("minLength", 0) > 0:
            yield path, ""
        if "pattern" in one:
            yield path, "not a name/"
        if "enum" in one or "const" in one:
            yield path, "something else"
        if isinstance(wire, list):
            if "maxItems" in one:
                yield path, (wire or ["x"]) * (one["maxItems"] + 1)
            if "minItems" in one:
                yield path, []
            for at, inner in enumerate(one.get("prefixItems", ())):
                yield from limits(inner, wire[at], (*path, at))
            if wire and "items" in one:
                yield from limits(one["items"], wire[0], (*path, 0))
    else:
        longest = max((each.get("maxLength", 0) for each in choices), default=0)
        if longest:
            yield path, "x" * (longest + 1)


@KINDS
def test_what_is_beyond_a_stated_limit_is_refused_by_the_reader(kind: type[Any]) -> None:
    message, decode = EXAMPLES[kind]
    wire = msgpack.unpackb(encode(message))
    found = list(limits(schema_of(kind), wire))
    assert len(found) >= 8
    for path, value in found:
        try:
            data = msgpack.packb(changed(wire, path, value))
        except OverflowError:  # above what msgpack itself can carry
            continue
        with pytest.raises(SchemaError):
            decode(data)


@KINDS
def test_required_is_what_the_reader_refuses_to_miss(kind: type[Any]) -> None:
    message, decode = EXAMPLES[kind]
    wire = msgpack.unpackb(encode(message))
    schema = schema_of(kind)
    for name in schema["properties"]:
        data = msgpack.packb({each: value for each, value in wire.items() if each != name})
        if name in schema["required"]:
            with pytest.raises(SchemaError):
                decode(data)
        else:
            decode(data)


def integers(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if node.get("type") == "integer":
            yield path, node
        for name, each in node.items():
            yield from integers(each, f"{path}/{name}")
    elif isinstance(node, list):
        for at, each in enumerate(node):
            yield from integers(each, f"{path}/{at}")


def test_every_integer_says_how_many_bits_it_takes() -> None:
    found = list(integers(document()))
    assert len(found) > 40
    assert [path for path, node in found if node.get("format") not in ("int64", "int32")] == []
    for path, node in found:
        wide = 2**31 - 1 if node["format"] == "int32" else INT64_MAX
        assert -wide <= node["minimum"] <= node["maximum"] <= wide, path


def test_encodings_are_those_of_each_image_and_say_their_layout() -> None:
    said = document()["components"]["messages"]

    def encoding(message: str, field: str) -> dict[str, Any]:
        schema = said[message]["payload"]["properties"][field]
        image = schema["anyOf"][0] if "anyOf" in schema else schema
        found = image["properties"]["encoding"]
        assert isinstance(found, dict)
        return found

    assert encoding("frame", "rgb")["enum"] == [member.value for member in ColourEncoding]
    assert encoding("frame", "depth")["enum"] == [member.value for member in DepthEncoding]
    assert encoding("heatmap", "image")["enum"] == ["png8", "raw8"]
    assert "red, green, blue" in encoding("frame", "rgb")["description"]
    for word in ("little-endian", "big-endian", "zigzag", "column x height + row", "content size"):
        assert word in encoding("frame", "depth")["description"]


def strings(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for name, each in node.items():
            # Extensions and words of JSON Schema are not prose.
            if name not in ("$ref", "enum", "pattern", "x-codes"):
                yield from strings(each)
    elif isinstance(node, list):
        for each in node:
            yield from strings(each)


def python_names() -> set[str]:
    """Classes of two words and constants of the schema: nobody outside Python knows them."""
    found: set[str] = set()
    for module in pkgutil.iter_modules(schemas.__path__):
        made = importlib.import_module(f"schemas.{module.name}")
        for name in vars(made):
            if re.fullmatch(r"(?:[A-Z][a-z0-9]+){2,}|[A-Z]+_[A-Z_0-9]+|[A-Z]{4,}S", name):
                found.add(name)
    return found


@pytest.mark.parametrize(
    "leak",
    [
        r":[a-z]+:`",
        r"``",
        r"\b(None|True|False|repr|dataclass)\b",
        r"\b(schemas|workers|inference)\.\w",
        r"see the module",
    ],
)
def test_no_word_of_python_leaks_into_the_document(leak: str) -> None:
    assert [text for text in strings(document()) if re.search(leak, text)] == []


def test_no_name_of_a_class_or_constant_leaks_into_the_document() -> None:
    names = python_names()
    assert {"ColourEncoding", "PartKey", "FOREGROUNDS", "MAX_SIDE"} <= names
    leaks = re.compile(rf"\b({'|'.join(names)})\b")
    assert [text for text in strings(document()) if leaks.search(text)] == []


def test_the_reference_of_keys_names_no_module() -> None:
    section = files()["reference.md"].partition("## Keys in Redis")[2].partition("## Metrics")[0]
    assert not re.search(r"``|\b(schemas|workers|inference)\.\w|\bNone\b", section)


# The codes are those of the code


def returned(path: str, functions: set[str]) -> set[str]:
    """The texts that functions of a file return, alone or first in a pair, or call themselves by."""
    tree = ast.parse((ROOT / path).read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in functions:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    values = inner.value.elts[:1] if isinstance(inner.value, ast.Tuple) else [inner.value]
                    found |= {
                        v.value
                        for each in values
                        for v in ast.walk(each)
                        if isinstance(v, ast.Constant) and isinstance(v.value, str)
                    }
    return found - {""}


def test_the_codes_of_sensors_are_those_that_the_code_gives() -> None:
    from inference.inspector import BELT_OFF
    from workers.steps.shedding import LOAD

    given = returned("workers/steps/sensors.py", {"_fault", "_found", "_left_out"})
    given |= returned("inference/prepare.py", {"_colour_fault", "_depth_fault"})
    assert {"missing", "frozen", "size", "absent", "constant", "invalid"} <= given
    assert given <= {code.value for code in SensorCode}
    assert {BELT_OFF, LOAD} <= set(DEGRADED)


def test_reasons_are_listed_with_every_error_that_answers_a_part() -> None:
    reason = document()["components"]["messages"]["verdict"]["payload"]["properties"]["reason"]
    codes = reason["anyOf"][0]["x-codes"]
    assert {code.value for code in ReasonCode} <= set(codes)
    errors = {"malformed", "digest", "image", "no_part", "product", "clock_offset", "changeover", "model"}
    assert errors <= set(codes)
    known = re.compile(reason["anyOf"][0]["pattern"])
    assert known.match("shed: late-first")
    assert known.match("coverage")
    assert not known.match("coverages")


def test_the_layout_of_delta16_as_it_is_written_down_reads_what_we_write() -> None:
    """Byte for byte as the document says, without numpy."""
    import numpy as np
    import zstandard

    from schemas.images import encode_depth

    depth = np.array([[0, 65535, 3], [700, 699, 65535]], np.uint16)
    content = zstandard.ZstdDecompressor().decompress(encode_depth(depth, DepthEncoding.DELTA16).data)
    height, width = depth.shape
    assert len(content) == 2 * height * width
    for row in range(height):
        left = 0
        for column in range(width):
            at = column * height + row
            z = content[at] | content[height * width + at] << 8
            d = (z >> 1) ^ (0xFFFF if z & 1 else 0)
            left = (left + d) % 65536
            assert left == depth[row, column]


def test_the_fields_of_keys_in_redis_are_those_that_are_written() -> None:
    redis: Any = fakeredis.FakeRedis()
    store = VerdictStore(redis)
    store.decide(verdict(key(0)))

    def told(function: Any) -> set[str]:
        fields = inspect.cleandoc(function.__doc__).partition("Fields:")[2]
        return set(re.findall(r"``(\w+)``", fields))

    assert told(keys.latest) == {name.decode() for name in redis.hkeys(keys.latest("s1"))}
    ((_, entry),) = redis.xrange(keys.gate("s1"))
    assert told(keys.gate) == {name.decode() for name in entry}
    redis.close()


def test_the_document_is_json_as_well() -> None:
    assert json.loads(json.dumps(document()))["asyncapi"] == "3.1.0"

"""The topics and their messages as an AsyncAPI document."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from schemas.scan import MAX_DEPTH, MAX_ITEMS, MAX_TEXT_BYTES
from schemas.wire import MAX_MESSAGE_BYTES
from workers.bus.base import MAX_RECORD_BYTES
from workers.reference.limits import KEY, STATION
from workers.reference.messages import schema_of
from workers.reference.topics import TOPICS, Topic
from workers.reference.words import summary
from workers.steps.deadletter import ERROR, LEFT_OUT, ORIGIN, REASON, REPLAYED, TIME, WORKER

PREFIX = "inspection"
CONTENT_TYPE = "application/msgpack"

_ABOUT = f"""The topics of a line. docs/foreign-clients.md has whole programs in three languages.

Encoding: each record is one msgpack map, in any order of its keys, without extension types; texts are msgpack
str in UTF-8, bytes are msgpack bin; unknown keys are ignored. A message has at most {MAX_MESSAGE_BYTES} bytes
and a record, with key and headers, {MAX_RECORD_BYTES}; within a message at most {MAX_ITEMS} keys and values,
{MAX_DEPTH} containers inside one another and {MAX_TEXT_BYTES} bytes of text.

Integers have up to 64 bits (`format: int64`) and must be kept exactly: times and the run of a part are
integer nanoseconds since the epoch, about 1.7e18, which no double holds. In JavaScript use BigInt (with
@msgpack/msgpack the option `useBigInt64: true`); a reader that rounds them names other parts.

Names: a station matches `{STATION}`. A part is station, run (when its agent started, in nanoseconds since the
epoch) and trigger (counted from 0 within the run); the key of its records is the text STATION/RUN/TRIGGER.

Partition: name it with each record and take it from the station map, the file stations.json that `crosscheck
topics` writes: a map with `v` (1), `partitions` and `stations` (partition by station). Never let a client's
hash choose it: clients of two languages hash differently, and a station's parts would lose their order.
"""


def document() -> dict[str, Any]:
    """AsyncAPI 3.1, topics named with the default prefix."""
    kinds = {kind for topic in TOPICS for kind in topic.messages}
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Crosscheck",
            "version": _version(),
            "description": "\n\n".join(" ".join(part.split()) for part in _ABOUT.split("\n\n")),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {
            f"{verb}{topic.name.capitalize()}": _operation(topic, verb, operation)
            for topic in TOPICS
            for verb, operation in (("send", "Write"), ("receive", "Read"))
        },
        "components": {
            "messages": {
                **{kind.KIND: _message(kind) for kind in sorted(kinds, key=lambda kind: str(kind.KIND))},
                "original": {
                    "summary": "The bytes of a record that could not be read.",
                    "contentType": "application/octet-stream",
                    "headers": _headers(),
                },
            },
        },
    }


def _version() -> str:
    """Of the checkout that the documents are written in, whatever is installed."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["version"])


def _names(topic: Topic) -> list[str]:
    return [kind.KIND for kind in topic.messages] or ["original"]


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": f"{PREFIX}.{topic.name}",
        "description": f"{topic.says} Key: {topic.key}. In order: {topic.order}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _names(topic)},
    }


def _operation(topic: Topic, verb: str, operation: str) -> dict[str, Any]:
    who = topic.who(operation)
    return {
        "action": verb,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": f"By {', '.join(who)}." if who else "By nobody of ours.",
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{name}"} for name in _names(topic)],
    }


def _message(kind: type[Any]) -> dict[str, Any]:
    return {
        "name": kind.KIND,
        "summary": summary(kind),
        "contentType": CONTENT_TYPE,
        "payload": schema_of(kind),
        "bindings": {"kafka": {"key": _key(kind.KIND)}},
    }


def _key(kind: str) -> dict[str, Any]:
    if kind == "command":
        return {"type": "string", "description": "What it sets: the newest record of a key holds."}
    if kind == "heartbeat":
        return {"type": "string", "pattern": STATION, "description": "The station."}
    return {"type": "string", "pattern": KEY, "description": "STATION/RUN/TRIGGER in ASCII."}


def _headers() -> dict[str, Any]:
    """The headers that a dead letter has besides those of its record; values are texts in UTF-8."""
    told = {
        REASON: "The code of the error.",
        ERROR: "What was wrong, in words.",
        ORIGIN: "Where the record lay: TOPIC/PARTITION/OFFSET.",
        WORKER: "Who could not read it.",
        TIME: "When, integer nanoseconds since the epoch, as decimal digits.",
        LEFT_OUT: "Only where the value was too large to be kept: how many bytes it had.",
        REPLAYED: "Only on a record that was sent again: the offset of its dead letter.",
    }
    return {
        "type": "object",
        "required": [REASON, ERROR, ORIGIN, WORKER, TIME],
        "properties": {name: {"type": "string", "description": text} for name, text in told.items()},
    }

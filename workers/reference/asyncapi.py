"""The topics and their messages as an AsyncAPI document."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from workers.bus.base import MAX_RECORD_BYTES
from workers.reference.messages import schema_of, summary
from workers.reference.topics import TOPICS, Topic

PREFIX = "inspection"
CONTENT_TYPE = "application/msgpack"


def document() -> dict[str, Any]:
    """AsyncAPI 3.0, topics named with the default prefix."""
    kinds = {kind for topic in TOPICS for kind in topic.messages}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Crosscheck",
            "version": version("crosscheck"),
            "description": (
                "The topics of a line. Records are msgpack maps with a schema version under `v`; unknown keys"
                " are ignored. Times are integer nanoseconds since the epoch. A record has at most"
                f" {MAX_RECORD_BYTES} bytes."
            ),
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
                },
            },
        },
    }


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
    }

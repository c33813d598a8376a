"""The documented shape of a message is the shape that travels."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.wire import encode
from tests.schemas import strategies
from workers.reference.asyncapi import document
from workers.reference.messages import schema_of
from workers.reference.topics import TOPICS
from workers.topics import StationMap, TopicPlan

KINDS = sorted({kind for topic in TOPICS for kind in topic.messages}, key=lambda kind: str(kind.KIND))
OF_KIND = {kind: getattr(strategies, f"{kind.KIND}s") for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.KIND))
def test_every_message_that_travels_keeps_to_its_documented_shape(kind: type[Any]) -> None:
    validator = Draft202012Validator(schema_of(kind))
    strategy = OF_KIND[kind]

    @settings(max_examples=40, deadline=None)
    @given(
        message=strategy() if callable(strategy) and not isinstance(strategy, st.SearchStrategy) else strategy
    )
    def check(message: Any) -> None:
        wire = msgpack.unpackb(encode(message), raw=False)
        validator.validate(wire)
        assert set(wire) == set(schema_of(kind)["properties"])

    check()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.KIND))
def test_every_field_of_a_message_is_refused_in_another_type(kind: type[Any]) -> None:
    validator = Draft202012Validator(schema_of(kind))
    for name, shape in schema_of(kind)["properties"].items():
        if shape.get("format") == "binary":
            continue
        wrong = {"nothing": ["of", "the", "kind"]}
        found = [error.path[0] for error in validator.iter_errors({name: wrong}) if error.path]
        assert name in found or "additionalProperties" in str(shape), name


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    whole = document()

    def follow(node: Any) -> int:
        if isinstance(node, dict) and "$ref" in node:
            target: Any = whole
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            return 1 + (follow(target) if "$ref" in target else 0)
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
        return sum(follow(child) for child in children)

    assert follow(whole) > 2 * len(TOPICS)


def test_every_topic_of_the_plan_is_documented_and_written_and_read_by_somebody() -> None:
    planned = {name.partition(".")[2] for name in TopicPlan(StationMap({"s1": 0})).specs()}
    assert planned == {topic.name for topic in TOPICS}
    assert [topic.name for topic in TOPICS if not topic.who("Write") or not topic.who("Read")] == []

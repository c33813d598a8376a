"""Messages: they come back as they were, and nothing but a schema error comes of anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.command import Action, Command
from schemas.errors import InvalidField, MalformedMessage, MessageTooLarge, SchemaError, UnsupportedVersion
from schemas.frame import Frame
from schemas.heartbeat import Heartbeat
from schemas.heatmap import Heatmap
from schemas.images import encode_colour, encode_depth, encode_map
from schemas.label import Label, LabelKind
from schemas.notice import MAX_WHY, Notice
from schemas.part import PartKey
from schemas.payload import ImagePayload
from schemas.verdict import MAX_REGIONS, MAX_SOURCES, Decision, Mode, Region, Source, Verdict
from schemas.wire import (
    decode_capture,
    decode_command,
    decode_frame,
    decode_heartbeat,
    decode_heatmap,
    decode_label,
    decode_notice,
    decode_verdict,
    encode,
    salvage_part,
)
from tests.schemas.strategies import commands, frames, heartbeats, heatmaps, labels, notices, parts, verdicts

Reader = Callable[[bytes], Any]
READERS: list[Reader] = [
    decode_frame,
    decode_verdict,
    decode_heatmap,
    decode_command,
    decode_notice,
    decode_heartbeat,
    decode_label,
]
PART = PartKey("north-1", 1_700_000_000_000_000_000, 41)

FRAME = Frame(
    part=PART,
    product="casting",
    captured_at=1,
    deadline=2,
    rgb=encode_colour(np.full((4, 4, 3), 7, np.uint8)),
    depth=encode_depth(np.full((4, 4), 900, np.uint16)),
)
VERDICT = Verdict(
    part=PART,
    product="casting",
    decision=Decision.PASS,
    captured_at=1,
    decided_at=2,
    deadline=3,
    worker="w1",
    mode=Mode.FUSED,
    score=0.5,
    threshold=1.0,
    bundle="casting/1",
    bundle_hash="ab",
    regions=(Region(1, 2, 3, 4, 0.5),),
    sources=(Source("frames", 0, 7),),
    branches={"mapping": 0.1},
)
HEATMAP = Heatmap(part=PART, mode=Mode.RGB, image=encode_map(np.zeros((4, 4), np.uint8)), low=0.0, high=1.0)
COMMAND = Command(id="c1", action=Action.DRAIN, issued_at=5)
NOTICE = Notice(part=PART, product="casting", captured_at=1, deadline=2, why="buffer full")
HEARTBEAT = Heartbeat(station="north-1", agent="agent-1", sent_at=9, run=1, triggers=2, buffered=3, dropped=4)
LABEL = Label(
    part=PART, product="casting", decision=Decision.REJECT, label=LabelKind.FALSE_REJECT, at=9, by="operator"
)
MESSAGES: list[tuple[Any, Reader]] = [
    (FRAME, decode_frame),
    (VERDICT, decode_verdict),
    (HEATMAP, decode_heatmap),
    (COMMAND, decode_command),
    (NOTICE, decode_notice),
    (HEARTBEAT, decode_heartbeat),
    (LABEL, decode_label),
]
every_message = pytest.mark.parametrize(
    ("message", "read"), MESSAGES, ids=[message.KIND for message, _ in MESSAGES]
)


@settings(deadline=None)
@given(frames())
def test_frames_come_back(message: Frame) -> None:
    assert decode_frame(encode(message)) == message


@settings(deadline=None)
@given(verdicts())
def test_verdicts_come_back(message: Verdict) -> None:
    assert decode_verdict(encode(message)) == message


@settings(deadline=None)
@given(heatmaps())
def test_heatmaps_come_back(message: Heatmap) -> None:
    assert decode_heatmap(encode(message)) == message


@given(commands)
def test_commands_come_back(message: Command) -> None:
    assert decode_command(encode(message)) == message


@given(notices())
def test_notices_come_back_from_both_readers(message: Notice) -> None:
    assert decode_notice(encode(message)) == message
    assert decode_capture(encode(message)) == message


@settings(deadline=None)
@given(frames())
def test_the_frames_topic_gives_frames_as_frames(message: Frame) -> None:
    assert decode_capture(encode(message)) == message


@given(labels)
def test_labels_come_back(message: Label) -> None:
    assert decode_label(encode(message)) == message


@pytest.mark.parametrize(
    "change",
    [
        {"decision": Decision.PASS},
        {"by": ""},
        {"by": "x" * 65},
        {"note": "x" * 501},
        {"revision": 0},
        {"at": -1},
        {"score": float("nan")},
        {"product": ""},
    ],
)
def test_a_label_that_says_nothing_that_can_be_meant_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        replace(LABEL, **change)


@given(heartbeats)
def test_heartbeats_come_back(message: Heartbeat) -> None:
    assert decode_heartbeat(encode(message)) == message


@given(parts)
def test_part_keys_come_back_from_their_text(part: PartKey) -> None:
    assert PartKey.parse(str(part)) == part


@settings(deadline=None)
@given(verdicts(), verdicts())
def test_equal_verdicts_are_equal_bytes(one: Verdict, other: Verdict) -> None:
    # A replay is recognised byte for byte, so writing must not depend on anything but the value.
    assert encode(one) == encode(decode_verdict(encode(one)))
    assert one == other or encode(one) != encode(other)


def test_a_verdict_written_before_regions_and_foregrounds_were_labelled_still_reads() -> None:
    body = msgpack.unpackb(encode(VERDICT))
    del body["foreground"]
    for region in body["regions"]:
        del region["seen_by"]
    assert decode_verdict(msgpack.packb(body)) == VERDICT


def test_a_label_that_this_reader_does_not_know_loses_no_verdict() -> None:
    body = msgpack.unpackb(encode(VERDICT))
    body |= {"foreground": "thermal", "shape_of_things": 1}
    body["regions"][0] |= {"seen_by": "thermal-only", "material": "steel"}
    read = decode_verdict(msgpack.packb(body))
    assert (read.foreground, read.regions[0].seen_by) == ("thermal", "thermal-only")
    assert read.decision is Decision.PASS


@pytest.mark.parametrize("label", ["", "x" * 33, 7, ["both"]])
def test_a_label_that_is_no_short_text_is_refused(label: object) -> None:
    for change in ("foreground", "seen_by"):
        body = msgpack.unpackb(encode(VERDICT))
        (body if change == "foreground" else body["regions"][0])[change] = label
        with pytest.raises(InvalidField, match=change):
            decode_verdict(msgpack.packb(body))


def test_a_verdict_with_every_list_full_is_within_the_limits() -> None:
    full = Verdict(
        part=PART,
        product="p" * 128,
        decision=Decision.REVIEW,
        captured_at=1,
        decided_at=2,
        deadline=3,
        worker="w" * 256,
        degraded=tuple(f"{n}" * 100 for n in range(64)),
        branches={f"{n}" * 100: 1.0 for n in range(64)},
        timings={f"{n}" * 100: 1.0 for n in range(64)},
        regions=(Region(1, 2, 3, 4, 0.5),) * MAX_REGIONS,
        sources=(Source("t" * 249, 1, 2),) * MAX_SOURCES,
        reason="r" * 1024,
    )
    assert decode_verdict(encode(full)) == full


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.binary(), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from(READERS))
def test_arbitrary_bytes_are_schema_errors(data: bytes, read: Reader) -> None:
    with pytest.raises(SchemaError):
        read(data)


@settings(max_examples=300)
@given(json_like, st.sampled_from(READERS))
def test_arbitrary_msgpack_is_a_schema_error(value: Any, read: Reader) -> None:
    with pytest.raises(SchemaError):
        read(msgpack.packb(value))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(MESSAGES), st.data())
def test_a_field_replaced_by_anything_is_read_or_refused(
    case: tuple[Any, Reader], data: st.DataObject
) -> None:
    message, read = case
    raw = msgpack.unpackb(encode(message))
    target = raw
    while True:
        name = data.draw(st.sampled_from(sorted(target)))
        if not isinstance(target[name], dict) or not target[name] or data.draw(st.booleans()):
            break
        target = target[name]
    if data.draw(st.booleans()):
        del target[name]
    else:
        target[name] = data.draw(json_like)
    try:
        found = read(msgpack.packb(raw))
    except SchemaError:
        return
    assert type(found) is type(message)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(MESSAGES), st.data())
def test_a_flipped_bit_never_yields_an_image_that_was_not_sent(
    case: tuple[Any, Reader], data: st.DataObject
) -> None:
    message, read = case
    flipped = bytearray(encode(message))
    bit = data.draw(st.integers(0, 8 * len(flipped) - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    try:
        found = read(bytes(flipped))
        for payload in images(found):
            payload.verify()
    except SchemaError:
        return
    sent = {payload.data for payload in images(message)}
    assert all(payload.data in sent for payload in images(found))


def images(message: Any) -> list[ImagePayload]:
    found = [getattr(message, name, None) for name in ("rgb", "depth", "image")]
    return [payload for payload in found if payload is not None]


@every_message
def test_every_truncation_is_a_schema_error(message: Any, read: Reader) -> None:
    data = encode(message)
    assert read(data) == message
    for length in range(len(data)):
        with pytest.raises(SchemaError):
            read(data[:length])


@pytest.mark.parametrize(
    "message", [FRAME, VERDICT, HEATMAP, NOTICE], ids=["frame", "verdict", "heatmap", "notice"]
)
def test_salvage_gives_the_key_from_the_byte_on_that_completes_it(message: Any) -> None:
    data = encode(message)
    key = msgpack.packb([PART.station, PART.run, PART.trigger])
    complete = data.index(key) + len(key)
    assert [length for length in range(len(data) + 1) if salvage_part(data[:length]) == PART] == list(
        range(complete, len(data) + 1)
    )
    assert all(salvage_part(data[:length]) is None for length in range(complete))


@given(st.binary(max_size=200), st.none() | st.binary(max_size=60))
def test_salvage_never_raises(data: bytes, key: bytes | None) -> None:
    found = salvage_part(data, key)
    assert found is None or isinstance(found, PartKey)


def test_salvage_prefers_the_record_key_and_falls_back_on_the_message() -> None:
    other = PartKey("south", 1, 2)
    assert salvage_part(b"\xc1", str(other).encode()) == other
    assert salvage_part(encode(FRAME), str(other).encode()) == other
    assert salvage_part(encode(FRAME), b"no key") == PART
    assert salvage_part(encode(FRAME), b"\xff") == PART
    assert salvage_part(encode(COMMAND)) is None


@every_message
def test_unknown_keys_are_ignored(message: Any, read: Reader) -> None:
    raw = msgpack.unpackb(encode(message))
    raw["added_later"] = {"anything": [1, 2.5, None, b"\0"]}
    for inner in raw.values():
        if isinstance(inner, dict) and "encoding" in inner:
            inner["added_later"] = True
    assert read(msgpack.packb(raw)) == message


@every_message
@pytest.mark.parametrize("version", [0, 2, 255, None, "1", 1.0, True])
def test_other_versions_are_refused(message: Any, read: Reader, version: object) -> None:
    raw = msgpack.unpackb(encode(message))
    raw["v"] = version
    with pytest.raises((UnsupportedVersion, InvalidField), match=r"\.v: "):
        read(msgpack.packb(raw))
    del raw["v"]
    with pytest.raises(UnsupportedVersion, match="missing"):
        read(msgpack.packb(raw))


@every_message
def test_a_message_of_another_kind_is_refused(message: Any, read: Reader) -> None:
    for other in READERS:
        if other is not read:
            with pytest.raises(MalformedMessage, match="expected a"):
                other(encode(message))


@pytest.mark.parametrize("missing", ["mode", "score", "threshold", "bundle", "bundle_hash"])
def test_a_pass_without_its_proof_is_refused(missing: str) -> None:
    raw = msgpack.unpackb(encode(VERDICT))
    raw[missing] = None
    with pytest.raises(InvalidField, match="PASS without"):
        decode_verdict(msgpack.packb(raw))


def test_a_pass_above_its_threshold_is_refused() -> None:
    raw = msgpack.unpackb(encode(VERDICT))
    raw["score"] = 1.0000001
    with pytest.raises(InvalidField, match="PASS with score"):
        decode_verdict(msgpack.packb(raw))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    raw = msgpack.unpackb(encode(VERDICT))
    for name in ("score", "threshold", "coverage"):
        with pytest.raises(InvalidField, match="not finite"):
            decode_verdict(msgpack.packb({**raw, name: value}))


def test_a_frame_without_any_image_is_refused() -> None:
    raw = msgpack.unpackb(encode(FRAME))
    raw["rgb"] = raw["depth"] = None
    with pytest.raises(InvalidField, match="neither rgb nor depth"):
        decode_frame(msgpack.packb(raw))


@pytest.mark.parametrize("message", [VERDICT, HEATMAP, COMMAND, HEARTBEAT])
def test_the_frames_topic_takes_nothing_but_frames_and_notices(message: Any) -> None:
    with pytest.raises(MalformedMessage, match="expected a 'frame'"):
        decode_capture(encode(message))


@pytest.mark.parametrize(
    "change",
    [
        {"deadline": 0},
        {"why": ""},
        {"why": "w" * (MAX_WHY + 1)},
        {"product": ""},
        {"captured_at": -1},
        {"part": None},
    ],
    ids=lambda change: str(change)[:20],
)
def test_a_notice_out_of_range_is_refused(change: dict[str, Any]) -> None:
    raw = msgpack.unpackb(encode(NOTICE))
    with pytest.raises(InvalidField):
        decode_capture(msgpack.packb(raw | change))


@pytest.mark.parametrize(
    "change",
    [
        {"station": "{a}"},
        {"agent": ""},
        {"agent": "a" * 129},
        {"sent_at": -1},
        {"dropped": 2**63},
        {"run": 1.0},
    ],
    ids=lambda change: str(change)[:20],
)
def test_a_heartbeat_out_of_range_is_refused(change: dict[str, Any]) -> None:
    raw = msgpack.unpackb(encode(HEARTBEAT))
    with pytest.raises(InvalidField):
        decode_heartbeat(msgpack.packb(raw | change))


def test_the_size_limit_of_the_reader_holds() -> None:
    data = encode(FRAME)
    assert decode_frame(data, limit=len(data)) == FRAME
    with pytest.raises(MessageTooLarge, match="at most"):
        decode_frame(data, limit=len(data) - 1)


@pytest.mark.parametrize("station", ["", "-a", "a b", "a/b", "{a}", "a:b", "ü", "x" * 65, "a\n"])
def test_stations_that_keys_cannot_carry_are_refused(station: str) -> None:
    with pytest.raises(InvalidField):
        PartKey(station, 1, 1)


@pytest.mark.parametrize(
    "text", ["", "a", "a/1", "a/1/2/3", "a/-1/2", "a/1/+2", "a/1/2\n", "a/٣/1", "a/1/" + "9" * 19]
)
def test_texts_that_are_no_part_key_are_refused(text: str) -> None:
    with pytest.raises(InvalidField):
        PartKey.parse(text)

"""A dead letter sent again never changes a decision and never becomes a PASS, whatever its bytes say."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.frame import Frame
from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import decode_verdict, encode
from tests.workers.archive_line import verdict
from tests.workers.frames import START, frame
from tests.workers.line import DEAD, FRAMES, VERDICTS, Line
from workers.bus.base import Headers, TopicPartition, TopicSpec
from workers.deadletters import Fate, Replayed, Replayer, letters
from workers.steps.deadletter import LEFT_OUT, ORIGIN, REASON, REPLAYED, TIME
from workers.store import keys

NEVER = START + 10**18
"""A deadline that is far from gone, as a flipped bit might make one."""


def bury(
    line: Line, value: bytes, key: bytes | None, *, reason: str = "digest", origin: str | None = None,
    extra: Headers = (),
) -> int:  # fmt: skip
    """Put a dead letter where a worker would have put it; returns its offset."""
    headers: Headers = (
        ("agent", b"a1"),
        (REASON, reason.encode()),
        (ORIGIN, (origin or f"{FRAMES}/1/0").encode()),
        (TIME, str(START).encode()),
        *extra,
    )
    _, offset = line.producer.send(DEAD, value, key=key, partition=0, headers=headers).wait(1)
    return offset


def again(line: Line, offset: int, *, dry_run: bool = False) -> Replayed:
    """Send one letter again."""
    replayer = Replayer(line.bus, line.store, dead=DEAD, verdicts=VERDICTS, clock=line.clock, dry_run=dry_run)
    (chosen,) = [letter for letter in letters(line.bus, DEAD) if letter.offset == offset]
    (outcome,) = replayer.replay([chosen])
    replayer.close()
    return outcome


def lasting(trigger: int) -> Frame:
    """A perfect frame whose deadline says that there is all the time in the world."""
    return replace(frame(trigger), deadline=NEVER)


def key_of(of: Frame) -> bytes:
    return str(of.part).encode()


def work_off(line: Line) -> None:
    worker = line.worker()
    line.turn(worker, lambda: worker.answered >= 1)
    worker.close()


def test_a_frame_that_nobody_decided_ends_in_stale_though_it_could_be_scored_in_time() -> None:
    line = Line()
    sent = lasting(1)
    outcome = again(line, bury(line, encode(sent), key_of(sent)))
    assert outcome.fate is Fate.SENT
    work_off(line)
    assert line.standing(sent.part).decision is Decision.STALE
    assert [v.decision for v in line.verdicts()] == [Decision.STALE]
    (record,) = line.read(FRAMES)
    assert (record.value, record.key, record.partition) == (encode(sent), key_of(sent), 1)
    assert record.headers == (("agent", b"a1"), (REPLAYED, b"0"))


def test_the_same_frame_unheld_would_have_been_passed() -> None:
    """What the tests here guard against is real: without the replay's care this record opens the gate."""
    line = Line()
    line.send(lasting(1))
    work_off(line)
    assert [v.decision for v in line.verdicts()] == [Decision.PASS]


def test_a_verdict_that_stands_is_said_again_byte_for_byte() -> None:
    line = Line()
    sent = lasting(1)
    standing = line.store.decide(verdict(sent.part, Decision.REJECT)).standing
    again(line, bury(line, encode(sent), key_of(sent)))
    work_off(line)
    assert line.store.standing(sent.part) == standing
    assert [record.value for record in line.read(VERDICTS)] == [standing]


def test_a_verdict_near_the_end_of_its_life_outlives_the_replay() -> None:
    line = Line()
    sent = lasting(1)
    line.store.decide(verdict(sent.part, Decision.ERROR))
    line.redis.expire(keys.verdict(sent.part), 1)
    again(line, bury(line, encode(sent), key_of(sent)))
    ttl = cast(int, line.redis.ttl(keys.verdict(sent.part)))
    assert ttl > 86_400


def test_what_redis_forgot_is_taken_from_the_result_topic() -> None:
    line = Line()
    sent = lasting(1)
    told = encode(verdict(sent.part, Decision.REVIEW))
    line.producer.send(VERDICTS, told, key=key_of(sent), partition=1).wait(1)
    again(line, bury(line, encode(sent), key_of(sent)))
    work_off(line)
    assert line.store.standing(sent.part) == told
    assert {record.value for record in line.read(VERDICTS)} == {told}


def test_a_part_that_was_passed_and_that_redis_forgot_is_not_sent() -> None:
    line = Line()
    sent = lasting(1)
    line.producer.send(VERDICTS, encode(verdict(sent.part)), key=key_of(sent), partition=1).wait(1)
    outcome = again(line, bury(line, encode(sent), key_of(sent)))
    assert outcome.fate is Fate.REFUSED
    assert line.read(FRAMES) == []
    assert line.store.standing(sent.part) is None


def test_a_record_that_nobody_can_name_is_not_sent() -> None:
    line = Line()
    outcome = again(line, bury(line, b"\xff\x00garbage", None))
    assert outcome.fate is Fate.REFUSED
    assert "whose" in outcome.says
    assert line.read(FRAMES) == []


def test_a_key_that_names_another_part_than_the_frame_holds_both() -> None:
    line = Line()
    sent, other = lasting(1), lasting(2)
    again(line, bury(line, encode(sent), key_of(other)))
    work_off(line)
    assert {line.standing(part).decision for part in (sent.part, other.part)} == {Decision.STALE}


def test_sent_twice_it_says_so_and_sends_nothing() -> None:
    line = Line()
    sent = lasting(1)
    offset = bury(line, encode(sent), key_of(sent))
    assert again(line, offset).fate is Fate.SENT
    outcome = again(line, offset)
    assert outcome.fate is Fate.ALREADY
    assert f"{FRAMES}/1/0" in outcome.says
    assert len(line.read(FRAMES)) == 1


def test_a_letter_that_died_again_is_known_and_not_sent_round_in_circles() -> None:
    line = Line()
    whole = encode(frame(1))
    broken = whole[: len(whole) // 2]
    again(line, bury(line, broken, key_of(frame(1)), reason="malformed"))
    work_off(line)
    first, second = letters(line.bus, DEAD)
    assert first.sent_to == f"{FRAMES}/1/0"
    assert second.replay_of == first.offset
    assert second.origin == (TopicPartition(FRAMES, 1), 0)
    outcome = again(line, second.offset)
    assert outcome.fate is Fate.REFUSED
    assert len(line.read(FRAMES)) == 1


def test_a_dry_run_changes_nothing() -> None:
    line = Line()
    sent = lasting(1)
    outcome = again(line, bury(line, encode(sent), key_of(sent)), dry_run=True)
    assert outcome.fate is Fate.SENT
    assert line.read(FRAMES) == []
    assert len(line.read(DEAD)) == 1
    assert line.store.standing(sent.part) is None


def test_bytes_that_were_left_out_are_read_where_they_came_from() -> None:
    line = Line()
    sent = lasting(1)
    line.send(sent, partition=1)
    left_out = ((LEFT_OUT, str(len(encode(sent))).encode()),)
    outcome = again(line, bury(line, b"", key_of(sent), reason="too_large", extra=left_out))
    assert outcome.fate is Fate.SENT
    assert [record.value for record in line.read(FRAMES)] == [encode(sent)] * 2
    work_off(line)
    assert {v.decision for v in line.verdicts()} == {Decision.STALE}


def test_bytes_that_were_left_out_and_are_gone_or_are_others_by_now_are_not_sent() -> None:
    line = Line()
    sent = lasting(1)
    left_out = ((LEFT_OUT, str(len(encode(sent))).encode()),)
    offset = bury(line, b"", key_of(sent), reason="too_large", extra=left_out)
    assert "no more" in again(line, offset).says
    line.send(lasting(2), partition=1)
    outcome = again(line, offset)
    assert outcome.fate is Fate.REFUSED
    assert "another record" in outcome.says
    assert len(line.read(FRAMES)) == 1


def test_a_letter_without_a_place_of_origin_is_not_sent() -> None:
    line = Line()
    for origin in ("x", "inspection.frames//1", "a/b/c", "\u0661/\u0661/\u0661"):
        assert again(line, bury(line, b"", b"s1/1/1", origin=origin)).fate is Fate.REFUSED


BYTES = encode(lasting(1))


@settings(max_examples=60, deadline=None)
@given(
    flips=st.lists(st.integers(0, 8 * len(BYTES) - 1), max_size=3),
    cut=st.none() | st.integers(0, len(BYTES)),
    keyed=st.booleans(),
    near=st.booleans(),
)
def test_no_replay_ends_in_a_pass(flips: list[int], cut: int | None, keyed: bool, near: bool) -> None:
    """Any bits flipped anywhere, in the deadline above all, with or without a record key."""
    line = Line()
    value = bytearray(BYTES)
    for flip in flips:
        # Where the fields are, for half of them: images take most of a frame's bytes.
        bit = flip % (8 * 160) if near else flip
        value[bit // 8] ^= 1 << bit % 8
    outcome = again(line, bury(line, bytes(value[:cut]), b"s1/1/1" if keyed else None))
    if outcome.fate is Fate.SENT:
        work_off(line)
    decisions = {decode_verdict(record.value).decision for record in line.read(VERDICTS)}
    assert Decision.PASS not in decisions
    for key in line.redis.scan_iter(match="*:verdict:*"):
        assert decode_verdict(cast(bytes, line.redis.get(key))).decision is not Decision.PASS


def test_the_dead_letter_topic_is_only_added_to() -> None:
    line = Line()
    line.bus.ensure_topics({DEAD: TopicSpec(partitions=1)})
    parts = [PartKey("s1", 1, trigger) for trigger in range(3)]
    offsets = [bury(line, encode(lasting(part.trigger)), str(part).encode()) for part in parts]
    before = line.read(DEAD)
    for offset in offsets:
        again(line, offset)
    assert line.read(DEAD)[:3] == before

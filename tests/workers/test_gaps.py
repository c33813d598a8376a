"""Gaps: each part whose frame was deleted unread is named, none that was read is, never without bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_verdict, encode
from tests.workers.frames import START, frame
from workers.bus.base import TopicPartition
from workers.errors import StoreError
from workers.steps import gaps as module
from workers.steps.gaps import GapWatch
from workers.store.verdicts import VerdictStore

P0, P1 = (TopicPartition("inspection.frames", number) for number in (0, 1))
RUN = 1


def key(trigger: int, station: str = "s1", run: int = RUN) -> PartKey:
    return PartKey(station, run, trigger)


def nobody(station: str) -> bytes | None:
    return None


def never(station: str) -> bytes | None:
    raise AssertionError(f"asked the store for {station}")


def decided(part: PartKey) -> Verdict:
    return Verdict(
        part=part,
        product="widget",
        decision=Decision.REJECT,
        captured_at=START,
        decided_at=START,
        deadline=START,
        worker="w0",
    )


def triggers(parts: Sequence[PartKey]) -> list[int]:
    return [part.trigger for part in parts]


def test_without_a_gap_nothing_is_lost_and_nobody_is_asked() -> None:
    watch = GapWatch(never)
    watch.saw(key(1), P0)
    assert watch.lost_before(key(9), P0).parts == ()


def test_the_first_frame_behind_a_gap_names_the_parts_before_it_once() -> None:
    watch = GapWatch(never)
    watch.saw(key(3), P0)
    watch.gap(P0, 5)
    lost = watch.lost_before(key(7), P0)
    assert lost.parts == (key(4), key(5), key(6))
    watch.saw(key(7), P0)
    assert watch.lost_before(key(9), P0).parts == ()


def test_each_station_of_the_partition_names_its_own() -> None:
    watch = GapWatch(never)
    for station, last in (("s1", 3), ("s2", 10), ("s3", 0)):
        watch.saw(key(last, station), P0)
    watch.saw(key(5, "s4"), P1)
    watch.gap(P0, 6)
    assert triggers(watch.lost_before(key(6, "s1"), P0).parts) == [4, 5]
    assert triggers(watch.lost_before(key(13, "s2"), P0).parts) == [11, 12]
    assert triggers(watch.lost_before(key(9, "s4"), P1).parts) == []
    assert triggers(watch.lost_before(key(2, "s3"), P0).parts) == [1]


def test_a_new_run_behind_the_gap_names_its_beginning() -> None:
    watch = GapWatch(never)
    watch.saw(key(30), P0)
    watch.gap(P0, 9)
    assert watch.lost_before(key(2, run=RUN + 5), P0).parts == (key(0, run=RUN + 5), key(1, run=RUN + 5))


def test_a_frame_sent_again_behind_the_gap_is_no_witness_and_the_next_new_one_is() -> None:
    watch = GapWatch(never)
    watch.saw(key(10), P0)
    watch.gap(P0, 9)
    assert watch.lost_before(key(8), P0).parts == ()
    watch.saw(key(8), P0)
    assert triggers(watch.lost_before(key(13), P0).parts) == [11, 12]


def test_a_station_never_read_here_goes_on_from_its_newest_verdict() -> None:
    store = VerdictStore(fakeredis.FakeRedis())
    store.decide(decided(key(20)))
    watch = GapWatch(store.latest)
    watch.gap(P0, 50)
    assert triggers(watch.lost_before(key(24), P0).parts) == [21, 22, 23]


def test_a_station_nobody_knows_begins_with_its_run() -> None:
    watch = GapWatch(nobody)
    watch.gap(P0, 50)
    assert triggers(watch.lost_before(key(3), P0).parts) == [0, 1, 2]


def test_a_corrupt_key_names_no_more_parts_than_records_are_gone_and_the_cut_is_told() -> None:
    watch = GapWatch(never)
    watch.saw(key(3), P0)
    watch.gap(P0, 4)
    with capture_logs() as logs:
        lost = watch.lost_before(key(2**62), P0)
    assert triggers(lost.parts) == [2**62 - 4, 2**62 - 3, 2**62 - 2, 2**62 - 1]
    assert [entry["event"] for entry in logs] == ["worker.gap_beyond_bound", "worker.gap_parts"]
    assert watch.lost_before(key(2**61, "s2"), P0).parts == ()


def test_a_gap_of_any_size_takes_bounded_memory() -> None:
    watch = GapWatch(nobody)
    watch.gap(P0, 10**12)
    assert len(watch.lost_before(key(10**12), P0).parts) == module.MAX_NAMED


def test_a_store_that_is_away_is_asked_again() -> None:
    answers: list[bytes | StoreError | None] = [StoreError("Redis is away"), encode(decided(key(5)))]

    def latest(station: str) -> bytes | None:
        answer = answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    watch = GapWatch(latest)
    watch.gap(P0, 9)
    with pytest.raises(StoreError):
        watch.lost_before(key(8), P0)
    assert triggers(watch.lost_before(key(8), P0).parts) == [6, 7]


def test_a_newest_verdict_that_cannot_be_read_is_as_none() -> None:
    watch = GapWatch(lambda station: b"rubbish")
    watch.gap(P0, 9)
    assert triggers(watch.lost_before(key(2), P0).parts) == [0, 1]


def test_a_second_gap_is_watched_like_the_first() -> None:
    watch = GapWatch(never)
    watch.saw(key(1), P0)
    watch.gap(P0, 3)
    assert triggers(watch.lost_before(key(3), P0).parts) == [2]
    watch.saw(key(3), P0)
    watch.gap(P0, 2)
    assert triggers(watch.lost_before(key(6), P0).parts) == [4, 5]


def test_a_topic_made_anew_is_no_gap() -> None:
    watch = GapWatch(never)
    watch.saw(key(1), P0)
    watch.gap(P0, 0)
    assert watch.lost_before(key(9), P0).parts == ()


def test_what_was_last_on_a_partition_that_went_to_others_is_not_the_last() -> None:
    asked: list[str] = []

    def latest(station: str) -> bytes | None:
        asked.append(station)
        return encode(decided(key(40, station)))

    watch = GapWatch(latest)
    watch.saw(key(5), P0)
    watch.saw(key(5, "s2"), P1)
    watch.forget({P0})
    watch.gap(P0, 9)
    watch.gap(P1, 9)
    assert triggers(watch.lost_before(key(42), P0).parts) == [41]
    assert triggers(watch.lost_before(key(7, "s2"), P1).parts) == [6]
    assert asked == ["s1"]


def test_stations_without_end_take_bounded_memory() -> None:
    watch = GapWatch(nobody)
    for number in range(module.MAX_STATIONS + 50):
        watch.saw(key(1, f"s{number}"), P0)
    assert len(watch._newest) == module.MAX_STATIONS


def test_the_verdict_is_missing_says_why_and_bears_its_witnesss_times() -> None:
    watch = GapWatch(never)
    watch.saw(key(1), P0)
    watch.gap(P0, 7)
    witness = frame(4, deadline_s=0.5)
    verdicts = list(watch.lost_before(witness.part, P0).verdicts(witness, worker="w1", now=START + 5))
    assert [v.part for v in verdicts] == [key(2), key(3)]
    for verdict in verdicts:
        assert verdict.decision is Decision.MISSING
        assert verdict.reason == "gap: 7 records were deleted before they were read"
        assert (verdict.captured_at, verdict.deadline) == (witness.captured_at, witness.deadline)
        assert (verdict.product, verdict.worker, verdict.decided_at) == ("widget", "w1", START + 5)
        assert decode_verdict(encode(verdict)) == verdict


def test_a_part_that_was_decided_before_keeps_its_verdict() -> None:
    store = VerdictStore(fakeredis.FakeRedis())
    first = store.decide(decided(key(2)))
    watch = GapWatch(store.latest)
    watch.saw(key(1), P0)
    watch.gap(P0, 7)
    witness = frame(4)
    lost = watch.lost_before(witness.part, P0)
    again = store.decide_many(list(lost.verdicts(witness, worker="w1", now=START)))
    assert [one.first for one in again] == [False, True]
    assert again[0].standing == first.standing


lines = st.lists(st.tuples(st.sampled_from(["s1", "s2", "s3"]), st.booleans()), min_size=1, max_size=60)
"""The records of one partition: whose part, and whether it comes as two records."""


@given(lines, st.integers(0, 60), st.integers(0, 60), st.sets(st.sampled_from(["s1", "s2", "s3"])))
def test_exactly_the_parts_without_a_record_left_are_named_up_to_the_last_frame_of_each_station(
    coming: list[tuple[str, bool]], read: int, gone: int, forgotten: set[str]
) -> None:
    log: list[PartKey] = []
    count = dict.fromkeys(("s1", "s2", "s3"), 0)
    for station, split in coming:
        log.extend([key(count[station], station)] * (2 if split else 1))
        count[station] += 1
    read = min(read, len(log))
    resume = min(read + gone, len(log))
    before, after = log[:read], log[resume:]

    known = {station: max((p for p in before if p.station == station), default=None) for station in count}

    def latest(station: str) -> bytes | None:
        part = known[station]
        return None if part is None else encode(decided(part))

    watch = GapWatch(latest)
    for part in before:
        assert watch.lost_before(part, P0).parts == ()
        watch.saw(part, P0)
    for station in forgotten:
        # As after a rebalance: what was read is in Redis only.
        watch._newest.pop(station, None)
    watch.gap(P0, resume - read)
    named: list[PartKey] = []
    for part in after:
        lost = watch.lost_before(part, P0).parts
        assert all(one < part for one in lost)
        named.extend(lost)
        watch.saw(part, P0)
    assert len(named) == len(set(named)) <= resume - read
    ends = {part.station: part for part in after}
    wanted = {p for p in log[read:resume] if p.station in ends and p not in before and p not in after}
    assert set(named) == wanted


@given(st.integers(0, 10**18), st.integers(1, 50), st.integers(0, 10**18))
def test_whatever_numbers_come_no_more_is_named_than_is_gone_and_nothing_read(
    last: int, gone: int, trigger: int
) -> None:
    watch = GapWatch(never)
    watch.saw(key(last), P0)
    watch.gap(P0, gone)
    named = watch.lost_before(key(trigger), P0).parts
    assert len(named) <= gone
    assert all(last < part.trigger < trigger for part in named)
    if last < trigger - 1:
        assert named[-1] == replace(key(trigger), trigger=trigger - 1)

"""Gaps: each part whose frame was deleted unread is named, none that was read is, never without bound."""

from __future__ import annotations

from collections.abc import Sequence

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from schemas.notice import Notice
from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_verdict, encode
from tests.workers.frames import START, frame
from workers.bus.base import TopicPartition
from workers.errors import StoreError
from workers.steps import gaps as module
from workers.steps.gaps import GapWatch, Latest
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


def notice(part: PartKey, captured_at: int = START) -> Notice:
    return Notice(
        part=part, product="widget", captured_at=captured_at, deadline=captured_at + 10**9, why="no sensor"
    )


class Reader:
    """A watch that is asked after every record, as the loop asks it."""

    def __init__(self, latest: Latest = nobody) -> None:
        self.watch = GapWatch(latest)
        self.gap = self.watch.gap

    def read(self, part: PartKey, place: TopicPartition = P0, at: int = START) -> tuple[PartKey, ...]:
        """The parts that are lost before this one."""
        self.watch.opened(notice(part, at), place, at)
        return tuple(part for lost in self.watch.lost() for part in lost.parts)


def triggers(parts: Sequence[PartKey]) -> list[int]:
    return [part.trigger for part in parts]


def test_without_a_gap_nothing_is_lost_and_nobody_is_asked() -> None:
    line = Reader(never)
    assert line.read(key(1)) == ()
    assert line.read(key(9)) == ()


def test_the_first_frame_behind_a_gap_names_the_parts_before_it_once() -> None:
    line = Reader()
    line.read(key(3))
    line.gap(P0, 5)
    assert line.read(key(7)) == (key(4), key(5), key(6))
    assert line.read(key(9)) == ()


def test_each_station_of_the_partition_names_its_own() -> None:
    line = Reader()
    for station, last in (("s1", 3), ("s2", 10), ("s3", 0)):
        line.read(key(last, station))
    line.read(key(5, "s4"), P1)
    line.gap(P0, 6)
    assert triggers(line.read(key(6, "s1"))) == [4, 5]
    assert triggers(line.read(key(13, "s2"))) == [11, 12]
    assert triggers(line.read(key(9, "s4"), P1)) == []
    assert triggers(line.read(key(2, "s3"))) == [1]


def test_a_new_run_behind_the_gap_names_its_beginning() -> None:
    line = Reader()
    line.read(key(30))
    line.gap(P0, 9)
    assert line.read(key(2, run=RUN + 5)) == (key(0, run=RUN + 5), key(1, run=RUN + 5))


@pytest.mark.parametrize("wrong", [key(10**12), key(0, run=RUN + 86_400 * 10**9)], ids=["jump", "clock"])
@pytest.mark.parametrize("known", ["read", "decided"])
def test_a_number_that_was_wrong_once_does_not_stop_the_naming(wrong: PartKey, known: str) -> None:
    line = Reader((lambda station: encode(decided(wrong))) if known == "decided" else nobody)
    line.read(key(3))
    if known == "read":
        line.read(wrong)
        line.read(key(4), at=START + 10**9)
    line.gap(P0, 3)
    lost = line.read(key(8), at=START + 2 * 10**9)
    assert triggers(lost) == [5, 6, 7]


def test_a_frame_sent_again_behind_the_gap_is_no_witness_and_the_next_new_one_is() -> None:
    line = Reader()
    line.read(key(10))
    line.gap(P0, 9)
    assert line.read(key(8)) == ()
    assert triggers(line.read(key(13))) == [11, 12]


def test_a_station_never_read_here_goes_on_from_its_newest_verdict() -> None:
    store = VerdictStore(fakeredis.FakeRedis())
    store.decide(decided(key(20)))
    line = Reader(store.latest)
    line.gap(P0, 50)
    assert line.read(key(19)) == ()
    assert triggers(line.read(key(24))) == [21, 22, 23]


def test_a_station_nobody_knows_begins_with_its_run() -> None:
    line = Reader()
    line.gap(P0, 50)
    assert triggers(line.read(key(3))) == [0, 1, 2]


def test_a_corrupt_key_names_no_more_parts_than_records_are_gone_and_the_cut_is_told() -> None:
    line = Reader()
    line.read(key(3))
    line.gap(P0, 4)
    with capture_logs() as logs:
        lost = line.read(key(2**62))
    assert triggers(lost) == [2**62 - 4, 2**62 - 3, 2**62 - 2, 2**62 - 1]
    assert [entry["event"] for entry in logs] == ["worker.gap_beyond_bound", "worker.gap_parts"]
    assert line.read(key(2**61, "s2")) == ()


def test_a_gap_of_any_size_takes_bounded_memory() -> None:
    line = Reader()
    line.gap(P0, 10**12)
    assert len(line.read(key(10**12))) == module.MAX_NAMED


def test_a_store_that_is_away_is_asked_again_and_nothing_is_forgotten_meanwhile() -> None:
    away = True

    def latest(station: str) -> bytes | None:
        if away and station == "s2":
            raise StoreError("Redis is away")
        return encode(decided(key(5, station)))

    watch = GapWatch(latest)
    watch.gap(P0, 9)
    for part in (key(7), key(8), key(8, "s2"), key(9, "s2")):
        watch.opened(notice(part), P0, START)
    for _ in range(2):
        with pytest.raises(StoreError):
            watch.lost()
    away = False
    assert [lost.parts for lost in watch.lost()] == [(key(6),), (key(6, "s2"), key(7, "s2"))]
    assert watch.lost() == []


def test_a_newest_verdict_that_cannot_be_read_is_as_none() -> None:
    line = Reader(lambda station: b"rubbish")
    line.gap(P0, 9)
    assert triggers(line.read(key(2))) == [0, 1]


def test_a_second_gap_is_watched_like_the_first() -> None:
    line = Reader()
    line.read(key(1))
    line.gap(P0, 3)
    assert triggers(line.read(key(3))) == [2]
    line.gap(P0, 2)
    assert triggers(line.read(key(6))) == [4, 5]


def test_a_topic_made_anew_is_no_gap() -> None:
    line = Reader(never)
    line.read(key(1))
    line.gap(P0, 0)
    assert line.read(key(9)) == ()


def test_what_was_last_on_a_partition_that_went_to_others_is_not_the_last() -> None:
    later: dict[str, bytes] = {}
    line = Reader(later.get)
    line.read(key(50))
    line.read(key(5, "s2"), P1)
    line.watch.forget({P0})
    later["s1"] = encode(decided(key(40)))
    line.gap(P0, 9)
    line.gap(P1, 9)
    assert triggers(line.read(key(42))) == [41]
    assert triggers(line.read(key(7, "s2"), P1)) == [6]


def test_what_waits_for_redis_is_dropped_with_its_partition() -> None:
    watch = GapWatch(nobody)
    watch.gap(P0, 9)
    watch.opened(notice(key(3)), P0, START)
    watch.forget({P0})
    assert watch.lost() == []


def test_stations_without_end_take_bounded_memory() -> None:
    line = Reader()
    for number in range(module.MAX_STATIONS + 50):
        line.read(key(1, f"s{number}"))
    assert len(line.watch._newest) == module.MAX_STATIONS


def missing(watch: GapWatch, most: int = 256) -> list[list[Verdict]]:
    rounds: list[list[Verdict]] = []
    for lost in watch.lost():
        for outcomes in lost.outcomes(worker="w1", now=START + 5, most=most):
            assert all(outcome.tickets == () and outcome.partition == 1 for outcome in outcomes)
            rounds.append([outcome.verdict for outcome in outcomes if outcome.verdict is not None])
    return rounds


def test_the_verdict_is_missing_says_why_and_bears_its_witnesss_times() -> None:
    watch = GapWatch(nobody)
    watch.opened(frame(1), P1, START)
    watch.gap(P1, 7)
    witness = frame(5, deadline_s=0.5)
    watch.opened(witness, P1, START)
    rounds = missing(watch, most=2)
    assert [[v.part for v in verdicts] for verdicts in rounds] == [[key(2), key(3)], [key(4)]]
    for verdict in (v for verdicts in rounds for v in verdicts):
        assert verdict.decision is Decision.MISSING
        assert verdict.reason == "gap: 7 records were deleted before they were read"
        assert (verdict.captured_at, verdict.deadline) == (witness.captured_at, witness.deadline)
        assert (verdict.product, verdict.worker, verdict.decided_at) == ("widget", "w1", START + 5)
        assert decode_verdict(encode(verdict)) == verdict


def test_a_part_that_was_decided_before_keeps_its_verdict() -> None:
    store = VerdictStore(fakeredis.FakeRedis())
    first = store.decide(decided(key(2)))
    watch = GapWatch(nobody)
    watch.opened(frame(1), P1, START)
    watch.gap(P1, 7)
    watch.opened(frame(4), P1, START)
    (verdicts,) = missing(watch)
    again = store.decide_many(verdicts)
    assert [one.first for one in again] == [False, True]
    assert again[0].standing == first.standing


lines = st.lists(st.tuples(st.sampled_from(["s1", "s2", "s3"]), st.booleans()), min_size=1, max_size=60)
"""The records of one partition: whose part, and whether it comes as two records."""


@given(lines, st.integers(0, 60), st.integers(0, 60), st.sets(st.sampled_from(["s1", "s2", "s3"])), st.data())
def test_exactly_the_parts_without_a_record_left_are_named_up_to_the_last_frame_of_each_station(
    coming: list[tuple[str, bool]], read: int, gone: int, forgotten: set[str], data: st.DataObject
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
        return None if part is None or station not in forgotten else encode(decided(part))

    watch = GapWatch(latest)
    for part in before:
        watch.opened(notice(part), P0, START)
    for station in forgotten:
        # Read in an earlier life: Redis alone remembers.
        watch._newest.pop(station, None)
    watch.gap(P0, resume - read)
    named: list[PartKey] = []
    for part in after:
        watch.opened(notice(part), P0, START)
        if data.draw(st.booleans()):
            named.extend(p for lost in watch.lost() for p in lost.parts)
    named.extend(p for lost in watch.lost() for p in lost.parts)
    assert len(named) == len(set(named)) <= resume - read
    ends = {part.station for part in after}
    wanted = {p for p in log[read:resume] if p.station in ends and p not in before and p not in after}
    assert set(named) == wanted


@given(st.integers(0, 10**18), st.integers(1, 50), st.integers(0, 10**18))
def test_whatever_numbers_come_no_more_is_named_than_is_gone_and_nothing_read(
    last: int, gone: int, trigger: int
) -> None:
    line = Reader()
    line.read(key(last))
    line.gap(P0, gone)
    named = line.read(key(trigger))
    assert len(named) <= gone
    assert all(last < part.trigger < trigger for part in named)
    if last < trigger - 1:
        assert named[-1] == key(trigger - 1)

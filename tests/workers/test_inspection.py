"""The loop on the in-memory bus: every record answered once and committed after, whatever goes wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.images import encode_colour
from schemas.part import PartKey
from schemas.payload import ColourEncoding
from schemas.verdict import Decision, Mode
from schemas.wire import decode_verdict, encode
from tests.workers.frames import START, frame
from tests.workers.line import DEAD, FRAMES, VERDICTS, Line
from tests.workers.standin import StandInModel, by_sensors, inspection
from workers.bus.base import Record, TopicPartition, TopicSpec
from workers.errors import OffsetGap, SettingsError, StoreError
from workers.models import UnknownProduct
from workers.steps import deadletter


@pytest.fixture
def line() -> Line:
    return Line()


def test_every_frame_ends_in_one_verdict_on_both_sinks_and_is_committed(line: Line) -> None:
    worker = line.worker()
    for trigger in range(10):
        line.send(frame(trigger), partition=trigger % 2)
    line.turn(worker, lambda: worker.answered == 10)
    worker.close()
    verdicts = line.verdicts()
    assert sorted(v.part.trigger for v in verdicts) == list(range(10))
    assert {v.decision for v in verdicts} == {Decision.PASS}
    for verdict in verdicts:
        assert encode(verdict) == line.store.standing(verdict.part)
    assert (line.committed(0), line.committed(1)) == (5, 5)


def test_a_truncated_frame_goes_to_the_dead_letters_as_it_came_and_its_part_gets_an_error(line: Line) -> None:
    worker = line.worker()
    whole = encode(frame(1))
    line.send(frame(1), value=whole[: len(whole) // 2])
    line.send(frame(2))
    line.turn(worker, lambda: worker.answered == 2)
    (dead,) = line.read(DEAD)
    assert dead.value == whole[: len(whole) // 2]
    assert dead.header(deadletter.REASON) == b"malformed"
    assert dead.header(deadletter.ORIGIN) == b"inspection.frames/0/0"
    assert line.standing(PartKey("s1", 1, 1)).decision is Decision.ERROR
    assert line.standing(PartKey("s1", 1, 2)).decision is Decision.PASS


def test_a_record_whose_part_cannot_be_read_is_kept_and_committed_over(line: Line) -> None:
    worker = line.worker()
    line.send(frame(1), value=b"not a frame", key=b"garbage")
    line.send(frame(2))
    line.turn(worker, lambda: worker.answered == 3)
    assert len(line.read(DEAD)) == 1
    # Whose it was is told by what comes next of the station.
    verdicts = [(v.part.trigger, v.decision) for v in line.verdicts()]
    assert verdicts == [(1, Decision.MISSING), (2, Decision.PASS)]
    worker.close()
    assert line.committed() == 2


def test_an_image_with_a_flipped_bit_is_an_error_and_its_neighbours_go_on(line: Line) -> None:
    worker = line.worker()
    good = frame(1)
    assert good.rgb is not None
    flipped = bytearray(good.rgb.data)
    flipped[len(flipped) // 2] ^= 4
    line.send(replace(good, rgb=replace(good.rgb, data=bytes(flipped))))
    line.send(frame(2))
    line.turn(worker, lambda: worker.answered == 2)
    verdict = line.standing(good.part)
    assert verdict.decision is Decision.ERROR
    assert verdict.reason is not None
    assert verdict.reason.startswith("digest")


def test_a_frame_past_its_deadline_is_stale_and_never_reaches_the_model(line: Line) -> None:
    model = StandInModel()
    worker = line.worker(model)
    line.clock.advance(100)
    line.send(frame(1))
    line.turn(worker, lambda: worker.answered == 1)
    assert line.standing(PartKey("s1", 1, 1)).decision is Decision.STALE
    assert model.batches == []


def test_depth_that_drops_is_scored_from_colour_says_so_and_does_not_pass(line: Line) -> None:
    worker = line.worker(pair_wait_ms=50)
    line.send(frame(1))
    line.send(frame(2, with_depth=False))
    line.turn(worker, lambda: worker.answered == 2)
    verdict = line.standing(PartKey("s1", 1, 2))
    assert (verdict.mode, verdict.decision) == (Mode.RGB, Decision.REVIEW)
    assert verdict.degraded == ("depth:missing",)


def test_frozen_depth_is_never_evidence_of_good(line: Line) -> None:
    worker = line.worker()
    first = frame(1)
    line.send(first)
    line.send(replace(frame(2), depth=first.depth))
    line.turn(worker, lambda: worker.answered == 2)
    verdict = line.standing(PartKey("s1", 1, 2))
    assert verdict.decision is Decision.REVIEW
    assert verdict.degraded == ("depth:frozen",)


def test_a_sensor_frozen_before_a_worker_died_is_still_frozen_for_the_next_one(line: Line) -> None:
    first = frame(1)
    line.send(first)
    before = line.worker(name="w1")
    line.turn(before, lambda: before.answered == 1)
    before.close()
    line.send(replace(frame(2), depth=first.depth))
    after = line.worker(name="w2")
    line.turn(after, lambda: after.answered == 1)
    assert line.standing(PartKey("s1", 1, 2)).degraded == ("depth:frozen",)


def test_nothing_is_committed_while_redis_is_away_and_everything_after(line: Line) -> None:
    worker = line.worker()
    line.turn(worker, lambda: not worker.step())
    line.send(frame(1))
    original = line.store.decide_many
    calls = {"left": 3}

    def away(verdicts: Any) -> Any:
        if calls["left"]:
            calls["left"] -= 1
            line.server.connected = False
            try:
                return original(verdicts)
            finally:
                line.server.connected = True
                assert line.committed() is None
        return original(verdicts)

    line.store.decide_many = away  # type: ignore[method-assign]
    line.turn(worker, lambda: worker.answered == 1)
    assert calls["left"] == 0
    worker.close()
    assert line.committed() == 1
    assert len(line.verdicts()) == 1


def test_a_failed_send_is_tried_again_and_the_first_verdict_stands(line: Line) -> None:
    worker = line.worker()
    line.send(frame(1))
    line.bus.fail_sends(2)
    line.turn(worker, lambda: worker.answered == 1)
    assert len(line.verdicts()) == 1


def test_a_replay_after_a_crash_repeats_the_first_answer_byte_for_byte(line: Line) -> None:
    line.send(frame(1))
    first = line.worker(name="w1")
    line.bus.fail_commits(1_000)
    line.turn(first, lambda: first.answered == 1)
    before = line.store.standing(PartKey("s1", 1, 1))
    first.close()
    line.bus.fail_commits(0)
    # The replay comes so late that its own clock would say STALE, and from a model that would reject.
    line.clock.advance(1_000)
    second = line.worker(StandInModel(lambda sample: inspection(9.0)), name="w2")
    line.turn(second, lambda: second.answered == 1)
    assert line.store.standing(PartKey("s1", 1, 1)) == before
    assert [record.value for record in line.read(VERDICTS)] == [before, before]


def test_a_part_sent_twice_has_one_verdict(line: Line) -> None:
    model = StandInModel()
    worker = line.worker(model)
    line.send(frame(1))
    line.turn(worker, lambda: worker.answered == 1)
    line.send(frame(1))
    line.turn(worker, lambda: worker.answered == 2)
    assert len({record.value for record in line.read(VERDICTS)}) == 1
    assert sum(model.batches) == 1


def test_a_batch_that_fails_is_split_until_the_bad_part_is_alone(line: Line) -> None:
    poison = frame(3)

    def answer(sample: Sample) -> Inspection:
        assert sample.rgb is not None
        if sample.rgb[0, 0, 0] == 255 and sample.rgb[0, 0, 1] == 1:
            raise RuntimeError("out of memory")
        return by_sensors(sample)

    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[0, 0] = (255, 1, 0)
    worker = line.worker(StandInModel(answer), max_delay_ms=20)
    for trigger in range(6):
        of = frame(trigger)
        line.send(replace(poison, rgb=encode_colour(pixels, ColourEncoding.PNG)) if trigger == 3 else of)
    line.turn(worker, lambda: worker.answered == 6)
    decisions = {v.part.trigger: v.decision for v in line.verdicts()}
    assert decisions[3] is Decision.ERROR
    assert {d for t, d in decisions.items() if t != 3} == {Decision.PASS}


class Killed(BaseException):
    """Stands for the end of the process: nothing in the worker may catch it."""


def test_a_part_that_kills_its_worker_twice_is_not_tried_a_third_time_and_spares_its_neighbours(
    line: Line,
) -> None:
    def deadly(sample: Sample) -> Inspection:
        assert sample.rgb is not None
        if sample.rgb.mean() > 250:
            raise Killed
        return by_sensors(sample)

    white = encode_colour(np.full((16, 16, 3), 255, np.uint8), ColourEncoding.PNG)
    for trigger in range(4):
        of = frame(trigger, deadline_s=10_000)
        line.send(replace(of, rgb=white) if trigger == 2 else of)
    deaths = 0
    for life in range(4):
        worker = line.worker(StandInModel(deadly), name=f"w{life}", max_delay_ms=20)
        try:
            line.turn(worker, lambda: line.store.standing(PartKey("s1", 1, 2)) is not None)
        except Killed:
            deaths += 1
            worker.close()
            continue
        line.turn(worker, lambda: all(line.store.standing(PartKey("s1", 1, t)) for t in range(4)))
        break
    assert deaths == 2
    verdict = line.standing(PartKey("s1", 1, 2))
    assert (verdict.decision, verdict.reason) == (Decision.ERROR, "attempts")
    assert {line.standing(PartKey("s1", 1, t)).decision for t in (0, 1, 3)} == {Decision.PASS}


def test_a_revoked_partition_is_left_to_its_next_owner_and_its_parts_are_answered_once(line: Line) -> None:
    first = line.worker(name="w1", max_delay_ms=10_000)
    for trigger in range(4):
        line.send(frame(trigger, deadline_s=10_000), partition=trigger % 2)
    for _ in range(5):
        first.step()
    second = line.worker(name="w2")
    for _ in range(40):
        second.step()
        first.step()
        line.clock.advance(0.5)
    assert {v.part.trigger for v in line.verdicts()} == {0, 1, 2, 3}
    assert len({record.value for record in line.read(VERDICTS)}) == 4


def test_partitions_are_paused_at_the_bound_and_resumed_below_it(line: Line) -> None:
    worker = line.worker(max_in_flight=8, max_batch=8, pair_wait_ms=2_000)
    for trigger in range(30):
        line.send(frame(trigger, with_depth=False, deadline_s=10_000))
    for _ in range(10):
        worker.step()
        line.clock.advance(0.001)
    assert len(worker._pairer) <= 16
    line.clock.advance(2)
    line.turn(worker, lambda: worker.answered == 30, turns=400)


def test_an_unknown_product_is_an_error_that_names_it(line: Line) -> None:
    class NoModel:
        def of(self, product: str) -> Any:
            raise UnknownProduct(f"product {product!r}: no bundle")

    worker = line.worker(NoModel())
    line.send(frame(1))
    line.turn(worker, lambda: worker.answered == 1)
    verdict = line.standing(PartKey("s1", 1, 1))
    assert verdict.decision is Decision.ERROR
    assert "widget" in str(verdict.reason)


def test_drain_answers_what_was_read_and_commits_it(line: Line) -> None:
    worker = line.worker(pair_wait_ms=15_000)
    line.send(frame(1, with_depth=False))
    for _ in range(5):
        worker.step()
    assert worker.answered == 0
    worker.drain()
    worker.close()
    assert line.standing(PartKey("s1", 1, 1)).decision is Decision.REVIEW
    assert line.committed() == 1


def test_a_dead_letter_over_the_topics_limit_is_kept_without_its_bytes_and_holds_nothing_up() -> None:
    line = Line()
    line.bus.ensure_topics({DEAD: TopicSpec(partitions=1, max_message_bytes=2_000)})
    worker = line.worker()
    line.send(frame(1), value=b"x" * 5_000)
    line.send(frame(2))
    line.turn(worker, lambda: worker.answered == 2)
    worker.close()
    (dead,) = line.read(DEAD)
    assert dead.value == b""
    assert dead.header(deadletter.ORIGIN) == b"inspection.frames/0/0"
    assert dead.header(deadletter.LEFT_OUT) == b"5000"
    assert line.standing(PartKey("s1", 1, 1)).decision is Decision.ERROR
    assert line.committed() == 2


def test_an_outage_does_not_count_one_dead_letter_again_and_again(line: Line) -> None:
    worker = line.worker(deadletter_run=3)
    line.send(frame(1), value=b"broken")
    line.bus.fail_sends(10)
    line.turn(worker, lambda: worker.answered == 1)
    line.send(frame(2))
    line.turn(worker, lambda: worker.answered == 2)


def test_a_sensor_that_comes_back_in_records_of_its_own_is_used_again(line: Line) -> None:
    worker = line.worker(pair_wait_ms=50)
    for trigger in range(12):
        whole = frame(trigger, deadline_s=10_000)
        line.send(replace(whole, depth=None))
        worker.step()
        if trigger >= 4:
            line.send(replace(whole, rgb=None))
        for _ in range(10):
            worker.step()
            line.clock.advance(0.01)
    last = line.standing(PartKey("s1", 1, 11))
    assert (last.mode, last.decision) == (Mode.FUSED, Decision.PASS)


def test_a_sensor_that_froze_under_another_worker_is_frozen_when_the_partition_comes_back(line: Line) -> None:
    first = line.worker(name="w1")
    line.send(frame(1, deadline_s=10_000), partition=0)
    line.send(frame(1, station="s2", deadline_s=10_000), partition=1)
    line.turn(first, lambda: first.answered == 2)
    second = line.worker(name="w2")
    line.turn(first, lambda: (second.step(), len(first._consumer.assignment()) == 1)[1])
    line.turn(first, lambda: (second.step(), len(second._consumer.assignment()) == 1)[1])
    (moved,) = second._consumer.assignment()
    station = "s1" if moved.partition == 0 else "s2"
    theirs = frame(2, station=station, deadline_s=10_000)
    line.send(theirs, partition=moved.partition)
    line.turn(second, lambda: second.answered == 1)
    second.close()
    line.turn(first, lambda: len(first._consumer.assignment()) == 2)
    frozen = replace(frame(3, station=station, deadline_s=10_000), depth=theirs.depth)
    line.send(frozen, partition=moved.partition)
    line.turn(first, lambda: first.answered == 3)
    verdict = line.standing(frozen.part)
    assert (verdict.decision, verdict.degraded) == (Decision.REVIEW, ("depth:frozen",))


def test_a_sensor_that_the_frame_does_not_expect_is_watched_all_the_same(line: Line) -> None:
    worker = line.worker()
    first = frame(1, expects=("rgb",))
    line.send(first)
    line.send(replace(frame(2, expects=("rgb",)), depth=first.depth))
    line.turn(worker, lambda: worker.answered == 2)
    verdict = line.standing(PartKey("s1", 1, 2))
    assert (verdict.decision, verdict.degraded) == (Decision.REVIEW, ("depth:frozen",))


def test_two_halves_that_name_different_products_do_not_pass(line: Line) -> None:
    worker = line.worker()
    whole = frame(1)
    line.send(replace(whole, depth=None))
    line.send(replace(whole, rgb=None, product="gadget"))
    line.turn(worker, lambda: worker.answered == 1)
    verdict = line.standing(whole.part)
    assert verdict.decision is Decision.ERROR
    assert "gadget" in str(verdict.reason)
    worker.close()
    assert line.committed() == 2


def test_a_worker_told_to_stop_while_redis_is_away_leaves_without_a_commit(line: Line) -> None:
    worker = line.worker()
    line.send(frame(1))
    stop = Event()

    def away(parts: Any) -> Any:
        stop.set()
        raise StoreError("redis is away")

    line.store.standing_and_attempts = away  # type: ignore[method-assign]
    runner = Thread(target=worker.run, args=(stop,), daemon=True)
    runner.start()
    runner.join(10)
    assert not runner.is_alive()
    assert line.committed() is None
    assert line.verdicts() == []


def test_a_worker_name_that_keys_cannot_carry_is_refused_before_it_joins(line: Line) -> None:
    with pytest.raises(SettingsError, match="worker"):
        line.worker(name="line 1/left")


def test_a_score_that_is_no_number_is_an_error_and_does_not_stop_the_worker(line: Line) -> None:
    worker = line.worker(StandInModel(lambda sample: inspection(math.nan)))
    line.send(frame(1))
    line.turn(worker, lambda: worker.answered == 1)
    assert line.standing(PartKey("s1", 1, 1)).decision is Decision.ERROR


def test_a_gap_on_a_partition_that_has_left_meanwhile_does_not_stop_the_worker(line: Line) -> None:
    worker = line.worker()
    line.send(frame(1))
    poll = worker._consumer.poll
    raised: list[bool] = []

    def gap_once(timeout: float) -> list[Record]:
        if not raised:
            raised.append(True)
            raise OffsetGap(FRAMES, 7, wanted=3, beginning=9, end=12)
        return poll(timeout)

    worker._consumer.poll = gap_once  # type: ignore[method-assign]
    line.turn(worker, lambda: worker.answered == 1)


def test_a_topic_made_anew_is_committed_from_its_own_start(line: Line) -> None:
    worker = line.worker()
    for trigger in (1, 2, 3):
        line.send(frame(trigger))
    line.turn(worker, lambda: worker.answered == 3)
    assert line.committed() == 3
    made_anew = line.bus.log(TopicPartition(FRAMES, 0))
    while made_anew.records:
        made_anew.drop_first()
    made_anew.start = 0
    for trigger in (4, 5):
        line.send(frame(trigger))
    line.turn(worker, lambda: worker.answered == 5)
    # Left at 3, the third record of the new topic would never be read by the next worker.
    assert line.committed() == 2


@pytest.mark.parametrize("ahead_s", [60, 86_400, 365 * 86_400])
def test_a_run_from_the_future_is_an_error_by_name_and_the_parts_after_it_are_judged(ahead_s: int) -> None:
    line = Line()
    worker = line.worker()
    ahead = replace(frame(0), part=PartKey("s1", START + ahead_s * 10**9, 0))
    line.send(frame(1))
    line.send(ahead)
    line.send(frame(2))
    line.turn(worker, lambda: worker.answered == 3)
    found = line.standing(ahead.part)
    assert found.decision is Decision.ERROR
    assert found.reason is not None
    assert found.reason.startswith("future_run: station s1: run ")
    assert "start the agent again" in found.reason
    assert [line.standing(frame(t).part).decision for t in (1, 2)] == [Decision.PASS, Decision.PASS]
    latest = line.store.latest("s1")
    assert latest is not None
    assert decode_verdict(latest).part == frame(2).part
    assert line.committed() == 3
    worker.close()


def test_the_image_of_a_run_from_the_future_does_not_freeze_the_next_ones() -> None:
    line = Line()
    worker = line.worker()
    same = frame(1, seed=7)
    line.send(replace(same, part=PartKey("s1", START + 86_400 * 10**9, 0)))
    line.send(same)
    line.turn(worker, lambda: worker.answered == 2)
    assert line.standing(same.part).degraded == ()
    worker.close()

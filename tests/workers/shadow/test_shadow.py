"""A candidate beside the line: every part compared once, whatever it does, and nobody disturbed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.frame import Frame
from schemas.verdict import Mode
from tests.workers.frames import frame
from tests.workers.line import FRAMES, Line
from tests.workers.standin import StandInModel, by_sensors, inspection
from workers.errors import SettingsError, StoreError
from workers.shadow.report import ShadowReport, read_shadow
from workers.shadow.run import BEHIND, HELD, Shadow, ShadowSettings
from workers.store import keys

Answer = Callable[[Sample], Inspection]


class Candidate(StandInModel):
    bundle_id = "widget/2"
    bundle_hash = "1" * 64

    def __init__(self, answer: Answer = by_sensors) -> None:
        super().__init__(answer)
        self.seen: list[Sample] = []

    def inspect(self, batch: Any) -> list[Inspection]:
        self.seen.extend(batch)
        return super().inspect(batch)


@pytest.fixture
def line() -> Line:
    return Line()


def shadow(line: Line, candidate: Candidate | None = None, **settings: Any) -> Shadow:
    values: dict[str, Any] = {"product": "widget", "topic": FRAMES} | settings
    return Shadow(line.bus, line.store, candidate or Candidate(), ShadowSettings(**values), clock=line.clock)


def turn(line: Line, one: Shadow, times: int = 30) -> None:
    for _ in range(times):
        one.step(0.0)
        line.clock.advance(0.05)


def judged(line: Line, frames: list[Frame], model: Any = None, **settings: Any) -> None:
    """The frames through a worker of the line's."""
    worker = line.worker(model, **settings)
    for one in frames:
        line.send(one, partition=one.part.trigger % 2)
    parts = {one.part for one in frames}
    line.turn(worker, lambda: worker.answered >= len(parts), 400)
    worker.drain()
    worker.close()


def found(line: Line) -> ShadowReport:
    (report,) = read_shadow(line.store)
    return report


def test_every_part_is_compared_once_with_the_verdict_that_stands(line: Line) -> None:
    one = shadow(line)
    judged(line, [frame(number) for number in range(10)])
    turn(line, one)
    one.close()
    report = found(line)
    assert (report.count, report.agree, report.failed, report.unmatched, report.skipped) == (10, 10, 0, 0, 0)
    assert (report.product, report.active, report.candidate) == ("widget", "widget/1", "widget/2")
    assert not report.running
    assert len(report.recent) == 10
    assert report.active_ratios[2] == pytest.approx(0.1)


def test_disagreements_are_counted_by_their_direction_and_shown_first(line: Line) -> None:
    def picky(sample: Sample) -> Inspection:
        assert sample.rgb is not None
        return inspection(2.0 if int(sample.rgb[0, 0, 0]) % 2 else 0.5)

    def lax(sample: Sample) -> Inspection:
        assert sample.rgb is not None
        return inspection(2.0 if int(sample.rgb[0, 0, 0]) % 3 == 0 else 0.5)

    one = shadow(line, Candidate(lax))
    judged(line, [frame(number) for number in range(30)], StandInModel(picky))
    turn(line, one)
    one.close()
    report = found(line)
    apart = report.active_pass_candidate_reject, report.active_reject_candidate_pass
    assert min(apart) > 0
    assert report.agree + sum(apart) == report.count == 30
    assert [part.agrees for part in report.recent] == [False] * sum(apart) + [True] * report.agree
    strict = [part for part in report.recent if part.active == "PASS" and not part.agrees]
    assert {(part.candidate, part.candidate_ratio) for part in strict} == {("REJECT", 2.0)}
    lives = [line.redis.ttl(name("widget")) for name in (keys.shadow_recent, keys.shadow_disagreed)]
    assert 0 < cast(int, lives[0]) < cast(int, lives[1])


def test_parts_that_move_between_review_and_reject_are_counted_and_the_gate_does_the_same(line: Line) -> None:
    def scored(score: float) -> Callable[[Sample], Inspection]:
        return lambda sample: replace(inspection(score), pass_limit=0.5)

    for active, candidate, moved in ((2.0, 0.8, (1, 0)), (0.8, 2.0, (0, 1)), (0.8, 0.9, (0, 0))):
        one = shadow(line, Candidate(scored(candidate)))
        judged(line, [frame(int(10 * active + 100 * candidate))], StandInModel(scored(active)))
        turn(line, one)
        one.close()
        report = found(line)
        assert (report.count, report.agree) == (1, 1)
        assert (report.active_reject_candidate_review, report.active_review_candidate_reject) == moved


def test_frames_from_before_it_began_are_not_looked_at(line: Line) -> None:
    judged(line, [frame(number) for number in range(5)])
    one = shadow(line)
    turn(line, one)
    assert one.tally.count == 0
    assert one.tally.unmatched == 0


def test_a_verdict_that_comes_later_is_waited_for_and_one_that_never_comes_is_not_for_ever(
    line: Line,
) -> None:
    one = shadow(line, wait_s=5.0)
    line.send(frame(1))
    line.send(frame(2))
    turn(line, one, 20)
    assert one.tally.count == 0
    worker = line.worker()
    worker.step()
    turn(line, one, 20)
    assert one.tally.count == 2
    line.send(frame(3))
    turn(line, one, 150)
    assert (one.tally.count, one.tally.unmatched) == (2, 1)


def test_a_candidate_that_fails_is_counted_and_the_next_part_is_scored(line: Line) -> None:
    calls = iter(range(100))

    def broken(sample: Sample) -> Inspection:
        number = next(calls)
        if number % 3 == 0:
            raise ZeroDivisionError
        if number % 3 == 1:
            return Inspection.failed(SettingsError("a bundle for other frames"))
        return inspection()

    one = shadow(line, Candidate(broken))
    judged(line, [frame(number) for number in range(9)])
    turn(line, one)
    one.close()
    assert (found(line).failed, found(line).count) == (6, 3)


def test_the_candidate_looks_at_the_sensors_that_the_line_used(line: Line) -> None:
    candidate = Candidate()
    one = shadow(line, candidate)

    def colour_alone(sample: Sample) -> Inspection:
        return inspection(mode=Mode.RGB, degraded_pass=False)

    judged(line, [frame(1)], StandInModel(colour_alone))
    turn(line, one)
    (sample,) = candidate.seen
    assert sample.rgb is not None
    assert sample.depth is None
    assert [part.mode for part in one.tally.news] == []
    assert found(line).recent[0].mode == "RGB"


def test_sensors_that_come_apart_are_one_part(line: Line) -> None:
    candidate = Candidate()
    one = shadow(line, candidate)
    judged(line, [frame(1, with_depth=False), frame(1, rgb=False)], max_delay_ms=50)
    turn(line, one)
    assert one.tally.count == 1
    assert candidate.seen[0].rgb is not None
    assert candidate.seen[0].depth is not None


def test_what_is_no_part_of_the_product_is_left_alone(line: Line) -> None:
    one = shadow(line)
    line.send(frame(1), value=b"garbage")
    judged(line, [frame(2, product="other"), frame(3)], deadletter_run=50)
    turn(line, one)
    assert (one.tally.count, one.tally.unmatched) == (1, 0)


def test_a_verdict_without_a_score_is_nothing_to_compare_with(line: Line) -> None:
    one = shadow(line)
    line.clock.advance(1)
    judged(line, [frame(1, deadline_s=0.5), frame(2)])
    turn(line, one)
    assert (one.tally.unscored, one.tally.count) == (1, 1)


def test_what_is_too_much_for_it_is_left_out_and_counted_and_far_behind_it_goes_on_at_the_end(
    line: Line,
) -> None:
    one = shadow(line, wait_s=1000.0)
    for number in range(HELD + 40):
        line.send(frame(number))
    turn(line, one, 10)
    assert one.tally.skipped == 40
    assert [part.trigger for part in one._waiting] == list(range(HELD))
    for number in range(100, 100 + BEHIND + 80):
        line.send(frame(number))
    line.clock.advance(10)
    one.step(0.0)
    assert one.tally.skipped > 40 + BEHIND / 2
    before = one.tally.skipped + len(one._waiting)
    line.clock.advance(10)
    turn(line, one, 5)
    assert one.tally.skipped + len(one._waiting) == before, "nothing came, so nothing more is left out"


def test_redis_away_is_waited_for_and_what_was_found_is_kept_afterwards(line: Line) -> None:
    one = shadow(line)
    judged(line, [frame(1), frame(2)])
    line.server.connected = False
    turn(line, one, 40)
    assert one.tally.count == 0
    line.server.connected = True
    turn(line, one, 40)
    assert found(line).count == 2
    assert len(found(line).recent) == 2


def test_without_redis_it_does_not_begin(line: Line) -> None:
    line.server.connected = False
    with pytest.raises(StoreError, match="begin a shadow run"):
        shadow(line)


def test_a_run_begins_with_nothing_of_the_run_before(line: Line) -> None:
    first = shadow(line)
    judged(line, [frame(1)])
    turn(line, first)
    first.close()
    second = shadow(line)
    second.step(0.0)
    assert (found(line).count, found(line).recent) == (0, ())
    assert found(line).running


def test_what_is_no_run_is_left_out_of_the_reports(line: Line) -> None:
    line.redis.hset(keys.shadow("broken"), mapping={"count": "many"})
    line.redis.xadd(keys.shadow_recent("broken"), {"part": "x"})
    assert read_shadow(line.store) == []
    one = shadow(line)
    one.close()
    assert [report.product for report in read_shadow(line.store)] == ["widget"]


def test_the_worker_and_its_group_do_not_notice(line: Line) -> None:
    frames = [frame(number) for number in range(20)]
    one = shadow(line)
    worker = line.worker()
    for number, each in enumerate(frames):
        line.send(each)
        if number == 10:
            del one  # as if it were killed: it says goodbye to nobody
            one = shadow(line)
    line.turn(worker, lambda: worker.answered == 20, 200)
    turn(line, one)
    assert line.committed() == 20
    assert one.tally.count > 0
    assert [verdict.worker for verdict in line.verdicts()] == ["w1"] * 20


def test_a_report_is_plain_json(line: Line) -> None:
    one = shadow(line)
    judged(line, [frame(1)])
    turn(line, one)
    one.close()
    values = json.loads(json.dumps(found(line).to_map()))
    assert values["recent"][0]["part"] == "s1/1/1"
    assert values["recent"][0]["agrees"] is True
    assert {"product", "active", "candidate", "count", "agree"} <= values.keys()

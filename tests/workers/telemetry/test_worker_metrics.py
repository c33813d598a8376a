"""What a worker answers is what it tells Prometheus."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.notice import Notice
from schemas.part import PartKey
from tests.workers.frames import START, frame, pending
from tests.workers.gate_line import verdict
from tests.workers.line import Line
from tests.workers.standin import StandInModel, inspection
from tests.workers.telemetry.scraping import Sample as Key
from tests.workers.telemetry.scraping import health, key, scrape, told
from workers.contact import Contact
from workers.inspection import InspectionWorker
from workers.steps.publishing import Outcome
from workers.telemetry.assembly import Assembly
from workers.telemetry.tallies import MOST_VALUES
from workers.telemetry.watching import watch_answers, watch_worker
from workers.telemetry.worker import AnswerTally, LoopCollector
from workers.vitals import LAG_S, Report
from workers.watchdog import Watchdog


class Watched:
    """A worker on a line in memory, with all that watches one."""

    def __init__(self, model: Any = None, *, line: Line | None = None, **settings: Any) -> None:
        self.line = line or Line()
        self.stop = threading.Event()
        self.watch = Assembly("worker", "127.0.0.1:0")
        watch_answers(self.watch)
        self.dog = Watchdog(stall_s=30, clock=self.line.clock, exit=lambda code: None)
        self.worker: InspectionWorker = self.line.worker(
            model, watchdog=self.dog, observers=self.watch.observers, **settings
        )
        watch_worker(self.watch, self.worker, self.dog, services=(self.line.store.contact,), stop=self.stop)

    def answer(self, count: int) -> None:
        self.line.turn(self.worker, lambda: self.worker.answered >= count, turns=300)

    def numbers(self) -> dict[Key, float]:
        return told(self.watch.registry)


def verdicts(found: dict[Key, float]) -> dict[tuple[str, ...], float]:
    """Counts by station, product, decision and mode; those that are 0 are left out."""
    return {
        tuple(dict(labels)[name] for name in ("station", "product", "decision", "mode")): value
        for (name, labels), value in found.items()
        if name == "crosscheck_verdicts_total" and value
    }


def test_each_answer_is_counted_by_decision_mode_product_and_station() -> None:
    watched = Watched()
    for trigger in range(4):
        watched.line.send(frame(trigger))
    watched.line.send(frame(4, with_depth=False))
    watched.line.send(frame(0, station="s2", product="cap", captured_at=START - 20 * 10**9))
    watched.answer(6)
    found = watched.numbers()
    # To Prometheus the step from nothing at all to one is no increase: what alerts are for begins at 0.
    assert (
        found[key("crosscheck_verdicts_total", station="s1", product="widget", decision="ERROR", mode="")]
        == 0
    )
    assert verdicts(found) == {
        ("s1", "widget", "PASS", "FUSED"): 4,
        ("s1", "widget", "REVIEW", "RGB"): 1,
        ("s2", "cap", "STALE", ""): 1,
    }
    assert found[key("crosscheck_frames_total", station="s1")] == 5
    assert found[key("crosscheck_repeats_total")] == 0
    assert found[key("crosscheck_verdict_latency_seconds_count")] == 6
    assert found[key("crosscheck_verdict_latency_seconds_bucket", le="10.0")] == 5


def test_batches_are_counted_by_size_and_by_how_long_their_parts_waited() -> None:
    watched = Watched(max_delay_ms=50, max_batch=8)
    for trigger in range(3):
        watched.line.send(frame(trigger))
    watched.answer(3)
    found = watched.numbers()
    assert found[key("crosscheck_batch_size_count")] == 1
    assert found[key("crosscheck_batch_size_sum")] == 3
    assert found[key("crosscheck_batch_wait_seconds_count")] == 3
    assert found[key("crosscheck_batch_wait_seconds_sum")] == pytest.approx(0.15, abs=0.05)


def test_what_another_worker_had_answered_is_a_repeat_and_no_verdict_of_ours() -> None:
    line = Line()
    first = line.worker(name="w0")
    line.send(frame(0))
    line.turn(first, lambda: first.answered == 1)
    first.close()
    line.send(frame(0))
    watched = Watched(line=line)
    watched.answer(1)
    found = watched.numbers()
    assert (verdicts(found), found[key("crosscheck_repeats_total")]) == ({}, 1)
    assert found[key("crosscheck_frames_total", station="s1")] == 1


def test_a_sensor_that_comes_after_its_part_was_answered_is_no_second_verdict() -> None:
    watched = Watched(pair_wait_ms=20)
    for trigger in range(2):
        watched.line.send(frame(trigger, with_depth=False))
    watched.answer(2)
    watched.line.send(frame(1, rgb=False))
    watched.answer(3)
    found = watched.numbers()
    assert sum(verdicts(found).values()) == 2
    assert found[key("crosscheck_repeats_total")] == 1


def test_records_that_cannot_be_read_are_counted_by_their_reason() -> None:
    watched = Watched()
    watched.line.send(frame(0), value=b"no message at all")
    watched.line.send(frame(1), value=b"no message at all", key=b"no key either")
    watched.answer(2)
    found = watched.numbers()
    dead = {dict(k)["reason"]: v for (name, k), v in found.items() if name == "crosscheck_dead_letters_total"}
    assert sum(dead.values()) == 2
    assert verdicts(found) == {("s1", "unknown", "ERROR", ""): 1}
    assert found[key("crosscheck_frames_total", station="")] == 1


def test_a_part_that_an_agent_gave_up_is_counted_missing() -> None:
    watched = Watched()
    watched.line.send(
        Notice(
            part=PartKey("s1", 1, 0), product="widget", captured_at=START, deadline=START + 10**10, why="x"
        )
    )
    watched.answer(1)
    assert verdicts(watched.numbers()) == {("s1", "widget", "MISSING", ""): 1}


def test_stations_that_an_agent_makes_up_do_not_fill_the_memory() -> None:
    tally, one = AnswerTally(), pending(frame(0))
    for number in range(MOST_VALUES + 10):
        tally.answered([Outcome.of(one, verdict(PartKey(f"made-up-{number}", 1, 0)))])
    found = told(tally)
    frames = {dict(k)["station"]: v for (name, k), v in found.items() if name == "crosscheck_frames_total"}
    assert len(frames) == MOST_VALUES + 1
    assert frames["other"] == 10
    assert sum(verdicts(found).values()) == MOST_VALUES + 10


def test_stages_add_up_and_are_named_as_in_the_report() -> None:
    watched = Watched()
    watched.line.send(frame(0))
    watched.answer(1)
    found = watched.numbers()
    for name, total in watched.worker.stages.totals.items():
        assert found[key("crosscheck_stage_entries_total", stage=name)] == total.count
    assert found[key("crosscheck_stage_entries_total", stage="inspect")] == 1


def test_before_the_first_report_nothing_is_claimed_of_the_loop() -> None:
    watched = Watched()
    told_of = {name for name, _ in watched.numbers()}
    assert not told_of & {"crosscheck_held_parts", "crosscheck_lag_records", "crosscheck_sensor_state"}


def test_a_sensor_that_is_down_is_seen_in_metrics_and_in_the_heartbeat() -> None:
    watched = Watched()
    for trigger in range(6):
        watched.line.send(frame(trigger, with_depth=trigger < 1))
    watched.answer(6)
    watched.line.clock.sleep(3)
    watched.worker.step()
    found = watched.numbers()
    states = {
        state: found[key("crosscheck_sensor_state", station="s1", sensor="depth", state=state)]
        for state in ("up", "suspect", "down", "recovering")
    }
    assert states == {"up": 0, "suspect": 0, "down": 1, "recovering": 0}
    assert found[key("crosscheck_partitions")] == 2
    assert watched.line.store.worker("w1")["sensors"] == "s1:depth:down"


def test_lag_is_what_is_not_decided_and_reaches_the_heartbeat() -> None:
    watched = Watched(max_delay_ms=10_000, max_batch=64)
    for trigger in range(5):
        watched.line.send(frame(trigger))
    watched.line.send(frame(0, station="s2"), partition=1)
    for _ in range(4):
        watched.worker.step()
    watched.line.clock.advance(LAG_S)
    watched.worker.step()
    found = watched.numbers()
    assert found[key("crosscheck_lag_records", partition="0")] == 5
    assert found[key("crosscheck_lag_records", partition="1")] == 1
    watched.line.clock.advance(3)
    watched.worker.step()
    assert watched.line.store.worker("w1")["lag"] == "6"
    watched.line.clock.advance(10)
    watched.answer(6)
    watched.line.clock.advance(LAG_S)
    watched.worker.step()
    assert watched.numbers()[key("crosscheck_lag_records", partition="0")] == 0


def test_the_broker_is_asked_for_the_end_of_partitions_only_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched()
    asked: list[float] = []
    consumer = watched.worker._consumer
    ends = consumer.end_offsets

    def counted(partitions: Any) -> Any:
        asked.append(watched.line.clock.monotonic())
        return ends(partitions)

    monkeypatch.setattr(consumer, "end_offsets", counted)
    while watched.line.clock.monotonic() < 100:
        watched.worker.step()
    assert len(asked) > 20
    assert all(3 < b - a < 5 for a, b in itertools.pairwise(asked))


def test_bundles_and_their_exchanges_are_told_by_product() -> None:
    watched = Watched()
    report = Report(
        answered=0,
        held=0,
        held_bytes=0,
        paused=False,
        partitions=(0,),
        dead_letters=0,
        sensors={},
        clocks={"s1": 0.4},
        untrusted=("s1",),
        bundles=("cap/2@0123456789ab", "widget/1@ba9876543210"),
        swaps={("cap", "done"): 2, ("cap", "failed"): 1},
    )
    watched.worker.vitals.last = report
    found = told(LoopCollector(watched.worker.stages, watched.worker.vitals, watched.worker.flow))
    assert found[key("crosscheck_model_info", product="cap", bundle="cap/2", hash="0123456789ab")] == 1
    assert found[key("crosscheck_model_swaps_total", product="cap", result="done")] == 2
    assert found[key("crosscheck_clock_offset_seconds", station="s1")] == 0.4
    assert found[key("crosscheck_clock_refused", station="s1")] == 1


def test_without_an_address_nothing_is_counted() -> None:
    watch = Assembly("worker", None)
    watch_answers(watch)
    assert watch.observers == []
    with watch.served() as monitor:
        assert monitor is None


class Stuck(StandInModel):
    """A model that hangs until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.hangs = threading.Event()

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        self.hangs.set()
        assert self.let_go.wait(30)
        return [inspection() for _ in batch]


def test_a_model_that_hangs_is_no_life_once_it_takes_longer_than_any_run_may() -> None:
    model = Stuck()
    watched = Watched(model)
    with watched.watch.served() as monitor:
        assert monitor is not None
        watched.worker.step()
        assert health(monitor.address, "live")[0] == 200
        watched.line.send(frame(0))
        loop = threading.Thread(target=lambda: watched.answer(1))
        loop.start()
        try:
            assert model.hangs.wait(10)
            watched.line.clock.advance(60)
            assert health(monitor.address, "live")[0] == 200, "a run may take ten times the stall limit"
            watched.line.clock.advance(300)
            status, checks = health(monitor.address, "live")
            assert (status, checks["loop"]["ok"]) == (503, False)
            assert checks["loop"]["why"].startswith("the loop does not turn, for ")
            assert health(monitor.address, "ready")[0] == 503
            # Nobody waits for the loop in order to hear of it.
            assert scrape(monitor.address)[key("crosscheck_live", process="worker")] == 0
        finally:
            model.let_go.set()
            loop.join(30)
        watched.worker.step()
        assert health(monitor.address, "live")[0] == 200


def test_a_worker_is_ready_once_it_has_partitions_and_not_while_it_ends() -> None:
    watched = Watched()
    with watched.watch.served() as monitor:
        assert monitor is not None
        status, checks = health(monitor.address, "ready")
        assert (status, checks["partitions"]["why"]) == (503, "the worker has not joined its group yet")
        for _ in range(3):
            watched.line.clock.advance(3)
            watched.worker.step()
        assert health(monitor.address, "ready")[0] == 200
        watched.stop.set()
        status, checks = health(monitor.address, "ready")
        assert (status, checks["running"]["ok"]) == (503, False)
        assert health(monitor.address, "live")[0] == 200


def test_a_worker_whose_redis_is_away_is_alive_and_not_ready_until_it_is_back() -> None:
    line = Line()
    line.store.contact = Contact("redis", line.clock)
    watched = Watched(line=line)
    for _ in range(3):
        line.clock.advance(3)
        watched.worker.step()
    assert watched.watch.health.ready().ok
    line.server.connected = False
    line.clock.advance(3)
    watched.worker.step()
    assert watched.watch.health.live().ok
    checks = {check.name: check for check in watched.watch.health.ready().checks}
    assert not checks["redis"].ok
    assert "could not write worker:w1" in checks["redis"].why
    line.server.connected = True
    line.clock.advance(3)
    watched.worker.step()
    assert watched.watch.health.ready().ok

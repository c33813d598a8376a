"""Overload: who is answered in time under each policy, what the others are told."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from inference.inspection import Inspection
from schemas.verdict import Decision, Mode
from tests.workers.frames import START, frame, pending
from workers.clock import ManualClock
from workers.errors import SettingsError
from workers.steps.batching import Batcher
from workers.steps.deciding import Judge
from workers.steps.pending import PendingPart
from workers.steps.service import ServiceTime
from workers.steps.shedding import LOAD, POLICIES, QUIET_S, Degrade, LateFirst, Round, Shedding, fit, shedding

BASE = frame(0)
RGB_ONLY = frame(0, with_depth=False, expects=("rgb",))

PER_PART_S = 0.010
LIGHT_S = 0.002
GPU_BATCH_S = 0.080
BUDGET_S = 0.25
BATCH = 8


def part(
    trigger: int, slack_s: float, *, station: int = 0, at: int = START, base: object = None
) -> PendingPart:
    of = BASE if base is None else RGB_ONLY
    key = replace(of.part, station=f"s{station}", trigger=trigger)
    made = replace(of, part=key, captured_at=at, deadline=at + round(slack_s * 1e9))
    return pending(made, offset=trigger, arrived=(at - START) / 1e9)


def measured(policy: Shedding, per_part: float, *, use_rgb: bool = True) -> None:
    """Let the policy know what batches of up to four parts cost."""
    parts = [part(i, 1.0) for i in range(4)]
    for one in parts:
        one.use_rgb = use_rgb
    for _ in range(40):
        for size in range(1, 5):
            policy.observe(parts[:size], per_part * size)


def triggers(of: Round) -> tuple[list[int], list[int]]:
    """Those scored, those shed."""
    scored = [p.part.trigger for p in of.parts if p.part not in of.shed]
    return scored, [p.part.trigger for p in of.parts if p.part in of.shed]


# Which parts give way.


def linear(parts: int) -> float:
    return 0.01 * parts


def test_nothing_gives_way_while_there_is_time() -> None:
    batch = [part(i, 0.25) for i in range(8)]
    assert [triggers(r) for r in fit(batch, backlog=50, now=START, cost=linear)] == [(list(range(8)), [])]


def test_under_load_the_nearest_deadlines_give_way_until_the_rest_is_in_time() -> None:
    batch = [part(i, slack) for i, slack in enumerate((0.005, 0.015, 0.03, 0.031, 0.2, 0.2))]
    # With 0 and 1 gone four parts would take 40 ms: too long for 2 as well; three take 30 ms.
    assert [triggers(r) for r in fit(batch, backlog=9, now=START, cost=linear)] == [
        ([], [0, 1, 2]),
        ([3, 4, 5], []),
    ]


def test_with_nothing_behind_it_a_batch_is_cut_so_that_near_deadlines_are_kept() -> None:
    batch = [part(0, 0.2, station=0), part(1, 0.012, station=1), part(2, 0.2, station=2)]
    assert [triggers(r) for r in fit(batch, backlog=0, now=START, cost=linear)] == [([1], []), ([0, 2], [])]


def test_a_cut_keeps_the_order_of_a_station_whose_later_part_is_more_urgent() -> None:
    batch = [part(0, 0.2), part(1, 0.025), part(2, 0.2, station=1)]
    assert [triggers(r) for r in fit(batch, backlog=0, now=START, cost=linear)] == [([0, 1], []), ([2], [])]


def test_what_is_late_already_is_neither_counted_nor_shed() -> None:
    batch = [part(i, 0.015, at=START - 10**9) for i in range(4)] + [part(4, 0.015), part(5, 0.2)]
    for backlog in (0, 100):
        rounds = fit(batch, backlog=backlog, now=START, cost=linear)
        assert sorted(t for r in rounds for t in triggers(r)[0]) == (
            [0, 1, 2, 3, 4, 5] if backlog == 0 else [0, 1, 2, 3, 5]
        )


def test_one_part_is_tried_now_and_then_so_that_a_wrong_estimate_is_found_out() -> None:
    batch = [part(i, 0.2 + i / 1000) for i in range(4)]
    for backlog in (0, 100):
        policy = LateFirst()
        policy.observe(batch, 5.0)
        tried = []
        for step in range(5):
            rounds = policy.plan(batch, backlog=backlog, now=START + step * 10_000_000)
            tried.append([t for r in rounds for t in triggers(r)[0]])
        assert tried == [[3], [], [], [], []]
        later = [part(i, 0.2 + i / 1000, at=START + 2 * 10**9) for i in range(4)]
        rounds = policy.plan(later, backlog=backlog, now=START + 2 * 10**9)
        assert [t for r in rounds for t in triggers(r)[0]] == [3]


slacks = st.lists(st.tuples(st.integers(0, 3), st.floats(-0.05, 0.3)), max_size=10)


@given(slacks, st.integers(0, 30), st.floats(0.0, 0.1), st.floats(0.0, 0.1))
def test_every_part_is_in_one_round_in_station_order_and_what_is_scored_is_in_time(
    coming: list[tuple[int, float]], backlog: int, fixed: float, each: float
) -> None:
    def cost(parts: int) -> float:
        return fixed + each * parts if parts else 0.0

    batch = [part(i, 0.5 + s, station=at, at=START - 500_000_000) for i, (at, s) in enumerate(coming)]
    rounds = fit(batch, backlog=backlog, now=START, cost=cost, try_one=True)
    out = [p for r in rounds for p in r.parts]
    assert sorted(p.part.trigger for p in out) == list(range(len(batch)))
    for station in {p.part.station for p in out}:
        order = [p.part.trigger for p in out if p.part.station == station]
        assert order == sorted(order)
    alive = [p for p in batch if p.frame.deadline >= START]
    scored = [p for r in rounds for p in r.parts if p.part not in r.shed and p in alive]
    assert scored or not alive
    passed = 0.0
    for r in rounds:
        kept = [p for p in r.parts if p in scored and p.part not in r.shed]
        passed += cost(len(kept))
        if len(scored) > 1:
            assert all(p.frame.deadline >= START + round(passed * 1e9) - 1000 for p in kept)


# The service time.


def test_a_batch_costs_no_more_than_a_larger_one_or_than_several_smaller_ones() -> None:
    service = ServiceTime()
    assert service.of(8) == 0.0
    service.observe(8, 0.08)
    eight = service.of(8)
    assert 0.08 <= eight <= 0.13
    assert service.of(3) == eight
    service.observe(1, 0.01)
    one = service.of(1)
    assert one < 0.02
    assert service.of(3) == pytest.approx(3 * one)
    assert service.wait(20, 8) == pytest.approx(2 * eight + 4 * one)


def test_a_batch_larger_than_any_before_is_tried() -> None:
    service = ServiceTime()
    service.observe(1, 0.08)
    assert service.of(8) == service.of(1)


def test_one_batch_that_waited_for_a_sink_does_not_spoil_the_estimate_and_a_slower_model_is_learnt() -> None:
    service = ServiceTime()
    for _ in range(20):
        service.observe(8, 0.08)
    service.observe(8, 30.0)
    assert service.of(8) < 0.3
    for _ in range(20):
        service.observe(8, 0.4)
    assert 0.3 < service.of(8) < 0.6


def test_the_estimate_has_a_margin_for_what_varies() -> None:
    service = ServiceTime()
    for step in range(200):
        service.observe(4, 0.1 if step % 2 else 0.05)
    assert 0.1 < service.of(4) < 0.15


def test_a_slow_first_run_is_soon_forgotten() -> None:
    service = ServiceTime()
    service.observe(8, 2.0)
    for _ in range(5):
        service.observe(8, 0.08)
    assert service.of(8) < 0.16


# Overload, simulated: the real batcher and policy, an injected clock, parts every half service time.


@dataclass
class Line:
    """A worker at ``load`` times what it can score. ``cost`` is seconds for (parts with colour, without)."""

    policy: Shedding
    load: float
    cost: Callable[[int, int], float]
    capacity: float
    seconds: float = 6.0
    clock: ManualClock = field(default_factory=ManualClock)
    ends: dict[int, str] = field(default_factory=dict)
    order: dict[str, list[int]] = field(default_factory=dict)
    sent: int = 0

    def run(self) -> Counter[str]:
        noise = random.Random(7)
        batcher = Batcher(BATCH, 0.002, near_s=0.1)
        start, gap = self.clock.now(), 1e9 / (self.load * self.capacity)
        while True:
            now = self.clock.now()
            while self.sent < self.load * self.capacity * self.seconds and start + self.sent * gap <= now:
                at = start + round(self.sent * gap)
                one = part(self.sent, BUDGET_S, station=self.sent % 4, at=at)
                batcher.add(replace(one, arrived=self.clock.monotonic(), read_at=now))
                self.sent += 1
            for late in batcher.late(now):
                self._end(late, "stale")
            if not len(batcher):
                if self.sent >= self.load * self.capacity * self.seconds:
                    return Counter(self.ends.values())
                self.clock.advance(0.001)
                continue
            if not batcher.due(self.clock.monotonic()):
                self.clock.advance(0.0005)
                continue
            batch = batcher.take(self.clock.monotonic())
            more = partial(batcher.take, self.clock.monotonic())
            for turn in self.policy.plan(batch, backlog=len(batcher), now=self.clock.now(), more=more):
                self._answer(turn, noise)

    def _answer(self, turn: Round, noise: random.Random) -> None:
        now, began = self.clock.now(), self.clock.monotonic()
        scored = [p for p in turn.begin() if p.part not in turn.shed and p.frame.deadline >= now]
        if scored:
            light = sum(not p.use_rgb for p in scored)
            self.clock.advance(self.cost(len(scored) - light, light) * noise.uniform(0.9, 1.1))
            self.policy.observe(scored, self.clock.monotonic() - began)
        for one in turn.parts:
            if one.part in turn.shed:
                self._end(one, "shed")
            elif one not in scored:
                self._end(one, "stale")
            elif self.clock.now() > one.frame.deadline:
                self._end(one, "late")
            else:
                self._end(one, "in time" if one.use_rgb else "in time, degraded")

    def _end(self, one: PendingPart, how: str) -> None:
        assert one.part.trigger not in self.ends
        self.ends[one.part.trigger] = how
        self.order.setdefault(one.part.station, []).append(one.part.trigger)


def cpu(full: int, light: int) -> float:
    return full * PER_PART_S + light * LIGHT_S


def gpu(full: int, light: int) -> float:
    return GPU_BATCH_S


def all_answered_in_order(line: Line) -> bool:
    return len(line.ends) == line.sent and all(turn == sorted(turn) for turn in line.order.values())


@pytest.mark.parametrize("policy", POLICIES)
def test_at_half_load_every_policy_answers_every_part_in_time_and_in_full(policy: str) -> None:
    line = Line(shedding(policy, max_batch=BATCH), 0.5, cpu, 1 / PER_PART_S)
    assert line.run() == {"in time": 300}
    assert all_answered_in_order(line)


def test_first_come_first_served_makes_nearly_every_part_late_at_twice_the_load() -> None:
    line = Line(shedding("none", max_batch=BATCH), 2.0, cpu, 1 / PER_PART_S)
    ends = line.run()
    assert ends["in time"] < 0.1 * line.sent
    assert ends["late"] > 0.3 * line.sent
    assert all_answered_in_order(line)


@pytest.mark.parametrize(("cost", "capacity"), [(cpu, 1 / PER_PART_S), (gpu, BATCH / GPU_BATCH_S)])
def test_late_first_answers_about_half_in_time_at_twice_the_load(
    cost: Callable[[int, int], float], capacity: float
) -> None:
    line = Line(shedding("late-first", max_batch=BATCH), 2.0, cost, capacity)
    ends = line.run()
    assert ends["in time"] > 0.42 * line.sent
    assert ends["late"] < 0.02 * line.sent
    assert ends["shed"] > 0.3 * line.sent
    assert all_answered_in_order(line)


def test_batches_of_one_do_not_keep_a_gpu_at_batches_of_one() -> None:
    policy = LateFirst()
    for _ in range(20):
        policy.observe([part(0, 1.0)], GPU_BATCH_S)
    line = Line(policy, 2.0, gpu, BATCH / GPU_BATCH_S)
    assert line.run()["in time"] > 0.4 * line.sent


def test_degrade_answers_nearly_all_in_time_at_twice_the_load_and_says_which_without_colour() -> None:
    with capture_logs() as logs:
        line = Line(shedding("degrade", max_batch=BATCH), 2.0, cpu, 1 / PER_PART_S)
        ends = line.run()
    assert ends["in time"] + ends["in time, degraded"] > 0.95 * line.sent
    assert ends["in time, degraded"] > 0.4 * line.sent
    assert all_answered_in_order(line)
    assert {"event": "worker.shedding", "what": LOAD, "active": True}.items() <= logs[0].items()


def test_degrade_sheds_late_first_where_skipping_colour_is_not_enough() -> None:
    line = Line(shedding("degrade", max_batch=BATCH), 10.0, cpu, 1 / PER_PART_S, seconds=2.0)
    ends = line.run()
    # Five times as many as with colour is what it can do without.
    assert ends["in time, degraded"] + ends["in time"] > 0.35 * line.sent
    assert ends["shed"] > 0.2 * line.sent
    assert ends["late"] < 0.05 * line.sent
    assert all_answered_in_order(line)


# Degrade, in detail.


def pressed() -> Degrade:
    policy = Degrade(1)
    measured(policy, 0.1)
    measured(policy, 0.01, use_rgb=False)
    policy.plan([part(1, 0.25)], backlog=50, now=START)
    assert policy.active
    return policy


def test_only_parts_with_both_sensors_usable_lose_their_colour() -> None:
    policy = pressed()
    tired = part(2, 2.0, station=2)
    tired.use_depth = False
    batch = [part(0, 2.0), part(1, 2.0, station=1, base=RGB_ONLY), tired]
    (turn,) = policy.plan(batch, backlog=50, now=START + 1)
    assert [p.use_rgb for p in turn.begin()] == [False, True, True]
    assert [p.reasons for p in turn.begin()] == [(LOAD,), (), ()]


def test_colour_is_back_once_the_wait_is_under_half_the_slack_and_not_before() -> None:
    policy = Degrade(1)
    measured(policy, 0.1)
    at = START

    def feel(backlog: int) -> bool:
        nonlocal at
        at += 1000
        policy.plan([part(0, 1.0, at=at)], backlog=backlog, now=at)
        return policy.active

    with capture_logs() as logs:
        assert [feel(backlog) for backlog in (8, 10, 7, 5, 3, 8)] == [False, True, True, True, False, False]
    assert [(entry["active"], entry["log_level"]) for entry in logs] == [(True, "warning"), (False, "info")]


def test_a_wrong_idea_of_what_colour_costs_does_not_last() -> None:
    policy = Degrade(1)
    policy.observe([part(0, 1.0)], 30.0)
    clock = ManualClock()
    for trigger in range(400):
        (turn,) = policy.plan([part(trigger, 0.25, at=clock.now())], backlog=0, now=clock.now())
        (one,) = turn.begin()
        clock.advance(PER_PART_S if one.use_rgb else LIGHT_S)
        policy.observe([one], PER_PART_S if one.use_rgb else LIGHT_S)
        clock.advance(0.1)
    assert not policy.active
    assert one.use_rgb


def test_a_part_without_its_colour_never_passes_without_its_modes_permission() -> None:
    policy = pressed()
    (turn,) = policy.plan([part(3, 0.25)], backlog=50, now=START + 1)
    (one,) = turn.begin()
    good = Inspection(
        mode=Mode.DEPTH,
        score=0.1,
        threshold=1.0,
        pass_limit=1.0,
        coverage=1.0,
        branches={},
        regions=(),
        heatmap=None,
        degraded=("rgb:absent",),
        degraded_pass=False,
        error=None,
        timings={},
    )
    judge = Judge("w1", ManualClock(), 0.8)
    verdict = judge.inspected(one, good, bundle="b", bundle_hash="h", attempt=1, timings={})
    assert verdict.decision is Decision.REVIEW
    assert verdict.degraded == (LOAD,)


# What is said.


def test_the_begin_and_the_end_of_shedding_are_events() -> None:
    policy = LateFirst()
    measured(policy, 0.1)
    with capture_logs() as logs:
        policy.plan([part(i, 0.15) for i in range(3)], backlog=9, now=START)
        policy.plan([part(i, 0.15) for i in range(3)], backlog=9, now=START)
        later = START + round((QUIET_S + 1) * 1e9)
        policy.plan([part(9, 5.0, at=later)], backlog=0, now=later)
    assert [(entry["event"], entry["active"], entry["shed"]) for entry in logs] == [
        ("worker.shedding", True, 2),
        ("worker.shedding", False, 4),
    ]


def test_a_policy_that_does_not_exist_is_refused_with_the_names_of_those_that_do() -> None:
    with pytest.raises(SettingsError, match="none, late-first, degrade"):
        shedding("drop", max_batch=BATCH)
    assert [shedding(name, max_batch=BATCH).name for name in POLICIES] == list(POLICIES)

"""Batches: never too big, never too late, never unfair, never out of order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.frames import START, frame, pending
from workers.steps.batching import Batcher, deadline_of
from workers.steps.pending import PendingPart

BASE = frame(0)


def part(station: int, trigger: int, arrived: float = 0.0, slack_s: float = 10.0) -> PendingPart:
    key = replace(BASE.part, station=f"s{station}", trigger=trigger)
    of = replace(BASE, part=key, deadline=START + round(slack_s * 1e9))
    return pending(of, offset=trigger, arrived=arrived)


def test_an_empty_batcher_is_never_due() -> None:
    batcher = Batcher(4, 0.02)
    assert batcher.due_at() is None
    assert not batcher.due(1e9)


def test_a_batch_is_due_when_full_or_when_its_oldest_part_has_waited_enough() -> None:
    batcher = Batcher(2, 0.02)
    batcher.add(part(1, 1, arrived=5.0))
    assert not batcher.due(5.019)
    assert batcher.due(5.02)
    batcher.add(part(1, 2, arrived=5.001))
    assert batcher.due(5.001)


def test_the_oldest_part_of_any_station_sets_the_time() -> None:
    batcher = Batcher(8, 0.02)
    batcher.add(part(2, 1, arrived=3.0))
    batcher.add(part(1, 1, arrived=1.0))
    assert batcher.due_at() == 1.02


def test_a_burst_of_one_station_does_not_starve_another() -> None:
    batcher = Batcher(4, 0.02)
    for trigger in range(10):
        batcher.add(part(1, trigger))
    batcher.add(part(2, 0))
    assert "s2" in {p.part.station for p in batcher.take()}


@given(st.lists(st.integers(1, 4), max_size=40), st.integers(1, 7))
def test_everything_leaves_once_in_batches_of_bounded_size_and_in_station_order(
    stations: list[int], size: int
) -> None:
    batcher = Batcher(size, 0.02)
    for trigger, station in enumerate(stations):
        batcher.add(part(station, trigger))
    seen: list[PendingPart] = []
    while len(batcher):
        batch = batcher.take()
        assert 1 <= len(batch) <= size
        seen.extend(batch)
    assert sorted(p.part.trigger for p in seen) == list(range(len(stations)))
    for station in set(stations):
        order = [p.part.trigger for p in seen if p.part.station == f"s{station}"]
        assert order == sorted(order)


def test_parts_of_a_lost_partition_are_forgotten() -> None:
    batcher = Batcher(4, 0.02)
    batcher.add(part(1, 1))
    batcher.add(part(2, 2))
    batcher.drop(lambda ticket: ticket.offset == 2)
    assert [p.part.station for p in batcher.take()] == ["s2"]


# Deadlines.


def test_a_part_whose_deadline_is_near_makes_its_batch_start_now() -> None:
    batcher = Batcher(8, max_delay_s=0.5, near_s=0.1)
    batcher.add(part(1, 1, arrived=5.0, slack_s=0.3))
    assert batcher.due_at() == 5.2
    assert not batcher.due(5.19)
    assert batcher.due(5.2)


def test_the_nearest_deadline_counts_wherever_in_its_queue_the_part_waits() -> None:
    batcher = Batcher(8, max_delay_s=9.0, near_s=0.1)
    for trigger, slack in enumerate((5.0, 0.4, 3.0)):
        batcher.add(part(1, trigger, arrived=1.0, slack_s=slack))
    assert batcher.due_at() == pytest.approx(1.3)
    assert [p.part.trigger for p in batcher.take(1.4)] == [0, 1, 2]


def test_the_station_with_the_nearest_deadline_is_served_first() -> None:
    batcher = Batcher(2, max_delay_s=9.0, near_s=0.1)
    for station, slack in enumerate((9.0, 0.05, 9.0, 0.02)):
        batcher.add(part(station, 0, slack_s=slack))
    assert [p.part.station for p in batcher.take(0.0)] == ["s3", "s1"]
    assert [p.part.station for p in batcher.take(0.0)] == ["s0", "s2"]


def test_deadlines_that_are_not_near_change_no_turn() -> None:
    batcher = Batcher(4, max_delay_s=9.0, near_s=0.1)
    for station, slack in enumerate((9.0, 3.0, 6.0)):
        batcher.add(part(station, 0, slack_s=slack))
    assert [p.part.station for p in batcher.take(0.0)] == ["s0", "s1", "s2"]


def test_a_station_whose_parts_are_always_urgent_does_not_starve_the_others() -> None:
    batcher = Batcher(1, max_delay_s=9.0, near_s=1.0)
    batcher.add(part(2, 0))
    for trigger in range(10):
        batcher.add(part(1, trigger, slack_s=0.01))
        if batcher.take(0.0)[0].part.station == "s2":
            break
    assert trigger == 4, "twice a fair turn of two stations, and not never"


def test_late_parts_are_taken_out_before_the_model_in_order() -> None:
    batcher = Batcher(8, 0.5)
    for trigger, slack in enumerate((0.1, 0.2, 5.0)):
        batcher.add(part(1, trigger, slack_s=slack))
    batcher.add(part(2, 0, slack_s=0.1))
    assert batcher.late(START + 100_000_000) == []
    late = batcher.late(START + 200_000_001)
    assert [str(p.part) for p in late] == ["s1/1/0", "s1/1/1", "s2/1/0"]
    assert [str(p.part) for p in batcher.take()] == ["s1/1/2"]


def test_a_late_part_behind_one_that_still_has_time_waits_for_it() -> None:
    batcher = Batcher(8, 0.5)
    batcher.add(part(1, 0, slack_s=5.0))
    batcher.add(part(1, 1, slack_s=0.1))
    assert batcher.late(START + 10**9) == []
    assert [p.part.trigger for p in batcher.take()] == [0, 1]


arrivals = st.lists(
    st.tuples(st.integers(1, 5), st.floats(0.0, 0.2), st.floats(0.0, 3.0)), min_size=1, max_size=40
)
"""Station, seconds since the arrival before, seconds to the deadline."""


@given(arrivals, st.integers(1, 6), st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_a_batch_is_due_no_later_than_its_oldest_part_or_its_nearest_deadline_demands(
    coming: list[tuple[int, float, float]], size: int, delay: float, near: float
) -> None:
    batcher = Batcher(size, delay, near)
    now = 0.0
    held: list[PendingPart] = []
    for trigger, (station, gap, slack) in enumerate(coming):
        now += gap
        held.append(part(station, trigger, arrived=now, slack_s=slack))
        batcher.add(held[-1])
        latest = min(min(p.arrived + delay, deadline_of(p) - near) for p in held)
        assert batcher.due_at() == latest
        assert batcher.due(latest)
        assert batcher.due(now) == (now >= latest or len(held) >= size)
        while batcher.due(now):
            batch = batcher.take(now)
            assert 1 <= len(batch) <= size
            held = [p for p in held if p not in batch]
            assert len(batcher) == len(held)
            assert batcher.size == sum(p.size for p in held)
    assert sorted(str(p.part) for p in held) == sorted(str(p.part) for p in _all(batcher))


@given(arrivals, st.integers(1, 4), st.floats(0.0, 3.0), st.data())
def test_whatever_the_deadlines_order_within_a_station_is_kept_and_nothing_is_lost(
    coming: list[tuple[int, float, float]], size: int, near: float, data: st.DataObject
) -> None:
    batcher = Batcher(size, 0.1, near)
    out: list[PendingPart] = []
    for trigger, (station, gap, slack) in enumerate(coming):
        batcher.add(part(station, trigger, slack_s=slack))
        if data.draw(st.booleans()):
            out.extend(batcher.take(gap))
        if data.draw(st.booleans()):
            out.extend(batcher.late(START + round(gap * 1e9)))
    out.extend(_all(batcher))
    assert sorted(p.part.trigger for p in out) == list(range(len(coming)))
    for name in {p.part.station for p in out}:
        order = [p.part.trigger for p in out if p.part.station == name]
        assert order == sorted(order)


@given(st.integers(2, 9), st.integers(1, 4), st.data())
def test_no_station_waits_longer_than_three_fair_turns(stations: int, size: int, data: st.DataObject) -> None:
    batcher = Batcher(size, 0.1, near_s=1.0)
    trigger = 0
    served_at: dict[str, int] = defaultdict(int)
    slacks = data.draw(st.lists(st.floats(0.0, 5.0), min_size=stations, max_size=stations))
    for turn in range(40):
        for station in range(stations):
            if not batcher.holds(f"s{station}"):
                batcher.add(part(station, trigger, slack_s=slacks[station]))
                trigger += 1
        for pending_part in batcher.take(0.0):
            served_at[pending_part.part.station] = turn
        for station in range(stations):
            assert turn - served_at[f"s{station}"] <= 3 * ceil(stations / size)


def _all(batcher: Batcher) -> list[PendingPart]:
    rest: list[PendingPart] = []
    while len(batcher):
        rest.extend(batcher.take())
    return rest

"""Batches: never too big, never too late, never unfair, never out of order."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.workers.frames import frame, pending
from workers.steps.batching import Batcher
from workers.steps.pending import PendingPart

BASE = frame(0)


def part(station: int, trigger: int, arrived: float = 0.0) -> PendingPart:
    key = replace(BASE.part, station=f"s{station}", trigger=trigger)
    return pending(replace(BASE, part=key), offset=trigger, arrived=arrived)


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

"""What the scaling bench makes of the verdicts it has read."""

from __future__ import annotations

import pytest

from schemas.part import PartKey
from tests.bench.scale import Seen, longest, pause, sharing

MS = 10**6


def verdicts(station: str, worker: str, times_ms: range, first: int = 0) -> list[Seen]:
    """One verdict at each time."""
    return [Seen(PartKey(station, 1, first + n), worker, at * MS) for n, at in enumerate(times_ms)]


def test_two_even_workers_add_up() -> None:
    seen = verdicts("a", "w1", range(0, 4000, 40)) + verdicts("b", "w2", range(0, 4000, 40))
    found = sharing(seen, 2, 200, 0)
    assert found.fps == pytest.approx(50, rel=0.05)
    assert found.each == pytest.approx((25, 25), rel=0.05)
    assert found.imbalance == 1.0


def test_a_worker_without_parts_counts_as_one_that_did_nothing() -> None:
    found = sharing(verdicts("a", "w1", range(0, 4000, 40)), 2, 100, 0)
    assert found.each[0] == 0.0
    assert found.imbalance == 2.0


def test_a_partition_that_moved_is_told_from_one_that_stayed() -> None:
    at = 4000
    stayed = verdicts("a", "w1", range(0, 10_000, 100))
    moved = verdicts("b", "w2", range(0, at, 100)) + verdicts("b", "w3", range(10_000, 14_000, 100), 100)
    found = pause("one dies", stayed + moved, at * MS, 2)
    assert (found.moved, found.longest, found.median) == (1, 6100.0, 6100.0)
    assert (found.stayed, found.usual) == (100.0, 100.0)


def test_a_station_without_a_verdict_is_no_short_pause() -> None:
    with pytest.raises(AssertionError, match="1 stations of 2"):
        pause("one dies", verdicts("a", "w1", range(0, 1000, 100)), 500 * MS, 2)


def test_no_two_verdicts_have_no_time_between_them() -> None:
    assert longest([]) == 0.0
    assert longest(verdicts("a", "w", range(1))) == 0.0

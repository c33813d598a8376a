"""A photo-eye that bounces makes one part, whatever its edges do, and hides no part behind it."""

from __future__ import annotations

import pytest

from workers.capture.debounce import Debounce
from workers.errors import SettingsError

MS = 1_000_000


def taken(debounce: Debounce, *edges: tuple[int, int | None]) -> list[int]:
    return [at for at, position in edges if debounce.takes(at * MS, position)]


def test_without_a_bound_every_edge_is_a_part() -> None:
    assert taken(Debounce(), (0, None), (0, None), (1, None)) == [0, 0, 1]


def test_edges_soon_after_a_part_are_bounces_and_counted() -> None:
    debounce = Debounce(0.05)
    assert taken(debounce, (0, None), (3, None), (49, None), (50, None), (200, None)) == [0, 50, 200]
    assert debounce.bounces == 2


def test_an_eye_that_never_rests_hides_no_part_for_longer_than_the_bound() -> None:
    debounce = Debounce(0.05)
    assert taken(debounce, *((at, None) for at in range(0, 200, 5))) == [0, 50, 100, 150]


def test_a_belt_that_stands_with_a_part_at_the_eye_is_one_part_by_its_encoder() -> None:
    debounce = Debounce(0.01, counts=100)
    assert taken(debounce, (0, 1000), (500, 1003), (60_000, 1001), (61_000, 1099), (62_000, 1100)) == [
        0,
        62_000,
    ]


def test_a_belt_that_runs_backwards_counts_its_way_too() -> None:
    assert taken(Debounce(0.0, counts=100), (0, 1000), (500, 950), (900, 880)) == [0, 900]


def test_a_clock_that_is_set_back_hides_no_part() -> None:
    assert taken(Debounce(0.05), (3_600_000, None), (10, None)) == [3_600_000, 10]


@pytest.mark.parametrize(("seconds", "counts"), [(-1.0, 0), (float("inf"), 0), (float("nan"), 0), (0.0, -1)])
def test_what_is_no_bound_is_refused(seconds: float, counts: int) -> None:
    with pytest.raises(SettingsError, match="debounce"):
        Debounce(seconds, counts)

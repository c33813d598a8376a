"""Brightness and belt: by chance seldom, by ageing and sinking surely, and against the right reference."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.sketch import Level
from tests.workers.drift.streams import in_lots
from workers.drift.alarm import Alarm
from workers.drift.levels import BRIGHTNESS_FLOOR, DISTANCE_FLOOR, LevelSeries
from workers.drift.window import Pace

Floats = NDArray[np.float64]
TAUGHT = Level(mean=100.0, deviation=2.0, count=120, groups=12, effective=20.0)


def warnings(series: LevelSeries, values: Floats) -> list[tuple[int, bool]]:
    """(part, on) of each change."""
    alarm, out = Alarm(), []
    for at, value in enumerate(values.tolist()):
        if series.add(value):
            look = series.look()
            if look is not None and alarm.see(look.excess, at):
                out.append((at, alarm.on))
    return out


def lamp(seed: int, parts: int, *, lot: int = 1, alike: float = 0.0, scale: float = 1.0) -> Floats:
    values, _ = in_lots(np.random.default_rng(seed), parts, lot, alike)
    return 100.0 + scale * values


@pytest.mark.parametrize(("lot", "alike"), [(1, 0.0), (40, 0.8), (200, 0.8)])
def test_a_lamp_that_does_not_change_warns_of_nothing(lot: int, alike: float) -> None:
    series = LevelSeries(TAUGHT, -BRIGHTNESS_FLOOR)
    assert warnings(series, lamp(lot, 60_000, lot=lot, alike=alike, scale=2.0)) == []


def test_a_lamp_that_ages_warns_when_a_third_of_its_loss_is_there() -> None:
    ageing = 1 - 0.1 * np.clip((np.arange(40_000) - 10_000) / 20_000, 0, 1)
    changes = warnings(LevelSeries(TAUGHT, -BRIGHTNESS_FLOOR), lamp(1, 40_000) * ageing)
    assert [on for _, on in changes] == [True]
    assert ageing[changes[0][0]] > 0.95


def test_a_new_lamp_ends_the_warning() -> None:
    dark = np.where((np.arange(30_000) > 8_000) & (np.arange(30_000) < 16_000), 0.9, 1.0)
    changes = warnings(LevelSeries(TAUGHT, -BRIGHTNESS_FLOOR), lamp(1, 30_000) * dark)
    assert [on for _, on in changes] == [True, False]


def test_a_value_that_stands_at_its_limit_does_not_flicker() -> None:
    at_limit = 1 - BRIGHTNESS_FLOOR * np.clip((np.arange(60_000) - 10_000) / 10_000, 0, 1)
    changes = warnings(LevelSeries(TAUGHT, -BRIGHTNESS_FLOOR), lamp(1, 60_000, scale=2.0) * at_limit)
    assert len(changes) <= 1


def test_odd_parts_do_not_count() -> None:
    values = lamp(1, 20_000)
    values[np.random.default_rng(1).random(20_000) < 0.1] = 255.0
    assert warnings(LevelSeries(TAUGHT, -BRIGHTNESS_FLOOR), values) == []


def test_another_station_of_the_bundle_is_measured_against_itself() -> None:
    series = LevelSeries(TAUGHT, -BRIGHTNESS_FLOOR)
    for value in lamp(1, 6_000) * 0.94:
        series.add(float(value))
    look = series.look()
    assert look is not None
    assert look.against == "station"
    assert look.base == pytest.approx(94, abs=0.1)
    assert look.excess < 0.2


def test_without_a_bundles_word_the_station_learns_its_own_and_says_so() -> None:
    begun, done = (LevelSeries(None, -BRIGHTNESS_FLOOR) for _ in range(2))
    for value in lamp(1, 3_000):
        begun.add(float(value))
    assert begun.learning
    assert begun.look() is None
    for value in lamp(1, 5_000):
        done.add(float(value))
    assert not done.learning
    look = done.look()
    assert look is not None
    assert look.against == "station"


def test_a_belt_that_sinks_warns_before_its_parts_are_held_back() -> None:
    tolerance = 40.0
    sinking = np.clip((np.arange(30_000) - 5_000) / 20_000, 0, 1) * 50.0
    shift = np.random.default_rng(3).normal(0, 3, 30_000) + sinking
    series = LevelSeries(Level(0.0, 0.0, 1, 1, 1.0), tolerance / 2, exact=True)
    changes = warnings(series, shift)
    assert [on for _, on in changes] == [True]
    assert sinking[changes[0][0]] < 0.75 * tolerance


def test_without_a_calibrated_belt_its_distance_is_watched() -> None:
    distance = 20_000 + np.random.default_rng(3).normal(0, 4, 30_000)
    distance += 60 * np.clip((np.arange(30_000) - 10_000) / 10_000, 0, 1)
    changes = warnings(LevelSeries(None, -DISTANCE_FLOOR), distance)
    assert [on for _, on in changes] == [True]


def test_a_state_that_was_kept_goes_on_as_if_nothing_had_been() -> None:
    pace = Pace(block=10, window=100, learn=300)
    values = lamp(1, 777)
    whole, begun = LevelSeries(TAUGHT, -0.03, pace=pace), LevelSeries(TAUGHT, -0.03, pace=pace)
    for value in values[:333]:
        begun.add(float(value))
    resumed = LevelSeries(TAUGHT, -0.03, pace=pace).restore(json.loads(json.dumps(begun.to_map())))
    for value in values:
        whole.add(float(value))
    for value in values[333:]:
        resumed.add(float(value))
    a, b = whole.look(), resumed.look()
    assert a is not None
    assert b is not None
    assert b.change == pytest.approx(a.change, abs=1e-3)
    assert b.limit == pytest.approx(a.limit, abs=1e-3)

"""When a sensor is believed and when it is not."""

from __future__ import annotations

from tests.workers.frames import frame, pending
from workers.steps.pending import PendingPart
from workers.steps.sensors import SensorState, SensorWatch


def watch() -> SensorWatch:
    return SensorWatch(down_after=3, up_after=3)


def see(
    sensors: SensorWatch, trigger: int, *, rgb: bool = True, depth: bool = True, seed: int | None = None
) -> PendingPart:
    part = pending(frame(trigger, rgb=rgb, with_depth=depth, seed=seed))
    sensors.observe(part)
    return part


def test_a_good_pair_uses_both_sensors_and_says_nothing() -> None:
    part = see(watch(), 1)
    assert (part.use_rgb, part.use_depth, part.reasons) == (True, True, ())


def test_one_missing_image_degrades_that_part_only() -> None:
    sensors = watch()
    assert see(sensors, 1, depth=False).reasons == ("depth:missing",)
    assert see(sensors, 2).reasons == ()


def test_three_missing_in_a_row_mark_the_sensor_down_and_three_good_ones_bring_it_back() -> None:
    sensors = watch()
    for trigger in (1, 2, 3):
        assert sensors.down("s1") == frozenset()
        see(sensors, trigger, depth=False)
    assert sensors.down("s1") == {"depth"}
    assert see(sensors, 4).reasons == ("depth:recovering",)
    assert see(sensors, 5).use_depth is False
    assert see(sensors, 6).reasons == ()
    assert sensors.down("s1") == frozenset()


def test_a_recovering_sensor_that_fails_again_is_down_at_once() -> None:
    sensors = watch()
    for trigger in (1, 2, 3):
        see(sensors, trigger, depth=False)
    see(sensors, 4)
    assert see(sensors, 5, depth=False).reasons == ("depth:missing",)
    assert sensors.states()["s1", "depth"] is SensorState.DOWN


def test_the_same_bytes_for_another_part_are_frozen_and_not_used() -> None:
    sensors = watch()
    see(sensors, 1, seed=5)
    part = see(sensors, 2, seed=5)
    assert part.reasons == ("rgb:frozen", "depth:frozen")
    assert (part.use_rgb, part.use_depth) == (False, False)


def test_the_same_part_read_twice_is_a_replay_and_not_frozen() -> None:
    sensors = watch()
    see(sensors, 1, seed=5)
    assert see(sensors, 1, seed=5).reasons == ()


def test_a_sensor_frozen_under_one_worker_stays_frozen_under_the_next() -> None:
    before, after = watch(), watch()
    see(before, 1, seed=5)
    for sensor, values in before.remembered("s1").items():
        after.restore("s1", sensor, values)
    assert see(after, 2, seed=5).use_depth is False


def test_stations_do_not_share_their_sensors() -> None:
    sensors = watch()
    for trigger in (1, 2, 3):
        see(sensors, trigger, depth=False)
    other = pending(frame(4, station="s2"))
    sensors.observe(other)
    assert other.reasons == ()


def test_a_station_that_has_no_depth_sensor_does_not_miss_it() -> None:
    sensors = watch()
    part = pending(frame(1, with_depth=False, expects=("rgb",)))
    sensors.observe(part)
    assert part.reasons == ()

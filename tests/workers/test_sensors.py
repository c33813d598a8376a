"""When a sensor is believed and when it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.frame import Frame
from schemas.part import PartKey
from tests.workers.frames import START, depth, frame, pending
from workers.steps.looking import Look
from workers.steps.pending import PendingPart, Shot
from workers.steps.sensors import MAX_STATIONS, SENSORS, SensorState, SensorWatch, Transition

SECOND = 1_000_000_000


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


@pytest.mark.parametrize("sensors_there", [(True, True), (True, False), (False, True)])
def test_a_bounce_of_the_photo_eye_is_named_is_not_used_and_marks_no_sensor(
    sensors_there: tuple[bool, bool],
) -> None:
    sensors, (rgb, with_depth) = watch(), sensors_there
    names = [name for name, there in zip(("rgb", "depth"), sensors_there, strict=True) if there]

    def shot(trigger: int, after_ms: int, seed: int) -> PendingPart:
        taken = frame(
            trigger,
            rgb=rgb,
            with_depth=with_depth,
            seed=seed,
            captured_at=START + after_ms * 1_000_000,
            expects=tuple(names),
        )
        part = pending(taken)
        sensors.observe(part)
        return part

    for part in range(4):
        shot(3 * part, 1000 * part, part)
        for bounce in (1, 2):
            again = shot(3 * part + bounce, 1000 * part + 7 * bounce, part)
            assert again.reasons == tuple(f"{name}:double" for name in names)
            assert (again.use_rgb, again.use_depth) == (not rgb, not with_depth)
    assert set(sensors.states().values()) == {SensorState.UP}


def test_sensors_that_stand_still_at_a_fast_line_are_frozen_all_the_same() -> None:
    sensors = watch()
    found = []
    for trigger in range(6):
        part = pending(frame(trigger, seed=1, captured_at=START + trigger * 50_000_000))
        sensors.observe(part)
        found.append(part.reasons)
    assert found[1] == ("rgb:double", "depth:double")
    assert found[-1] == ("rgb:frozen", "depth:frozen")
    assert set(sensors.states().values()) == {SensorState.DOWN}


def test_one_sensor_that_repeats_itself_beside_one_that_does_not_is_frozen_however_soon() -> None:
    sensors = watch()
    first, second = frame(1, seed=1), frame(2, seed=2, captured_at=START + 1_000_000)
    sensors.observe(pending(first))
    part = pending(replace(second, rgb=first.rgb))
    sensors.observe(part)
    assert part.reasons == ("rgb:frozen",)


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


# Skew, size, late records.


def shot(trigger: int, *, rgb: float = 0.0, depth: float = 0.0, read: float = 0.02) -> PendingPart:
    """A pair captured at ``trigger`` seconds, each sensor's clock off by so many."""
    at = START + trigger * SECOND
    part = pending(frame(trigger, captured_at=at))
    part.read_at = at + round(read * SECOND)
    part.shots = {
        name: Shot(at + round(off * SECOND), part.read_at) for name, off in (("rgb", rgb), ("depth", depth))
    }
    return part


def test_a_sensor_whose_clock_jumps_is_the_one_left_out_whichever_it_is() -> None:
    for jumped in SENSORS:
        sensors = watch()
        sensors.observe(shot(1))
        for trigger in (2, 3, 4):
            part = shot(trigger, **{jumped: 5.0})
            sensors.observe(part)
            assert part.reasons == (f"{jumped}:skew",)
        assert sensors.down("s1") == {jumped}


def test_a_backlog_makes_all_records_old_and_no_clock_wrong() -> None:
    sensors = watch()
    sensors.observe(shot(1))
    part = shot(2, read=60.0)
    sensors.observe(part)
    assert part.reasons == ()


def test_times_within_the_bound_are_no_skew() -> None:
    sensors = watch()
    part = shot(1, depth=0.2)
    sensors.observe(part)
    assert part.reasons == ()


def test_a_part_whose_time_lies_before_that_of_an_earlier_one_is_not_believed() -> None:
    sensors = watch()
    sensors.observe(shot(10))
    back = shot(11, rgb=-5.0, depth=-5.0)
    sensors.observe(back)
    assert back.reasons == ("rgb:skew", "depth:skew")
    on = shot(12, rgb=-5.0, depth=-5.0)
    sensors.observe(on)
    assert on.reasons == ()


def test_an_earlier_part_that_comes_again_is_not_time_running_back() -> None:
    sensors = watch()
    for trigger in (10, 9, 11):
        part = shot(trigger)
        sensors.observe(part)
        assert part.reasons == ()


def late(trigger: int, sensors: frozenset[str], *, rgb: bool = False, with_depth: bool = True) -> PendingPart:
    part = pending(frame(trigger, rgb=rgb, with_depth=with_depth))
    part.late = sensors
    return part


def test_a_late_half_does_not_make_the_other_sensor_miss() -> None:
    sensors = watch()
    for trigger in range(20):
        see(sensors, trigger)
        assert sensors.observe(late(trigger, frozenset({"depth"}))) == []
    assert set(sensors.states().values()) == {SensorState.UP}


def test_a_sensor_that_is_down_and_sends_in_reach_again_is_waited_for_again() -> None:
    sensors = watch()
    for trigger in (1, 2, 3):
        see(sensors, trigger, depth=False)
    sensors.observe(late(3, frozenset()))
    assert sensors.down("s1") == {"depth"}
    (change,) = sensors.observe(late(3, frozenset({"depth"})))
    assert (change.before, change.state) == (SensorState.DOWN, SensorState.RECOVERING)
    assert sensors.down("s1") == frozenset()


def test_a_late_record_without_an_answer_is_still_judged_without_what_is_not_there() -> None:
    sensors = watch()
    part = late(1, frozenset({"depth"}))
    sensors.observe(part)
    assert (part.use_rgb, part.reasons) == (False, ("rgb:missing",))


def hurried(sensors: SensorWatch, trigger: int) -> PendingPart:
    part = pending(frame(trigger, with_depth=False))
    part.hurried = True
    sensors.observe(part)
    return part


def test_a_few_parts_that_their_deadlines_hurry_do_not_take_a_sensor_down_but_a_row_of_them_does() -> None:
    sensors = watch()
    for trigger in range(0, 30, 3):
        for one in (trigger, trigger + 1):
            part = hurried(sensors, one)
            assert (part.use_depth, part.reasons) == (False, ("depth:missing",))
        see(sensors, trigger + 2)
        assert sensors.states()["s1", "depth"] is SensorState.UP
    for trigger in range(30, 35):
        hurried(sensors, trigger)
    assert sensors.down("s1") == {"depth"}


# What is known after the model.


def looked(
    sensors: SensorWatch,
    trigger: int,
    fault: str | None = None,
    *,
    bundle: str = "b",
    share: float = 0.95,
    distance: float = 30_000.0,
    belt: bool | None = None,
    of: Frame | None = None,
) -> PendingPart:
    part = pending(of or frame(trigger))
    sensors.observe(part)
    faults = {} if fault is None else {"depth": fault}
    sensors.learn(part, Look(bundle, part.present, faults, belt=belt, share=share, distance=distance))
    return part


def looking() -> SensorWatch:
    return SensorWatch(down_after=3, up_after=3, looks=True)


def test_a_belt_out_of_place_takes_depth_down_and_only_one_in_place_brings_it_back() -> None:
    sensors = looking()
    for trigger in range(3):
        assert looked(sensors, trigger, "plane").use_depth
    assert sensors.down("s1") == {"depth"}
    for trigger in range(3, 20):
        part = looked(sensors, trigger, "plane")
        assert (part.use_depth, part.reasons) == (False, ("depth:plane",))
    states = []
    for trigger in range(20, 24):
        part = looked(sensors, trigger)
        states.append((sensors.states()["s1", "depth"].value, part.reasons))
    assert states == [
        ("recovering", ("depth:plane",)),
        ("recovering", ("depth:recovering",)),
        ("up", ("depth:recovering",)),
        ("up", ()),
    ]


def test_good_bytes_alone_do_not_bring_a_sensor_up_where_its_images_are_looked_at() -> None:
    sensors = looking()
    for trigger in range(3):
        looked(sensors, trigger, "plane")
    for trigger in range(3, 30):
        assert see(sensors, trigger).use_depth is False


@pytest.mark.parametrize("case", [{"share": 0.2}, {"distance": 45_000.0}, {"fault": "few"}])
def test_one_dark_or_tall_part_is_not_a_broken_sensor_but_a_row_of_them_is(case: dict[str, Any]) -> None:
    sensors = looking()
    for trigger in range(20):
        looked(sensors, trigger)
    for trigger in (20, 22, 24, 26):
        looked(sensors, trigger, **case)
        assert sensors.states()["s1", "depth"] is SensorState.UP
        looked(sensors, trigger + 1)
    for trigger in range(30, 35):
        looked(sensors, trigger, **case)
    assert sensors.down("s1") == {"depth"}


def test_a_belt_in_its_place_proves_the_distance_of_what_stands_on_it() -> None:
    sensors = looking()
    for trigger in range(20):
        looked(sensors, trigger)
    for trigger in range(20, 40):
        looked(sensors, trigger, distance=45_000.0, belt=True)
    assert sensors.down("s1") == frozenset()


def test_an_image_of_another_size_than_usual_is_left_out_before_it_is_decoded() -> None:
    sensors = looking()
    looked(sensors, 1)
    part = looked(sensors, 2, of=replace(frame(2), depth=depth(2, size=8)))
    assert part.reasons == ("depth:size",)
    for trigger in (3, 4):
        looked(sensors, trigger, of=replace(frame(trigger), depth=depth(trigger, size=8)))
    assert sensors.down("s1") == {"depth"}


def test_another_size_under_another_bundle_is_learnt_and_the_sensor_comes_back() -> None:
    sensors = looking()
    looked(sensors, 1)
    last: PendingPart | None = None
    for trigger in range(2, 12):
        last = looked(
            sensors, trigger, bundle="taught anew", of=replace(frame(trigger), depth=depth(trigger, size=8))
        )
    assert last is not None
    assert last.use_depth


def test_the_size_that_the_bundle_was_taught_on_is_known_from_the_first_part_on() -> None:
    sensors = looking()
    part = pending(frame(1))
    sensors.observe(part)
    sensors.learn(part, Look("b", part.present, {"depth": "size"}, {"depth": (8, 8)}))
    assert see(sensors, 2).reasons == ("depth:size",)


def test_a_part_that_nobody_looked_at_counts_neither_way() -> None:
    sensors = looking()
    for trigger in range(3):
        looked(sensors, trigger, "plane")
    for trigger in range(3, 30):
        part = pending(frame(trigger))
        sensors.observe(part)
        assert sensors.learn(part, Look("b")) == []
    assert sensors.down("s1") == {"depth"}


def test_every_change_is_told_with_where_what_and_why() -> None:
    sensors = watch()
    part = pending(frame(1, with_depth=False))
    assert sensors.observe(part) == [
        Transition("s1", "depth", SensorState.UP, SensorState.SUSPECT, "missing", part.part)
    ]
    condition = sensors.condition("s1", "depth")
    assert condition is not None
    assert (condition.since, condition.why) == (part.read_at, "missing")


# What is left to the next worker, and bounds.


@given(st.lists(st.sampled_from(["good", "bad", "plane", "few", "size"]), max_size=40))
def test_the_next_worker_judges_as_the_one_before_would_have(history: list[str]) -> None:
    before, after = looking(), looking()

    def play(sensors: SensorWatch, trigger: int, what: str) -> tuple[str, ...]:
        if what == "bad":
            part = pending(frame(trigger, with_depth=False))
            sensors.observe(part)
            return part.reasons
        of = replace(frame(trigger), depth=depth(trigger, size=8)) if what == "size" else None
        fault = what if what in ("plane", "few") else None
        return looked(sensors, trigger, fault, of=of).reasons

    for trigger, what in enumerate(history):
        play(before, trigger, what)
    for name, values in before.remembered("s1").items():
        after.restore("s1", name, values)
    assert after.remembered("s1") == before.remembered("s1")
    for trigger, what in enumerate(["good", "good", "plane", "bad", "good", "good", "good"], len(history)):
        assert play(after, trigger, what) == play(before, trigger, what)
        assert after.states() == before.states()


@pytest.mark.parametrize(
    "values",
    [
        {"state": "fine"},
        {},
        {"state": "up", "size": "8"},
        {"state": "up", "part": "x"},
        {"state": "up", "range": "nan 1"},
    ],
)
def test_what_another_version_wrote_is_left_aside(values: dict[str, str]) -> None:
    sensors = watch()
    sensors.restore("s1", "depth", values)
    assert see(sensors, 1).reasons == ()


def test_stations_that_nobody_has_heard_of_for_long_are_dropped_and_named() -> None:
    sensors = watch()
    see(sensors, 1)
    assert sensors.drop_idle(START + 60 * SECOND) == []
    assert sensors.drop_idle(START + 2 * 3600 * SECOND) == ["s1"]
    assert not sensors.knows("s1")
    assert sensors.states() == {}


def test_invented_names_do_not_pile_up() -> None:
    sensors = watch()
    template = frame(1)
    for n in range(MAX_STATIONS + 5):
        part = pending(template)
        part.frame = replace(template, part=PartKey(f"invented{n}", 1, 1))
        sensors.observe(part)
    assert len(sensors.states()) == 2 * MAX_STATIONS
    assert sensors.drop_idle(START) == [f"invented{n}" for n in range(5)]

"""What a worker leaves in Redis about its stations' sensors."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest

from tests.workers.frames import frame, pending
from workers.steps.memory import PAIR, SensorMemory
from workers.steps.sensors import SensorState, SensorWatch
from workers.steps.skew import WINDOW, Skews
from workers.store import keys
from workers.store.verdicts import VerdictStore


class Counting(VerdictStore):
    """The store, and how often and what it was told to write."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.writes: list[set[tuple[str, str]]] = []

    def set_sensors_many(self, states: Any) -> None:
        self.writes.append(set(states))
        super().set_sensors_many(states)


@pytest.fixture
def store() -> Counting:
    return Counting(fakeredis.FakeRedis(server=fakeredis.FakeServer()))


def watched(*stations: str, depth: bool = True) -> SensorWatch:
    watch = SensorWatch(down_after=3, up_after=3)
    for station in stations:
        for trigger in range(3):
            watch.observe(pending(frame(trigger, station=station, with_depth=depth)))
    return watch


def test_the_next_worker_finds_state_since_and_why(store: Counting) -> None:
    before, after = watched("s1", depth=False), SensorWatch(down_after=3, up_after=3)
    SensorMemory(store).remember(before, ["s1"])
    SensorMemory(store).restore(after, "s1")
    condition = after.condition("s1", "depth")
    assert condition == before.condition("s1", "depth")
    assert condition is not None
    assert (condition.state, condition.why) == (SensorState.DOWN, "missing")
    assert condition.since > 0


def test_all_stations_of_a_batch_are_written_in_one_round_trip_and_not_again_unchanged(
    store: Counting,
) -> None:
    memory, watch = SensorMemory(store), watched("s1", "s2")
    memory.remember(watch, ["s1", "s2"])
    memory.remember(watch, ["s1", "s2"])
    assert store.writes == [{("s1", "rgb"), ("s1", "depth"), ("s2", "rgb"), ("s2", "depth")}]
    watch.observe(pending(frame(9, station="s2", with_depth=False)))
    memory.remember(watch, ["s1", "s2"])
    assert store.writes[1:] == [{("s2", "rgb"), ("s2", "depth")}]


def test_what_is_written_does_not_outlive_its_use(store: Counting) -> None:
    SensorMemory(store).remember(watched("s1"), ["s1"])
    assert 0 < store._redis.ttl(keys.sensor("s1", "depth")) <= 86_400  # type: ignore[operator]


def test_a_station_that_comes_back_after_another_worker_had_it_is_written_anew(store: Counting) -> None:
    memory, watch = SensorMemory(store), watched("s1")
    memory.remember(watch, ["s1"])
    SensorMemory(store).remember(watched("s1", depth=False), ["s1"])
    mine = SensorWatch(down_after=3, up_after=3)
    memory.restore(mine, "s1")
    assert mine.down("s1") == {"depth"}
    memory.remember(watch, ["s1"])
    fresh = SensorWatch(down_after=3, up_after=3)
    memory.restore(fresh, "s1")
    assert fresh.down("s1") == frozenset()


def test_the_learnt_skew_is_left_too_and_only_when_it_changed_noticeably(store: Counting) -> None:
    skews = Skews(0.15)
    memory, watch = SensorMemory(store, skews), watched("s1")
    for _ in range(WINDOW):
        skews.saw("s1", 0.020)
    memory.remember(watch, ["s1"])
    for _ in range(WINDOW):
        skews.saw("s1", 0.021)
    memory.remember(watch, ["s1"])
    assert [("s1", PAIR) in written for written in store.writes] == [True]
    for _ in range(WINDOW):
        skews.saw("s1", 0.060)
    memory.remember(watch, ["s1"])
    assert store.writes[1] == {("s1", PAIR)}
    theirs = Skews(0.15)
    SensorMemory(store, theirs).restore(SensorWatch(3, 3), "s1")
    assert theirs.wait("s1") == skews.wait("s1")


@pytest.mark.parametrize("values", [{"skew_ms": "soon"}, {"state": "fine"}, {"other": "1"}])
def test_what_another_version_wrote_is_left_aside(store: Counting, values: dict[str, str]) -> None:
    for name in ("rgb", "depth", PAIR):
        store.set_sensor("s1", name, values)
    skews, watch = Skews(0.15), SensorWatch(3, 3)
    SensorMemory(store, skews).restore(watch, "s1")
    assert watch.down("s1") == frozenset()
    assert skews.wait("s1") == 0.15


def test_stations_that_the_watch_has_dropped_are_not_kept_in_mind(store: Counting) -> None:
    memory, watch = SensorMemory(store), SensorWatch(3, 3)
    for n in range(50):
        part = pending(frame(1, station=f"s{n}"))
        watch.observe(part)
        memory.remember(watch, [f"s{n}"])
        watch.forget({part.tickets[0].partition})
    assert len(memory._written) <= 1


@pytest.mark.services
def test_a_real_redis_keeps_them_as_well(redis_url: str) -> None:
    from workers.store.connection import connect

    client = connect(redis_url)
    store = VerdictStore(client)
    before, after = watched("memory-a", "memory-b", depth=False), SensorWatch(3, 3)
    memory = SensorMemory(store)
    memory.remember(before, ["memory-a", "memory-b"])
    for station in ("memory-a", "memory-b"):
        memory.restore(after, station)
        assert after.remembered(station) == before.remembered(station)
    client.close()

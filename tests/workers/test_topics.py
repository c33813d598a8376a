"""The station map and the topic plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.bus.base import BATCH_OVERHEAD_BYTES, TopicSpec
from workers.bus.memory import MemoryBus
from workers.clock import ManualClock
from workers.errors import BusError, SettingsError
from workers.topics import StationMap, TopicPlan


@given(stations=st.integers(1, 60), partitions=st.integers(1, 40))
def test_stations_are_spread_evenly_and_survive_the_file(stations: int, partitions: int) -> None:
    names = [f"s{i}" for i in range(stations)]
    plan = StationMap.balanced(names, partitions)
    loads = [len(plan.stations_of(i)) for i in range(partitions)]
    assert sum(loads) == stations
    assert max(loads) - min(loads) <= 1
    assert StationMap.from_json(plan.to_json()) == plan


def test_a_new_station_moves_no_other() -> None:
    before = StationMap.balanced(["a", "b", "c"], 2)
    after = before.with_station("d")
    assert all(after.partition(name) == before.partition(name) for name in before)
    assert after.partition("d") == 1


def test_an_unknown_station_names_the_command_that_adds_it() -> None:
    with pytest.raises(SettingsError, match=r"'s9'.*crosscheck topics --stations s1,s9"):
        StationMap({"s1": 0}).partition("s9")


@pytest.mark.parametrize("stations", [{}, {"a b": 0}, {"a": -1}, {"a": True}])
def test_an_impossible_map_is_refused(stations: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        StationMap(stations)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"v": 2}', '{"v": 1, "partitions": 1, "stations": {"a": 4}}']
)
def test_a_file_that_is_no_map_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "stations.json"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"stations\.json"):
        StationMap.load(file)
    with pytest.raises(SettingsError, match="cannot read"):
        StationMap.load(tmp_path / "none.json")


def test_the_plan_makes_every_topic_and_can_be_applied_again(tmp_path: Path) -> None:
    bus = MemoryBus()
    plan = TopicPlan(StationMap.balanced(["a", "b", "c"]), frames_per_second=10, frame_bytes=10**6)
    plan.apply(bus)
    plan.apply(bus)
    assert [bus.partitions(row[0]) for row in plan.rows()] == [3, 3, 3, 1, 1, 1, 1]
    assert [int(row[1]) for row in plan.rows()] == [3, 3, 3, 1, 1, 1, 1]
    frames = plan.specs()["inspection.frames"]
    # Four hours of ten megabytes a second, and half as much again.
    assert frames.retention_bytes == 10 * 10**6 * 4 * 3600 * 3 // 2
    assert frames.retention_ms == 4 * 3600 * 1000
    plan.station_map.save(tmp_path / "deep" / "map.json")
    assert StationMap.load(tmp_path / "deep" / "map.json") == plan.station_map


def test_frames_above_the_record_limit_are_refused() -> None:
    with pytest.raises(SettingsError, match="over the limit"):
        TopicPlan(StationMap({"a": 0}), frame_bytes=20 * 2**20)


class Clamping(MemoryBus):
    """A broker that says yes and keeps a limit of its own."""

    def ensure_topics(self, topics: Mapping[str, TopicSpec]) -> None:
        super().ensure_topics(
            {topic: replace(spec, max_message_bytes=100_000) for topic, spec in topics.items()}
        )


def test_every_topic_keeps_to_the_brokers_limit() -> None:
    for limit in (2**20, 8 * 2**20):
        plan = TopicPlan(StationMap({"a": 0}), largest_record=limit - BATCH_OVERHEAD_BYTES)
        sizes = [spec.max_message_bytes + BATCH_OVERHEAD_BYTES for spec in plan.specs().values()]
        assert max(sizes) == limit
        assert plan.specs()["inspection.frames"].max_message_bytes == limit - BATCH_OVERHEAD_BYTES


def test_frames_over_the_brokers_limit_are_refused_with_what_makes_them_smaller() -> None:
    with pytest.raises(SettingsError, match=r"JPEG.*region of interest.*CROSSCHECK_MAX_RECORD_BYTES"):
        TopicPlan(StationMap({"a": 0}), frame_bytes=2**20, largest_record=2**20)


def test_a_broker_that_keeps_another_limit_than_asked_for_is_named() -> None:
    with pytest.raises(
        BusError, match=r"inspection\.frames.*116384 where.*CROSSCHECK_MAX_RECORD_BYTES=116384"
    ):
        TopicPlan(StationMap({"a": 0})).apply(Clamping(ManualClock()))

"""The plan of a line: worked examples, what always holds, and the page that shows it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.inprocess import assert_one_line, command_line
from workers import sizing
from workers.errors import SettingsError
from workers.sizing import Line, Size, markdown
from workers.store.settings import StoreSettings
from workers.topics import StationMap, TopicPlan

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sizing.md"
SHOWN = [Line(stations=count, verdict_hours=24) for count in (1, 10, 40, 200, 1000)]

lines = st.builds(
    Line,
    stations=st.integers(1, 2000),
    fps=st.floats(0.1, 50),
    frame_bytes=st.integers(1_000, 10_000_000),
    frame_ms=st.floats(0.5, 500),
    cores=st.integers(1, 16),
    retention_hours=st.floats(0.5, 24),
    verdict_hours=st.floats(24, 400),
    replicas=st.integers(1, 5),
    not_passed=st.floats(0, 1),
    outage_s=st.floats(0, 10_000),
)


def test_forty_stations_by_hand() -> None:
    plan = Size(Line(stations=40, fps=5, frame_bytes=200_000, frame_ms=24, cores=4, verdict_hours=24))
    assert plan.frames_per_s == 200
    assert plan.in_mb_s == 40
    assert plan.broker_mb_s == 40 * 6  # in, two copies out and in, read
    assert plan.worker_fps == pytest.approx(100)
    # 200 / 150 when one of them is gone, and that one.
    assert plan.workers == 3
    verdicts = 200 * 86_400 * sizing.VERDICT_KEY
    streams = 40 * (10_000 * sizing.GATE_ENTRY + 150 * sizing.HEATMAP_KEY + sizing.STATION_KEYS)
    assert plan.redis_gb == pytest.approx((verdicts + streams) * 1.5 / 1e9)
    assert plan.buffer_mb == 600


def test_the_disk_is_what_the_topics_may_fill() -> None:
    line = Line(stations=4, fps=5, frame_bytes=200_000, not_passed=0.0, replicas=2)
    # As `crosscheck topics` makes them for all four.
    stations = StationMap.balanced(["a", "b", "c", "d"])
    specs = TopicPlan(stations, frames_per_second=5, frame_bytes=200_000, retention_hours=4).specs()
    frames = specs["inspection.frames"]
    verdicts = 20 * 7 * 86_400 * 1.5 * sizing.VERDICT_RECORD * 2
    assert Size(line).disk_gb * 1e9 == pytest.approx(
        frames.retention_bytes * frames.partitions * 2 + verdicts
    )
    assert frames.retention_bytes == pytest.approx(5 * 200_000 * 4 * 3600 * 1.5)
    # The planned verdicts fit into their topic's limit, and heatmaps into theirs.
    assert specs["inspection.verdicts"].retention_bytes >= sizing.VERDICT_RECORD * 5 * 7 * 86_400
    assert specs["inspection.heatmaps"].retention_bytes >= sizing.HEATMAP_RECORD * 5 * 4 * 3600


@given(line=lines)
def test_every_plan_holds_its_own_limits(line: Line) -> None:
    plan = Size(line)
    assert plan.workers >= 2
    assert plan.workers * plan.worker_fps >= plan.frames_per_s * (1 - 1e-6)
    capacity = plan.worker_fps / sizing.WORKER_LOAD
    survivors = (plan.workers - 1) * capacity * sizing.SURVIVOR_LOAD
    assert survivors >= plan.frames_per_s * (1 - 1e-6)
    assert plan.brokers >= line.replicas
    assert plan.broker_mb_s / plan.brokers <= sizing.BROKER_MB_S * (1 + 1e-9)
    assert plan.disk_gb / plan.brokers <= sizing.BROKER_TB * 1000 * (1 + 1e-9)
    assert plan.redis_gb / plan.redis_servers <= sizing.REDIS_GB * (1 + 1e-9)
    assert plan.lag_threshold >= 1
    for need in plan.needs():
        assert need.what
        assert need.amount
        assert need.how


@given(line=lines)
def test_twice_the_stations_never_need_less(line: Line) -> None:
    one, two = Size(line), Size(replace(line, stations=2 * line.stations))
    for name in ("partitions", "brokers", "workers", "redis_servers"):
        assert getattr(two, name) >= getattr(one, name)
    for name in ("in_mb_s", "broker_mb_s", "disk_gb", "redis_gb"):
        assert getattr(two, name) >= getattr(one, name) * (1 - 1e-9)


def test_a_station_that_one_worker_cannot_score_is_told() -> None:
    plan = Size(Line(stations=2, fps=100, frame_ms=24, cores=1))
    assert not plan.fits
    assert any("MORE THAN PARTITIONS CAN FEED" in need.how for need in plan.needs())
    assert Size(Line(stations=2, fps=100, frame_ms=24, cores=8)).fits


def test_cores_beyond_what_a_worker_uses_do_not_count() -> None:
    assert Size(Line(cores=64)).worker_fps == Size(Line(cores=sizing.MOST_CORES)).worker_fps


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"stations": 0}, "stations 0"),
        ({"fps": math.inf}, "fps inf"),
        ({"frame_ms": -1.0}, "frame ms"),
        ({"not_passed": 1.5}, "share"),
        ({"retention_hours": 48.0, "verdict_hours": 24.0}, "judged anew"),
    ],
)
def test_what_makes_no_line_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Line(**wrong)  # type: ignore[arg-type]


def test_verdicts_stand_as_long_as_the_store_lets_them() -> None:
    assert Line().verdict_hours == StoreSettings().verdict_ttl_s / 3600


def test_the_page_shows_the_plan() -> None:
    text = PAGE.read_text()
    shown = text.partition("<!-- crosscheck size -->\n")[2].partition("\n<!-- end -->")[0]
    assert shown == markdown(SHOWN)


def test_the_page_names_the_constants() -> None:
    text = PAGE.read_text()
    for value in (
        f"{sizing.VERDICT_KEY} B",
        f"{sizing.GATE_ENTRY} B",
        f"{sizing.HEATMAP_KEY:,} B",
        f"{sizing.STATION_KEYS:,} B",
        f"{sizing.VERDICT_RECORD} B, {sizing.HEATMAP_RECORD:,} B",
        f"{sizing.REDIS_VERDICTS_S:,}",
        f"{sizing.WORKER_LOAD:g}, {sizing.SURVIVOR_LOAD:g}, {sizing.REDIS_LOAD:g}",
        f"{sizing.BROKER_MB_S:g}, {sizing.BROKER_TB:g}, {sizing.BROKER_PARTITIONS:,}; {sizing.REDIS_GB:g}",
    ):
        assert value in text, value


def test_the_command_prints_the_plan_and_writes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with command_line(monkeypatch, capsys, tmp_path) as call:
        done = call("size", "--stations", "40", "--verdict-hours", "24", "--json", "size.json")
    assert done.code == 0
    assert "200.0 / 100.0" in done.out
    assert json.loads((tmp_path / "size.json").read_text())["workers"] == 3


def test_a_wrong_number_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with command_line(monkeypatch, capsys, tmp_path) as call:
        done = call("size", "--retention-hours", "200")
    assert_one_line(done, 2, "judged anew", "raise the first")

"""The publisher: what it sends, what it refuses, and what a broker that is away cannot do to the camera."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from structlog.testing import capture_logs

from schemas.errors import BadImage, InvalidField
from schemas.frame import Frame
from schemas.images import decode_colour, decode_depth
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.payload import ColourEncoding
from schemas.wire import decode_capture, decode_frame
from workers.bus.base import Record, TopicPartition, TopicSpec
from workers.bus.memory import MemoryBus
from workers.capture import AgentLog, Publisher
from workers.capture.buffer import DiskBuffer
from workers.clock import ManualClock
from workers.errors import BusError, RecordTooLarge, SettingsError, SourceError

TOPIC = "inspection.frames"
RGB = np.random.default_rng(1).integers(0, 255, (24, 32, 3), dtype=np.uint8)
DEPTH = np.random.default_rng(2).integers(0, 60_000, (12, 16), dtype=np.uint16)


class Map:
    """One station on partition 2."""

    def partition(self, station: str) -> int:
        if station != "s1":
            raise SettingsError(f"station {station!r} is not on the map")
        return 2


class SetClock(ManualClock):
    """A clock whose wall time can be set without time passing."""

    def set_by(self, seconds: float) -> None:
        self._now += round(seconds * 1e9)
        self._origin += round(seconds * 1e9)


class Rig:
    """A memory bus with a publisher of station s1."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(self.clock)
        self.bus.ensure_topics({TOPIC: TopicSpec(partitions=4)})
        self.settings = settings
        self.publisher = self.new()

    def new(self, **settings: Any) -> Publisher:
        chosen: dict[str, Any] = {"station": "s1", "colour": ColourEncoding.PNG, **self.settings, **settings}
        return Publisher(self.bus, product="cap", station_map=Map(), clock=self.clock, **chosen)

    def records(self) -> list[Record]:
        consumer = self.bus.consumer(None)
        consumer.assign({TopicPartition(TOPIC, i) for i in range(4)})
        found = consumer.poll(0.0)
        consumer.close()
        return found

    def frames(self) -> list[Frame]:
        return [decode_frame(record.value) for record in self.records()]


@pytest.fixture
def rig() -> Rig:
    return Rig(depth_scale=1e-5, calibration="cal-1")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AgentLog]:
    with AgentLog(tmp_path / "agent.log") as log:
        yield log


def lines(log: AgentLog) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def test_a_part_goes_to_its_stations_partition_under_its_own_key(rig: Rig) -> None:
    part = rig.publisher.next_part()
    rig.clock.advance(0.25)
    delivery = rig.publisher.publish(part, rgb=RGB, depth=DEPTH, encoder=-17)
    assert delivery.wait(0.0) == (TopicPartition(TOPIC, 2), 0)
    (record,) = rig.records()
    assert record.key == str(part).encode()
    frame = decode_frame(record.value)
    assert (frame.part, frame.product, frame.encoder, frame.calibration) == (part, "cap", -17, "cal-1")
    assert frame.depth_scale == 1e-5
    assert frame.captured_at == part.run
    assert frame.deadline == part.run + 2 * 10**9, "counted from the trigger, not from the sending"
    assert frame.rgb is not None
    assert frame.depth is not None
    np.testing.assert_array_equal(decode_colour(frame.rgb), RGB)
    np.testing.assert_array_equal(decode_depth(frame.depth), DEPTH)
    assert (rig.publisher.published, rig.publisher.failed) == (1, 0)


def test_a_sensor_that_gave_nothing_is_absent_and_still_expected(rig: Rig) -> None:
    for images in ({"rgb": RGB}, {"depth": DEPTH}):
        rig.publisher.publish(rig.publisher.next_part(), **images)
    colour, depth = rig.frames()
    assert colour.depth is None
    assert colour.depth_scale is None
    assert depth.rgb is None
    assert colour.expects == depth.expects == ("rgb", "depth")


def test_two_agents_send_one_part_as_two_records(rig: Rig) -> None:
    part = rig.publisher.next_part()
    assert len(rig.publisher.publish_split(part, RGB, DEPTH)) == 2
    colour, depth = rig.frames()
    assert colour.part == depth.part == part
    assert (colour.rgb is None, colour.depth is None) == (False, True)
    assert (depth.rgb is None, depth.depth is None) == (True, False)
    assert colour.deadline == depth.deadline
    assert len(rig.publisher.publish_split(rig.publisher.next_part(), None, DEPTH)) == 1


def test_triggers_count_up_and_a_new_run_begins_with_each_agent(rig: Rig) -> None:
    first = [rig.publisher.next_part() for _ in range(3)]
    assert [part.trigger for part in first] == [0, 1, 2]
    rig.clock.advance(0.001)
    assert rig.new().next_part() not in first


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=8))
def test_no_restart_reuses_a_key_whatever_the_clock_does(
    tmp_path_factory: pytest.TempPathFactory, jumps: list[int]
) -> None:
    path = tmp_path_factory.mktemp("runs") / "agent.log"
    seen: set[PartKey] = set()
    now = ManualClock().now()
    for jump in jumps:
        rig = Rig()
        rig.clock = ManualClock(now + jump)
        with AgentLog(path) as log:
            publisher = rig.new(log=log)
            for _ in range(2):
                part = publisher.next_part()
                assert part not in seen
                assert part.run <= rig.clock.now() + 250_000_000, "a worker would refuse it"
                seen.add(part)


@pytest.mark.parametrize("ahead_s", [1.0, 60.0, 86_400.0, 365 * 86_400.0])
def test_a_clock_that_was_ahead_costs_its_agent_one_run_and_no_restart(log: AgentLog, ahead_s: float) -> None:
    rig = Rig(log=log)
    clock = rig.clock = SetClock()
    before = clock.now()
    clock.set_by(ahead_s)
    ahead = rig.new(log=log)
    wrong = ahead.next_part()
    assert wrong.run == before + round(ahead_s * 1e9)
    clock.set_by(-ahead_s)
    right, after = ahead.next_part(), ahead.next_part()
    assert (right.run, right.trigger, after.trigger) == (before, 0, 1)
    assert ahead.triggers == 3
    assert ahead.run == right.run
    again = rig.new(log=log).next_part()
    assert again.run <= rig.clock.now()


@pytest.mark.parametrize(
    ("name", "image", "told"),
    [
        ("rgb", np.zeros((4, 4, 3), np.float32), "rgb: found float32 (4, 4, 3), expected uint8 (H, W, 3)"),
        ("rgb", np.zeros((4, 4), np.uint8), "found uint8 (4, 4)"),
        ("rgb", np.zeros((4, 4, 4), np.uint8), "found uint8 (4, 4, 4)"),
        ("rgb", np.zeros((0, 4, 3), np.uint8), "found uint8 (0, 4, 3)"),
        ("rgb", [[0]], "found list, expected a numpy array"),
        ("depth", np.zeros((4, 4), np.uint8), "depth: found uint8 (4, 4), expected uint16 (H, W)"),
        ("depth", np.zeros((4, 4, 1), np.uint16), "found uint16 (4, 4, 1)"),
        ("depth", np.zeros((4, 4), np.float64), "found float64"),
    ],
)
def test_what_is_no_image_is_refused_with_what_is_expected(
    rig: Rig, name: str, image: NDArray[Any], told: str
) -> None:
    part = rig.publisher.next_part()
    with pytest.raises(BadImage) as refused:
        rig.publisher.publish(part, **{name: image})  # type: ignore[arg-type]
    assert told in str(refused.value)
    with pytest.raises(BadImage):
        rig.publisher.publish_split(part, **{name: image})  # type: ignore[arg-type]
    assert rig.records() == []


def test_settings_that_cannot_work_are_refused(rig: Rig) -> None:
    with pytest.raises(SettingsError, match="not on the map"):
        rig.new(station="s2")
    with pytest.raises(SettingsError, match=r"deadline \(--deadline\) 0 s"):
        rig.new(deadline_s=0.0)
    with pytest.raises(InvalidField, match="sends for station s1"):
        rig.publisher.publish(PartKey("s2", 1, 1), rgb=RGB)


def test_a_frame_the_broker_refuses_is_counted_reported_and_logged(log: AgentLog) -> None:
    rig = Rig(log=log)
    rig.bus.fail_sends(1)
    lost, kept = rig.publisher.next_part(), rig.publisher.next_part()
    delivery = rig.publisher.publish(lost, rgb=RGB)
    rig.publisher.publish(kept, rgb=RGB, depth=DEPTH)
    with pytest.raises(BusError):
        delivery.wait(0.0)
    assert (rig.publisher.published, rig.publisher.failed) == (1, 1)
    assert [(line["event"], line["part"]) for line in lines(log)] == [
        ("trigger", str(lost)),
        ("trigger", str(kept)),
        ("failed", str(lost)),
        ("sent", str(kept)),
    ]
    assert lines(log)[3]["sensors"] == "rgb+depth"


def test_a_full_buffer_holds_the_camera_no_longer_than_stated(log: AgentLog) -> None:
    rig = Rig(log=log, max_block_s=0.05, max_in_flight_bytes=3000)
    rig.bus.interrupt()
    for _ in range(5):
        before = rig.clock.monotonic()
        rig.publisher.publish(rig.publisher.next_part(), rgb=RGB)
        assert rig.clock.monotonic() - before <= 0.06
    assert rig.publisher.failed > 0
    rig.bus.restore()
    rig.publisher.flush()
    assert rig.publisher.published + rig.publisher.failed == 5
    assert len(rig.records()) == rig.publisher.published
    assert sum(line["event"] == "trigger" for line in lines(log)) == 5


def test_a_part_that_no_sensor_saw_is_a_failed_part_and_not_an_error(log: AgentLog) -> None:
    rig = Rig(log=log)
    delivery = rig.publisher.publish(rig.publisher.next_part())
    assert delivery.done()
    with pytest.raises(BusError, match="no sensor"):
        delivery.wait(0.0)
    assert rig.publisher.failed == 1
    assert [line["event"] for line in lines(log)] == ["trigger", "failed"]


def test_what_is_open_when_it_closes_has_failed() -> None:
    rig = Rig(delivery_timeout_s=60.0)
    rig.bus.interrupt()
    with rig.publisher as publisher:
        publisher.publish(publisher.next_part(), rgb=RGB)
        with pytest.raises(BusError):
            publisher.flush(0.1)
        assert publisher.failed == 0
    assert publisher.failed == 1


def test_a_log_torn_by_a_crash_is_ended_and_written_on(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "agent.log"
    with AgentLog(path) as log:
        log.trigger(PartKey("s1", 5, 0), 5)
    with path.open("ab") as file:
        file.write(b'{"event":"trig')
    with AgentLog(path) as log:
        assert log.runs("s1") == {5}
        assert log.runs("s2") == frozenset()
        log.trigger(PartKey("s1", 6, 0), 6)
    assert [line[:16] for line in path.read_bytes().splitlines()] == [
        b'{"event":"trigge',
        b'{"event":"trig',
        b'{"event":"trigge',
    ]
    with pytest.raises(SourceError, match="name a writable file"):
        AgentLog(tmp_path)


LARGE = np.random.default_rng(3).integers(0, 255, (400, 400, 3), dtype=np.uint8)  # 480 kB as PNG


def notices(rig: Rig) -> list[Notice]:
    return [n for n in (decode_capture(record.value) for record in rig.records()) if isinstance(n, Notice)]


@pytest.mark.parametrize(
    ("setting", "topic_bytes", "blamed"),
    [(262_144, 2**20, "CROSSCHECK_MAX_RECORD_BYTES"), (2**20, 200_000, f"topic {TOPIC}")],
)
@pytest.mark.parametrize("buffered", [False, True])
def test_a_frame_over_the_limit_is_refused_in_words_and_told_by_a_notice(
    log: AgentLog, tmp_path: Path, setting: int, topic_bytes: int, blamed: str, buffered: bool
) -> None:
    rig = Rig(max_record_bytes=setting, log=log)
    rig.bus.ensure_topics({TOPIC: TopicSpec(partitions=4, max_message_bytes=topic_bytes)})
    buffer = DiskBuffer(tmp_path / "buffer", max_bytes=2**20) if buffered else None
    with capture_logs() as said:
        publisher = rig.new(buffer=buffer)
        large, small = publisher.next_part(), publisher.next_part()
        refused = publisher.publish(large, rgb=LARGE)
        publisher.publish(small, rgb=RGB).wait(10.0)
        publisher.flush(10.0)
    with pytest.raises(RecordTooLarge) as caught:
        refused.wait(0.0)
    text = str(caught.value)
    for part in (str(large), blamed, "JPEG", "region of interest", "crosscheck topics"):
        assert part in text
    size, limit = map(int, re.findall(r"(\d+) bytes", text))
    assert size > 400_000 > limit
    assert [(n.part, n.why) for n in notices(rig)] == [(large, "its frame is larger than the broker takes")]
    assert (publisher.failed, publisher.published, publisher.notices) == (1, 1, 1)
    assert f"{large}" in str([line for line in lines(log) if "larger than the broker" in str(line)])
    events_said = [entry["event"] for entry in said]
    assert events_said.count("capture_frame_failed") == 1
    assert ("capture_topic_limit" in events_said) == (topic_bytes < setting)
    publisher.close()
    if buffer is not None:
        buffer.close()


def test_a_frame_that_only_the_topic_refuses_is_told_by_a_notice_too(rig: Rig) -> None:
    part = rig.publisher.next_part()
    rig.bus.ensure_topics({TOPIC: TopicSpec(partitions=4, max_message_bytes=100_000)})
    rig.publisher.publish(part, rgb=LARGE)
    rig.publisher.publish(rig.publisher.next_part(), rgb=RGB)
    assert [(n.part, n.why) for n in notices(rig)] == [(part, "its frame is larger than the broker takes")]
    assert rig.publisher.failed == 1


@pytest.mark.parametrize("value", [0, 1000, 2**25])
def test_a_record_limit_that_no_frame_could_keep_is_refused(rig: Rig, value: int) -> None:
    with pytest.raises(SettingsError, match="CROSSCHECK_MAX_RECORD_BYTES"):
        rig.new(max_record_bytes=value)

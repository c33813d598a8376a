"""What gate, agent and archive tell is what they did, and whether they could."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.part import PartKey
from schemas.verdict import Decision
from tests.workers.archive_line import ArchiveLine
from tests.workers.gate_line import GateLine, verdict
from tests.workers.telemetry.scraping import key, scrape, told
from workers.archive.lag import ASK_S
from workers.archive.local import LocalStorage
from workers.archive.patience import STILL_S
from workers.archive.sink import ArchiveSink
from workers.bus.base import TopicSpec
from workers.bus.memory import MemoryBus
from workers.capture.buffer import DiskBuffer
from workers.capture.publisher import Publisher
from workers.clock import ManualClock
from workers.contact import Contact
from workers.errors import ArchiveError, BusError
from workers.telemetry.agent import monitored, watch_publisher
from workers.telemetry.archive import watch_archive
from workers.telemetry.assembly import Assembly
from workers.telemetry.gate import GateWaits, watch_gate
from workers.topics import StationMap

RGB = np.random.default_rng(1).integers(0, 255, (24, 32, 3), dtype=np.uint8)
DEPTH = np.random.default_rng(2).integers(1, 60_000, (12, 16), dtype=np.uint16)


def gate_of(folder: Path) -> tuple[GateLine, Assembly]:
    """A gate on a line, watched; its Redis is asked by the line's own clock."""
    line, waits, watch = GateLine(folder), GateWaits(), Assembly("gate", None)
    line.store.contact = Contact("redis", line.clock)
    line.on_decision = waits.decided
    line.restart()
    watch_gate(watch, line.gate, waits, station="s1", redis=line.store.contact, stop=threading.Event())
    return line, watch


def troubles(watch: Assembly) -> dict[str, str]:
    """The checks that are not well, and why."""
    return {check.name: check.why for check in watch.health.ready().checks if not check.ok}


def test_a_gate_tells_triggers_decisions_waits_and_alarms(tmp_path: Path) -> None:
    line, watch = gate_of(tmp_path)
    with line:
        passed, rejected, _ = (line.trigger() for _ in range(3))
        line.pass_time(0.2)
        line.store.decide(verdict(passed))
        line.store.decide(verdict(rejected, Decision.REJECT))
        line.pass_time(2.0)
        found = told(watch.registry)
        assert found[key("crosscheck_gate_triggers_total", station="s1")] == 3
        for decision in ("PASS", "REJECT", "MISSING"):
            assert found[key("crosscheck_gate_decisions_total", station="s1", decision=decision)] == 1
        assert found[key("crosscheck_gate_wait_seconds_count")] == 2
        assert found[key("crosscheck_gate_wait_seconds_sum")] == pytest.approx(0.42, abs=0.05)
        assert found[key("crosscheck_gate_alarms_total", station="s1", kind="gate_part_missing")] == 1
        assert found[key("crosscheck_gate_locked", station="s1")] == 0
        assert found[key("crosscheck_ready", process="gate")] == 1


def test_a_gate_is_not_ready_while_redis_is_away_and_is_again_once_it_is_back(tmp_path: Path) -> None:
    line, watch = gate_of(tmp_path)
    with line:
        assert "not spoken to yet" in troubles(watch)["redis"]
        line.pass_time(0.5)
        assert troubles(watch) == {}
        line.server.connected = False
        line.pass_time(2.0)
        assert set(troubles(watch)) == {"redis"}
        assert watch.health.live().ok
        line.server.connected = True
        line.pass_time(1.0)
        assert troubles(watch) == {}


def test_a_gate_whose_loop_stands_still_is_not_alive_and_hears_no_verdicts(tmp_path: Path) -> None:
    line, watch = gate_of(tmp_path)
    with line:
        line.pass_time(0.5)
        line.clock.advance(11)
        assert watch.health.live().status == 503
        assert troubles(watch)["redis"] == "redis was last spoken to 11 s ago"
        line.gate.step()
        assert watch.health.live().ok


class Refusing:
    """An actuator that does not answer."""

    def energise(self, part: PartKey) -> None:
        raise OSError("no route")

    def release(self) -> None:
        raise OSError("no route")

    def heartbeat(self) -> None:
        raise OSError("no route")


def test_a_gate_whose_actuator_does_not_answer_is_not_ready(tmp_path: Path) -> None:
    line, watch = gate_of(tmp_path)
    with line:
        line.pass_time(0.1)
        line.gate._output._actuator = Refusing()
        line.pass_time(0.1)
        assert set(troubles(watch)) == {"actuator"}
        line.gate._output._actuator = line.recorder
        line.pass_time(0.1)
        assert troubles(watch) == {}


def test_a_gate_that_lets_nothing_through_until_a_challenge_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, watch = gate_of(tmp_path)
    with line:
        line.pass_time(0.1)
        monkeypatch.setattr(line.gate._challenges, "_overdue", True)
        assert "challenge part" in troubles(watch)["lock"]
        assert told(watch.registry)[key("crosscheck_gate_locked", station="s1")] == 1


def publisher_of(bus: Any, **settings: Any) -> Publisher:
    return Publisher(bus, station="s1", product="cap", station_map=StationMap({"s1": 0}), **settings)


def test_an_agent_tells_triggers_frames_and_how_long_its_camera_was_held_up() -> None:
    bus = MemoryBus(ManualClock())
    bus.ensure_topics({"inspection.frames": TopicSpec(partitions=1)})
    with publisher_of(bus) as publisher, monitored(publisher, "127.0.0.1:0") as monitor:
        for _ in range(3):
            publisher.publish(publisher.next_part(), RGB, DEPTH)
        publisher.publish(publisher.next_part())
        publisher.flush()
        found = scrape(monitor.address)
    assert found[key("crosscheck_agent_triggers_total", station="s1")] == 4
    assert found[key("crosscheck_agent_published_total", station="s1")] == 3
    assert found[key("crosscheck_agent_failed_total", station="s1")] == 1
    assert found[key("crosscheck_agent_notices_total", station="s1")] == 1
    assert found[key("crosscheck_agent_publish_seconds_count")] == 4
    assert 0 < found[key("crosscheck_agent_publish_seconds_sum")] < 4
    assert found[key("crosscheck_live", process="agent")] == 1


def test_an_agent_whose_broker_is_away_is_ready_as_long_as_its_buffer_has_room(tmp_path: Path) -> None:
    def away() -> Any:
        raise BusError("no answer from Kafka")

    buffer = DiskBuffer(tmp_path, max_bytes=60_000)
    watch = Assembly("agent", None)
    with publisher_of(away, buffer=buffer, spill_after_s=0.0) as publisher:
        watch_publisher(watch, publisher)
        publisher.publish(publisher.next_part(), RGB, DEPTH)
        wait_for(lambda: publisher.buffered == 1)
        found = told(watch.registry)
        assert found[key("crosscheck_agent_buffered_frames", station="s1")] == 1
        assert found[key("crosscheck_agent_buffered_bytes", station="s1")] == buffer.size > 0
        assert troubles(watch) == {}
        while buffer.share < 0.9:
            publisher.publish(publisher.next_part(), RGB, DEPTH)
            wait_for(lambda: buffer.records + publisher.dropped == publisher.triggers)
        assert "kafka was not reached yet; its buffer is 9" in troubles(watch)["broker"]


def wait_for(condition: Any) -> None:
    pause = threading.Event()
    for _ in range(500):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("it did not come")


def test_an_agent_without_a_buffer_is_not_ready_while_its_broker_is_away() -> None:
    bus = MemoryBus(ManualClock())
    bus.ensure_topics({"inspection.frames": TopicSpec(partitions=1)})
    watch = Assembly("agent", None)
    with publisher_of(bus) as publisher:
        watch_publisher(watch, publisher)
        assert troubles(watch) == {"broker": "kafka was not reached yet"}


class Share(LocalStorage):
    """A folder on a share that may be away."""

    away = False

    def put(self, name: str, data: bytes) -> None:
        if self.away:
            raise ArchiveError("the share is not mounted")
        super().put(name, data)


def archive_of(line: ArchiveLine) -> tuple[ArchiveSink, Assembly, Contact]:
    """A sink that files three rows at once, watched."""
    sink, watch = line.sink(max_rows=3, max_age_s=1e6), Assembly("archive", None)
    kafka = Contact("kafka", line.clock)
    watch_archive(watch, sink, kafka=kafka, stop=threading.Event())
    return sink, watch, kafka


def test_an_archive_tells_rows_images_and_what_is_not_filed_yet(tmp_path: Path) -> None:
    line = ArchiveLine(tmp_path)
    sink, watch, _ = archive_of(line)
    line.turn(sink, 1)
    assert told(watch.registry)[key("crosscheck_archive_lag_records")] == 0
    for trigger in range(7):
        line.inspected(trigger, Decision.REJECT)
    line.turn(sink, ASK_S + 1)
    found = told(watch.registry)
    assert found[key("crosscheck_archive_rows_total")] == 6
    assert found[key("crosscheck_archive_images_total")] == 12
    assert found[key("crosscheck_archive_lag_records")] == 1
    sink.flush()
    line.turn(sink, ASK_S + 1)
    assert told(watch.registry)[key("crosscheck_archive_lag_records")] == 0


def test_an_archive_is_ready_while_both_of_its_ends_answer(tmp_path: Path) -> None:
    line = ArchiveLine(tmp_path)
    share = line.storage = Share(tmp_path)
    sink, watch, kafka = archive_of(line)
    line.turn(sink, 1)
    assert troubles(watch) == {"kafka": "kafka was not spoken to yet"}
    kafka.succeeded()
    assert troubles(watch) == {}
    share.away = True
    for trigger in range(3):
        line.inspected(trigger)
    turning = threading.Thread(target=lambda: line.turn(sink, 1))
    turning.start()
    wait_for(lambda: not watch.health.ready().ok)
    assert troubles(watch)["storage"] == "the share is not mounted"
    assert watch.health.live().ok
    share.away = False
    turning.join(10)
    kafka.succeeded()
    assert troubles(watch) == {}


def test_an_archive_whose_loop_stands_still_is_not_alive(tmp_path: Path) -> None:
    line = ArchiveLine(tmp_path)
    sink, watch, _ = archive_of(line)
    line.turn(sink, 1)
    line.clock.advance(STILL_S + 1)
    assert watch.health.live().status == 503
    sink.step()
    assert watch.health.live().ok

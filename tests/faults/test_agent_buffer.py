"""An agent with a disk buffer, a real broker that is killed under it, and the agent killed too."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from compose.services import Services
from schemas.frame import Frame
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.payload import ColourEncoding
from schemas.wire import decode_capture, decode_heartbeat
from tests.e2e.processes import Running, wait_until
from tests.e2e.topics import records_of
from workers.bus.base import Record, TopicSpec
from workers.bus.kafka import KafkaBus
from workers.capture import AgentLog, DiskBuffer, Publisher
from workers.topics import StationMap

pytestmark = pytest.mark.services

PERIOD_S = 0.02
RGB = np.random.default_rng(3).integers(0, 255, (180, 180, 3), dtype=np.uint8)


class Broker:
    """A broker of this module alone, with the topics of one line."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.kafka = services.up().kafka

    def make_topics(self, prefix: str) -> None:
        bus = KafkaBus(self.kafka)
        bus.ensure_topics({f"{prefix}.{name}": TopicSpec(partitions=1) for name in ("frames", "heartbeats")})
        bus.close()

    def records(self, topic: str) -> list[Record]:
        """All that is on the topic now."""
        bus = KafkaBus(self.kafka)
        try:
            return records_of(bus, topic)
        finally:
            bus.close()

    def triggers_told(self, prefix: str) -> list[int]:
        """How many triggers the agent had seen, by each of its heartbeats."""
        return [decode_heartbeat(record.value).triggers for record in self.records(f"{prefix}.heartbeats")]

    def captures(self, prefix: str) -> list[Frame | Notice]:
        """What the frames topic carries, in its order."""
        return [decode_capture(record.value) for record in self.records(f"{prefix}.frames")]


@pytest.fixture(scope="module")
def broker(mortal: Services) -> Broker:
    return Broker(mortal)


def first_order(captures: list[Frame | Notice]) -> list[PartKey]:
    return list(dict.fromkeys(capture.part for capture in captures))


def test_a_broker_killed_under_a_running_agent_costs_no_part_and_no_time_of_the_camera(
    broker: Broker, tmp_path: Path
) -> None:
    broker.make_topics("a")
    with AgentLog(tmp_path / "agent.log") as log:
        publisher = Publisher(
            broker.kafka,
            station="s1",
            product="cap",
            station_map=StationMap({"s1": 0}),
            topic="a.frames",
            heartbeats="a.heartbeats",
            deadline_s=300.0,
            colour=ColourEncoding.RAW,
            log=log,
            buffer=DiskBuffer(tmp_path / "buffer"),
            delivery_timeout_s=2.0,
        )
        slowest, behind = 0.0, 0.0
        sent: list[PartKey] = []

        def shoot(seconds: float) -> None:
            nonlocal slowest, behind
            due = time.monotonic()
            for _ in range(round(seconds / PERIOD_S)):
                due += PERIOD_S
                time.sleep(max(0.0, due - time.monotonic()))
                behind = max(behind, time.monotonic() - due)
                sent.append(part := publisher.next_part())
                start = time.perf_counter()
                publisher.publish(part, RGB)
                slowest = max(slowest, time.perf_counter() - start)

        shoot(1.0)
        wait_until(lambda: publisher.published == len(sent), 10.0, "the first frames acknowledged")
        broker.services.kill_kafka()
        shoot(4.0)
        assert publisher.buffered > 100
        broker.services.start_kafka()
        shoot(1.0)
        wait_until(lambda: publisher.published == len(sent), 60.0, "every frame acknowledged")
        assert (publisher.published, publisher.dropped, publisher.buffered) == (len(sent), 0, 0)
        wait_until(lambda: len(sent) in broker.triggers_told("a"), 60.0, "a heartbeat after the outage")
        publisher.close()
    print(f"slowest publish {slowest * 1e3:.2f} ms, latest shot {behind * 1e3:.1f} ms behind its schedule")
    assert slowest < 0.1
    captures = broker.captures("a")
    assert first_order(captures) == sent
    assert all(isinstance(capture, Frame) for capture in captures)
    assert len(captures) <= 2 * len(sent), "at least once, and not much more than that"
    beats = broker.records("a.heartbeats")
    told = [decode_heartbeat(record.value) for record in beats]
    assert told[-1].triggers == len(sent) > 250
    # None of an outage's beats came late: that would read as a clock that is behind.
    assert all(abs(r.timestamp_ms * 10**6 - b.sent_at) < 10**9 for r, b in zip(beats, told, strict=True))


def triggers(log: Path) -> list[PartKey]:
    found = [json.loads(line) for line in log.read_text().splitlines()]
    return [PartKey.parse(line["part"]) for line in found if line["event"] == "trigger"]


def test_an_agent_killed_while_the_broker_is_away_loses_nothing_that_is_not_told(
    broker: Broker, tmp_path: Path
) -> None:
    broker.make_topics("b")
    broker.services.kill_kafka()
    log = tmp_path / "triggers.jsonl"
    words = ("--kafka", broker.kafka, "--triggers", str(log), "--buffer", str(tmp_path / "buffer"))
    common = ("capture", *words, "--deadline", "300", "--size", "64", "--log", "json")
    env = {"CROSSCHECK_TOPIC_PREFIX": "b"}

    def start(name: str, *more: str) -> Running:
        return Running(*common, *more, folder=tmp_path, name=name, env=env)

    def seen(count: int) -> None:
        wait_until(lambda: log.exists() and len(triggers_so_far(log)) >= count, 30.0, f"{count} triggers")

    killed = start("killed", "--rate", "25", "--count", "1000")
    try:
        seen(60)
        killed.signal(signal.SIGKILL)
        killed.wait(10.0)
    finally:
        killed.stop()
    before = len(triggers_so_far(log))
    asked = start("asked", "--rate", "25", "--count", "1000")
    try:
        seen(before + 40)
        asked.signal(signal.SIGINT)
        done = asked.wait(30.0)
    finally:
        asked.stop()
    assert done.code == 3, done.err[-2000:]
    assert "wait in" in done.out
    broker.services.start_kafka()
    last = start("last", "--rate", "25", "--count", "10")
    try:
        done = last.wait(60.0)
    finally:
        last.stop()
    assert done.code == 0, done.err[-2000:]
    captures = broker.captures("b")
    parts = triggers(log)
    assert set(first_order(captures)) == set(parts)
    lost = {capture.part for capture in captures if isinstance(capture, Notice)}
    assert lost <= set(parts[:before]), "only SIGKILL may cost images"
    assert len(lost) < 40, "what was in memory only"
    of_last = [part for part in first_order(captures) if part.run == parts[-1].run]
    assert of_last == parts[-10:]
    for run in {part.run for part in parts}:
        of_frames = [c.part.trigger for c in captures if isinstance(c, Frame) and c.part.run == run]
        assert list(dict.fromkeys(of_frames)) == sorted(set(of_frames))


def triggers_so_far(log: Path) -> list[bytes]:
    return [line for line in log.read_bytes().splitlines() if b'"event":"trigger"' in line]

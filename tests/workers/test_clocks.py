"""Clocks of agents: an offset is proven or it is none, waiting is no offset, and ours may be set too."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from schemas.heartbeat import Heartbeat
from schemas.wire import encode
from workers.bus.base import Bus, TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus
from workers.bus.memory import MemoryBus
from workers.clock import ManualClock, SystemClock
from workers.errors import ClockOffset
from workers.steps import clocks as module
from workers.steps.clocks import FORGET_S, MAX_WITNESSES, WINDOW_S, AgentClocks
from workers.steps.heartbeats import STALL_S, HeartbeatListener, HeartbeatReader

BOUND = 0.25
TOPIC = "inspection.heartbeats"


class SetClock(ManualClock):
    """A wall clock that somebody sets, while the monotonic one goes on."""

    shift = 0

    def now(self) -> int:
        return super().now() + self.shift

    def set(self, seconds: float) -> None:
        self.shift += round(seconds * 1e9)


class World:
    """Agents with clocks of their own, beating once a second to one worker."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.clocks = AgentClocks(BOUND, self.clock)
        self.true = self.clock.now()

    def beat(
        self,
        ahead: float = 0.0,
        *,
        delay: float = 0.001,
        station: str = "s1",
        agent: str = "a1",
        run: int = 1,
    ) -> None:
        """One beat of an agent whose clock is ``ahead`` of true time, read ``delay`` seconds after it."""
        sent = ManualClock.now(self.clock) - round(delay * 1e9) + round(ahead * 1e9)
        beat = Heartbeat(station=station, agent=agent, sent_at=sent, run=run)
        self.clocks.heard(beat, self.clock.monotonic())

    def beats(self, count: int, ahead: float = 0.0, **more: float) -> None:
        for _ in range(count):
            self.clock.advance(1.0)
            self.beat(ahead, delay=more.get("delay", 0.001))

    def frame(self, ahead: float = 0.0, *, age: float = 0.05, station: str = "s1") -> None:
        captured = ManualClock.now(self.clock) - round(age * 1e9) + round(ahead * 1e9)
        self.clocks.saw(station, captured, self.clock.monotonic())


@pytest.fixture
def world() -> World:
    world = World()
    world.clock.advance(100.0)
    return world


# Heartbeats.


def test_a_station_nobody_has_heard_of_is_trusted(world: World) -> None:
    assert world.clocks.offset("s1") is None
    assert world.clocks.trusted("s1")
    assert world.clocks.refusal("s1") is None
    assert world.clocks.stations() == {}


def test_the_offset_is_that_of_the_quickest_beat(world: World) -> None:
    for delay in (0.2, 0.004, 0.9, 0.05):
        world.clock.advance(1.0)
        world.beat(0.1, delay=delay)
    assert world.clocks.offset("s1") == pytest.approx(0.096)
    assert world.clocks.stations() == {"s1": pytest.approx(0.096)}


def test_one_beat_proves_an_agent_ahead(world: World) -> None:
    world.beat(0.5)
    assert not world.clocks.trusted("s1")


def test_an_agent_behind_is_believed_after_several_beats_and_not_after_one_that_was_late(
    world: World,
) -> None:
    world.beats(2, -0.5)
    assert world.clocks.trusted("s1")
    world.beats(1, -0.5)
    assert not world.clocks.trusted("s1")


def test_beats_that_arrive_together_late_prove_nothing(world: World) -> None:
    for delay in (9.0, 8.0, 7.0, 6.0):
        world.beat(delay=delay)
    assert world.clocks.trusted("s1")
    world.beats(1)
    assert world.clocks.offset("s1") == pytest.approx(-0.001)


def test_the_refusal_names_station_offset_bound_and_fix(world: World) -> None:
    world.beat(-0.1)
    world.beat(2.0, station="s2")
    refusal = world.clocks.refusal("s2")
    assert isinstance(refusal, ClockOffset)
    assert refusal.reason == "clock_offset"
    for word in ("s2", "1.999 s ahead", "0.25 s", "NTP", "CROSSCHECK_MAX_CLOCK_OFFSET_MS"):
        assert word in str(refusal)
    assert world.clocks.untrusted() == ["s2"]


def test_trust_comes_back_under_half_the_bound_and_both_turns_are_events(world: World) -> None:
    with capture_logs() as logs:
        world.beat(0.5)
        world.beat(0.2, run=2)
        assert not world.clocks.trusted("s1"), "between half and whole nothing changes"
        world.beat(0.1, run=3)
        assert world.clocks.trusted("s1")
        world.beat(0.2, run=4)
        assert world.clocks.trusted("s1"), "between half and whole nothing changes"
    assert [(entry["event"], entry["station"]) for entry in logs] == [
        ("worker.clock_offset", "s1"),
        ("worker.clock_good", "s1"),
    ]


def test_an_agents_clock_that_is_set_back_is_judged_anew_at_once(world: World) -> None:
    world.beats(5, 5.0)
    world.frame(5.0)
    assert not world.clocks.trusted("s1")
    world.beats(1, 0.0)
    assert world.clocks.trusted("s1")


def test_an_agent_that_starts_again_with_an_earlier_run_is_heard(world: World) -> None:
    world.beat(900.0, run=900)
    world.clock.advance(1.0)
    world.beat(0.0, run=5)
    assert world.clocks.trusted("s1")


def test_a_clock_that_falls_behind_is_found_once_the_window_has_passed(world: World) -> None:
    world.beats(10, 0.0)
    world.beats(WINDOW_S + 1, -0.6)
    assert world.clocks.offset("s1") == pytest.approx(-0.601)
    assert not world.clocks.trusted("s1")


def test_the_worst_of_two_agents_counts(world: World) -> None:
    world.beat(0.01, agent="rgb")
    world.beat(-0.4, agent="depth")
    for _ in range(3):
        world.clock.advance(1.0)
        world.beat(0.01, agent="rgb")
        world.beat(-0.4, agent="depth")
    assert world.clocks.offset("s1") == pytest.approx(-0.401)
    assert not world.clocks.trusted("s1")


def test_silence_is_no_good_news_until_the_agent_is_forgotten(world: World) -> None:
    world.beat(2.0)
    world.clock.advance(FORGET_S - 1)
    assert not world.clocks.trusted("s1")
    assert world.clocks.refusal("s1") is not None
    world.clock.advance(2.0)
    assert world.clocks.trusted("s1")


# Frames.


def test_a_frame_from_the_future_proves_its_agent_ahead(world: World) -> None:
    world.frame(0.5)
    assert world.clocks.offset("s1") == pytest.approx(0.45)
    assert not world.clocks.trusted("s1")


def test_a_backlog_of_old_frames_is_no_offset(world: World) -> None:
    for age in (5.0, 3600.0, 0.3):
        world.frame(age=age)
    assert world.clocks.offset("s1") is None
    assert world.clocks.trusted("s1")


def test_without_heartbeats_trust_is_back_when_no_frame_came_from_the_future_for_a_while(
    world: World,
) -> None:
    world.frame(0.5)
    for _ in range(WINDOW_S - 1):
        world.clock.advance(1.0)
        world.frame(0.0)
        assert not world.clocks.trusted("s1")
    world.clock.advance(2.0)
    assert world.clocks.trusted("s1")


# Our own clock.


def test_when_our_clock_is_set_every_station_is_judged_by_it_at_once_and_again_when_it_is_right(
    world: World,
) -> None:
    for station in ("s1", "s2", "s3"):
        for _ in range(4):
            world.clock.advance(1.0)
            world.beat(0.01, station=station)
    for step in (-1.0, 1.0, 1.0, -1.0):
        world.clock.set(step)
        wrong = world.clock.shift / 1e9
        assert world.clocks.stations() == {name: pytest.approx(0.009 - wrong) for name in ("s1", "s2", "s3")}
        trusted = [world.clocks.trusted(name) for name in ("s1", "s2", "s3")]
        assert trusted == [wrong == 0.0] * 3


# Bounds.


def test_names_without_end_take_bounded_memory(world: World) -> None:
    for number in range(MAX_WITNESSES + 100):
        world.beat(station=f"s{number}")
    assert len(world.clocks.stations()) == MAX_WITNESSES


def test_many_beats_a_second_take_no_more_than_the_window(world: World) -> None:
    for _ in range(20_000):
        world.clock.advance(0.01)
        world.beat()
    (witness,) = world.clocks._stations["s1"].values()
    assert len(witness.seconds) <= WINDOW_S + 1


@given(
    st.floats(-0.12, 0.12),
    st.lists(st.tuples(st.floats(0.0, 0.12), st.floats(0.0, 3600.0)), min_size=1, max_size=50),
)
def test_an_offset_within_half_the_bound_is_never_refused_whatever_frames_wait(
    ahead: float, coming: list[tuple[float, float]]
) -> None:
    world = World()
    for delay, age in coming:
        world.clock.advance(1.0)
        world.beat(ahead, delay=delay)
        world.frame(ahead, age=age)
        assert world.clocks.trusted("s1")


@given(st.floats(0.26, 1e6) | st.floats(-1e6, -0.26), st.randoms(use_true_random=False))
def test_an_offset_beyond_the_bound_is_refused_after_a_few_beats(ahead: float, rng: random.Random) -> None:
    world = World()
    for _ in range(module.MIN_BEATS):
        world.clock.advance(1.0)
        world.beat(ahead, delay=rng.uniform(0.0, 0.005))
    assert not world.clocks.trusted("s1")


# The listener.


def send(bus: Bus, topic: str, ahead: float, station: str = "s1", value: bytes | None = None) -> None:
    beat = Heartbeat(station=station, agent="a1", sent_at=time.time_ns() + round(ahead * 1e9))
    producer = bus.producer()
    producer.send(topic, encode(beat) if value is None else value, partition=0).wait(5.0)
    producer.close()


def until(done: Callable[[], bool]) -> None:
    """Wait for another thread, at most ten seconds."""
    deadline = time.monotonic() + 10.0
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def heard(bus: Bus, topic: str) -> None:
    """Old beats are not read, new ones are, those that are none are left out."""
    clock = SystemClock()
    clocks, listener = AgentClocks(BOUND, clock), HeartbeatListener(bus, topic, clock)
    send(bus, topic, 100.0, "old")
    listener.start()
    try:
        # It listens from now on, and now is when its consumer stands.
        deadline = time.monotonic() + 20.0
        while "here" not in clocks.stations() and time.monotonic() < deadline:
            send(bus, topic, 0.0, "here")
            listener.drain(clocks)
        send(bus, topic, 0.0, value=b"no beat")
        send(bus, topic, 60.0, "ahead")
        until(lambda: listener.drain(clocks) >= 0 and "ahead" in clocks.stations())
    finally:
        listener.close()
    assert clocks.trusted("here")
    assert not clocks.trusted("ahead")
    assert "old" not in clocks.stations()


def test_the_listener_hears_from_now_on() -> None:
    bus = MemoryBus()
    bus.ensure_topics({TOPIC: TopicSpec(partitions=1)})
    heard(bus, TOPIC)


@pytest.mark.services
def test_the_listener_hears_from_now_on_with_kafka(kafka_bootstrap: str, kafka_topic: str) -> None:
    bus = KafkaBus(kafka_bootstrap)
    try:
        bus.ensure_topics({kafka_topic: TopicSpec(partitions=1)})
        heard(bus, kafka_topic)
    finally:
        bus.close()


def test_a_broker_that_is_away_disturbs_nobody_and_is_told_once() -> None:
    bus = MemoryBus()
    clock = SystemClock()
    clocks, listener = AgentClocks(BOUND, clock), HeartbeatListener(bus, TOPIC, clock)
    with capture_logs() as logs:
        listener.start()
        until(lambda: bool(logs))
        assert listener.drain(clocks) == 0
        bus.ensure_topics({TOPIC: TopicSpec(partitions=1)})
        until(lambda: any(entry["event"] == "worker.heartbeats_back" for entry in logs))
        listener.close()
    assert [entry["event"] for entry in logs] == ["worker.heartbeats_away", "worker.heartbeats_back"]


def test_an_error_nobody_expected_does_not_end_the_listener() -> None:
    class Broken(MemoryBus):
        failures = 1

        def partitions(self, topic: str) -> int | None:
            if self.failures:
                self.failures -= 1
                raise RuntimeError("a fault in the client")
            return super().partitions(topic)

    bus = Broken()
    bus.ensure_topics({TOPIC: TopicSpec(partitions=1)})
    listener = HeartbeatListener(bus, TOPIC, SystemClock())
    with capture_logs() as logs:
        listener.start()
        until(lambda: any(entry["event"] == "worker.heartbeats_back" for entry in logs))
        listener.close()
    assert (logs[0]["event"], logs[0]["kind"]) == ("worker.heartbeats_away", "RuntimeError")


def test_with_a_clock_set_by_hand_the_loop_reads_itself_and_the_clock_stands() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    bus.ensure_topics({TOPIC: TopicSpec(partitions=1)})
    clocks, listener = AgentClocks(BOUND, clock), HeartbeatListener(bus, TOPIC, clock)
    listener.start()
    assert listener.drain(clocks) == 0
    producer = bus.producer()
    ahead = Heartbeat(station="s1", agent="a1", sent_at=clock.now() + 10**9)
    producer.send(TOPIC, encode(ahead), partition=0)
    at = clock.now()
    assert listener.drain(clocks) == 0, "not more often than twice a second"
    assert clock.now() == at
    clock.advance(0.5)
    assert listener.drain(clocks) == 1
    assert not clocks.trusted("s1")
    listener.close()


def test_beats_that_lay_here_while_the_process_was_stopped_are_no_witness() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    bus.ensure_topics({TOPIC: TopicSpec(partitions=1)})
    reader, producer = HeartbeatReader(bus, TOPIC, clock), bus.producer()

    def beat() -> None:
        producer.send(TOPIC, encode(Heartbeat(station="s1", agent="a", sent_at=clock.now())), partition=0)

    assert reader.read(0.0) == []
    beat()
    assert len(reader.read(0.0)) == 1
    for _ in range(20):
        clock.advance(1.0)
        beat()
    assert clock.monotonic() > STALL_S
    assert reader.read(0.0) == [], "they waited for up to twenty seconds"
    assert reader.read(0.0) == []
    beat()
    (new,) = reader.read(0.0)
    assert new.beat.sent_at == clock.now()
    reader.close()


def test_beats_that_retention_took_are_stepped_over() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    bus.ensure_topics({TOPIC: TopicSpec(partitions=1)})
    reader, producer = HeartbeatReader(bus, TOPIC, clock), bus.producer()
    assert reader.read(0.0) == []
    for _ in range(3):
        producer.send(TOPIC, encode(Heartbeat(station="s1", agent="a", sent_at=clock.now())), partition=0)
    bus.delete_before(TopicPartition(TOPIC, 0), 2)
    assert reader.read(0.0) == []
    producer.send(TOPIC, encode(Heartbeat(station="s2", agent="a", sent_at=clock.now())), partition=0)
    assert [one.beat.station for one in reader.read(0.0)] == ["s2"]
    reader.close()

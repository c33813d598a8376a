"""The agent's heartbeat: sent now or not at all, and never in the way."""

from __future__ import annotations

import pytest

from schemas.heartbeat import Heartbeat
from schemas.wire import decode_heartbeat
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.memory import MemoryBus
from workers.capture import events
from workers.capture.beats import Beats, agent_name
from workers.clock import ManualClock

TOPIC = "inspection.heartbeats"


class Rig:
    def __init__(self, *, topic: bool = True) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(self.clock)
        if topic:
            self.make_topic()
        self.reachable = True
        self.beats = Beats(lambda: self.bus if self.reachable else None, TOPIC, self.state, clock=self.clock)

    def make_topic(self) -> None:
        self.bus.ensure_topics({TOPIC: TopicSpec(partitions=1)})

    def state(self, now: int) -> Heartbeat:
        return Heartbeat(
            station="s1", agent=agent_name(), sent_at=now, run=3, triggers=4, buffered=2, dropped=1
        )

    def received(self) -> list[Heartbeat]:
        consumer = self.bus.consumer(None)
        consumer.assign({TopicPartition(TOPIC, 0)})
        found = [decode_heartbeat(record.value) for record in consumer.poll(0.0)]
        consumer.close()
        return found


def test_each_beat_says_the_time_at_which_it_was_sent() -> None:
    rig = Rig()
    sent = []
    for _ in range(3):
        rig.clock.advance(1.0)
        sent.append(rig.clock.now())
        assert rig.beats.beat()
    assert [beat.sent_at for beat in rig.received()] == sent
    assert rig.received()[0] == rig.state(sent[0])
    rig.beats.close()


def test_an_outage_leaves_no_pile_of_beats_and_none_that_comes_late() -> None:
    rig = Rig()
    rig.beats.beat()
    rig.bus.interrupt()
    for _ in range(50):
        rig.clock.advance(0.1)
        rig.beats.beat()
    # Five seconds, half of one for each that is given up: never two on their way.
    assert rig.beats.sent <= 1 + 10
    rig.bus.restore()
    back = rig.clock.now()
    rig.clock.advance(1.0)
    assert rig.beats.beat()
    late = [beat for beat in rig.received()[1:] if beat.sent_at < back - 5 * 10**8]
    assert late == []
    rig.beats.close()


class Silent:
    """A delivery of which nobody ever hears."""

    def done(self) -> bool:
        return False

    def wait(self, timeout: float) -> tuple[TopicPartition, int]:
        raise AssertionError("nobody waits for a beat")


def test_a_producer_that_never_says_what_became_of_a_beat_is_replaced() -> None:
    rig = Rig()
    rig.beats.beat()
    stuck = rig.beats._producer
    rig.beats._open = Silent()
    for _ in range(4):
        rig.clock.advance(1.0)
        assert not rig.beats.beat()
    assert rig.beats._producer is stuck
    rig.clock.advance(1.0)
    assert not rig.beats.beat()
    assert rig.beats.beat()
    assert rig.beats._producer is not stuck
    assert len(rig.received()) == 2
    rig.beats.close()


def test_no_bus_yet_is_no_error() -> None:
    rig = Rig()
    rig.reachable = False
    assert not rig.beats.beat()
    rig.reachable = True
    assert rig.beats.beat()
    rig.beats.close()


def test_an_installation_without_the_topic_is_said_once_and_looked_at_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rig = Rig(topic=False)
    for _ in range(70):
        assert not rig.beats.beat()
    assert capsys.readouterr().out.count(events.NO_HEARTBEATS) == 1
    rig.make_topic()
    assert sum(rig.beats.beat() for _ in range(40)) >= 1
    assert rig.received()
    rig.beats.close()


def test_its_thread_beats_and_ends() -> None:
    bus = MemoryBus()
    bus.ensure_topics({TOPIC: TopicSpec(partitions=1)})
    rig = Rig()
    beats = Beats(lambda: bus, TOPIC, rig.state, every_s=0.01)
    beats.start()
    assert bus.wait_until(lambda: beats.sent >= 3, 10.0)
    beats.close()
    count = beats.sent
    assert not beats._thread.is_alive()
    assert beats.sent == count

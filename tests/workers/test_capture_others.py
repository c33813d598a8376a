"""One agent a station: the second is refused, a crash frees the station, and two that run are an alarm."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from schemas.heartbeat import Heartbeat
from schemas.wire import encode
from tests.workers.test_capture_publisher import Map
from workers.bus.base import TopicSpec
from workers.bus.memory import MemoryBus
from workers.capture import AgentLog, Publisher, events
from workers.capture.others import FREE_AFTER_S, Others
from workers.clock import ManualClock
from workers.errors import BusError, StationTaken

BEATS = "inspection.heartbeats"


class Plant(MemoryBus):
    """A bus on whose clock another agent beats every second, while it lives."""

    def __init__(self) -> None:
        self.time = ManualClock()
        super().__init__(self.time)
        self.ensure_topics({"inspection.frames": TopicSpec(partitions=4), BEATS: TopicSpec(partitions=1)})
        self.out = self.producer()

    def beat(self, station: str = "s1", *, agent: str = "other-7", run: int = 5, triggers: int = 9) -> None:
        beat = Heartbeat(station=station, agent=agent, sent_at=self.time.now(), run=run, triggers=triggers)
        self.out.send(BEATS, encode(beat), partition=0, key=None).wait(1)

    def others(self, station: str = "s1", own: int = 1) -> Others:
        return Others(lambda: self, BEATS, station, lambda run: run == own, self.time)

    def publisher(self, **settings: Any) -> Publisher:
        chosen: dict[str, Any] = {"station": "s1", "heartbeats": BEATS, **settings}
        return Publisher(self, product="cap", station_map=Map(), clock=self.time, **chosen)


class Living(Plant):
    """Whenever somebody waits for records, the other agent goes on beating."""

    def consumer(self, *args: Any, **options: Any) -> Any:
        found = super().consumer(*args, **options)
        poll = found.poll

        def beating(timeout: float) -> Any:
            self.time.advance(0.5)
            self.beat()
            return poll(0.0)

        found.poll = beating  # type: ignore[method-assign]
        return found


def test_the_second_agent_of_a_station_is_refused_with_who_holds_it_and_since_when() -> None:
    plant = Living()
    plant.beat()
    with pytest.raises(StationTaken) as refused:
        plant.others().refuse_second()
    said = str(refused.value)
    assert "station s1: agent other-7, since 1970-01-01 00:00:00 UTC, makes its parts already" in said
    assert "free within 3 s" in said


def test_the_publisher_of_a_program_of_ones_own_is_refused_too() -> None:
    plant = Living()
    plant.beat()
    with pytest.raises(StationTaken, match="stop it, or name another station \\(--station\\)"):
        plant.publisher()


def test_after_a_crash_the_station_is_free_within_the_stated_time() -> None:
    plant = Plant()
    plant.beat()
    before = plant.time.monotonic()
    with plant.publisher() as publisher:
        assert plant.time.monotonic() - before <= FREE_AFTER_S + 1.0
        assert publisher.next_part().trigger == 0


def test_who_begins_on_a_free_station_does_not_wait() -> None:
    plant = Plant()
    plant.beat()
    plant.time.advance(3600.0)
    before = plant.time.monotonic()
    plant.others().refuse_second()
    assert plant.time.monotonic() - before < 0.5


@pytest.mark.parametrize(
    "beat",
    [{"station": "s2"}, {"triggers": 0}, {"run": 1}],
    ids=["another station", "it adds a sensor and makes no parts", "ourselves"],
)
def test_others_that_make_no_parts_of_the_station_are_no_rivals(beat: dict[str, Any]) -> None:
    plant = Plant()
    others = plant.others()
    others.refuse_second()
    plant.beat(**beat)
    others.look()
    assert others.now == ()
    assert others.trouble is None


def test_two_that_run_are_an_alarm_once_and_until_one_of_them_is_gone() -> None:
    plant = Plant()
    others = plant.others()
    others.refuse_second()
    with capture_logs() as logs:
        for _ in range(3):
            plant.time.advance(1.0)
            plant.beat()
            others.look()
    assert [line["event"] for line in logs] == [events.STATION_SHARED]
    assert logs[0]["other"].startswith("agent other-7, since ")
    assert others.trouble is not None
    assert "makes its parts too: stop one of the two" in others.trouble
    plant.time.advance(FREE_AFTER_S + 1.0)
    others.look()
    assert others.trouble is None


def test_two_containers_of_one_name_are_told_apart_by_their_runs() -> None:
    plant = Plant()
    others = plant.others(own=1)
    others.refuse_second()
    plant.beat(agent="agent-1", run=2)
    others.look()
    assert [(other.agent, other.run) for other in others.now] == [("agent-1", 2)]


def test_a_run_that_only_the_log_knows_is_not_ours(tmp_path: Any) -> None:
    path, plant = tmp_path / "agent.log", Living()
    with AgentLog(path) as log, plant.publisher(heartbeats=None, log=log) as first:
        run = first.next_part().run
    plant.beat(run=run)
    living, beat = plant, plant.beat
    living.beat = lambda *a, **k: beat(run=run)  # type: ignore[method-assign]
    with AgentLog(path) as log, pytest.raises(StationTaken):
        plant.publisher(log=log)


def test_a_broker_that_lets_nobody_read_the_beats_is_said_once_and_stops_no_agent() -> None:
    plant = Plant()
    plant.beat()

    def refused(*args: Any, **options: Any) -> Any:
        raise BusError("not allowed")

    plant.consumer = refused  # type: ignore[method-assign]
    others = plant.others()
    with capture_logs() as logs:
        others.refuse_second()
        plant.time.advance(60.0)
        others.look()
    assert [line["event"] for line in logs] == [events.OTHERS_UNKNOWN]

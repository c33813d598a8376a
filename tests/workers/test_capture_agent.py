"""The agent: a schedule that waits for nobody, and a gate that is told of every part."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import numpy as np
import pytest

from schemas.part import PartKey
from tests.workers.test_capture_publisher import RGB, Rig, lines
from workers.capture import AgentLog, CaptureAgent, Shot
from workers.clock import ManualClock
from workers.errors import SettingsError
from workers.gate import Gate, Journal, LogPartSource, RecordingActuator, SimulatedPartSource, audit
from workers.store.verdicts import VerdictStore

SHOTS = [Shot(RGB, None, name=f"n{i}", truth="good" if i % 2 else "dent") for i in range(6)]


class Slow:
    """A source whose shot ``at`` takes ``seconds`` to make."""

    def __init__(self, clock: ManualClock, at: int, seconds: float) -> None:
        self._clock, self._at, self._seconds = clock, at, seconds

    def __iter__(self) -> Iterator[Shot]:
        for i, shot in enumerate(SHOTS):
            if i == self._at:
                self._clock.advance(self._seconds)
            yield shot


def test_each_shot_comes_at_its_own_time() -> None:
    rig = Rig()
    start = rig.clock.now()
    times: list[int] = []
    report = CaptureAgent(
        SHOTS, rig.publisher, rate=4.0, clock=rig.clock, on_trigger=lambda _, at: times.append(at)
    ).run()
    assert [(at - start) / 1e9 for at in times] == pytest.approx([i / 4 for i in range(6)])
    assert (report.triggers, report.published, report.failed, report.late) == (6, 6, 0, 0)


def test_a_slow_shot_is_late_and_the_schedule_stays_where_it_was() -> None:
    rig = Rig()
    start = rig.clock.now()
    times: list[float] = []
    report = CaptureAgent(
        Slow(rig.clock, 2, 0.9),
        rig.publisher,
        rate=4.0,
        clock=rig.clock,
        on_trigger=lambda _, at: times.append((at - start) / 1e9),
    ).run()
    # Made at 0.25 + 0.9 s: shots 2, 3 and 4 are behind their 0.5, 0.75 and 1.0 s, shot 5 is not.
    assert times == pytest.approx([0.0, 0.25, 1.15, 1.15, 1.15, 1.25])
    assert report.late == 3
    assert report.worst_late_ms == pytest.approx(650.0)
    assert report.triggers == 6


def test_a_slow_first_shot_delays_nothing() -> None:
    rig = Rig()
    report = CaptureAgent(Slow(rig.clock, 0, 5.0), rig.publisher, rate=4.0, clock=rig.clock).run()
    assert report.late == 0


def test_a_broker_that_is_away_takes_no_trigger_from_the_gate_or_the_log(tmp_path: Path) -> None:
    with AgentLog(tmp_path / "agent.log") as log:
        rig = Rig(log=log, max_in_flight_bytes=3000)
        rig.bus.interrupt()
        source = SimulatedPartSource(travel_s=1.0)
        CaptureAgent(SHOTS, rig.publisher, rate=4.0, clock=rig.clock, on_trigger=source.trigger).run(
            flush_s=0.1
        )
        rig.publisher.close(0.1)
        assert rig.publisher.failed == 6
        assert rig.records() == []
        seen = [arrival.part for arrival in source.poll()]
        assert [part.trigger for part in seen] == list(range(6))
        logged = [line["part"] for line in lines(log) if line["event"] == "trigger"]
        assert logged == [str(part) for part in seen]
        assert sum(line["event"] == "failed" for line in lines(log)) == 6


def test_the_gate_hears_of_a_part_before_its_frame_is_sent() -> None:
    rig = Rig()
    sent_before: list[int] = []
    CaptureAgent(
        SHOTS,
        rig.publisher,
        rate=4.0,
        clock=rig.clock,
        on_trigger=lambda part, _: sent_before.append(len(rig.records()) - part.trigger),
    ).run()
    assert sent_before == [0] * 6


def test_the_log_says_which_shot_was_which_part(tmp_path: Path) -> None:
    with AgentLog(tmp_path / "agent.log") as log:
        rig = Rig(log=log)
        pairs: list[tuple[PartKey, Shot]] = []
        CaptureAgent(
            SHOTS,
            rig.publisher,
            rate=4.0,
            clock=rig.clock,
            on_shot=lambda p, s: pairs.append((p, s)),
            split=True,
        ).run()
        told = [json.loads(line) for line in log.path.read_text().splitlines()]
    triggers = [line for line in told if line["event"] == "trigger"]
    assert [(line["name"], line["truth"]) for line in triggers] == [(s.name, s.truth) for s in SHOTS]
    assert [shot.name for _, shot in pairs] == [shot.name for shot in SHOTS]


def test_it_stops_when_told_to() -> None:
    rig = Rig()
    stop = threading.Event()

    def after_two(part: PartKey, _: int) -> None:
        if part.trigger == 1:
            stop.set()

    report = CaptureAgent(SHOTS, rig.publisher, rate=4.0, clock=rig.clock, on_trigger=after_two).run(stop)
    assert report.triggers == 2
    with pytest.raises(SettingsError, match=r"rate \(--rate\) 0"):
        CaptureAgent(SHOTS, rig.publisher, rate=0.0)


def test_a_gate_that_follows_the_log_decides_every_part_of_two_agent_runs(tmp_path: Path) -> None:
    path, journal_path = tmp_path / "agent.log", tmp_path / "gate.journal"
    store = VerdictStore(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    clock = ManualClock()
    with Journal(journal_path, sync=False) as journal:
        gate = Gate(
            store,
            LogPartSource(path, station="s1", travel_s=0.5),
            RecordingActuator(),
            journal,
            station="s1",
            clock=clock,
        )

        def turn(_: PartKey, __: int) -> None:
            gate.step()

        for _ in range(2):
            with AgentLog(path) as log:
                rig = Rig()
                rig.clock = clock
                publisher = rig.new(log=log)
                CaptureAgent(SHOTS, publisher, rate=10.0, clock=clock, on_trigger=turn).run()
        for _ in range(100):
            clock.advance(0.01)
            gate.step()
    found = audit(path, journal_path, station="s1")
    assert (found.triggers, found.decisions) == (12, 12)
    assert found.lost == found.duplicates == found.unknown == ()
    assert gate.report().lost == 0


def test_shots_never_show_their_pixels() -> None:
    assert "array" not in repr(Shot(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint16)))

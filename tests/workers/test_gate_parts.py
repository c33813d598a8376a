"""The gate's own eyes, and the count of what they saw against what was decided."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.verdict import Decision
from tests.workers.gate_line import RUN, STATION, TRAVEL_S, GateLine, key, verdict
from workers.capture.log import AgentLog
from workers.errors import SourceError
from workers.gate import Arrival, LogPartSource, SimulatedPartSource, audit, events
from workers.gate.report import percentile

TRAVEL = round(TRAVEL_S * 1e9)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[GateLine]:
    with GateLine(tmp_path) as line:
        yield line


def test_a_simulated_source_tells_each_part_once_and_again_after_a_rewind() -> None:
    source = SimulatedPartSource(travel_s=TRAVEL_S)
    for trigger in range(3):
        source.trigger(key(trigger), RUN + trigger)
    expected = [Arrival(key(t), RUN + t, RUN + t + TRAVEL) for t in range(3)]
    assert list(source.poll()) == expected
    assert list(source.poll()) == []
    source.settled(key(0))
    source.rewind()
    assert list(source.poll()) == expected[1:]


def test_a_log_is_followed_line_by_line_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    source = LogPartSource(path, station=STATION, travel_s=TRAVEL_S)
    assert list(source.poll()) == []
    with AgentLog(path) as log:
        log.trigger(key(0), RUN)
        log.sent(key(0), RUN + 1, "rgb")
    assert list(source.poll()) == [Arrival(key(0), RUN, RUN + TRAVEL)]
    line = b'{"event":"trigger","part":"s1/1700000000000000000/1","at":5}\n'
    with path.open("ab") as file:
        file.write(line[:30])
    assert list(source.poll()) == []
    with path.open("ab") as file:
        file.write(line[30:])
    assert list(source.poll()) == [Arrival(key(1), 5, 5 + TRAVEL)]
    source.rewind()
    assert len(source.poll()) == 2


def test_a_log_with_damage_tells_what_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_bytes(
        b"\xff\xfe\n[]\nnull\n{}\n" + b'{"event":"trigger","part":"s1/1/x","at":5}\n'
        b'{"event":"trigger","part":"s1/1/2","at":"5"}\n'
        b'{"event":"trigger","part":"other/1/2","at":5}\n'
        b'{"event":"trigger","part":"s1/1/3","at":5}\n'
    )
    source = LogPartSource(path, station=STATION, travel_s=TRAVEL_S)
    assert [arrival.part.trigger for arrival in source.poll()] == [3]
    assert source.damaged_lines == 6


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.raw"
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(SourceError, match="not an agent's log"):
        LogPartSource(path, station=STATION, travel_s=TRAVEL_S).poll()
    with pytest.raises(SourceError, match="check the agent's log"):
        LogPartSource(tmp_path, station=STATION, travel_s=TRAVEL_S).poll()


def test_a_source_that_fails_is_alarmed_once_and_tried_again(
    line: GateLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.pass_time(0.01)

    def broken() -> list[Arrival]:
        raise SourceError("the counter does not answer")

    monkeypatch.setattr(line.source, "poll", broken)
    line.pass_time(0.1)
    monkeypatch.undo()
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(1.1)
    assert line.alarms == [events.ALARM_SOURCE]
    assert line.recorder.passed == [part]


def test_the_audit_counts_lost_duplicate_and_unknown_parts(line: GateLine, tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    with AgentLog(path) as log:
        for _ in range(3):
            part = line.trigger()
            log.trigger(part, line.clock.now())
        line.store.decide(verdict(key(1)))
        line.pass_time(1.1)
        good = audit(path, line.path, station=STATION)
        assert (good.triggers, good.decisions) == (3, 3)
        assert good.lost == good.duplicates == good.unknown == ()
        assert good.opened == (key(1),)
        assert good.decided[key(0)].decision.decision is Decision.MISSING
        log.trigger(key(3), line.clock.now())
    twice = line.path.read_bytes().split(b"\n")[0] + b"\n"
    with line.path.open("ab") as file:
        file.write(twice)
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    bad = audit(path, line.path)
    assert bad.lost == (key(3),)
    assert bad.duplicates == (key(0),)
    assert bad.unknown == (key(0),)
    with pytest.raises(SourceError, match="name the file"):
        audit(tmp_path / "none", line.path)


def test_percentiles_are_nearest_rank() -> None:
    values = [float(v) for v in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.95, 0.99, 1.0)] == [
        1.0,
        50.0,
        95.0,
        99.0,
        100.0,
    ]
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.99) == 3.0

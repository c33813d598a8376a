"""The agent's trigger log through rotations, truncation and replacement: every line once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.gate_line import RUN, STATION, GateLine, key, verdict
from workers.capture.log import AgentLog
from workers.errors import SourceError
from workers.gate import LogPartSource, events


def row(trigger: int, more: str = "") -> bytes:
    return b'{"event":"trigger","part":"%s","at":%d%s}\n' % (str(key(trigger)).encode(), RUN, more.encode())


class RotatedLog:
    """An agent's log that is rotated by renaming, with so many old files kept."""

    def __init__(self, path: Path, *, kept: int = 3) -> None:
        self.path = path
        self.kept = kept
        self.written = 0

    def write(self, count: int = 1) -> None:
        with self.path.open("ab") as file:
            for _ in range(count):
                file.write(row(self.written))
                self.written += 1

    def numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def rotate(self) -> None:
        self.numbered(self.kept).unlink(missing_ok=True)
        for number in range(self.kept - 1, -1, -1):
            if self.numbered(number).exists():
                self.numbered(number).rename(self.numbered(number + 1))


@pytest.fixture
def log(tmp_path: Path) -> RotatedLog:
    return RotatedLog(tmp_path / "agent.log")


@pytest.fixture
def source(log: RotatedLog) -> Iterator[LogPartSource]:
    source = LogPartSource(log.path, station=STATION, travel_s=1.0)
    yield source
    source.close()


def poll(source: LogPartSource, times: int = 8) -> list[int]:
    return [arrival.part.trigger for _ in range(times) for arrival in source.poll()]


def test_rotated_files_are_read_oldest_first(log: RotatedLog, source: LogPartSource) -> None:
    for _ in range(3):
        log.write(4)
        log.rotate()
    log.write(2)
    assert poll(source) == list(range(14))
    source.rewind()
    assert poll(source) == list(range(14))


def test_lines_written_before_and_after_a_rename_are_read_once(
    log: RotatedLog, source: LogPartSource
) -> None:
    log.write(2)
    assert poll(source) == [0, 1]
    log.write(2)
    log.rotate()
    assert poll(source) == [2, 3], "to the end of the renamed file, though no new one is there yet"
    log.write(1)
    log.rotate()
    log.write(1)
    assert poll(source) == [4, 5], "two renames between two looks"


def test_a_file_that_was_rotated_away_unread_is_followed_by_the_oldest_one_left(
    log: RotatedLog, source: LogPartSource
) -> None:
    log.write(2)
    assert poll(source) == [0, 1]
    log.write(1)
    for _ in range(4):
        log.rotate()
        log.write(1)
    # The file in which line 2 stands is deleted, but it is open here.
    assert poll(source) == [2, 3, 4, 5, 6]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["write", "rotate", "poll"]), max_size=60))
def test_no_line_is_lost_or_read_twice_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, turns: list[str]
) -> None:
    log = RotatedLog(tmp_path_factory.mktemp("log") / "agent.log", kept=60)
    source = LogPartSource(log.path, station=STATION, travel_s=1.0)
    read: list[int] = []
    for turn in turns:
        if turn == "write":
            log.write()
        elif turn == "rotate":
            log.rotate()
        else:
            read += poll(source, 1)
    log.write()
    read += poll(source, 80)
    source.close()
    assert read == list(range(log.written))


def test_a_truncated_log_is_an_error_once_and_is_read_again(log: RotatedLog, source: LogPartSource) -> None:
    log.write(3)
    assert poll(source) == [0, 1, 2]
    log.path.write_bytes(row(7))
    with pytest.raises(SourceError, match="became shorter"):
        source.poll()
    assert poll(source) == [7]


def test_a_log_that_was_deleted_and_made_anew_is_read_from_its_start(
    log: RotatedLog, source: LogPartSource
) -> None:
    log.write(2)
    assert poll(source) == [0, 1]
    log.path.unlink()
    assert poll(source) == []
    log.write(1)
    assert poll(source) == [2]


def test_a_truncated_log_is_alarmed_and_no_part_is_decided_twice(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    with GateLine(tmp_path, log=path) as line:
        first = line.trigger()
        line.store.decide(verdict(first))
        line.pass_time(0.5)
        kept = path.read_bytes()
        line.trigger()
        line.pass_time(1.6)
        assert len(line.decisions()) == 2
        path.write_bytes(kept)
        line.pass_time(0.1)
        assert line.alarms.count(events.ALARM_SOURCE) == 1
        after = line.trigger()
        line.store.decide(verdict(after))
        line.pass_time(1.2)
        assert line.recorder.passed == [first, after]
        assert len(line.decisions()) == 3


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", False),
        (',"challenge":true', True),
        (',"challenge":"true"', True),
        (',"challenge":"yes"', True),
        (',"challenge":1', True),
        (',"challenge":[]', True),
        (',"challenge":false', False),
        (',"challenge":"false"', False),
        (',"challenge":null', False),
    ],
)
def test_a_line_may_say_that_its_part_is_a_challenge(
    log: RotatedLog, source: LogPartSource, said: str, expected: bool
) -> None:
    log.path.write_bytes(row(0, said))
    assert [arrival.challenge for arrival in source.poll()] == [expected]


def test_the_agent_writes_it_as_a_fact(tmp_path: Path, source: LogPartSource) -> None:
    with AgentLog(tmp_path / "agent.log") as log:
        log.trigger(key(0), RUN, {"name": "bad-1", "challenge": "true"})
        log.trigger(key(1), RUN, {"name": "part-1"})
    assert [arrival.challenge for arrival in source.poll()] == [True, False]


def test_the_agent_rotates_while_the_gate_reads_and_no_line_is_missed(
    tmp_path: Path, source: LogPartSource
) -> None:
    def work() -> None:
        with AgentLog(tmp_path / "agent.log", rotate_bytes=1000, keep=100) as log:
            for trigger in range(400):
                log.trigger(key(trigger), RUN)

    agent = threading.Thread(target=work)
    agent.start()
    read: list[int] = []
    while agent.is_alive():
        # Renames may outrun one look: that is an error to the gate, which looks again.
        with suppress(SourceError):
            read += [arrival.part.trigger for arrival in source.poll()]
    agent.join()
    assert len(list(tmp_path.glob("agent.log.*"))) > 20
    read += poll(source, 100)
    assert read == list(range(400))

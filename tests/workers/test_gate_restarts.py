"""The gate's restarts: no part is decided twice and none is left out, wherever its process ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import workers
from schemas.part import PartKey
from schemas.verdict import Decision
from tests.workers.gate_line import GateLine, key, verdict
from workers.capture.log import AgentLog
from workers.clock import SystemClock
from workers.gate import (
    Reason,
    RecordingActuator,
    audit,
)
from workers.gate.journal import Entry as JournalEntry


@pytest.fixture
def line(tmp_path: Path) -> Iterator[GateLine]:
    with GateLine(tmp_path) as line:
        yield line


def test_parts_that_passed_while_it_was_dead_are_decided_closed(line: GateLine) -> None:
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(0.5)
    line.clock.advance(5.0)
    line.restart()
    line.pass_time(0.1)
    assert line.recorder.passed == []
    assert line.decisions()[part].reason in (Reason.LATE, Reason.BEHIND)
    assert line.standing(part) is Decision.PASS


def test_a_missing_part_not_yet_written_is_written_by_the_next_process(line: GateLine) -> None:
    line.pass_time(0.01)
    line.server.connected = False
    part = line.trigger()
    line.pass_time(1.1)
    assert line.decisions()[part].reason is Reason.MISSING
    line.server.connected = True
    assert line.standing(part) is None
    line.restart()
    line.pass_time(0.1)
    assert line.standing(part) is Decision.MISSING
    line.restart()
    assert line.journal.recovery.unrecorded == ()


class Crash(BaseException):
    """The process is gone: nothing behind this point runs."""


def _crash_at(line: GateLine, where: str) -> Callable[[], None]:
    """Make the process die at one point of its next decision; returns what a new process starts with."""
    recorder, journal = line.recorder, line.journal

    def die(*_: object) -> None:
        raise Crash

    def energise_and_die(part: PartKey) -> None:
        RecordingActuator.energise(recorder, part)
        raise Crash

    if where == "before journal":
        journal.append = die  # type: ignore[method-assign, assignment]
    elif where == "after journal":
        append = journal.append

        def append_and_die(entries: list[JournalEntry]) -> None:
            append(entries)
            raise Crash

        journal.append = append_and_die  # type: ignore[method-assign, assignment]
    elif where == "at actuator":
        recorder.energise = energise_and_die  # type: ignore[method-assign]
    elif where == "torn line":

        def torn(entries: list[JournalEntry]) -> None:
            with line.path.open("ab") as file:
                file.write(b'{"line":"decision","part":"s1/17')
            raise Crash

        journal.append = torn  # type: ignore[method-assign, assignment]

    def undo() -> None:
        recorder.__dict__.pop("energise", None)

    return undo


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    verdicts=st.lists(st.sampled_from(["pass", "reject", "none", "late"]), min_size=1, max_size=12),
    crashes=st.dictionaries(
        st.integers(0, 60),
        st.tuples(
            st.sampled_from(["before journal", "after journal", "at actuator", "torn line", "between"]),
            st.integers(0, 30),
        ),
        max_size=5,
    ),
    early=st.booleans(),
    follow_log=st.booleans(),
    rotated=st.booleans(),
)
def test_whenever_it_dies_no_part_is_decided_twice_or_left_out(
    tmp_path_factory: pytest.TempPathFactory,
    verdicts: list[str],
    crashes: dict[int, tuple[str, int]],
    early: bool,
    follow_log: bool,
    rotated: bool,
) -> None:
    folder = tmp_path_factory.mktemp("restart")
    with GateLine(folder, log=folder / "agent.log" if follow_log else None) as line:
        if rotated:
            line.max_bytes = 1000
        _live_and_die(line, verdicts, crashes, early)


def _live_and_die(
    line: GateLine, verdicts: list[str], crashes: dict[int, tuple[str, int]], early: bool
) -> None:
    line.restart(early=early)
    parts: list[PartKey] = []
    dead = 0
    for turn in range(160):
        if turn % 4 == 0 and len(parts) < len(verdicts):
            part = line.trigger()
            if verdicts[len(parts)] in ("pass", "reject"):
                decision = Decision.PASS if verdicts[len(parts)] == "pass" else Decision.REJECT
                line.store.decide(verdict(part, decision))
            parts.append(part)
        line.clock.advance(0.04)
        if turn == 80:
            for part, word in zip(parts, verdicts, strict=True):
                if word == "late":
                    line.store.decide(verdict(part))
        if dead:
            dead -= 1
            continue
        if turn in crashes:
            where, dead = crashes[turn]
            undo = _crash_at(line, where)
            try:
                for _ in range(1 if where == "between" else 10):
                    line.gate.step()
                    line.clock.advance(0.004)
            except Crash:
                pass
            line.recorder.release()  # energise-to-pass: without its process the gate falls shut
            line.restart(undo)
            continue
        line.gate.step()
    line.restart()
    line.clock.advance(20.0)
    for _ in range(5):
        line.gate.step()
        line.clock.advance(0.6)
    found = line.decisions()
    assert list(sorted(found, key=lambda p: p.order)) == parts
    passed = line.recorder.passed
    assert len(passed) == len(set(passed)), "opened twice for one part"
    assert set(passed) <= {p for p, word in zip(parts, verdicts, strict=True) if word == "pass"}
    assert set(passed) <= {p for p, d in found.items() if d.opened}
    for part, word in zip(parts, verdicts, strict=True):
        if word == "none":
            assert line.standing(part) is Decision.MISSING


_PROCESS = """
import sys, threading
from pathlib import Path
import redis
from workers.gate import Gate, Journal, LogPartSource, RecordingActuator
from workers.store.verdicts import VerdictStore
client = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.1)
log, journal = Path(sys.argv[1]), Path(sys.argv[2])
source = LogPartSource(log, station="s1", travel_s=0.01)
Gate(VerdictStore(client), source, RecordingActuator(), Journal(journal), station="s1").run(threading.Event())
"""


def test_a_gate_process_killed_again_and_again_leaves_no_part_out_and_none_twice(tmp_path: Path) -> None:
    clock = SystemClock()
    log_path, journal_path = tmp_path / "agent.log", tmp_path / "gate.journal"
    journal_path.touch()
    command = [sys.executable, "-c", _PROCESS, str(log_path), str(journal_path)]
    root = str(Path(workers.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    triggered = 0
    with AgentLog(log_path) as log:
        for life in range(3):
            with subprocess.Popen(
                command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment
            ) as process:
                deadline = time.monotonic() + 60.0
                goal = (life + 1) * 40
                while True:
                    log.trigger(key(triggered), clock.now())
                    triggered += 1
                    decided = journal_path.read_bytes().count(b'"line":"decision"')
                    # The last life goes on until everything is decided; the others die in the middle of it.
                    if decided >= goal:
                        break
                    assert time.monotonic() < deadline, "the gate decides nothing"
                    assert process.poll() is None, "the gate ended by itself"
                    time.sleep(0.002)
                while life == 2 and audit(log_path, journal_path).lost:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                process.kill()
    found = audit(log_path, journal_path)
    assert found.triggers == found.decisions == triggered
    assert found.lost == found.duplicates == found.unknown == found.opened == ()

"""The gate: one decision a part, closed unless proven, through outages and restarts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import workers
from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import decode_verdict, encode
from tests.workers.gate_line import HOLD_S, RUN, STATION, GateLine, key, verdict
from workers.capture.log import AgentLog
from workers.clock import SystemClock
from workers.gate import (
    CallbackActuator,
    Gate,
    GateDecision,
    Journal,
    Reason,
    RecordingActuator,
    SimulatedPartSource,
    audit,
    events,
)
from workers.gate.journal import Entry as JournalEntry
from workers.gate.journal import JournalError, read_lines
from workers.store import GateEntry, keys


@pytest.fixture
def line(tmp_path: Path) -> Iterator[GateLine]:
    with GateLine(tmp_path) as line:
        yield line


def decisions(line: GateLine) -> dict[PartKey, GateDecision]:
    found: dict[PartKey, GateDecision] = {}
    for item in read_lines(line.path.read_bytes()):
        if isinstance(item, JournalEntry):
            assert item.part not in found, "decided twice"
            found[item.part] = item.decision
    return found


def open_for(line: GateLine) -> PartKey | None:
    return line.recorder.open_for


def standing(line: GateLine, part: PartKey) -> Decision | None:
    raw = line.store.standing(part)
    return None if raw is None else decode_verdict(raw).decision


def test_it_opens_for_the_pass_of_that_part_and_closes_behind_it(line: GateLine) -> None:
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(0.99)
    assert line.recorder.passed == []
    line.pass_time(0.01)
    assert open_for(line) == part
    line.pass_time(HOLD_S)
    assert open_for(line) is None
    assert line.recorder.passed == [part]
    assert line.gate.report().by_reason == {"pass": 1}


def test_it_is_closed_when_it_starts_and_when_it_ends(line: GateLine) -> None:
    line.recorder.energise(key(99))
    line.gate.start()
    assert open_for(line) is None
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(1.0)
    assert open_for(line) == part
    line.gate.close()
    assert open_for(line) is None


def test_the_pass_of_a_neighbour_opens_nothing(line: GateLine) -> None:
    first, second = line.trigger(), line.trigger()
    line.store.decide(verdict(second))
    line.pass_time(1.1)
    assert line.recorder.passed == [second]
    assert decisions(line)[first].reason is Reason.MISSING


def test_a_reject_behind_a_pass_closes_at_once(line: GateLine) -> None:
    first = line.trigger()
    line.pass_time(0.02)
    second = line.trigger()
    line.store.decide(verdict(first))
    line.store.decide(verdict(second, Decision.REJECT))
    line.pass_time(0.98)
    assert open_for(line) == first
    line.pass_time(0.02)
    assert open_for(line) is None
    assert decisions(line)[second].reason is Reason.REJECT


def test_a_part_without_a_verdict_is_missing_at_the_gate_and_in_the_store(line: GateLine) -> None:
    part = line.trigger()
    line.pass_time(1.1)
    assert line.recorder.passed == []
    assert decisions(line)[part] == GateDecision(part, False, Decision.MISSING, Reason.MISSING)
    assert standing(line, part) is Decision.MISSING
    assert events.ALARM_MISSING in line.alarms
    report = line.gate.report()
    assert (report.lost, report.unwritten, report.by_decision) == (0, 0, {"MISSING": 1})


def test_a_late_pass_is_counted_and_never_opens(line: GateLine) -> None:
    part = line.trigger()
    line.pass_time(1.0)
    decided = line.store.decide(verdict(part))
    line.pass_time(0.5)
    assert line.recorder.passed == []
    assert not decisions(line)[part].opened
    # The gate decided at the due moment; the worker's write came before the gate's own reached the store.
    assert decided.first
    assert standing(line, part) is Decision.PASS
    assert line.gate.report().late_verdicts == 1


def test_a_worker_behind_the_gate_is_told_missing(line: GateLine) -> None:
    part = line.trigger()
    line.pass_time(1.1)
    answer = line.store.decide(verdict(part))
    assert not answer.first
    assert decode_verdict(answer.standing).decision is Decision.MISSING
    line.pass_time(0.1)
    assert line.recorder.passed == []


def test_early_decides_in_the_order_of_the_belt_as_verdicts_come(line: GateLine) -> None:
    line.restart(early=True)
    parts = [line.trigger() for _ in range(3)]
    line.store.decide(verdict(parts[1]))
    line.pass_time(0.1)
    assert decisions(line) == {}
    line.store.decide(verdict(parts[0], Decision.REVIEW))
    line.pass_time(0.1)
    assert list(decisions(line)) == parts[:2]
    assert line.recorder.passed == [parts[1]]
    line.pass_time(1.0)
    assert decisions(line)[parts[2]].reason is Reason.MISSING


def test_redis_away_keeps_it_closed_and_the_line_counted(line: GateLine) -> None:
    held = line.trigger()
    line.store.decide(verdict(held))
    line.pass_time(0.1)
    line.server.connected = False
    unseen = line.trigger()
    line.pass_time(1.2)
    assert line.recorder.passed == [held], "what it held before the outage is as good as ever"
    assert decisions(line)[unseen].reason is Reason.MISSING
    assert line.alarms.count(events.ALARM_STORE_DOWN) == 1
    assert line.gate.report().unwritten == 1
    line.server.connected = True
    line.pass_time(1.0)
    assert standing(line, unseen) is Decision.MISSING
    assert line.gate.report().unwritten == 0
    assert line.gate.report().lost == 0


def test_a_verdict_decided_while_redis_was_out_of_reach_is_found_in_time(line: GateLine) -> None:
    line.pass_time(0.01)
    line.server.connected = False
    part = line.trigger()
    line.pass_time(0.2)
    line.server.connected = True
    line.store.decide(verdict(part))
    line.pass_time(1.0)
    assert line.recorder.passed == [part]


def test_a_trimmed_or_lost_stream_is_made_good_by_the_parts_own_key(line: GateLine) -> None:
    parts = [line.trigger() for _ in range(3)]
    for part in parts:
        line.store.decide(verdict(part))
    client = line.store._redis
    client.delete(keys.gate(STATION))
    line.pass_time(1.1)
    assert line.recorder.passed == parts


def test_the_worse_of_two_verdicts_holds(line: GateLine) -> None:
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(0.1)
    line.store._redis.delete(keys.verdict(part))
    line.store.decide(verdict(part, Decision.REJECT))
    line.pass_time(1.0)
    assert line.recorder.passed == []
    assert decisions(line)[part].reason is Reason.REJECT


def test_a_pass_behind_a_lost_reject_opens_nothing(line: GateLine) -> None:
    part = line.trigger()
    line.store.decide(verdict(part, Decision.REJECT))
    line.pass_time(0.1)
    line.store._redis.delete(keys.verdict(part))
    line.store.decide(verdict(part))
    line.pass_time(1.0)
    assert line.recorder.passed == []
    assert decisions(line)[part].reason is Reason.REJECT


def test_a_decided_part_is_settled_with_its_source(line: GateLine) -> None:
    parts = [line.trigger() for _ in range(3)]
    line.store.decide(verdict(parts[0]))
    line.pass_time(0.5)
    later = line.trigger()
    line.pass_time(0.6)
    line.source.rewind()
    assert [arrival.part for arrival in line.source.poll()] == [later]


def test_an_entry_whose_envelope_denies_its_letter_is_not_believed(line: GateLine) -> None:
    part = line.trigger()
    fields = {"part": str(part), "decision": "REJECT", "deadline": "1", "verdict": encode(verdict(part))}
    line.store._redis.xadd(keys.gate(STATION), fields)  # type: ignore[arg-type]
    line.pass_time(1.1)
    assert decisions(line)[part].reason is Reason.UNREADABLE
    assert events.ALARM_UNREADABLE in line.alarms


def test_more_verdicts_than_it_holds_are_found_again(line: GateLine) -> None:
    parts = [key(trigger) for trigger in range(20)]
    for part in parts:
        line.store.decide(verdict(part))
    gate = Gate(
        line.store, line.source, line.recorder, line.journal, station=STATION, clock=line.clock, capacity=4
    )
    line.gate = gate
    gate.step()
    for part in parts:
        assert line.trigger() == part
    line.pass_time(1.1)
    assert line.recorder.passed == parts


# The actuator


class Faulty(RecordingActuator):
    """An actuator whose calls fail when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse: set[str] = set()

    def energise(self, part: PartKey) -> None:
        if "energise" in self.refuse:
            raise OSError("no answer from the output card")
        super().energise(part)

    def release(self) -> None:
        if "release" in self.refuse:
            raise OSError("no answer from the output card")
        super().release()


def test_an_actuator_that_fails_to_open_leaves_it_closed_with_an_alarm(line: GateLine) -> None:
    actuator = Faulty()
    line.actuator = actuator
    line.restart()
    part = line.trigger()
    line.store.decide(verdict(part))
    actuator.refuse = {"energise"}
    line.pass_time(1.0)
    assert line.alarms == [events.ALARM_ACTUATOR]
    report = line.gate.report()
    assert (report.opened, report.by_reason, report.lost) == (0, {"actuator": 1}, 0)


def test_an_actuator_that_fails_to_close_loses_its_heartbeat_until_it_does(line: GateLine) -> None:
    actuator = Faulty()
    line.actuator = actuator
    line.restart()
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(1.0)
    actuator.refuse = {"release"}
    line.pass_time(0.1)
    beats = actuator.heartbeats
    following = line.trigger()
    line.store.decide(verdict(following))
    line.pass_time(1.1)
    assert actuator.heartbeats == beats
    assert actuator.passed == [part], "it does not open again before it has closed"
    assert line.alarms.count(events.ALARM_RELEASE) == 1
    actuator.refuse = set()
    line.pass_time(0.1)
    assert actuator.heartbeats > beats
    assert actuator.open_for is None


def test_functions_make_an_actuator() -> None:
    calls: list[object] = []
    actuator = CallbackActuator(calls.append, lambda: calls.append("release"), lambda: calls.append("beat"))
    actuator.energise(key(1))
    actuator.release()
    actuator.heartbeat()
    assert calls == [key(1), "release", "beat"]


# The journal


def test_a_journal_that_cannot_be_written_keeps_it_closed_and_loses_nothing(
    line: GateLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise JournalError("gate journal: no space left")

    part = line.trigger()
    line.store.decide(verdict(part))
    monkeypatch.setattr(line.journal, "append", full)
    line.pass_time(1.2)
    assert line.recorder.passed == []
    assert line.alarms == [events.ALARM_JOURNAL]
    assert line.gate.report().lost == 1
    monkeypatch.undo()
    line.pass_time(0.1)
    assert line.recorder.passed == []
    assert decisions(line)[part].reason is Reason.BEHIND
    assert line.gate.report().lost == 0


def test_a_disk_slower_than_the_belt_keeps_it_closed(line: GateLine, monkeypatch: pytest.MonkeyPatch) -> None:
    part = line.trigger()
    line.store.decide(verdict(part))
    append = line.journal.append

    def slow(entries: list[JournalEntry]) -> None:
        line.clock.advance(1.0)
        append(entries)

    monkeypatch.setattr(line.journal, "append", slow)
    line.pass_time(1.0)
    assert line.recorder.passed == []
    assert line.gate.report().by_reason == {"behind": 1}
    assert part in decisions(line)


# Restarts


def test_parts_that_passed_while_it_was_dead_are_decided_closed(line: GateLine) -> None:
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(0.5)
    line.clock.advance(5.0)
    line.restart()
    line.pass_time(0.1)
    assert line.recorder.passed == []
    assert decisions(line)[part].reason in (Reason.LATE, Reason.BEHIND)
    assert standing(line, part) is Decision.PASS


def test_a_missing_part_not_yet_written_is_written_by_the_next_process(line: GateLine) -> None:
    line.pass_time(0.01)
    line.server.connected = False
    part = line.trigger()
    line.pass_time(1.1)
    assert decisions(line)[part].reason is Reason.MISSING
    line.server.connected = True
    assert standing(line, part) is None
    line.restart()
    line.pass_time(0.1)
    assert standing(line, part) is Decision.MISSING
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
)
def test_whenever_it_dies_no_part_is_decided_twice_or_left_out(
    tmp_path_factory: pytest.TempPathFactory,
    verdicts: list[str],
    crashes: dict[int, tuple[str, int]],
    early: bool,
    follow_log: bool,
) -> None:
    folder = tmp_path_factory.mktemp("restart")
    with GateLine(folder, log=folder / "agent.log" if follow_log else None) as line:
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
    found = decisions(line)
    assert list(sorted(found, key=lambda p: p.order)) == parts
    passed = line.recorder.passed
    assert len(passed) == len(set(passed)), "opened twice for one part"
    assert set(passed) <= {p for p, word in zip(parts, verdicts, strict=True) if word == "pass"}
    assert set(passed) <= {p for p, d in found.items() if d.opened}
    for part, word in zip(parts, verdicts, strict=True):
        if word == "none":
            assert standing(line, part) is Decision.MISSING


# In real time


def test_run_decides_on_time_and_stops_closed(line: GateLine, tmp_path: Path) -> None:
    clock = SystemClock()
    source = SimulatedPartSource(travel_s=0.3)
    made: list[GateDecision] = []
    done = threading.Event()

    def count(decision: GateDecision, _: JournalEntry) -> None:
        made.append(decision)
        if len(made) == 6:
            done.set()

    with Journal(tmp_path / "real") as journal:
        gate = Gate(
            line.store,
            source,
            line.recorder,
            journal,
            station=STATION,
            clock=clock,
            hold_s=5.0,
            alarm=line._alarm,
            on_decision=count,
        )
        stop = threading.Event()
        thread = threading.Thread(target=gate.run, args=(stop,))
        thread.start()
        for trigger in range(6):
            source.trigger(key(trigger), clock.now())
            if trigger % 2 == 0:
                line.store.decide(verdict(key(trigger)))
        assert done.wait(10.0)
        deadline = time.monotonic() + 10.0
        while gate.unwritten and time.monotonic() < deadline:
            time.sleep(0.005)
        stop.set()
        thread.join(10.0)
        assert not thread.is_alive()
    assert line.recorder.passed == [key(0), key(2), key(4)]
    assert open_for(line) is None
    report = gate.report()
    assert (report.triggers, report.decisions, report.lost, report.opened) == (6, 6, 0, 3)
    assert report.latency_ms["p50"] is not None
    assert standing(line, key(1)) is Decision.MISSING
    assert clock.now() > RUN


def test_a_feed_that_fails_in_an_unknown_way_is_alarmed_and_goes_on(
    line: GateLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SystemClock()
    source = SimulatedPartSource(travel_s=0.6)
    done, failed, stop = threading.Event(), threading.Event(), threading.Event()
    calls = iter([RuntimeError("not a StoreError")])
    read = line.store.gate_entries

    def once(*arguments: Any, **options: Any) -> list[GateEntry]:
        for error in calls:
            raise error
        return read(*arguments, **options)

    monkeypatch.setattr(line.store, "gate_entries", once)
    with Journal(tmp_path / "real") as journal:
        gate = Gate(
            line.store,
            source,
            line.recorder,
            journal,
            station=STATION,
            clock=clock,
            hold_s=5.0,
            alarm=lambda name, _: failed.set() if name == events.ALARM_FEED else None,
            on_decision=lambda *_: done.set(),
        )
        thread = threading.Thread(target=gate.run, args=(stop,))
        thread.start()
        assert failed.wait(10.0)
        source.trigger(key(0), clock.now())
        line.store.decide(verdict(key(0)))
        assert done.wait(10.0)
        stop.set()
        thread.join(10.0)
    assert line.recorder.passed == [key(0)]


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

"""The gate: one decision a part, closed unless proven, through outages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import decode_verdict, encode
from tests.workers.gate_line import HOLD_S, RUN, STATION, GateLine, key, verdict
from workers.clock import SystemClock
from workers.gate import (
    CallbackActuator,
    Gate,
    GateDecision,
    Journal,
    Reason,
    RecordingActuator,
    SimulatedPartSource,
    events,
)
from workers.gate.journal import Entry as JournalEntry
from workers.gate.journal import JournalError
from workers.store import GateEntry, keys


@pytest.fixture
def line(tmp_path: Path) -> Iterator[GateLine]:
    with GateLine(tmp_path) as line:
        yield line


def test_it_opens_for_the_pass_of_that_part_and_closes_behind_it(line: GateLine) -> None:
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(0.99)
    assert line.recorder.passed == []
    line.pass_time(0.01)
    assert line.open_for() == part
    line.pass_time(HOLD_S)
    assert line.open_for() is None
    assert line.recorder.passed == [part]
    assert line.gate.report().by_reason == {"pass": 1}


def test_it_is_closed_when_it_starts_and_when_it_ends(line: GateLine) -> None:
    line.recorder.energise(key(99))
    line.gate.start()
    assert line.open_for() is None
    part = line.trigger()
    line.store.decide(verdict(part))
    line.pass_time(1.0)
    assert line.open_for() == part
    line.gate.close()
    assert line.open_for() is None


def test_the_pass_of_a_neighbour_opens_nothing(line: GateLine) -> None:
    first, second = line.trigger(), line.trigger()
    line.store.decide(verdict(second))
    line.pass_time(1.1)
    assert line.recorder.passed == [second]
    assert line.decisions()[first].reason is Reason.MISSING


def test_a_reject_behind_a_pass_closes_at_once(line: GateLine) -> None:
    first = line.trigger()
    line.pass_time(0.02)
    second = line.trigger()
    line.store.decide(verdict(first))
    line.store.decide(verdict(second, Decision.REJECT))
    line.pass_time(0.98)
    assert line.open_for() == first
    line.pass_time(0.02)
    assert line.open_for() is None
    assert line.decisions()[second].reason is Reason.REJECT


def test_a_part_without_a_verdict_is_missing_at_the_gate_and_in_the_store(line: GateLine) -> None:
    part = line.trigger()
    line.pass_time(1.1)
    assert line.recorder.passed == []
    assert line.decisions()[part] == GateDecision(part, False, Decision.MISSING, Reason.MISSING)
    assert line.standing(part) is Decision.MISSING
    assert events.ALARM_MISSING in line.alarms
    report = line.gate.report()
    assert (report.lost, report.unwritten, report.by_decision) == (0, 0, {"MISSING": 1})


def test_a_late_pass_is_counted_and_never_opens(line: GateLine) -> None:
    part = line.trigger()
    line.pass_time(1.0)
    decided = line.store.decide(verdict(part))
    line.pass_time(0.5)
    assert line.recorder.passed == []
    assert not line.decisions()[part].opened
    # The gate decided at the due moment; the worker's write came before the gate's own reached the store.
    assert decided.first
    assert line.standing(part) is Decision.PASS
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
    assert line.decisions() == {}
    line.store.decide(verdict(parts[0], Decision.REVIEW))
    line.pass_time(0.1)
    assert list(line.decisions()) == parts[:2]
    assert line.recorder.passed == [parts[1]]
    line.pass_time(1.0)
    assert line.decisions()[parts[2]].reason is Reason.MISSING


def test_redis_away_keeps_it_closed_and_the_line_counted(line: GateLine) -> None:
    held = line.trigger()
    line.store.decide(verdict(held))
    line.pass_time(0.1)
    line.server.connected = False
    unseen = line.trigger()
    line.pass_time(1.2)
    assert line.recorder.passed == [held], "what it held before the outage is as good as ever"
    assert line.decisions()[unseen].reason is Reason.MISSING
    assert line.alarms.count(events.ALARM_STORE_DOWN) == 1
    assert line.gate.report().unwritten == 1
    line.server.connected = True
    line.pass_time(1.0)
    assert line.standing(unseen) is Decision.MISSING
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
    assert line.decisions()[part].reason is Reason.REJECT


def test_a_pass_behind_a_lost_reject_opens_nothing(line: GateLine) -> None:
    part = line.trigger()
    line.store.decide(verdict(part, Decision.REJECT))
    line.pass_time(0.1)
    line.store._redis.delete(keys.verdict(part))
    line.store.decide(verdict(part))
    line.pass_time(1.0)
    assert line.recorder.passed == []
    assert line.decisions()[part].reason is Reason.REJECT


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
    assert line.decisions()[part].reason is Reason.UNREADABLE
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
    assert line.decisions()[part].reason is Reason.BEHIND
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
    assert part in line.decisions()


# In real time


def test_run_decides_on_time_and_stops_closed(line: GateLine, tmp_path: Path) -> None:
    clock = SystemClock()
    source = SimulatedPartSource(travel_s=1.0)
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
        # Decided before they are triggered: a busy machine may let the travel time go by between the two.
        for trigger in (0, 2, 4):
            line.store.decide(verdict(key(trigger)))
        for trigger in range(6):
            source.trigger(key(trigger), clock.now())
        assert done.wait(60.0)
        deadline = time.monotonic() + 60.0
        while gate.unwritten and time.monotonic() < deadline:
            time.sleep(0.005)
        stop.set()
        thread.join(60.0)
        assert not thread.is_alive()
    assert line.recorder.passed == [key(0), key(2), key(4)]
    assert line.open_for() is None
    report = gate.report()
    assert (report.triggers, report.decisions, report.lost, report.opened) == (6, 6, 0, 3)
    assert report.latency_ms["p50"] is not None
    assert line.standing(key(1)) is Decision.MISSING
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

"""A path is not a file: logs and journals that are moved, removed, replaced or cut under a running gate."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.part import PartKey
from tests.workers.gate_line import GateLine, key, verdict
from tests.workers.test_gate_journal import entry
from workers.capture.log import AgentLog
from workers.clock import ManualClock
from workers.gate import Journal, JournalError, audit, events
from workers.gate.agent_count import AgentCount
from workers.gate.chain import Chain, follow, unpack_mark
from workers.gate.journal import FILE, Mark
from workers.gate.lines import read_chained, read_lines
from workers.gate.segments import journal_segments

Hands = Callable[[Path], object]


def breaks(path: Path) -> list[str]:
    """Where the chain of a journal does not hold, in words."""
    lock = path.with_name(path.name + ".lock")
    chain = Chain(unpack_mark(lock.read_bytes()) if lock.exists() else None)
    for segment in journal_segments(path):
        list(follow(read_chained(segment.read_bytes()), segment.name, chain))
    chain.end()
    return [found.says for found in chain.breaks]


def marks(path: Path) -> list[Mark]:
    return [
        item
        for segment in journal_segments(path)
        for item in read_lines(segment.read_bytes())
        if isinstance(item, Mark) and item.kind == FILE
    ]


# The agent's log


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def moved_and_made_anew(path: Path) -> None:
    moved(path)
    path.touch()


def deleted(path: Path) -> None:
    path.unlink()


def deleted_and_made_anew(path: Path) -> None:
    path.unlink()
    path.touch()


def numbered_by_another_program(path: Path) -> None:
    path.rename(path.with_name(path.name + ".1"))
    path.touch()


def saved_by_an_editor(path: Path) -> None:
    copy = path.with_name("tmp")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


def folder_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("old"))


def folder_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def link_turned(path: Path) -> None:
    path.rename(path.with_name("first"))
    path.with_name("second").touch()
    path.symlink_to("second")


TAKEN_AWAY = [
    moved,
    moved_and_made_anew,
    deleted,
    deleted_and_made_anew,
    saved_by_an_editor,
    folder_moved,
    folder_removed,
    link_turned,
]


@pytest.mark.parametrize("hands", [*TAKEN_AWAY, numbered_by_another_program])
def test_a_log_rotated_from_outside_blinds_nobody(tmp_path: Path, hands: Hands) -> None:
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs" / "agent.log"
    with GateLine(tmp_path, log=path) as line:
        for number in range(30):
            if number == 10:
                hands(path)
            part = line.trigger()
            line.store.decide(verdict(part))
            line.pass_time(0.1)
        line.pass_time(1.2)
        report = line.gate.report()
        assert (report.triggers, report.decisions, report.opened, report.waiting) == (30, 30, 30, 0)
        assert report.untold == 0
        expected = [] if hands is numbered_by_another_program else [events.ALARM_SOURCE_FILE]
        assert line.alarms == expected


@pytest.mark.parametrize("hands", [moved_and_made_anew, deleted_and_made_anew, numbered_by_another_program])
def test_a_writer_that_does_not_notice_is_followed_into_its_old_file_and_alarmed(
    tmp_path: Path, hands: Hands
) -> None:
    path = tmp_path / "agent.log"
    with GateLine(tmp_path, log=path) as line, path.open("ab", buffering=0) as stubborn:
        line.trigger()
        line.pass_time(0.1)
        hands(path)
        line.pass_time(0.1)
        for number in range(1, 6):
            text = f'{{"event":"trigger","part":"{key(number)}","at":{line.clock.now()}}}\n'
            stubborn.write(text.encode())
            line.pass_time(0.1)
        line.pass_time(0.5)
        assert line.gate.report().triggers == 6
        assert events.ALARM_SOURCE_FILE in line.alarms


@pytest.mark.parametrize("hands", [moved, deleted, folder_moved, folder_removed])
def test_a_log_that_is_not_at_its_name_is_told_within_a_second_and_health_says_so(
    tmp_path: Path, hands: Hands
) -> None:
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs" / "agent.log"
    with GateLine(tmp_path, log=path) as line:
        line.store.decide(verdict(line.trigger()))
        line.pass_time(0.2)
        hands(path)
        line.pass_time(1.05)
        assert line.alarms == [events.ALARM_SOURCE_FILE]
        assert "no such file any more" in str(line.gate.state().down["source"])
        line.trigger()  # the agent makes it anew
        line.pass_time(0.6)
        assert line.gate.state().down["source"] is None
        assert line.gate.report().triggers == 2


@pytest.mark.parametrize("left", ["nothing", "half", "as much of something else", "more of something else"])
def test_a_log_that_is_cut_or_written_over_is_alarmed_and_read_again(tmp_path: Path, left: str) -> None:
    path = tmp_path / "agent.log"
    with GateLine(tmp_path, log=path) as line:
        for _ in range(4):
            line.trigger()
        line.pass_time(0.1)
        data = path.read_bytes()
        other = b" " * (len(data) - 1) + b"\n"
        kept = {"nothing": b"", "half": data[: len(data) // 2], "as much of something else": other}
        path.write_bytes(kept.get(left, other + other))
        line.pass_time(0.1)
        assert line.alarms == [events.ALARM_SOURCE]
        line.trigger()
        line.pass_time(0.5)
        assert line.gate.report().triggers == 5


@pytest.mark.parametrize("hands", [*TAKEN_AWAY, numbered_by_another_program])
def test_the_agents_lines_are_always_in_the_file_of_that_name(tmp_path: Path, hands: Hands) -> None:
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs" / "agent.log"
    with AgentLog(path) as log:
        log.trigger(key(0), 1)
        hands(path)
        log.trigger(key(1), 2)
        assert str(key(1)).encode() in path.read_bytes()


def test_a_line_that_met_the_moved_file_is_written_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "agent.log", os.write
    with AgentLog(path) as log:
        log.trigger(key(0), 1)

        def moved_meanwhile(fd: int, data: bytes) -> int:
            if not (tmp_path / "old").exists() and b'"at":2' in data:
                path.rename(tmp_path / "old")
            return real(fd, data)

        monkeypatch.setattr(os, "write", moved_meanwhile)
        log.trigger(key(1), 2)
        monkeypatch.undo()
    assert (tmp_path / "old").read_bytes().count(b'"at":2') == 1
    assert path.read_bytes().count(b'"at":2') == 1


# What the agent numbered against what the gate saw


def test_verdicts_of_parts_that_the_log_does_not_tell_of_are_an_alarm(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    with GateLine(tmp_path, log=path) as line:
        line.store.decide(verdict(key(900, run=7)))  # long before this gate: nobody's loss
        line.pass_time(0.1)
        first = line.trigger()
        line.store.decide(verdict(first))
        line.pass_time(0.5)
        for number in range(100, 110):
            line.store.decide(verdict(key(number)))
        line.pass_time(1.5)
        report = line.gate.report()
        assert report.untold == 10
        assert line.alarms == [events.ALARM_UNTOLD]
        assert "not in its trigger log" in str(line.gate.state().down["source"])


def test_a_long_log_that_is_still_being_read_is_no_alarm(tmp_path: Path) -> None:
    told: list[str] = []
    known: set[PartKey] = set()
    clock = ManualClock()
    count = AgentCount(known.__contains__, clock, lambda name, _: told.append(name))
    count.heard(key(9_999))
    for begin in range(0, 10_000, 1000):
        for trigger in range(begin, begin + 1000):
            known.add(key(trigger))
            count.seen(key(trigger))
        count.look()
        clock.advance(0.4)
    clock.advance(2.0)
    count.look()
    assert told == []
    count.heard(key(10_000))
    clock.advance(1.1)
    count.look()
    assert told == [events.ALARM_UNTOLD]


def test_a_number_that_the_log_leaves_out_is_an_alarm(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    with GateLine(tmp_path, log=path) as line:
        line.trigger()
        line.pass_time(0.1)
        line.triggers += 3
        line.trigger()
        line.pass_time(1.2)
        assert (line.gate.report().untold, line.alarms.count(events.ALARM_UNTOLD)) == (3, 1)


# The journal


def line_of_parts(line: GateLine, count: int) -> None:
    for _ in range(count):
        part = line.trigger()
        line.store.decide(verdict(part))
        line.pass_time(0.2)


@pytest.mark.parametrize("hands", TAKEN_AWAY)
def test_a_journal_that_is_taken_away_is_written_back_and_says_so(tmp_path: Path, hands: Hands) -> None:
    log = tmp_path / "agent.log"
    (tmp_path / "evidence").mkdir()
    with GateLine(tmp_path / "evidence", log=log) as line:
        line_of_parts(line, 5)
        line.pass_time(1.2)
        hands(line.path)
        line.pass_time(1.0)
        assert line.alarms == [events.ALARM_JOURNAL_FILE]
        assert line.path.exists(), "within a second, though no part was decided"
        line_of_parts(line, 5)
        line.pass_time(1.2)
        line.journal.close()
        found = audit(log, line.path)
        assert (found.decisions, len(found.opened)) == (10, 10)
        assert found.lost == found.duplicates == ()
        assert breaks(line.path) == []
        assert len(marks(line.path)) == 1
        line.restart()
        assert line.journal.recovery.decided == 10
        assert line.journal.recovery.broken == ()


def test_a_journal_numbered_by_another_program_goes_on_behind_it(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    with GateLine(tmp_path, log=log) as line:
        line_of_parts(line, 5)
        line.pass_time(1.2)
        numbered_by_another_program(line.path)
        line_of_parts(line, 5)
        line.pass_time(1.2)
        assert line.alarms == [events.ALARM_JOURNAL_FILE]
        line.restart()
        assert line.journal.recovery.decided == 10
        line.journal.close()
        found = audit(log, line.path)
        assert (found.decisions, len(found.opened), found.duplicates) == (10, 10, ())
        assert breaks(line.path) == []


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def cut_in_a_line(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 30)


def cut_by_two_lines(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))


def written_by_others(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"line":"decision"}\n')


@pytest.mark.parametrize("hands", [emptied, cut_in_a_line, cut_by_two_lines])
def test_a_journal_that_is_cut_goes_on_in_a_new_segment_and_its_gap_shows(
    tmp_path: Path, hands: Hands
) -> None:
    with GateLine(tmp_path, log=tmp_path / "agent.log") as line:
        line_of_parts(line, 5)
        line.pass_time(1.2)
        hands(line.path)
        line.pass_time(0.6)
        assert line.alarms == [events.ALARM_JOURNAL_FILE]
        line_of_parts(line, 3)
        line.pass_time(1.2)
        assert any("missing" in says for says in breaks(line.path))
        line.restart()
        assert line.journal.recovery.decided == 8, "the checkpoint knows what was decided"
        line.pass_time(2.0)
        assert len(line.recorder.passed) == len(set(line.recorder.passed)) == 8


def test_what_others_write_into_the_journal_is_left_in_a_segment_of_its_own(tmp_path: Path) -> None:
    with GateLine(tmp_path) as line:
        line_of_parts(line, 2)
        line.pass_time(1.2)
        written_by_others(line.path)
        line.pass_time(0.6)
        assert line.alarms == [events.ALARM_JOURNAL_FILE]
        assert b'{"line":"decision"}\n' in (tmp_path / "gate.journal.1").read_bytes()
        assert len(marks(line.path)) == 1


def test_a_journal_that_cannot_be_written_back_keeps_the_gate_closed(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    with GateLine(evidence) as line:
        line_of_parts(line, 2)
        line.pass_time(1.2)
        evidence.rename(tmp_path / "old")
        evidence.write_bytes(b"a file where the folder was")
        line_of_parts(line, 2)
        line.pass_time(1.2)
        assert line.recorder.passed == [key(0), key(1)]
        assert line.alarms.count(events.ALARM_JOURNAL) <= 2, "once, not at each try"
        assert line.gate.state().down["journal"] is not None
        evidence.unlink()
        line.pass_time(0.6)
        assert line.gate.state().down["journal"] is None
        assert line.gate.report().by_decision["PASS"] == 2, "those kept waiting are STALE by now"
        assert len(line.decisions()) == 4


def test_a_second_gate_is_refused_when_the_lock_file_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.append([entry(0)])
        (tmp_path / "j.lock").unlink()
        with pytest.raises(JournalError, match="another gate holds it"):
            Journal(path)
        journal.append([entry(1)])
        assert (tmp_path / "j.lock").exists()


def test_the_lock_moves_with_the_file_through_rotations(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, max_bytes=500) as journal:
        for trigger in range(12):
            journal.append([entry(trigger)])
            journal.tidy()
            (tmp_path / "j.lock").unlink()
            with pytest.raises(JournalError, match="another gate holds it"):
                Journal(path)
            journal.look()


def test_of_two_gates_on_one_name_only_the_one_that_holds_the_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path) as first:
        first.append([entry(0)])
        path.unlink()
        (tmp_path / "j.lock").unlink()
        with Journal(path) as second:
            with pytest.raises(JournalError, match="another gate holds the file"):
                first.append([entry(1)])
            second.append([entry(2)])
        first.append([entry(1)])
        assert key(1) in first.decided
        assert (tmp_path / "j.aside-1").exists()
    assert breaks(path) == []

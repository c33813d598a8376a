"""The journal's segments: a rotation cut off anywhere loses no decision and repeats none."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.part import PartKey
from schemas.verdict import Decision
from tests.workers.gate_line import RUN, GateLine, key, verdict
from tests.workers.test_gate_journal import entry
from workers.capture.log import AgentLog
from workers.gate import Journal, audit
from workers.gate.decided import DecidedParts
from workers.gate.journal import ACTUATED, RECORDED
from workers.gate.lines import Entry, read_lines
from workers.gate.segments import journal_segments

SMALL = 2_000


def fill(journal: Journal, triggers: range, *, answered: bool = True) -> None:
    for trigger in triggers:
        opened = trigger % 3 != 0
        journal.append([entry(trigger, opened=opened)])
        if answered:
            journal.note(key(trigger), ACTUATED if opened else RECORDED, "opened" if opened else "MISSING")
        journal.tidy()


def on_disk(path: Path) -> list[PartKey]:
    """Every decision in any segment, oldest first."""
    return [
        item.part
        for segment in journal_segments(path)
        for item in read_lines(segment.read_bytes())
        if isinstance(item, Entry)
    ]


def test_a_journal_over_its_size_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, sync=False, max_bytes=SMALL) as journal:
        fill(journal, range(60))
    segments = journal_segments(path)
    assert [segment.name for segment in segments] == [
        *(f"j.{n}" for n in range(1, len(segments))),
        "j",
    ]
    assert len(segments) > 3
    assert on_disk(path) == [key(trigger) for trigger in range(60)]
    assert all(segment.stat().st_size < 2 * SMALL for segment in segments)


def test_a_start_reads_the_current_segment_alone_and_knows_every_decision(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, sync=False, max_bytes=SMALL) as journal:
        fill(journal, range(2), answered=False)
        fill(journal, range(2, 200))
    total = sum(segment.stat().st_size for segment in journal_segments(path))
    with Journal(path, sync=False, max_bytes=SMALL) as journal:
        assert journal.recovery.read_bytes == path.stat().st_size < total / 5
        assert journal.recovery.decided == 200
        assert all(key(trigger) in journal.decided for trigger in range(200))
        assert key(200) not in journal.decided
        # What was open when its segment ended is open still.
        assert [e.part for e in journal.recovery.unconfirmed] == [key(1)]
        assert [e.part for e in journal.recovery.unrecorded] == [key(0)]
        assert journal.recovery.unrecorded[0] == entry(0, opened=False)
        with pytest.raises(ValueError, match="has a decision"):
            journal.append([entry(17)])


class Crash(BaseException):
    """The process is gone."""


def crashing(real: Callable[..., object], countdown: list[int]) -> Callable[..., object]:
    """The call at which the countdown ends is the last thing the process tries to do."""

    def call(*arguments: object, **options: object) -> object:
        if countdown[0] == 0:
            raise Crash
        countdown[0] -= 1
        return real(*arguments, **options)

    return call


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), min_size=1, max_size=6),
    torn=st.booleans(),
)
def test_whichever_step_is_the_last_no_decision_is_lost_or_repeated(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]], torn: bool
) -> None:
    path = tmp_path_factory.mktemp("rotation") / "j"
    decided = 0
    for countdown, _ in steps:
        journal = Journal(path, max_bytes=400)
        assert [key(t) in journal.decided for t in range(decided + 2)] == [True] * decided + [False] * 2
        left = [countdown]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", crashing(lambda _: None, left))
            patch.setattr(Path, "rename", crashing(Path.rename, left))
            patch.setattr(Path, "open", crashing(Path.open, left))
            try:
                while decided < 500:
                    journal.append([entry(decided)])
                    decided += 1
                    journal.tidy()
            except Crash:
                pass
        assert decided < 500
        journal._file.close()
        journal._lock.close()
        # One whose disk did not answer any more may be in the file or not; none that was answered is missing.
        found = len(on_disk(path))
        assert found in (decided, decided + 1)
        decided = found
        if torn and (path.exists() and path.read_bytes()):
            with path.open("ab") as file:
                file.write(b'{"line":"decision","part":"s1/17')
    with Journal(path, max_bytes=400) as journal:
        assert journal.recovery.decided == decided
        assert journal.recovery.damaged_lines == 0
    assert on_disk(path) == [key(trigger) for trigger in range(decided)]
    assert not path.with_name("j.new").exists()


@pytest.mark.parametrize("fails", ["open", "rename", "fsync of the folder"])
def test_a_rotation_that_fails_leaves_a_journal_that_can_be_written_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = tmp_path / "j"
    real = Path.rename
    calls = [0]

    def refuse(self: Path, *arguments: object, **options: object) -> object:
        raise OSError(28, "No space left on device")

    def second(self: Path, target: Path) -> Path:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(5, "Input/output error")
        return real(self, target)

    with Journal(path, max_bytes=SMALL) as journal:
        with monkeypatch.context() as patch:
            if fails == "open":
                patch.setattr(Path, "open", refuse)
            elif fails == "rename":
                patch.setattr(Path, "rename", second)
            else:
                patch.setattr(Journal, "_folder_to_disk", refuse)
            fill(journal, range(20))
        fill(journal, range(20, 60))
    assert on_disk(path) == [key(trigger) for trigger in range(60)]
    with Journal(path, max_bytes=SMALL) as journal:
        assert journal.recovery.decided == 60
        assert journal.recovery.damaged_lines == 0
    assert len(journal_segments(path)) > 1, "later it was rotated"


@given(bit=st.integers(min_value=0))
@settings(max_examples=40, deadline=None)
def test_a_damaged_checkpoint_is_made_good_from_the_segments_before_it(
    tmp_path_factory: pytest.TempPathFactory, bit: int
) -> None:
    path = tmp_path_factory.mktemp("damage") / "j"
    with Journal(path, sync=False, max_bytes=SMALL) as journal:
        trigger = 0
        while not journal.tidy():
            journal.append([entry(trigger)])
            trigger += 1
    raw = bytearray(path.read_bytes())
    bit %= 8 * len(raw)
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(raw))
    with Journal(path, sync=False) as journal:
        assert journal.recovery.decided == trigger
        assert len(journal.recovery.unconfirmed) == trigger


def test_the_audit_reads_every_segment_of_both_files(tmp_path: Path) -> None:
    log_path = tmp_path / "agent.log"
    with GateLine(tmp_path) as line, AgentLog(log_path) as log:
        line.max_bytes = SMALL
        line.restart()
        for number in range(40):
            part = line.trigger()
            log.trigger(part, line.clock.now())
            if number % 2:
                line.store.decide(verdict(part))
            line.pass_time(0.05)
        line.pass_time(2.0)
        assert len(journal_segments(line.path)) > 2, "it rotates while it runs"
        rows = log_path.read_bytes().splitlines(keepends=True)
        for name, part_of in (
            ("agent.log.2", rows[:10]),
            ("agent.log.1", rows[10:25]),
            ("agent.log", rows[25:]),
        ):
            (tmp_path / name).write_bytes(b"".join(part_of))
        found = audit(log_path, line.path)
    assert found.triggers == found.decisions == 40
    assert found.lost == found.duplicates == found.unknown == ()
    assert list(found.decided) == [key(trigger) for trigger in range(40)]
    assert found.opened == tuple(key(trigger) for trigger in range(1, 40, 2))


def test_a_gate_that_rotates_decides_nothing_twice_over_many_lives(tmp_path: Path) -> None:
    log_path = tmp_path / "agent.log"
    with GateLine(tmp_path, log=log_path) as line:
        for number in range(60):
            part = line.trigger()
            if number % 3:
                line.store.decide(verdict(part, Decision.PASS if number % 3 == 1 else Decision.REJECT))
            line.pass_time(0.3, step_s=0.05)
            if number % 7 == 0:
                line.max_bytes = SMALL
                line.restart()
        line.pass_time(2.0, step_s=0.05)
        found = audit(log_path, line.path)
        assert found.triggers == found.decisions == 60
        assert found.lost == found.duplicates == ()
        assert len(line.recorder.passed) == len(set(line.recorder.passed))


ranges = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 60), st.integers(0, 8)), max_size=40)


@given(ranges)
def test_ranges_of_decided_parts_are_a_set_and_survive_a_checkpoint(
    filled: list[tuple[int, int, int]],
) -> None:
    parts, seen = DecidedParts(), set[tuple[int, int]]()
    for run, first, more in filled:
        parts.fill("s1", RUN + run, first, first + more)
        seen |= {(run, trigger) for trigger in range(first, first + more + 1)}
    again = DecidedParts()
    for station, run, spans in parts.runs():
        assert all(a[1] + 1 < b[0] for a, b in pairwise(spans)), "not joined"
        for first, last in spans:
            again.fill(station, run, first, last)
    for found in (parts, again):
        assert len(found) == len(seen)
        for run in range(2):
            for trigger in range(70):
                assert (key(trigger, RUN + run) in found) is ((run, trigger) in seen)

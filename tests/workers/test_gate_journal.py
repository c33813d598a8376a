"""The journal: a decision is there or it is not, wherever the file was cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.verdict import Decision
from tests.workers.gate_line import RUN, key
from workers.gate import GateDecision, Journal, JournalError, Reason
from workers.gate.journal import ACTUATED, RECORDED, DecidedParts, Entry


def entry(trigger: int, *, opened: bool = True) -> Entry:
    decision = (
        GateDecision(key(trigger), True, Decision.PASS, Reason.PASS)
        if opened
        else GateDecision(key(trigger), False, Decision.MISSING, Reason.MISSING)
    )
    return Entry(decision, RUN, RUN + 10, RUN + 11, RUN + 5 if opened else None)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("journal") / "j"
    with Journal(path) as journal:
        for trigger in range(6):
            journal.append([entry(trigger, opened=trigger % 2 == 0)])
            if trigger % 2 == 0:
                journal.note(key(trigger), ACTUATED, "opened")
    return path.read_bytes()


def test_what_was_appended_is_known_after_opening_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "deep" / "j") as journal:
        journal.append([entry(0), entry(1, opened=False)])
    with Journal(tmp_path / "deep" / "j") as journal:
        assert key(0) in journal.decided
        assert key(1) in journal.decided
        assert key(2) not in journal.decided
        assert journal.recovery.unconfirmed == (entry(0),)
        assert journal.recovery.unrecorded == (entry(1, opened=False),)
        journal.note(key(0), ACTUATED, "opened")
        journal.note(key(1), RECORDED, "MISSING")
    with Journal(tmp_path / "deep" / "j") as journal:
        assert journal.recovery.unconfirmed == ()
        assert journal.recovery.unrecorded == ()


@settings(max_examples=150)
@given(st.data())
def test_cut_anywhere_it_keeps_every_whole_decision_and_goes_on(
    written: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(written)))
    path = tmp_path_factory.mktemp("cut") / "j"
    path.write_bytes(written[:cut])
    whole = written[:cut].count(b'"line":"decision"')
    last = written[:cut].rpartition(b"\n")[2]
    whole -= b'"line":"decision"' in last
    with Journal(path, sync=False) as journal:
        assert journal.recovery.decided == whole
        assert journal.recovery.torn_bytes == len(last)
        assert journal.recovery.damaged_lines == 0
        assert [key(t) in journal.decided for t in range(6)] == [t < whole for t in range(6)]
        journal.append([entry(t, opened=False) for t in range(whole, 7)])
    with Journal(path, sync=False) as journal:
        assert journal.recovery.decided == 7
        assert journal.recovery.torn_bytes == journal.recovery.damaged_lines == 0


@settings(max_examples=150)
@given(st.data())
def test_a_flipped_bit_loses_at_most_the_lines_it_touches_and_invents_nothing(
    written: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(written)
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.mktemp("flip") / "j"
    path.write_bytes(bytes(raw))
    with Journal(path, sync=False) as journal:
        lost = 6 - journal.recovery.decided
        assert 0 <= lost <= 2
        assert lost == 0 or journal.recovery.damaged_lines + journal.recovery.torn_bytes > 0
        assert key(6) not in journal.decided
        for unconfirmed in journal.recovery.unconfirmed:
            assert unconfirmed.part.trigger % 2 == 0


def test_a_second_decision_of_a_part_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.append([entry(0)])
        with pytest.raises(ValueError, match="has a decision"):
            journal.append([entry(0, opened=False)])


def test_a_journal_held_by_another_gate_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"), pytest.raises(JournalError, match="another gate"):
        Journal(tmp_path / "j")


def test_a_folder_in_its_place_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="name a writable file"):
        Journal(tmp_path)


def test_after_a_failed_write_nothing_is_decided_and_the_next_one_leaves_no_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with Journal(tmp_path / "j") as journal:
        journal.append([entry(0)])
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(JournalError, match="No space left"):
            journal.append([entry(trigger) for trigger in (1, 3, 4)])
        assert not any(key(trigger) in journal.decided for trigger in (1, 3, 4))
        monkeypatch.undo()
        journal.append([entry(2)])
    with Journal(tmp_path / "j") as journal:
        assert [key(t) in journal.decided for t in range(5)] == [True, False, True, False, False]
        assert journal.recovery.damaged_lines == 0


def test_a_long_torn_line_is_gone_after_the_next_write(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.append([entry(0)])
    with (tmp_path / "j").open("ab") as file:
        file.write(bytes(10_000))
    with Journal(tmp_path / "j") as journal:
        assert journal.recovery.torn_bytes == 10_000
        journal.note(key(0), ACTUATED, "opened")
    with Journal(tmp_path / "j") as journal:
        assert journal.recovery.torn_bytes == 0
        assert journal.recovery.unconfirmed == ()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40))))
def test_decided_parts_are_a_set(added: list[tuple[int, int]]) -> None:
    parts = DecidedParts()
    seen: set[tuple[int, int]] = set()
    for run, trigger in added:
        assert parts.add(key(trigger, run)) is ((run, trigger) not in seen)
        seen.add((run, trigger))
    for run in range(3):
        for trigger in range(41):
            assert (key(trigger, run) in parts) is ((run, trigger) in seen)

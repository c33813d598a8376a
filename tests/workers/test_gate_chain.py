"""The chain of a journal: nothing can be done to its lines that does not show."""

from __future__ import annotations

import crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.gate_line import key
from tests.workers.test_gate_journal import entry
from workers.gate import Journal
from workers.gate.chain import Chain, follow, pack_mark, unpack_mark
from workers.gate.journal import ACTUATED
from workers.gate.lines import Tip, read_chained
from workers.gate.segments import journal_segments

Segments = list[list[bytes]]
KINDS = ["remove", "double", "swap", "bytes", "text", "invent", "cut", "segment"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Segments, Tip]:
    """A journal of several segments, as lines, and what its lock file knows."""
    path = tmp_path_factory.mktemp("journal") / "j"
    with Journal(path, sync=False, max_bytes=1200) as journal:
        for trigger in range(14):
            journal.append([entry(trigger, opened=trigger % 2 == 0)])
            if trigger % 2 == 0:
                journal.note(key(trigger), ACTUATED, "opened")
            journal.tidy()
    mark = unpack_mark((path.with_name("j.lock")).read_bytes())
    assert mark is not None
    segments = [file.read_bytes().split(b"\n")[:-1] for file in journal_segments(path)]
    assert len(segments) > 2
    return segments, mark


def faults(segments: Segments, mark: Tip | None) -> int:
    """Breaks and damaged lines."""
    chain, damaged = Chain(mark), 0
    for number, lines in enumerate(segments):
        data = b"".join(line + b"\n" for line in lines)
        damaged += sum(item is None for _, item in follow(read_chained(data), f"j.{number}", chain))
    chain.end()
    return damaged + len(chain.breaks)


def test_a_journal_that_nobody_touched_is_whole(written: tuple[Segments, Tip]) -> None:
    segments, mark = written
    assert faults(segments, mark) == faults(segments, None) == 0
    assert faults(segments[2:], mark) == 0, "the oldest segments may be kept elsewhere"


def with_checksum(text: bytes) -> bytes:
    return text + b" #%08x" % crc32c.crc32c(text)


@given(st.data())
def test_any_edit_of_any_line_shows(written: tuple[Segments, Tip], data: st.DataObject) -> None:
    whole, mark = written
    segments = [list(lines) for lines in whole]
    number = data.draw(st.integers(0, len(segments) - 1))
    lines = segments[number]
    at = data.draw(st.integers(0, len(lines) - 1))
    kind = data.draw(st.sampled_from(KINDS))
    if kind == "remove":
        del lines[at]
    elif kind == "double":
        lines.insert(data.draw(st.integers(0, len(lines))), lines[at])
    elif kind == "swap":
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda n: n != at))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "bytes":
        place = data.draw(st.integers(0, len(lines[at]) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda b: b != lines[at][place]))
        lines[at] = lines[at][:place] + bytes([byte]) + lines[at][place + 1 :]
        segments[number] = b"\n".join(lines).split(b"\n")
    elif kind == "text":
        text = lines[at].rpartition(b" #")[0]
        place = data.draw(st.integers(0, len(text) - 1))
        byte = data.draw(st.sampled_from(b"0123456789abcdefPASSREJECT").filter(lambda b: b != text[place]))
        lines[at] = with_checksum(text[:place] + bytes([byte]) + text[place + 1 :])
    elif kind == "invent":
        lines.insert(at, with_checksum(lines[at].rpartition(b" #")[0].replace(b"PASS", b"REJECT") + b" "))
    elif kind == "cut":
        del lines[at:]
    elif 0 < number < len(segments) - 1:
        del segments[number]
    else:
        del segments[-1]
    assert faults(segments, mark) > 0


def test_the_lock_file_takes_whatever_it_is_given() -> None:
    tip = Tip(123_456_789, "ab" * 16)
    assert unpack_mark(pack_mark(tip)) == tip
    assert len(pack_mark(tip)) == len(pack_mark(Tip()))
    assert [unpack_mark(data) for data in (b"", b"x" * 96, pack_mark(tip)[:40])] == [None] * 3

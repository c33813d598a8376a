"""The disk buffer's files: what survives a crash at any byte, a damaged disk and a full one."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.notice import Notice
from schemas.part import PartKey
from tests.workers.test_capture_outbox import FRAME_BYTES, Line, frames
from workers.capture import events
from workers.capture.buffer import DiskBuffer
from workers.capture.entry import Entry
from workers.capture.segments import Watermark
from workers.errors import BufferFull, SettingsError, SourceError

RUN = 1_700_000_000_000_000_000


def entry(trigger: int, *, why: str = "", count: int = 1) -> Entry:
    at = RUN + trigger * 10**8
    end = at + (count - 1) * 10**8
    return Entry(
        part=PartKey("s1", RUN, trigger),
        product="cap",
        captured_at=at,
        deadline=at + 10**9,
        sensors="" if why else "rgb",
        why=why,
        count=count,
        last_captured_at=end,
        last_deadline=end + 10**9,
    )


def value(trigger: int, size: int = 300) -> bytes:
    return random.Random(trigger).randbytes(size)


def left(folder: Path) -> dict[int, bytes | None]:
    """What a start finds: trigger to message, None for a notice."""
    buffer = DiskBuffer(folder)
    found: dict[int, bytes | None] = {}
    for one in buffer.recovered:
        for part in one.entry.parts():
            found[part.trigger] = None if one.entry.told else buffer.read(one.place)
    buffer.close()
    return found


@settings(max_examples=150, deadline=None)
@given(count=st.integers(1, 12), cut=st.integers(0, 6000), noise=st.binary(max_size=40))
def test_a_file_cut_anywhere_keeps_every_whole_record_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, count: int, cut: int, noise: bytes
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    buffer = DiskBuffer(folder)
    ends = []
    for i in range(count):
        place = buffer.append(i, i, entry(i), value(i))
        ends.append(place.offset + place.length)
    buffer.close()
    (path,) = folder.glob("frames-*.seg")
    size = min(cut, ends[-1])
    os.truncate(path, size)
    with path.open("ab") as file:
        file.write(noise)
    whole = sum(end <= size for end in ends)
    assert left(folder) == {i: value(i) for i in range(whole)}
    # The torn tail is gone: a start finds the same once more, and what is added comes behind it.
    buffer = DiskBuffer(folder)
    assert buffer.damaged_bytes == 0
    seq = buffer.next_seq
    assert seq == whole
    buffer.append(seq, seq, entry(99), value(99))
    buffer.close()
    assert left(folder) == {i: value(i) for i in [*range(whole), 99]}


@settings(max_examples=150, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=5))
def test_damaged_bytes_cost_the_records_they_are_in_and_never_come_back_as_frames(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    buffer = DiskBuffer(folder)
    places = [buffer.append(i, i, entry(i), value(i)) for i in range(8)]
    buffer.close()
    (path,) = folder.glob("frames-*.seg")
    before = path.read_bytes()
    data = bytearray(before)
    for at, change in flips:
        data[at % len(data)] ^= change
    path.write_bytes(data)
    untouched = {
        i
        for i, p in enumerate(places)
        if data[p.offset : p.offset + p.length] == before[p.offset : p.offset + p.length]
    }
    assert left(folder) == {i: value(i) for i in untouched}


class Crash(Exception):
    """The process ended here."""


@settings(max_examples=150, deadline=None)
@given(
    plan=st.lists(st.sampled_from(["frame", "notice", "done", "give up"]), min_size=1, max_size=30),
    crash_at=st.integers(0, 40),
    torn=st.floats(0, 1),
)
def test_a_crash_at_any_write_loses_at_most_what_was_being_written(
    tmp_path_factory: pytest.TempPathFactory, plan: list[str], crash_at: int, torn: float
) -> None:
    folder = tmp_path_factory.mktemp("crash")
    buffer = DiskBuffer(folder, max_bytes=200_000)
    buffer._segment_bytes = 1000
    real, writes = os.write, 0

    def write(fd: int, data: memoryview) -> int:
        nonlocal writes
        writes += 1
        if writes > crash_at:
            real(fd, data[: int(len(data) * torn)])
            raise Crash
        return real(fd, data)

    alive: dict[int, bytes | None] = {}
    doubtful: set[int] = set()
    places: dict[int, object] = {}
    seq = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.capture.segments.os.write", write)
        try:
            for step in plan:
                if step in ("frame", "notice"):
                    doubtful = {seq}
                    why = "no sensor" if step == "notice" else ""
                    places[seq] = buffer.append(seq, seq, entry(seq, why=why), b"" if why else value(seq))
                    alive[seq] = None if why else value(seq)
                    seq += 1
                elif step == "done" and alive:
                    first = min(alive)
                    doubtful = {first}
                    buffer.done(places[first])  # type: ignore[arg-type]
                    del alive[first]
                    buffer.acked(min(alive, default=seq))
                elif step == "give up" and (number := buffer.oldest_frames()) is not None:
                    for i, place in places.items():
                        if place.segment == number and alive.get(i) is not None:  # type: ignore[attr-defined]
                            doubtful = {i}
                            places[i] = buffer.append(i, i, entry(i, why="buffer full"))
                            alive[i] = None
                    buffer.give_up(number)
                doubtful = set()
        except Crash:
            pass
    os.close(buffer._guard)
    found = left(folder)
    for i, message in alive.items():
        assert i in found, f"part {i} was on disk and is gone"
        if i not in doubtful:
            assert found[i] == message
    assert set(found) <= set(alive) | doubtful
    for _, fd in buffer._open.values():
        os.close(fd)


def test_bounds_hold_in_bytes_and_in_records_and_notices_have_room_beside_them(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="above 0"):
        DiskBuffer(tmp_path / "a", max_bytes=0)
    with pytest.raises(SettingsError, match="use oldest or newest"):
        DiskBuffer(tmp_path / "a", keep="some")  # type: ignore[arg-type]
    by_count = DiskBuffer(tmp_path / "b", max_records=3)
    by_bytes = DiskBuffer(tmp_path / "c", max_bytes=1300, reserve_bytes=400)
    for buffer in (by_count, by_bytes):
        for i in range(3):
            buffer.append(i, i, entry(i), value(i))
        with pytest.raises(BufferFull, match="full"):
            buffer.append(3, 3, entry(3), value(3))
        buffer.append(3, 3, entry(3, why="buffer full"))
        assert buffer.size <= 1300
    by_bytes.append(4, 4, entry(4, why="buffer full"))
    with pytest.raises(BufferFull, match="reserve"):
        by_bytes.append(5, 5, entry(5, why="x" * 150))
    for buffer in (by_count, by_bytes):
        buffer.close()
        buffer.close()


def test_a_record_of_many_parts_replaces_theirs_and_names_each_again(tmp_path: Path) -> None:
    buffer = DiskBuffer(tmp_path)
    for i in range(5):
        buffer.append(i, i, entry(i, why="buffer full"))
    buffer.append(0, 4, entry(0, why="buffer full", count=5))
    buffer.close()
    again = DiskBuffer(tmp_path)
    (whole,) = again.recovered
    told = list(whole.entry.notices())
    assert told == [one for i in range(5) for one in entry(i, why="buffer full").notices()]
    assert all(isinstance(one, Notice) for one in told)
    head, rest = whole.entry.split(2)
    assert [*head.notices(), *rest.notices()] == told
    assert head.precedes(rest)
    assert head.joined(rest) == whole.entry
    again.close()


def test_a_damaged_or_missing_record_is_said_when_it_is_read(tmp_path: Path) -> None:
    buffer = DiskBuffer(tmp_path)
    place = buffer.append(0, 0, entry(0), value(0))
    (path,) = tmp_path.glob("frames-*.seg")
    with path.open("r+b") as file:
        file.seek(place.offset + place.length - 1)
        file.write(b"?")
    with pytest.raises(SourceError, match="damaged"):
        buffer.read(place)
    buffer.give_up(place.segment)
    with pytest.raises(SourceError, match="gone"):
        buffer.read(place)
    buffer.close()
    with pytest.raises(SourceError, match="name a folder that can be written"):
        DiskBuffer(path_of_a_file(tmp_path))


def path_of_a_file(folder: Path) -> Path:
    path = folder / "file"
    path.touch()
    return path


@given(values=st.lists(st.integers(0, 2**63), min_size=1, max_size=6), torn=st.binary(max_size=12))
def test_the_mark_of_what_is_acknowledged_never_goes_back_and_survives_a_torn_write(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], torn: bytes
) -> None:
    path = tmp_path_factory.mktemp("mark") / "acked"
    mark = Watermark(path)
    for one in values:
        mark.advance(one)
    highest, turn = mark.value, mark._turn
    mark.close()
    assert highest == max(values)
    with path.open("r+b") as file:
        file.seek(12 * turn)
        file.write(torn)
    again = Watermark(path)
    assert again.value == highest
    again.close()


# Full disks


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own size, where this user may mount one; else files of a limited size.

    Both answer a write beyond their end with a part of it, and then with an error.
    """
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(options, capture_output=True, check=False).returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes << 18, before[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill(path: Path) -> None:
    """Write until nothing more goes."""
    with path.open("wb", buffering=0) as other, contextlib.suppress(OSError):
        while True:
            other.write(bytes(1 << 12))


@pytest.mark.parametrize("keep", ["oldest", "newest"])
def test_a_full_disk_is_a_full_buffer_and_every_part_is_still_told(
    tmp_path: Path, keep: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        # Our own bound is far away: the disk's is the one that is met.
        line = Line(disk / "buffer", keep=keep, max_bytes=1 << 30)
        line.bus.interrupt()
        for _ in range(150):
            line.post(1, size=12_000)
            line.advance(0.3)
        assert line.outbox.dropped > 40
        line.drain()
        line.post()
        line.work()
        told = list(dict.fromkeys(line.told()))
        assert [trigger for _, trigger in told] == list(range(151))
        assert sum(kind == "notice" for kind, _ in told) == line.outbox.dropped
        assert told[-1:] == frames(150)
        line.outbox.close(0.0)
    assert events.GIVEN_UP in capsys.readouterr().out


def test_a_disk_that_is_full_before_the_first_frame_does_not_stop_the_agent(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        line = Line(disk / "buffer", keep="newest")
        fill(disk / "other")
        line.bus.interrupt()
        for _ in range(20):
            line.post()
            line.advance(1.2)
        line.drain()
        assert sorted({trigger for _, trigger in line.told()}) == list(range(20))
        assert line.outbox.waiting() == 0


def test_a_disk_that_stands_still_holds_up_neither_the_camera_nor_memory(tmp_path: Path) -> None:
    line = Line(tmp_path, window_bytes=10 * FRAME_BYTES)
    line.bus.interrupt()
    stuck, go_on = threading.Event(), threading.Event()
    append = line.outbox._buffer.append

    def slow(*words: object) -> object:
        stuck.set()
        assert go_on.wait(30.0)
        return append(*words)  # type: ignore[arg-type]

    line.outbox._buffer.append = slow  # type: ignore[method-assign, assignment]
    line.outbox.keeper.start()
    line.post(12)
    assert stuck.wait(10.0)
    line.post(100)
    assert line.outbox.queue.memory <= 2 * 10 * FRAME_BYTES
    assert line.outbox.dropped > 80
    go_on.set()
    line.outbox.keeper.close()
    line.drain()
    assert sorted({trigger for _, trigger in line.told()}) == list(range(112))

"""The agent's log: rotation that loses no line, and what is left open by a crash."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.part import PartKey
from workers.capture import AgentLog
from workers.errors import SourceError
from workers.gate import Arrival, LogPartSource

KEEP = 4


def part(trigger: int, run: int = 5, station: str = "s1") -> PartKey:
    return PartKey(station, run, trigger)


def all_lines(path: Path) -> list[dict[str, Any]]:
    files = [path.with_name(f"{path.name}.{i}") for i in range(50, 0, -1)] + [path]
    return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def test_no_line_is_lost_or_moved_by_rotation_and_old_files_go(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    inodes: dict[int, bytes] = {}
    with AgentLog(path, rotate_bytes=300, keep=KEEP) as log:
        for trigger in range(40):
            log.trigger(part(trigger), trigger)
            for file in tmp_path.iterdir():
                inode, content = file.stat().st_ino, file.read_bytes()
                # A file only ever grows, under whatever name. (A number may be used again after a file went.)
                if content.startswith(inodes.get(inode, b"")):
                    inodes[inode] = content
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["t.jsonl", *(f"t.jsonl.{i}" for i in range(1, KEEP + 1))]
    assert all(file.stat().st_size <= 300 for file in tmp_path.iterdir())
    left = [line["at"] for line in all_lines(path)]
    assert left == list(range(40))[-len(left) :]
    assert len(left) >= KEEP * 4


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.integers(0, 6), min_size=1, max_size=12), limit=st.integers(80, 600))
def test_a_gate_that_follows_a_rotating_log_sees_every_trigger_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], limit: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "t.jsonl"
    source = LogPartSource(path, station="s1", travel_s=1.0)
    source.rewind()
    seen: list[Arrival] = []
    written = 0
    with AgentLog(path, rotate_bytes=limit, keep=400) as log:
        for count in steps:
            for _ in range(count):
                log.trigger(part(written), written)
                log.sent(part(written), written, "rgb")
                written += 1
            seen += source.poll()
    for _ in range(2 * written + 2):
        # One file a call, and not every file has a trigger in it.
        seen += source.poll()
    source.close()
    assert [arrival.part.trigger for arrival in seen] == list(range(written))


def test_a_run_is_known_after_a_crash_right_behind_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with AgentLog(path) as log:
        log.trigger(part(0, run=9), 9)
    path.rename(tmp_path / "t.jsonl.1")
    with AgentLog(path, rotate_bytes=1000) as log:
        assert max(log.runs("s1")) == 9
        assert log.unsettled("s1") == [(part(0, run=9), 9)]


def test_what_is_unsettled_is_looked_for_in_all_files_since_the_last_recovery(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with AgentLog(path) as log:
        log.trigger(part(0, run=3), 1)
        log.trigger(part(0, run=4), 2)
        log.trigger(part(0, station="s2", run=9), 2)
    with AgentLog(path) as log:
        assert log.unsettled("s1") == [(part(0, run=4), 2)], "of an agent without a buffer, the last run"
        assert log.unsettled("s3") == []
    with AgentLog(path, rotate_bytes=200, keep=20) as log:
        log.recovered("s1", 3)
        for trigger in range(10):
            log.trigger(part(trigger), trigger)
        for trigger in (0, 3):
            log.sent(part(trigger), 100, "rgb")
        log.told(part(4), 100, "buffer full")
        log.dropped(part(5), 100, "buffer full")
        log.failed(part(6), 100, "no sensor")
    with path.open("a") as file:
        file.write('{"event":"trigger","part":"s1/5/11"}\n[]\n{"event":7}\n{"eve')
    with AgentLog(path, rotate_bytes=200, keep=20) as log:
        assert [p.trigger for p, _ in log.unsettled("s1")] == [1, 2, 5, 6, 7, 8, 9]


def test_a_line_torn_by_a_full_disk_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.jsonl"
    real, room = os.write, [10**6]

    def write(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= (count := real(fd, data[: room[0]]))
        return count

    with AgentLog(path) as log:
        monkeypatch.setattr("workers.capture.log.os.write", write)
        log.trigger(part(0), 0)
        room[0] = 20
        with pytest.raises(SourceError, match="No space left on device; without it parts cannot be counted"):
            log.trigger(part(1), 1)
        room[0] = 10**6
        log.trigger(part(2), 2)
        monkeypatch.undo()
        assert [p.trigger for p, _ in log.unsettled("s1")] == [0, 2]


def test_bounds_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="above 0"):
        AgentLog(tmp_path / "t", rotate_bytes=0)
    with pytest.raises(ValueError, match="above 0"):
        AgentLog(tmp_path / "t", rotate_bytes=10, keep=0)

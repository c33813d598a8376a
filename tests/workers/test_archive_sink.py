"""The archive sink: everything filed once, committed after, whatever ends it and whenever."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import encode
from tests.workers.archive_line import FRAMES, HEATMAPS, VERDICTS, ArchiveLine, verdict
from workers.archive.local import LocalStorage
from workers.archive.options import sampled
from workers.archive.rows import REPEAT
from workers.archive.verify import Verifier
from workers.bus.base import TopicPartition
from workers.errors import ArchiveError


@pytest.fixture
def line(tmp_path: Path) -> ArchiveLine:
    return ArchiveLine(tmp_path)


@pytest.mark.parametrize("table", ["jsonl", "parquet"])
def test_every_verdict_is_filed_once_and_committed(line: ArchiveLine, table: str) -> None:
    sink = line.sink(format=table)
    for trigger in range(20):
        line.inspected(trigger, partition=trigger % 2)
    line.turn(sink)
    sink.close()
    assert line.verdicts() == {PartKey("s1", 1, trigger): 1 for trigger in range(20)}
    assert {row.decision for row in line.told()} == {Decision.PASS}
    assert (line.committed(partition=0), line.committed(partition=1)) == (10, 10)


def test_images_of_what_was_not_passed_are_kept_as_they_came(line: ArchiveLine) -> None:
    sink = line.sink()
    bad, _ = line.inspected(3, Decision.REJECT)
    line.inspected(4, Decision.PASS)
    picture = line.mapped(bad.part)
    line.turn(sink)
    sink.close()
    files = {p.name: p.read_bytes() for p in line.folder.glob("shifts/*/images/s1/1/*")}
    assert bad.rgb is not None
    assert bad.depth is not None
    assert files == {"3-rgb.png": bad.rgb.data, "3-depth.delta16": bad.depth.data}
    assert [p.read_bytes() for p in line.folder.glob("shifts/*/heatmaps/s1/1/3.png")] == [picture]
    (shape,) = [f for i in line.indexes() for f in i["files"] if f["name"] == "images/s1/1/3-rgb.png"]
    assert (shape["encoding"], shape["height"], shape["width"]) == ("png", 16, 16)


def test_a_sample_of_what_was_passed_is_kept_and_is_the_same_everywhere(line: ArchiveLine) -> None:
    sink = line.sink(sample=0.3)
    parts = [line.inspected(trigger)[0].part for trigger in range(60)]
    line.turn(sink)
    sink.close()
    kept = {p.name.partition("-")[0] for p in line.folder.glob("shifts/*/images/s1/1/*")}
    assert kept == {str(p.trigger) for p in parts if sampled(p, 0.3)}
    assert 5 < len(kept) < 35


def test_a_frame_that_is_gone_leaves_its_verdict_and_says_so(line: ArchiveLine) -> None:
    line.inspected(1, Decision.REJECT)
    line.inspected(2, Decision.REJECT)
    line.bus.delete_before(TopicPartition(FRAMES, 0), 1)
    sink = line.sink()
    line.turn(sink)
    sink.close()
    assert line.verdicts() == {PartKey("s1", 1, 1): 1, PartKey("s1", 1, 2): 1}
    assert sum(i["counts"].get("images_gone", 0) for i in line.indexes()) == 1
    assert sum(i["counts"].get("images", 0) for i in line.indexes()) == 2


def test_the_same_verdict_again_is_dropped_and_another_one_is_evidence(line: ArchiveLine) -> None:
    _, first = line.inspected(1, Decision.REJECT)
    line.send(VERDICTS, encode(first), first.part)
    sink = line.sink()
    line.turn(sink)
    sink.close()
    # Another process, which has to look the first one up.
    line.send(VERDICTS, encode(first), first.part)
    line.send(VERDICTS, encode(verdict(first.part, Decision.PASS)), first.part)
    sink = line.sink()
    line.turn(sink)
    sink.close()
    assert line.verdicts() == {first.part: 1}
    assert [row.decision for row in line.told() if row.kind == REPEAT] == [Decision.PASS]
    assert sum(i["counts"].get("repeated", 0) for i in line.indexes()) == 2
    assert sum(i["counts"].get("conflicting", 0) for i in line.indexes()) == 1


def test_a_record_that_is_no_verdict_is_kept_and_holds_nobody_up(line: ArchiveLine) -> None:
    line.send(VERDICTS, b"\x93garbage", PartKey("s1", 1, 0))
    line.send(HEATMAPS, b"", PartKey("s1", 1, 0))
    line.inspected(1)
    sink = line.sink()
    line.turn(sink)
    sink.close()
    assert line.verdicts() == {PartKey("s1", 1, 1): 1}
    assert {p.read_bytes() for p in line.folder.glob("shifts/*/damaged/*.bin")} == {b"\x93garbage", b""}
    assert line.committed() == 2


class Failing:
    """A storage that dies, or is full, at its n-th write."""

    def __init__(self, line: ArchiveLine, error: Exception, at: int, after: bool) -> None:
        self._storage = line.storage
        self._error, self._left, self._after = error, at, after
        self.where = "failing"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def _do(self, call: Callable[..., Any], *args: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise self._error
        result = call(*args)
        if self._left == 0:
            raise self._error
        return result

    def put(self, name: str, data: bytes) -> None:
        self._do(self._storage.put, name, data)

    def put_new(self, name: str, data: bytes) -> bool:
        return bool(self._do(self._storage.put_new, name, data))


class Killed(Exception):
    """The process ends here."""


@pytest.mark.parametrize(
    ("write", "after"), [*((write, False) for write in range(1, 17)), (7, True), (9, True), (16, True)]
)
def test_killed_at_any_write_nothing_is_lost_or_filed_twice(
    line: ArchiveLine, write: int, after: bool
) -> None:
    real = line.storage
    for trigger in range(6):
        made, _ = line.inspected(trigger, Decision.REJECT if trigger % 2 else Decision.PASS)
        if trigger % 2:
            line.mapped(made.part)
    line.storage = Failing(line, Killed(), write, after)
    dying = line.sink(max_rows=2)
    with pytest.raises(Killed):
        line.turn(dying)
    dying.close()
    line.storage = real
    line.inspected(6)
    sink = line.sink(max_rows=2)
    line.turn(sink)
    sink.close()
    assert line.verdicts() == {PartKey("s1", 1, trigger): 1 for trigger in range(7)}
    assert line.committed() == 7
    spans = sorted((i["first"], i["next"]) for i in line.indexes() if i["topic"] == VERDICTS)
    assert [first for first, _ in spans] == [0, *(following for _, following in spans[:-1])]
    assert len(list(line.folder.glob("shifts/*/heatmaps/*/*/*"))) == 3


def test_a_process_that_was_stopped_and_goes_on_does_not_touch_what_its_successor_filed(
    line: ArchiveLine,
) -> None:
    zombie = line.sink(max_age_s=1000.0)
    for trigger in range(3):
        line.inspected(trigger)
    line.turn(zombie, 2)
    line.clock.advance(100)
    for trigger in range(3, 6):
        line.inspected(trigger)
    successor = line.sink()
    line.turn(successor)
    successor.close()
    zombie.flush()
    zombie.close()
    assert line.verdicts() == {PartKey("s1", 1, trigger): 1 for trigger in range(6)}
    verifier = Verifier(line.storage, 0, 2**62)
    list(verifier.rows())
    assert verifier.found.flaws == []


def test_a_write_that_the_system_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(ArchiveError, match="could not write shifts/x") as caught:
            storage.put("shifts/x", bytes(2**21))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.retriable
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    storage.put("shifts/x", bytes(2**21))
    assert storage.get("shifts/x") == bytes(2**21)


def test_a_full_disk_commits_nothing_and_is_got_over(line: ArchiveLine) -> None:
    sink = line.sink()
    line.inspected(1, Decision.REJECT)

    class Full(Failing):
        def _do(self, call: Callable[..., Any], *args: Any) -> Any:
            if self._left > 0:
                self._left -= 1
                raise ArchiveError("archive: No space left on device")
            return call(*args)

    full = Full(line, Killed(), 0, False)
    full._left = 5
    sink._storage = full
    line.turn(sink)
    sink.close()
    assert full._left == 0
    assert line.verdicts() == {PartKey("s1", 1, 1): 1}
    assert line.committed() == 1


def test_told_to_stop_while_the_store_is_away_it_ends_and_leaves_the_records_uncommitted(
    line: ArchiveLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.inspected(1)

    def refuse(*_: object) -> None:
        raise ArchiveError("archive: away")

    sink = line.sink()
    stop = Event()
    monkeypatch.setattr(line.storage, "put", refuse)
    thread = Thread(target=sink.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert line.verdicts() == {}
    assert line.committed() is None
    monkeypatch.undo()
    sink = line.sink()
    line.turn(sink)
    sink.close()
    assert line.verdicts() == {PartKey("s1", 1, 1): 1}

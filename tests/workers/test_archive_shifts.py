"""Shifts, their sealing, the chain of manifests, and what an audit sees when a file is touched."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import encode
from tests.workers.archive_line import SHIFTS, VERDICTS, ArchiveLine, verdict
from workers.archive.ranges import PartRanges
from workers.archive.rows import digest_of
from workers.archive.shifts import NS, Shifts
from workers.archive.verify import Verifier
from workers.bus.base import TopicPartition, TopicSpec
from workers.errors import SettingsError

HOUR = 3600
FOREVER = 2**62


@pytest.fixture
def line(tmp_path: Path) -> ArchiveLine:
    return ArchiveLine(tmp_path)


@given(
    st.integers(0, 4 * 10**18),
    st.lists(st.tuples(st.integers(0, 23), st.integers(0, 59)), min_size=1, max_size=4, unique=True),
)
def test_every_moment_lies_in_one_shift_and_shifts_touch(when: int, starts: list[tuple[int, int]]) -> None:
    plan = Shifts.parse(",".join(f"{hour:02d}:{minute:02d}" for hour, minute in starts))
    shift = plan.at(when)
    assert shift.start <= when < shift.end
    assert plan.at(shift.start) == shift
    assert plan.at(shift.end).start == shift.end


@pytest.mark.parametrize("text", ["", "24:00", "06:00,06:00", "6", "06:60", "now"])
def test_a_plan_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        Shifts.parse(text)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 30))), st.lists(st.integers(0, 30)))
def test_ranges_hold_what_was_put_in(parts: list[tuple[int, int]], others: list[int]) -> None:
    ranges, plain = PartRanges(), set()
    for run, trigger in parts:
        part = PartKey("s1", run, trigger)
        assert ranges.add(part) is (part not in plain)
        plain.add(part)
    other = PartRanges()
    for trigger in others:
        other.add(PartKey("s1", 1, trigger))
        plain.add(PartKey("s1", 1, trigger))
    ranges.update(other)
    again = PartRanges.from_json(json.loads(json.dumps(ranges.to_json())))
    for run in (0, 1):
        for trigger in range(32):
            part = PartKey("s1", run, trigger)
            assert (part in ranges) is (part in again) is (part in plain)
    assert len(ranges) == len(plain)
    for _, _, held in ranges.runs():
        assert all(one[1] + 1 < two[0] for one, two in itertools.pairwise(held))


def three_shifts(line: ArchiveLine) -> None:
    """Five parts in each of three shifts, all sealed."""
    sink = line.sink()
    for number in range(3):
        for trigger in range(5):
            made, _ = line.inspected(5 * number + trigger, Decision.REJECT)
            line.mapped(made.part)
        line.turn(sink, 12)
        line.clock.advance(8 * HOUR)
    line.turn(sink, 30)
    sink.close()


def checked(line: ArchiveLine) -> Verifier:
    verifier = Verifier(line.storage, 0, FOREVER)
    list(verifier.rows())
    return verifier


def test_shifts_are_sealed_one_on_top_of_the_other(line: ArchiveLine) -> None:
    three_shifts(line)
    manifests = line.manifests()
    assert [m["shift"] for m in manifests] == [
        "2023-11-14T22-00-00Z",
        "2023-11-15T06-00-00Z",
        "2023-11-15T14-00-00Z",
    ]
    assert manifests[0]["previous"] is None
    for before, manifest in itertools.pairwise(manifests):
        data = (line.folder / "shifts" / before["shift"] / "manifest.json").read_bytes()
        assert manifest["previous"] == {"shift": before["shift"], "sha256": digest_of(data)}
    assert [m["parts"] for m in manifests] == [
        {"s1/1": [[0, 4]]},
        {"s1/1": [[5, 9]]},
        {"s1/1": [[10, 14]]},
    ]
    for manifest in manifests:
        assert manifest["counts"] == {"decision_REJECT": 5, "heatmaps": 5, "images": 10, "images_gone": 0}
        folder = line.folder / "shifts" / manifest["shift"]
        present = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"manifest.json"}
        assert set(manifest["files"]) == present
        for name, told in manifest["files"].items():
            assert digest_of((folder / name).read_bytes()) == told["sha256"]
    verifier = checked(line)
    assert verifier.found.flaws == []
    assert len(verifier.found.sealed) == 3


def first(folder: Path, pattern: str) -> Path:
    return min(folder.glob(pattern))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("touch", "where", "says"),
    [
        (lambda f: flip(first(f, "shifts/*/images/s1/1/*")), "images/", "was changed"),
        (lambda f: flip(first(f, "shifts/*/verdicts/*")), "verdicts/", "was changed"),
        (lambda f: first(f, "shifts/*/heatmaps/s1/1/*").unlink(), "heatmaps/", "is gone"),
        (lambda f: first(f, "shifts/*/index/*").unlink(), "index/", "is gone"),
        (lambda f: (first(f, "shifts/*/images/s1/1") / "9-rgb.png").write_bytes(b"x"), "9-rgb", "was added"),
        (lambda f: shutil.rmtree(f / "shifts/2023-11-15T06-00-00Z"), "15T06", "is gone"),
        (lambda f: shutil.rmtree(f / "shifts/2023-11-14T22-00-00Z"), "14T22", "is gone"),
        (lambda f: shutil.rmtree(f / "shifts/2023-11-15T14-00-00Z"), "15T14", "is gone"),
        (lambda f: (f / "head.json").unlink(), "head.json", "is gone"),
        (lambda f: (f / "shifts/2023-11-15T06-00-00Z/manifest.json").unlink(), "15T06", "is gone"),
        (
            lambda f: (f / "shifts/2023-11-15T14-00-00Z/manifest.json").write_bytes(
                (f / "shifts/2023-11-15T14-00-00Z/manifest.json").read_bytes().replace(b": 5", b": 4")
            ),
            "15T14",
            "was changed",
        ),
        (
            lambda f: (f / "shifts/2023-11-14T22-00-00Z/manifest.json").write_bytes(b"{}"),
            "14T22",
            "cannot be read",
        ),
    ],
)
def test_whatever_is_touched_is_seen(
    line: ArchiveLine, touch: Callable[[Path], None], where: str, says: str
) -> None:
    three_shifts(line)
    touch(line.folder)
    flaws = checked(line).found.flaws
    assert any(where in flaw.where and says in flaw.says for flaw in flaws), flaws


def test_what_comes_after_its_shift_was_sealed_is_filed_under_the_next(line: ArchiveLine) -> None:
    three_shifts(line)
    late = PartKey("s1", 1, 99)
    line.send(VERDICTS, encode(verdict(late, at=line.clock.now() - 20 * HOUR * NS)), late)
    early = PartKey("s1", 1, 100)
    line.send(VERDICTS, encode(verdict(early, at=line.clock.now() + 400 * HOUR * NS)), early)
    sink = line.sink()
    line.turn(sink)
    sink.close()
    assert line.verdicts()[late] == line.verdicts()[early] == 1
    now = SHIFTS.at(line.clock.now()).name
    assert {path.name for path in (line.folder / "shifts").iterdir()} == {
        *(m["shift"] for m in line.manifests()),
        now,
    }
    assert checked(line).found.flaws == []


def test_a_sealed_verdict_is_not_filed_again_and_a_changed_plan_keeps_what_is_sealed(
    line: ArchiveLine,
) -> None:
    three_shifts(line)
    old = verdict(PartKey("s1", 1, 3), Decision.PASS)
    line.send(VERDICTS, encode(old), old.part)
    fresh, _ = line.inspected(50)
    sink = line.sink(shifts=Shifts.parse("22:00"))
    line.turn(sink)
    line.clock.advance(30 * HOUR)
    line.turn(sink, 30)
    sink.close()
    assert line.verdicts()[fresh.part] == line.verdicts()[old.part] == 1
    assert len(line.manifests()) == 4
    assert line.manifests()[3]["counts"]["conflicting"] == 1
    assert checked(line).found.flaws == []


def test_records_deleted_before_they_were_read_are_named(line: ArchiveLine) -> None:
    sink = line.sink()
    for trigger in range(4):
        line.inspected(trigger)
    line.turn(sink)
    sink.close()
    for trigger in range(4, 10):
        line.inspected(trigger)
    line.bus.delete_before(TopicPartition(VERDICTS, 0), 7)
    sink = line.sink()
    line.turn(sink)
    sink.close()
    assert sorted(part.trigger for part in line.verdicts()) == [0, 1, 2, 3, 7, 8, 9]
    assert [gap for i in line.indexes() for gap in i["gaps"]] == [{"from": 4, "to": 7, "anew": 0}]
    assert checked(line).found.gaps == 3


def test_a_topic_that_was_made_anew_is_read_from_its_start(line: ArchiveLine, tmp_path: Path) -> None:
    sink = line.sink()
    for trigger in range(6):
        line.inspected(trigger)
    line.turn(sink)
    sink.close()
    other = ArchiveLine(tmp_path)
    other.clock = line.clock
    other.bus = type(line.bus)(line.clock)
    other.bus.ensure_topics(
        {name: TopicSpec(partitions=2) for name in (VERDICTS, "inspection.frames", "inspection.heatmaps")}
    )
    other.producer = other.bus.producer()
    for trigger in range(6, 9):
        other.inspected(trigger)
    sink = other.sink()
    other.turn(sink)
    sink.close()
    assert other.verdicts() == {PartKey("s1", 1, trigger): 1 for trigger in range(9)}


def test_two_processes_share_partitions_and_file_everything_once(line: ArchiveLine) -> None:
    one, two = line.sink(), line.sink()
    for trigger in range(40):
        line.inspected(trigger, partition=trigger % 2)
        one.step()
        two.step()
        line.clock.advance(0.5)
    two.close()
    line.turn(one)
    one.close()
    assert line.verdicts() == {PartKey("s1", 1, trigger): 1 for trigger in range(40)}

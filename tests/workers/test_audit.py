"""`crosscheck audit`: a line that kept its word is proven, and each way of breaking it is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import crc32c
import pytest

from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import encode
from tests.e2e.inprocess import Call, assert_one_line, command_line
from tests.workers.archive_line import VERDICTS, ArchiveLine, verdict
from tests.workers.frames import START
from workers.archive.line import Recorded
from workers.archive.proof import Fault, Seen, Verdicts, prove
from workers.archive.rows import digest_of
from workers.archive.shifts import Shifts
from workers.capture.log import AgentLog
from workers.commands.audit import window
from workers.errors import SettingsError
from workers.gate import GateDecision, Journal, Reason
from workers.gate.lines import ACTUATED, OPENED, Entry

S = 10**9
DECISIONS = (Decision.PASS, Decision.REJECT, Decision.REVIEW, Decision.STALE, Decision.ERROR)
REASONS = {
    Decision.PASS: Reason.PASS,
    Decision.REJECT: Reason.REJECT,
    Decision.REVIEW: Reason.REVIEW,
    Decision.STALE: Reason.STALE,
    Decision.ERROR: Reason.ERROR,
    Decision.MISSING: Reason.MISSING,
}


def part(trigger: int) -> PartKey:
    return PartKey("s1", 1, trigger)


def at(trigger: int) -> int:
    return START + trigger * S


class Evidence:
    """Ten parts, two of each decision, told by log, journal and archive alike."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = ArchiveLine(folder / "archive")
        self.triggers: list[PartKey] = [part(n) for n in range(10)]
        self.decisions = {part(n): DECISIONS[n % 5] for n in range(10)}
        self.reasons: dict[PartKey, Reason] = {}
        self.verdicts: list[Verdict] = [
            replace(verdict(part(n), DECISIONS[n % 5]), captured_at=at(n)) for n in range(10)
        ]
        self.twice: list[PartKey] = []
        self.outcomes: dict[PartKey, str | None] = {}
        self.max_bytes = 32 << 20

    @property
    def log(self) -> Path:
        return self.folder / "triggers.jsonl"

    @property
    def journal(self) -> Path:
        return self.folder / "gate.jsonl"

    def write(self) -> None:
        with AgentLog(self.log) as log:
            for one in self.triggers:
                log.trigger(one, at(one.trigger))
        with Journal(self.journal, sync=False, max_bytes=self.max_bytes) as journal:
            for one, decision in self.decisions.items():
                journal.append([self.entry(one, decision)])
                outcome = self.outcomes.get(one, OPENED)
                if decision is Decision.PASS and outcome is not None:
                    journal.note(one, ACTUATED, outcome)
                journal.tidy()
        text = self.journal.read_bytes()
        for one in self.twice:
            (line,) = [x for x in text.splitlines() if b"decision" in x and f'"{one}"'.encode() in x][:1]
            self.journal.write_bytes(self.journal.read_bytes() + line + b"\n")
        for found in self.verdicts:
            self.archive.send(VERDICTS, encode(found), found.part)
        sink = self.archive.sink()
        self.archive.turn(sink)
        sink.close()

    def entry(self, one: PartKey, decision: Decision) -> Entry:
        reason = self.reasons.get(one, REASONS[decision])
        made = GateDecision(one, decision is Decision.PASS, decision, reason)
        return Entry(made, at(one.trigger), at(one.trigger) + S, at(one.trigger) + S)


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path)


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Call]:
    monkeypatch.setenv("COLUMNS", "160")
    with command_line(monkeypatch, capsys, tmp_path) as made:
        yield made


WORDS = ("audit", "--triggers", "triggers.jsonl", "--journal", "gate.jsonl", "--archive", "archive")


def read(folder: Path) -> dict[str, int]:
    found = json.loads((folder / "audit.json").read_text())
    assert found["holds"] is not bool(found["exceptions"])
    return dict(found["exceptions"])


def test_a_line_that_kept_its_word_is_proven(evidence: Evidence, call: Call) -> None:
    evidence.write()
    done = call(*WORDS, "--json", "audit.json")
    assert done.code == 0, done.out
    assert "proven" in done.out
    found = json.loads((evidence.folder / "audit.json").read_text())
    assert (found["triggers"], found["decisions"], found["verdicts"], found["opened"]) == (10, 10, 10, 2)
    assert found["by_verdict"] == dict.fromkeys(map(str, sorted(DECISIONS)), 2)
    assert found["exceptions"] == {}


def undecided(e: Evidence) -> None:
    del e.decisions[part(3)]


def no_verdict(e: Evidence) -> None:
    e.verdicts = [v for v in e.verdicts if v.part != part(1)]


def unsafe(e: Evidence) -> None:
    e.decisions[part(1)] = Decision.PASS


def opened_without(e: Evidence) -> None:
    e.verdicts = [v for v in e.verdicts if v.part != part(0)]


def differs(e: Evidence) -> None:
    e.decisions[part(3)] = Decision.REVIEW


def conflict(e: Evidence) -> None:
    e.verdicts.append(replace(e.verdicts[1], decision=Decision.REVIEW, score=0.5))


def no_trigger(e: Evidence) -> None:
    e.verdicts.append(replace(verdict(part(77)), captured_at=at(5)))


def unknown(e: Evidence) -> None:
    e.decisions[part(5).__class__("s1", 1, 66)] = Decision.MISSING


def twice(e: Evidence) -> None:
    e.twice.append(part(4))


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (undecided, "part without decision"),
        (no_verdict, "decision without verdict"),
        (unsafe, "gate opened without a PASS verdict"),
        (opened_without, "gate opened without a PASS verdict"),
        (differs, "decision is not the verdict's"),
        (conflict, "conflicting verdicts"),
        (no_trigger, "verdict without trigger"),
        (unknown, "decision without trigger"),
    ],
)
def test_each_exception_is_named_and_is_the_only_one(
    evidence: Evidence, call: Call, break_it: Callable[[Evidence], None], named: str
) -> None:
    break_it(evidence)
    evidence.write()
    done = call(*WORDS, "--json", "audit.json")
    assert done.code == 1, done.out
    assert "not proven" in done.out
    assert read(evidence.folder) == {named: 1}
    assert named in done.out


def test_a_part_decided_twice_is_named_and_the_second_line_is_out_of_the_chain(
    evidence: Evidence, call: Call
) -> None:
    twice(evidence)
    evidence.write()
    assert call(*WORDS, "--json", "audit.json").code == 1
    assert read(evidence.folder) == {"part decided twice": 1, "journal's chain is broken": 1}


def damage_log(e: Evidence) -> None:
    e.log.write_bytes(e.log.read_bytes() + b'{"event": "trigger", "part"\n')


def damage_journal(e: Evidence) -> None:
    lines = e.journal.read_bytes().splitlines(keepends=True)
    # Not of a decision: only the line is lost, no part with it.
    lines.append(lines[-1].replace(b"opened", b"closed"))
    e.journal.write_bytes(b"".join(lines))


def damage_archive(e: Evidence) -> None:
    (table,) = e.folder.glob("archive/shifts/*/verdicts/*")
    table.write_bytes(table.read_bytes() + b"\n")


def test_damaged_lines_are_named(evidence: Evidence, call: Call) -> None:
    evidence.write()
    damage_log(evidence)
    damage_journal(evidence)
    done = call(*WORDS, "--json", "audit.json")
    assert done.code == 1
    assert read(evidence.folder) == {"damaged line or record": 2}
    assert "triggers.jsonl:11" in done.out


def test_a_table_that_was_touched_is_not_believed(evidence: Evidence, call: Call) -> None:
    evidence.write()
    damage_archive(evidence)
    done = call(*WORDS, "--json", "audit.json")
    assert done.code == 1
    exceptions = read(evidence.folder)
    assert exceptions["archive does not hold"] == 1
    # The two that were passed have no proof any more.
    assert exceptions["gate opened without a PASS verdict"] == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"score": 0.9, "pass_limit": 0.8}),
        ({}, {"score": 1.1}),
        ({"pass_limit"}, {"score": 1.1}),
        ({}, {"score": None}),
    ],
)
def test_a_pass_whose_score_is_above_its_pass_limit_is_named(
    evidence: Evidence, call: Call, old: set[str], new: dict[str, float | None]
) -> None:
    evidence.write()
    _rewritten(evidence.folder / "archive", old, new)
    assert call(*WORDS, "--json", "audit.json").code == 1
    assert read(evidence.folder) == {Fault.ABOVE.value: 1}


def test_an_archive_of_before_there_were_two_limits_is_audited(evidence: Evidence, call: Call) -> None:
    evidence.write()
    _rewritten(evidence.folder / "archive", {"pass_limit"}, {})
    assert call(*WORDS, "--json", "audit.json").code == 0
    assert read(evidence.folder) == {}


def _rewritten(archive: Path, old: set[str], new: dict[str, float | None]) -> None:
    """Every row without the columns ``old``, the first PASS with ``new``, and digests that fit again."""
    (table,) = archive.glob("shifts/*/verdicts/*.jsonl")
    before = table.read_bytes()
    rows = [json.loads(line) for line in before.splitlines()]
    next(row for row in rows if row["decision"] == "PASS").update(new)
    kept = [{name: value for name, value in row.items() if name not in old} for row in rows]
    after = "".join(f"{json.dumps(row)}\n" for row in kept).encode()
    table.write_bytes(after)
    for index in archive.glob("shifts/*/index/*.json"):
        index.write_bytes(index.read_bytes().replace(digest_of(before).encode(), digest_of(after).encode()))


def test_a_part_that_the_gate_decided_alone_is_counted_and_no_exception(
    evidence: Evidence, call: Call
) -> None:
    evidence.decisions[part(4)] = Decision.MISSING
    evidence.verdicts = [v for v in evidence.verdicts if v.part != part(4)]
    evidence.decisions[part(5)] = Decision.MISSING
    evidence.reasons[part(5)] = Reason.LATE
    evidence.write()
    done = call(*WORDS, "--json", "audit.json")
    assert done.code == 0, done.out
    found = json.loads((evidence.folder / "audit.json").read_text())
    assert (found["alone"], found["late"], found["verdicts"]) == (1, 1, 9)


def test_only_the_window_is_audited(evidence: Evidence, call: Call) -> None:
    undecided(evidence)
    evidence.write()
    words = (*WORDS, "--json", "audit.json", "--from")
    assert call(*words, "2023-11-14T22:13:24", "--to", "2023-11-14T22:13:28+00:00").code == 0
    found = json.loads((evidence.folder / "audit.json").read_text())
    assert found["triggers"] == 4
    assert call(*words, "2023-11-14T22:13:23").code == 1


def test_times_in_which_there_was_nothing_prove_nothing(evidence: Evidence, call: Call) -> None:
    evidence.write()
    done = call(*WORDS, "--from", "2020-01-05T06:00", "--to", "2020-01-05T14:00")
    assert "proven" not in done.out
    assert_one_line(done, 2, "no part from 2020-01-05 06:00:00 UTC", "logs name parts from 2023-11-14 22:13")


def test_an_archive_that_holds_nothing_of_the_times_is_an_exception(evidence: Evidence, call: Call) -> None:
    evidence.verdicts.clear()
    evidence.write()
    assert call(*WORDS, "--json", "audit.json").code == 1
    assert read(evidence.folder)["archive does not hold"] == 1


def test_exceptions_are_cut_short_and_listed_in_full_when_asked(evidence: Evidence, call: Call) -> None:
    evidence.decisions.clear()
    evidence.write()
    assert "and 5 more" in call(*WORDS).out
    assert all(str(part(n)) in call(*WORDS, "--all").out for n in range(10))


def test_mistakes_are_one_line(evidence: Evidence, call: Call) -> None:
    evidence.write()
    assert_one_line(call(*WORDS[:-1], "nowhere"), 2, "nowhere")
    assert_one_line(call(*WORDS, "--from", "yesterday"), 2, "--from", "ISO")
    assert_one_line(call(*WORDS, "--to", "1970-01-01"), 2, "--to")
    assert_one_line(call("audit", "--triggers", "no.jsonl", *WORDS[3:]), 2, "no.jsonl")
    assert_one_line(call(*WORDS, "--shifts", "25:00"), 2, "--shifts")


def test_windows() -> None:
    plan = Shifts.parse("06:00,14:00,22:00")
    now = START + 60 * S
    shift = plan.at(START)
    assert window(None, None, plan, now) == (0, now - 10 * S)
    assert window("shift", None, plan, now) == (shift.start, now - 10 * S)
    assert window("shift", "shift", plan, now) == (shift.start, now - 10 * S)
    early = window("2023-11-14T07:00", "shift", plan, now)
    assert early == (shift.start - 15 * 3600 * S, shift.start - 8 * 3600 * S)
    with pytest.raises(SettingsError):
        window(None, "shift", plan, now)


# What opened, and what was to open


def test_opened_counts_what_the_actuator_confirmed_and_the_rest_is_told_by_why(
    evidence: Evidence, call: Call
) -> None:
    for n in range(10):
        evidence.decisions[part(n)] = Decision.PASS
        evidence.verdicts[n] = replace(verdict(part(n)), captured_at=at(n))
    for n, outcome in enumerate(["behind", "behind", "actuator", "restart"]):
        evidence.outcomes[part(n)] = outcome
    evidence.write()
    done = call(*WORDS, "--json", "audit.json")
    assert done.code == 0, done.out
    found = json.loads((evidence.folder / "audit.json").read_text())
    assert (found["meant"], found["opened"], found["late"]) == (10, 6, 4)
    assert found["not_opened"] == {"actuator": 1, "behind": 2, "restart": 1}
    assert "opened, confirmed by the actuator: 6 of 10 decided to open" in done.out
    assert "too late: 2" in done.out


def test_an_opening_of_which_the_journal_does_not_say_what_became_is_an_exception(
    evidence: Evidence, call: Call
) -> None:
    evidence.outcomes[part(0)] = None
    evidence.write()
    assert call(*WORDS, "--json", "audit.json").code == 1
    assert read(evidence.folder) == {"opening without outcome": 1}


def test_an_actuator_that_opened_for_a_part_decided_to_stay_out_is_unsafe(
    evidence: Evidence, call: Call
) -> None:
    evidence.decisions[part(0)] = Decision.MISSING
    evidence.reasons[part(0)] = Reason.LATE
    evidence.write()
    with Journal(evidence.journal, sync=False) as journal:
        journal.note(part(0), ACTUATED, OPENED)
    assert call(*WORDS, "--json", "audit.json").code == 1
    assert read(evidence.folder) == {"gate opened without a PASS verdict": 1}


# The chain


def lines_of(e: Evidence) -> list[bytes]:
    return e.journal.read_bytes().splitlines(keepends=True)


def line_missing(e: Evidence) -> None:
    lines = lines_of(e)
    e.journal.write_bytes(b"".join(lines[:1] + lines[2:]))


def tail_cut(e: Evidence) -> None:
    e.journal.write_bytes(b"".join(lines_of(e)[:-1]))


def reordered(e: Evidence) -> None:
    lines = lines_of(e)
    lines[4], lines[5] = lines[5], lines[4]
    e.journal.write_bytes(b"".join(lines))


def doubled(e: Evidence) -> None:
    lines = lines_of(e)
    e.journal.write_bytes(b"".join([*lines[:2], lines[1], *lines[2:]]))


def retold(line: bytes, was: bytes, becomes: bytes) -> bytes:
    """The line with other words and the checksum that belongs to them."""
    text = line.rpartition(b" #")[0].replace(was, becomes)
    return text + b" #%08x\n" % crc32c.crc32c(text)


def edited(e: Evidence) -> None:
    lines = lines_of(e)
    lines[1] = retold(lines[1], b"opened", b"behind")
    e.journal.write_bytes(b"".join(lines))


def last_edited(e: Evidence) -> None:
    lines = lines_of(e)
    lines[-1] = retold(lines[-1], b'"seen_at":null', b'"seen_at":77')
    e.journal.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (line_missing, "gate.jsonl:2"),
        (tail_cut, "missing at the end"),
        (reordered, "gate.jsonl:5"),
        (doubled, "gate.jsonl:3"),
        (edited, "line 2 before it was changed after line 3 had been written"),
        (last_edited, "line 12 was changed"),
    ],
)
def test_whatever_is_done_to_a_journals_lines_is_named_with_its_place(
    evidence: Evidence, call: Call, break_it: Callable[[Evidence], None], named: str
) -> None:
    evidence.write()
    break_it(evidence)
    done = call(*WORDS, "--json", "audit.json")
    assert done.code == 1
    assert "not proven" in done.out
    assert "journal's chain is broken" in read(evidence.folder)
    assert named in (evidence.folder / "audit.json").read_text()


def test_a_middle_segment_that_is_gone_is_named_and_the_oldest_ones_may_be_moved_away(
    evidence: Evidence, call: Call
) -> None:
    evidence.max_bytes = 900
    evidence.write()
    segments = sorted(evidence.folder.glob("gate.jsonl.[0-9]*"))
    assert len(segments) >= 3
    assert call(*WORDS).code == 0
    segments[1].rename(evidence.folder / "hidden")
    assert call(*WORDS, "--json", "audit.json").code == 1
    assert read(evidence.folder)["journal's chain is broken"] == 1
    (evidence.folder / "hidden").rename(segments[1])
    segments[0].unlink()
    done = call(*WORDS, "--json", "audit.json")
    assert set(read(evidence.folder)) == {"decided in a segment that is gone"}
    (hint,) = json.loads((evidence.folder / "audit.json").read_text())["hints"].values()
    assert hint in " ".join(done.out.split())
    assert call(*WORDS, "--from", hint.split("--from ")[1].split(",")[0]).code == 0


def unchain(path: Path) -> None:
    """As an earlier version would have written it."""
    lines = []
    for line in path.read_bytes().splitlines():
        body = json.loads(line.rpartition(b" #")[0])
        text = json.dumps({k: v for k, v in body.items() if k not in ("n", "prev")}).encode()
        lines.append(text + b" #%08x\n" % crc32c.crc32c(text))
    path.write_bytes(b"".join(lines))
    path.with_name(path.name + ".lock").unlink()


def test_a_journal_of_an_earlier_version_is_read_and_proves_nothing_until_a_later_gate_has_written(
    evidence: Evidence, call: Call
) -> None:
    kept = dict(evidence.decisions)
    evidence.decisions = {one: decision for one, decision in kept.items() if one.trigger < 5}
    evidence.write()
    unchain(evidence.journal)
    with Journal(evidence.journal, sync=False) as journal:
        assert journal.recovery.decided == 5
        for one in [one for one in kept if one.trigger >= 5]:
            journal.append([evidence.entry(one, kept[one])])
            if kept[one] is Decision.PASS:
                journal.note(one, ACTUATED, OPENED)
    assert call(*WORDS, "--json", "audit.json").code == 1
    assert read(evidence.folder) == {"journal of an earlier version": 1}
    assert call(*WORDS, "--from", "2023-11-14T22:13:25").code == 0


# Windows and hints


def test_what_lies_outside_the_times_is_not_counted() -> None:
    verdicts, recorded = Verdicts(), Recorded()
    for n in range(10):
        recorded.triggers[part(n)] = at(n)
        seen = Seen(Decision.REJECT, at(n), "one", "topic")
        verdicts.add(part(n), seen)
        verdicts.add(part(n), replace(seen))
        verdicts.add(part(n), replace(seen, digest="two"))
    proof = prove(recorded, verdicts, at(2), at(5))
    assert (proof.triggers, proof.repeated) == (3, 3)
    assert proof.counts()[Fault.CONFLICT] == 3


def test_exceptions_that_have_one_cause_say_which_option_leaves_them_out(
    evidence: Evidence, call: Call
) -> None:
    evidence.verdicts += [
        replace(verdict(PartKey("s1", 0, n)), captured_at=at(-1000 + n)) for n in range(172)
    ]
    evidence.write()
    done = call(*WORDS, "--json", "audit.json")
    assert read(evidence.folder) == {"verdict without trigger": 172}
    hint = "all 172 belong to runs before your first trigger: use --from 2023-11-14T22:13:20"
    assert hint in " ".join(done.out.split())
    assert call(*WORDS, "--from", "2023-11-14T22:13:20").code == 0


def test_decisions_that_a_journal_cannot_have_say_which_journal_is_missing(
    evidence: Evidence, call: Call
) -> None:
    for n in (0, 1, 2):
        del evidence.decisions[part(n)]
    evidence.write()
    done = call(*WORDS, "--json", "audit.json")
    assert read(evidence.folder) == {"part without decision": 3}
    assert "all 3 belong to runs before your first decision" in " ".join(done.out.split())

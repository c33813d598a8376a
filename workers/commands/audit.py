"""``crosscheck audit``: triggers = decisions = verdicts, or what is wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.wire import decode_verdict
from workers.archive.hints import hints
from workers.archive.line import Evidence, Recorded, read_line
from workers.archive.proof import ORDER, Fault, Finding, Proof, Seen, Verdicts, prove
from workers.archive.rows import REPEAT, VERDICT, digest_of
from workers.archive.shifts import NS, Shifts
from workers.archive.storage import open_storage
from workers.archive.verify import Checked, Verifier
from workers.commands import console
from workers.commands.local import open_bus, open_store
from workers.errors import SettingsError
from workers.scan import records
from workers.settings import Settings

SETTLE_S = 10
"""Parts triggered less than so long ago may still be on their way."""
_ASK_AT_ONCE = 1000
_FOREVER = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be audited, and against what."""

    triggers: tuple[Path, ...]
    journals: tuple[Path, ...]
    since: str | None
    until: str | None
    archive: str | None
    endpoint: str | None
    kafka: bool
    redis: bool
    shifts: Shifts
    everything: bool


def window(since: str | None, until: str | None, shifts: Shifts, now: int) -> tuple[int, int]:
    """From when to when, nanoseconds since the epoch; ``shift`` is the begin or end of the other's shift.

    Raises:
        SettingsError: not a time, both are ``shift``, or the end is not behind the start.
    """
    if since == until == "shift":
        end = now - SETTLE_S * NS
        return shifts.at(end).start, end
    end = now - SETTLE_S * NS if until in (None, "shift") else _time("--to", str(until))
    start = shifts.at(end).start if since == "shift" else 0 if since is None else _time("--from", since)
    if until == "shift":
        if since is None:
            raise SettingsError("--to shift: name the time it lies in with --from")
        end = min(shifts.at(start).end, end)
    if end <= start:
        raise SettingsError(f"--to {_shown(end)} is not behind --from {_shown(start)}")
    return start, end


def _time(option: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{option} {text!r}: expected an ISO time, as 2026-01-31T06:00, or shift"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(moment.timestamp() * 1e6) * 1000


def _shown(when: int) -> str:
    return datetime.fromtimestamp(when // NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def run_audit(settings: Settings, asked: Asked, *, json_file: Path | None) -> int:
    """Read everything, compare, print; exit code 1 where the proof does not hold.

    Raises:
        SettingsError: a time or a place that cannot be, or a time in which there was nothing.
        SourceError: a log or journal that cannot be read.
        ServiceError: Kafka, Redis or the archive's store is away.
    """
    since, until = window(asked.since, asked.until, asked.shifts, time.time_ns())
    recorded = read_line(asked.triggers, asked.journals)
    verdicts = Verdicts()
    checked = None
    if asked.archive is not None:
        checked = _from_archive(verdicts, asked.archive, asked.endpoint, since, until)
    if asked.kafka:
        _from_topic(verdicts, settings)
    if asked.redis:
        _from_redis(verdicts, settings, recorded, since, until)
    proof = prove(recorded, verdicts, since, until)
    if checked is not None and not (checked.sealed or checked.open) and proof.triggers:
        # Verdicts may still have come from elsewhere: that does not make this folder anybody's evidence.
        says = "nothing of these times is filed in it"
        proof.findings.append(Finding(Fault.ARCHIVE, str(asked.archive), says))
    if not (proof.triggers or proof.decisions or proof.verdicts or proof.findings):
        # A proof about no part is one that a wrong date gives too.
        raise SettingsError(_nothing(recorded, since, until))
    where = [name for name, used in (("the result topic", asked.kafka), ("Redis", asked.redis)) if used]
    _show(
        proof,
        recorded,
        [*([asked.archive] if asked.archive else []), *where],
        since,
        until,
        checked,
        asked.everything,
    )
    console.write_json(json_file, to_json(proof, recorded, since, until, checked))
    return console.OK if proof.holds else console.BROKEN_PROMISE


def _nothing(recorded: Recorded, since: int, until: int) -> str:
    begin = "the beginning" if since == 0 else _shown(since)
    times = recorded.triggers.values()
    known = "the logs name no part at all"
    if times:
        known = f"the logs name parts from {_shown(min(times))} to {_shown(max(times))}"
    return f"no part from {begin} to {_shown(until)}, so nothing is proven; {known}"


def _from_archive(verdicts: Verdicts, place: str, endpoint: str | None, since: int, until: int) -> Checked:
    verifier = Verifier(open_storage(place, endpoint=endpoint), since, until)
    repeats: list[tuple[PartKey, str, str]] = []
    for where, row in verifier.rows():
        if row.part is None or row.decision is None:
            verdicts.findings.append(Finding(Fault.DAMAGED, where, "a record of the result topic"))
            continue
        if row.passed_above_its_limit:
            says = f"score {row.score}, pass limit {row.limit}, in {where}"
            verdicts.findings.append(Finding.of(Fault.ABOVE, row.part, says, row.captured_at))
        if row.kind == VERDICT:
            verdicts.add(row.part, Seen(row.decision, row.captured_at, row.digest, where), once=True)
        elif row.kind == REPEAT:
            repeats.append((row.part, row.digest, f"{row.decision} in {where}"))
    for part, digest, says in repeats:
        first = verdicts.first.get(part)
        # The first may lie in an older shift than was asked for, or in a file that is gone.
        if first is not None and first.digest != digest:
            verdicts.conflict(part, f"{first.decision} in {first.where}, then {says}")
    verdicts.findings += [Finding(Fault.ARCHIVE, flaw.where, flaw.says) for flaw in verifier.found.flaws]
    return verifier.found


def _from_topic(verdicts: Verdicts, settings: Settings) -> None:
    topic = settings.topic("verdicts")
    bus = open_bus(settings, "verdicts")
    try:
        for record in records(bus, topic):
            try:
                verdict = decode_verdict(record.value)
            except SchemaError as error:
                says = f"{error.reason}: {error}"
                where = f"{topic}/{record.partition}/{record.offset}"
                verdicts.findings.append(Finding(Fault.DAMAGED, where, says))
                continue
            seen = Seen(verdict.decision, verdict.captured_at, digest_of(record.value), topic)
            verdicts.add(verdict.part, seen)
    finally:
        bus.close()


def _from_redis(verdicts: Verdicts, settings: Settings, recorded: Recorded, since: int, until: int) -> None:
    store = open_store(settings)
    parts = [part for part, at in recorded.triggers.items() if since <= at < until]
    for at in range(0, len(parts), _ASK_AT_ONCE):
        chosen = parts[at : at + _ASK_AT_ONCE]
        for part, value in zip(chosen, store.standing_many(chosen), strict=True):
            if value is None:
                continue
            try:
                verdict = decode_verdict(value)
            except SchemaError as error:
                verdicts.findings.append(Finding(Fault.DAMAGED, f"{part} in Redis", str(error)))
                continue
            verdicts.add(part, Seen(verdict.decision, verdict.captured_at, digest_of(value), "Redis"))


def to_json(
    proof: Proof, recorded: Recorded, since: int, until: int, checked: Checked | None
) -> dict[str, Any]:
    """The proof with stable keys."""
    return {
        "holds": proof.holds,
        "from": since,
        "to": until,
        **{
            name: getattr(proof, name)
            for name in (
                "triggers", "decisions", "verdicts", "meant", "opened", "alone", "late", "repeated",
            )
        },
        "by_verdict": dict(sorted(proof.by_verdict.items())),
        "by_decision": dict(sorted(proof.by_decision.items())),
        "not_opened": dict(sorted(proof.not_opened.items())),
        "exceptions": {fault.value: count for fault, count in proof.counts().items()},
        "findings": [
            {"what": finding.fault.value, "where": finding.where, "says": finding.says}
            for finding in proof.findings
        ],
        "hints": {fault.value: says for fault, says in hints(proof, recorded).items()},
        "journals": [_told(evidence) for evidence in recorded.journals],
        "archive": None if checked is None else asdict(checked) | {"flaws": len(checked.flaws)},
    }  # fmt: skip


def _told(evidence: Evidence) -> dict[str, Any]:
    return asdict(evidence) | {"path": str(evidence.path), "told": list(evidence.told)}


_WHY = {
    "behind": "too late",
    "actuator": "the actuator did not confirm",
    "restart": "the gate ended in between, so nobody knows",
    "untold": "the journal does not say",
}


def _show(
    proof: Proof,
    recorded: Recorded,
    sources: Sequence[str],
    since: int,
    until: int,
    checked: Checked | None,
    everything: bool,
) -> None:
    out = console.out
    begin = "the beginning" if since == 0 else _shown(since)
    out.print(f"parts triggered from {begin} to {_shown(until)}; verdicts from {', '.join(sources)}")
    table = Table()
    for name in ("", "parts", "PASS", "REJECT", "REVIEW", "STALE", "ERROR", "MISSING"):
        table.add_column(name, justify="right" if name else "left")
    kinds = ("PASS", "REJECT", "REVIEW", "STALE", "ERROR", "MISSING")
    table.add_row("triggers", str(proof.triggers), *[""] * len(kinds))
    table.add_row("decisions", str(proof.decisions), *(str(proof.by_decision[kind]) for kind in kinds))
    table.add_row("verdicts", str(proof.verdicts), *(str(proof.by_verdict[kind]) for kind in kinds))
    out.print(table)
    out.print(
        f"opened, confirmed by the actuator: {proof.opened} of {proof.meant} decided to open",
        *(f"; {_WHY.get(why, why)}: {count}" for why, count in sorted(proof.not_opened.items())),
        sep="",
        highlight=False,
    )
    out.print(
        f"decided with no verdict there in time: {proof.alone}; "
        f"PASS that opened nothing: {proof.late}; the same verdict again: {proof.repeated}",
        highlight=False,
    )
    _show_journals(recorded)
    if checked is not None:
        shifts = f"{len(checked.sealed)} sealed shifts, {len(checked.open)} not sealed yet"
        out.print(
            f"archive: {shifts}, {checked.files} files compared with their digests; "
            f"images gone before they were archived: {checked.images_gone} parts; "
            f"records gone before they were archived: {checked.gaps}",
            highlight=False,
        )
    if proof.holds:
        out.print("[bold green]proven[/]: every trigger ended in one decision, and each rests on its verdict")
        return
    _show_findings(proof, everything)
    for fault, says in hints(proof, recorded).items():
        out.print(f"{fault.value}: {says}", highlight=False, soft_wrap=True)
    if checked is not None and checked.open and proof.counts()[Fault.NO_VERDICT]:
        out.print("the last shift is still being filed: ask again later, or add --kafka or --redis")
    count = len(proof.findings)
    out.print(f"[bold red]not proven[/]: {count} exception{'s' if count > 1 else ''}")


def _show_journals(recorded: Recorded) -> None:
    for found in recorded.journals:
        reach = "its lines are not numbered"
        if found.first is not None:
            reach = f"lines {found.first} to {found.last}, the last one's digest {found.digest}"
        console.out.print(Text(f"{found.path}: {reach}"), soft_wrap=True)
        if found.unlocked:
            says = f"{found.path}.lock is not there: a tail that was cut off would not be seen"
            console.out.print(Text(says), style="yellow", soft_wrap=True)
        for says in found.told:
            console.out.print(Text(says), style="yellow", soft_wrap=True)


def _show_findings(proof: Proof, everything: bool) -> None:
    table = Table(title="exceptions")
    for name in ("what", "where", "says"):
        # What it is stands on one line however narrow the terminal: it is what one searches for.
        table.add_column(name, overflow="fold", no_wrap=name == "what")
    counts = proof.counts()
    shown = 0
    for fault in ORDER:
        mine = [finding for finding in proof.findings if finding.fault is fault]
        for finding in mine if everything else mine[:5]:
            says = "".join(c if c.isprintable() else "\ufffd" for c in finding.says)
            table.add_row(fault.value, Text(finding.where), Text(says))
            shown += 1
        if not everything and counts[fault] > 5:
            table.add_row(fault.value, f"and {counts[fault] - 5} more", "--all lists them")
    console.out.print(table)

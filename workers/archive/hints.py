"""What most exceptions of a kind have in common, and which option leaves them out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from workers.archive.line import Recorded
from workers.archive.proof import Fault, Proof

_UNTRIGGERED = (Fault.NO_TRIGGER, Fault.UNKNOWN)
_UNDECIDED = (Fault.UNDECIDED, Fault.GONE)


def hints(proof: Proof, recorded: Recorded) -> dict[Fault, str]:
    """By kind of exception, one sentence; none where there is nothing to say."""
    found: dict[Fault, str] = {}
    times = recorded.triggers.values()
    decided = [entry.triggered_at for entry in recorded.decided.values()]
    for fault in proof.counts():
        at = [finding.at for finding in proof.findings if finding.fault is fault]
        if fault is Fault.VERSION:
            last = max(time for time in at if time is not None)
            later = [time for time in decided if time > last]
            if later:
                found[fault] = f"a later gate has written on: use --from {iso(min(later))}"
        elif fault in _UNTRIGGERED and times:
            say = _outside(at, min(times), max(times), "trigger", "log with --triggers")
            found |= {fault: say} if say else {}
        elif fault in _UNDECIDED and decided:
            say = _outside(at, min(decided), max(decided), "decision", "journal with --journal")
            found |= {fault: say} if say else {}
    return found


def _outside(times: Iterable[int | None], first: int, last: int, what: str, other: str) -> str | None:
    known = list(times)
    before = sum(1 for at in known if at is not None and at < first)
    after = sum(1 for at in known if at is not None and at > last)
    count, whole = max(before, after), len(known)
    if not count:
        return None
    many = f"all {whole} belong" if whole > 1 else "it belongs"
    if count < whole:
        many = f"{count} of {whole} belong"
    if before >= after:
        return f"{many} to runs before your first {what}: use --from {iso(first)}, or name the older {other}"
    to = iso(last, up=True)
    return f"{many} to parts behind your last {what}: use --to {to}, or name the newer {other}"


def iso(when: int, *, up: bool = False) -> str:
    """As ``--from`` and ``--to`` take it; to the microsecond below, or the one above with ``up``."""
    micros = when // 1000 + up
    moment = datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")

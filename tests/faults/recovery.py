"""How soon the partitions of a killed worker are served again, and that nothing passed in between.

    python tests/faults/recovery.py --times 5

Two workers, parts that are due two seconds after their trigger. One worker is killed; its stations' first
verdict by the other one is timed, and every part of theirs whose moment at the gate lay in between is looked
up: none may have passed. Exit code 1 when one did, or when a first verdict took longer than the bound.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from schemas.verdict import Decision
from schemas.wire import decode_verdict
from tests.e2e.processes import wait_until
from tests.e2e.topics import records_of
from tests.faults.ledger import another
from tests.faults.rig import Injection, Line, LineSetup, line
from tests.faults.soak import quiet, staged
from tests.faults.stage import Stage, pace
from workers.commands import console
from workers.gate import audit

BOUND_S = 10.0
TO_GATE_S = 2.0


@dataclass(frozen=True, slots=True)
class Takeover:
    """One kill.

    Attributes:
        first_s: from the kill to the first verdict of the dead worker's partitions by the other one.
        in_time_s: from the kill to the moment when each of its stations had a verdict in time again.
        between: parts of its stations that were at the gate before that first verdict.
        passed: how many of these passed.
    """

    first_s: float
    in_time_s: float
    between: int
    passed: int
    decisions: dict[str, int]


def run(stage: Stage, times: int, *, real: bool = True) -> list[Takeover]:
    """Kill one of two workers so many times, each time the next one."""
    setup = LineSetup(
        real=real,
        workers=2,
        stations=4,
        rate=4.0,
        to_gate_s=TO_GATE_S,
        settings={"max_clock_offset_ms": 5000.0},
    )
    with line(stage.rig, setup, "recovery") as running:
        for number in range(times):
            victim = running.crew.living()[number % 2]
            held = running.stations_of(victim)
            victim.signal(signal.SIGKILL)
            fault = running.injected("SIGKILL", held, victim=victim.name)
            running.recovered(fault)
            wait_until(lambda: len(running.crew.living()) == 2, 10.0, "the dead worker's successor")
            running.crew.wait_settled(running.partitions, 60.0)
            pace(2.0)
        running.finish(timeout=60.0)
        return [_takeover(running, fault) for fault in running.injections]


def _takeover(running: Line, fault: Injection) -> Takeover:
    verdicts = [decode_verdict(record.value) for record in records_of(running.bus, running.verdicts)]
    first = min(
        v.decided_at
        for v in verdicts
        if v.part.station in fault.stations and v.decided_at > fault.at and another(v, fault)
    )
    again = [running.answered_since(fault.at, station) or 0 for station in fault.stations]
    decisions: Counter[str] = Counter()
    passed = 0
    for station in fault.stations:
        found = audit(running.agent_log(station), running.journal(station), station=station)
        for part, entry in found.decided.items():
            if entry.triggered_at > fault.at and entry.due < first:
                decisions[entry.decision.decision.value] += 1
                passed += part in found.opened or entry.decision.decision is Decision.PASS
    return Takeover(
        (first - fault.at) / 1e9,
        (max(again) - fault.at) / 1e9,
        sum(decisions.values()),
        passed,
        dict(decisions),
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run it; 1 when the bound was missed or a part passed."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(words)
    quiet()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crosscheck-recovery-") as folder, staged(Path(folder)) as stage:
        found = run(stage, options.times)
    table = Table(title="One of two workers killed")
    for name in ("first verdict s", "in time again s", "parts in between", "of these passed", "decisions"):
        table.add_column(name, justify="right")
    for each in found:
        row = (f"{each.first_s:.1f}", f"{each.in_time_s:.1f}", each.between, each.passed, each.decisions)
        table.add_row(*map(str, row))
    Console(width=120).print(table)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    print(f"{time.monotonic() - began:.0f} s in all")
    kept = all(each.first_s <= BOUND_S and not each.passed for each in found)
    return console.OK if kept else console.BROKEN_PROMISE


if __name__ == "__main__":
    sys.exit(main())

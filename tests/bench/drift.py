"""How often drift warns of lines that do not change, and how soon of those that do.

    python -m tests.bench.drift [--stations 10] [--json FILE]

Made-up lines: scores from a distribution, in lots, with defects; see ``tests/workers/drift/streams.py``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from schemas.verdict import Mode
from tests.workers.drift.streams import Line
from workers.drift.scores import ScoreSeries
from workers.drift.series import SLOWER, ScoreWatch, Seen
from workers.drift.window import Pace

PARTS = 100_000
LOTS = ((1, 0.0), (40, 0.3), (100, 0.3), (200, 0.3), (1000, 0.3))
CREEPS = ((1, 0.0, 20_000), (20, 0.1, 40_000), (40, 0.3, 20_000), (40, 0.3, 150_000))
CREEP = 0.5
"""Standard deviations, at the end."""
JUMPS = (0.5, 1.0, 2.0)
BEFORE = 20_000
"""Parts before a change."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Lines that do not change."""

    lot: int
    alike: float
    parts: int
    warnings: int


@dataclass(frozen=True, slots=True)
class Creep:
    """Lines whose scores creep up by ``CREEP`` over ``over`` parts; shifts are standard deviations."""

    lot: int
    alike: float
    over: int
    lines: int
    warned: int
    before_doubled: int
    shift: float | None
    doubled: float


@dataclass(frozen=True, slots=True)
class Jump:
    """Lines whose scores jump."""

    by: float
    lines: int
    warned: int
    after: float | None


def warnings(line: Line) -> list[int]:
    """The parts at which a warning begins, by the fast and the slow look together."""
    pace = Pace()
    watch = ScoreWatch(ScoreSeries(line.sketch, pace), ScoreSeries(line.sketch, pace.slower(SLOWER)))
    out = []
    for at, score in enumerate(line.scores.tolist()):
        if watch.add(Seen("s1", "cap", "", Mode.FUSED, score), at) and watch.since is not None:
            out.append(at)
    return out


def quiet(lot: int, alike: float, stations: int) -> Quiet:
    """False warnings."""
    found = [warnings(Line.of(1000 + seed, PARTS, lot=lot, alike=alike)) for seed in range(stations)]
    return Quiet(lot, alike, stations * PARTS, sum(map(len, found)))


def creep(lot: int, alike: float, over: int, lines: int) -> Creep:
    """How far the scores have come when it warns, and when the false rejects have doubled."""
    parts = BEFORE + over + 10_000
    rising = CREEP * np.clip((np.arange(parts) - BEFORE) / over, 0, 1)
    shifts, doubled, early = [], [], 0
    for seed in range(lines):
        line = Line.of(2000 + seed, parts, lot=lot, alike=alike, creep=rising)
        limit = np.log(line.threshold) / 0.3
        doubled.append(float(limit - stats.norm.isf(2 * stats.norm.sf(limit))))
        begun = [at for at in warnings(line) if at > BEFORE]
        if begun:
            shifts.append(float(rising[begun[0]]))
            early += shifts[-1] < doubled[-1]
    middle = median(shifts) if shifts else None
    return Creep(lot, alike, over, lines, len(shifts), early, middle, median(doubled))


def jump(by: float, lines: int) -> Jump:
    """How many parts after a jump it warns."""
    after = []
    for seed in range(lines):
        risen = np.where(np.arange(BEFORE + 6000) >= BEFORE, by, 0.0)
        begun = [at - BEFORE for at in warnings(Line.of(3000 + seed, len(risen), creep=risen)) if at > BEFORE]
        after.extend(begun[:1])
    return Jump(by, lines, len(after), median(after) if after else None)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stations", type=int, default=10)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    out = Console()
    still = [quiet(lot, alike, asked.stations) for lot, alike in LOTS]
    table = Table("lot", "alike", "parts", "warnings", "per 100,000", title="no change")
    for row in still:
        rate = f"{1e5 * row.warnings / row.parts:.2f}"
        table.add_row(str(row.lot), f"{row.alike:g}", f"{row.parts:,}", str(row.warnings), rate)
    out.print(table)
    rising = [creep(*one, asked.stations) for one in CREEPS]
    table = Table(
        "lot", "alike", "over", "warned", "before doubled", "at", "doubled at", title=f"+{CREEP} sd"
    )
    for each in rising:
        at = "-" if each.shift is None else f"{each.shift:.2f}"
        shares = f"{each.warned}/{each.lines}", f"{each.before_doubled}/{each.lines}"
        table.add_row(str(each.lot), f"{each.alike:g}", f"{each.over:,}", *shares, at, f"{each.doubled:.2f}")
    out.print(table)
    jumps = [jump(by, asked.stations) for by in JUMPS]
    table = Table("jump, sd", "warned", "after parts", title="jumps, independent parts")
    for one in jumps:
        after = "-" if one.after is None else f"{one.after:.0f}"
        table.add_row(f"{one.by:g}", f"{one.warned}/{one.lines}", after)
    out.print(table)
    if asked.json is not None:
        found: dict[str, list[Any]] = {"still": [*still], "creeps": [*rising], "jumps": [*jumps]}
        values = {name: [asdict(row) for row in rows] for name, rows in found.items()}
        asked.json.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()

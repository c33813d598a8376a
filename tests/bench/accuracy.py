"""How well it detects: several seeds, a folder of real parts or synthetic parts of unseen seeds.

    python tests/bench/accuracy.py                          synthetic parts of 256 pixels
    python tests/bench/accuracy.py --sizes 192,256,512      at three sizes
    python tests/bench/accuracy.py --data DIR               a folder with train/, validation/ and test/

Each seed teaches anew. Rows are the modes, the other rules of fusion on the same evidence, and each branch
alone; FUSED is the default. Figures are means over seeds, with the 95 % interval of the mean for synthetic
parts, and the first seed's bootstrap over groups for a folder, whose seeds share their frames.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from inference.datasets.base import Dataset
from inference.datasets.open import open_dataset
from inference.datasets.synthetic import SyntheticDataset
from inference.evaluate import evaluate
from inference.inspector import Inspector
from inference.results import Combined, Measure, Report, combine
from inference.teach import TeachSettings, teach
from tests.bench.claims import LEAST, Claim, claims

MARGIN = 0.03
"""How far FUSED may be under its best branch on any kind, in I-AUROC."""

# Wide, so that a table written to a file keeps its columns.
console = Console(width=170)


def judge(dataset: Dataset, seed: int, folder: Path, bootstrap: int, profile: str) -> Report:
    """Teach with a seed and evaluate."""
    settings = TeachSettings(seed=seed, profile=profile)
    bundle = teach(dataset, folder / f"seed-{seed}", name="bench", settings=settings)
    return evaluate(Inspector.load(bundle), dataset, bootstrap=bootstrap, seed=seed)


def mean(measures: Sequence[Measure]) -> float | None:
    """The mean of one figure over seeds; None where a seed has none."""
    values = [measure.value for measure in measures if measure.value is not None]
    return float(np.mean(values)) if values and len(values) == len(measures) else None


def shown(value: float | None) -> str:
    """A figure for the table."""
    return "-" if value is None else f"{value:.3f}"


def spread(measures: Sequence[Measure], *, independent: bool) -> str:
    """The interval beside it."""
    found: Combined | None = combine(measures, independent=independent)
    interval = None if found is None else found.interval if independent else measures[0].interval
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def overall(reports: Sequence[Report], title: str, *, independent: bool) -> None:
    """Every row over all defects."""
    table = Table(title=title)
    headings = ("I-AUROC", "95 %", "P-AUROC", "AUPRO@30", "95 %", "@1", "AP", "F1")
    for heading in ("", *headings, "false rejects", "95 %", "misses", "95 %"):
        table.add_column(heading, justify="left" if not heading else "right")
    first = reports[0]
    ends = {list(rows)[-1] for rows in (first.modes, first.fusions) if rows}
    for name in first.rows():
        rows = [report.rows()[name] for report in reports if name in report.rows()]
        cells = [name]
        for figure, with_interval in (
            ("i_auroc", True),
            ("p_auroc", False),
            ("aupro_30", True),
            ("aupro_01", False),
            ("i_ap", False),
            ("f1_max", False),
            ("false_reject_rate", True),
            ("miss_rate", True),
        ):
            measures = [row.of(figure) for row in rows]
            cells.append(shown(mean(measures)))
            if with_interval:
                cells.append(spread(measures, independent=independent))
        table.add_row(*cells, end_section=name in ends)
    console.print(table)


def by_kind(reports: Sequence[Report]) -> bool:
    """FUSED against its best branch on each kind; whether it holds everywhere."""
    branches, fusions = list(reports[0].branches), list(reports[0].fusions)
    table = Table(title=f"I-AUROC by kind, mean of {len(reports)} seeds")
    headings = ("kind", "FUSED", *branches, "RGB", "DEPTH", *fusions, f"FUSED >= best - {MARGIN}", "misses")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    holds = True
    for kind in reports[0].kinds:
        tables = [report.rows_of(kind) for report in reports]
        area = {
            name: mean([rows[name].i_auroc for rows in tables if name in rows])
            for name in ("FUSED", *branches, "RGB", "DEPTH", *fusions)
        }
        best = max((value for name in branches if (value := area[name]) is not None), default=0.0)
        fused = area["FUSED"]
        ok = fused is not None and fused >= best - MARGIN
        holds = holds and ok
        missed = mean([rows["FUSED"].miss_rate for rows in tables])
        table.add_row(kind, *map(shown, area.values()), "yes" if ok else "NO", shown(missed))
    console.print(table)
    return holds


def say(found: Sequence[Claim], where: str) -> bool:
    """The claims about the default in sentences; whether all hold."""
    for claim in found:
        noise = "" if np.isnan(claim.high) else f" ({claim.low:.3f} to {claim.high:.3f})"
        verdict = "the default is the best or within noise of it" if claim.holds else "BEHIND"
        console.print(
            f"{where}, {claim.kind}: FUSED {claim.default:.3f}{noise}, best other {claim.best_row} "
            f"{claim.best:.3f}: {verdict}; misses {100 * claim.missed:.1f} %"
        )
    if not found:
        return True
    weakest = min(found, key=lambda claim: claim.default)
    said = f"no kind below {LEAST:.2f}" if weakest.strong else f"BELOW {LEAST:.2f}"
    console.print(f"{where}: weakest kind {weakest.kind} {weakest.default:.3f}: {said}")
    return all(claim.holds and claim.strong for claim in found)


def synthetic(seed: int, size: int, defects: int) -> SyntheticDataset:
    """Parts of a product of their own."""
    return SyntheticDataset(
        train=80,
        validation=30,
        test_good=60,
        defects_per_kind=defects,
        seed=seed,
        product=seed,
        size=size,
        contrast=(0.5, 1.5),
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder with train/, validation/ and test/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=101, help="synthetic: parts of this seed and after")
    parser.add_argument("--sizes", default="256", help="synthetic: pixels a side, separated by commas")
    parser.add_argument("--defects", type=int, default=30, help="synthetic: defects of each kind")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--profile", default="compact")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; 1 when FUSED falls behind a row on a kind, or a kind is weak."""
    args = arguments()
    holds = True
    written: dict[str, Any] = {}
    for size in [0] if args.data is not None else [int(one) for one in args.sizes.split(",")]:
        reports: list[Report] = []
        where = str(args.data) if args.data is not None else f"synthetic parts of {size} pixels"
        with tempfile.TemporaryDirectory() as folder:
            for number in range(args.seeds):
                real = args.data is not None
                seed = number if real else args.first_seed + number
                dataset = open_dataset(args.data) if real else synthetic(seed, size, args.defects)
                reports.append(judge(dataset, seed, Path(folder), args.bootstrap, args.profile))
                console.print(f"{where}, seed {seed}: FUSED I-AUROC {shown(mean([_default(reports[-1])]))}")
        independent = args.data is None
        overall(reports, f"{where}, mean of {args.seeds} seeds", independent=independent)
        holds = by_kind(reports) and holds
        found = claims(reports, independent=independent)
        holds = say(found, where) and holds
        written["data" if args.data is not None else str(size)] = {
            "reports": [report.to_json() for report in reports],
            "claims": [claim.to_json() for claim in found],
        }
    if args.json is not None:
        args.json.write_text(json.dumps(written, indent=2))
    return 0 if holds else 1


def _default(report: Report) -> Measure:
    fullest = report.fullest
    return Measure() if fullest is None else report.modes[fullest].i_auroc


if __name__ == "__main__":
    sys.exit(main())

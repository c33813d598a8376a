"""How well it detects: several seeds, a folder of real parts or synthetic parts of unseen seeds.

    python tests/bench/accuracy.py                      synthetic: FUSED against its best branch, per kind
    python tests/bench/accuracy.py --data DIR           a folder with train/, validation/ and test/

Each seed teaches anew. Figures are means over seeds; intervals are the first seed's bootstrap over groups.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from inference.datasets.base import Dataset
from inference.datasets.surface import SurfaceDataset
from inference.datasets.synthetic import SyntheticDataset
from inference.evaluate import evaluate
from inference.inspector import Inspector
from inference.teach import TeachSettings, teach

MARGIN = 0.03
"""How far FUSED may be under its best branch on any kind, in I-AUROC."""

# Wide, so that a table written to a file keeps its columns.
console = Console(width=150)


def judge(dataset: Dataset, seed: int, folder: Path, bootstrap: int) -> dict[str, Any]:
    """Teach with a seed, evaluate, and return the report as plain values."""
    bundle = teach(dataset, folder / f"seed-{seed}", name="bench", settings=TeachSettings(seed=seed))
    return evaluate(Inspector.load(bundle), dataset, bootstrap=bootstrap, seed=seed).to_json()


def mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The mean of one figure over seeds; None where a seed has none."""
    values = [row[name] for row in rows]
    return None if any(value is None for value in values) else float(np.mean(values))


def shown(value: float | None) -> str:
    """A figure for the table."""
    return "-" if value is None else f"{value:.3f}"


def overall(reports: Sequence[Mapping[str, Any]], title: str) -> None:
    """Modes and branches over all defects."""
    table = Table(title=title)
    for heading in ("", "I-AUROC", "95 %", "P-AUROC", "AUPRO@30", "95 %", "false rejects", "misses"):
        table.add_column(heading, justify="left" if not heading else "right")
    for section in ("modes", "branches"):
        for name in reports[0][section]:
            rows = [report[section][name] for report in reports]
            cells = [name]
            for figure, with_interval in (("i_auroc", True), ("p_auroc", False), ("aupro_30", True)):
                cells.append(shown(mean(rows, figure)))
                if with_interval:
                    interval = rows[0][f"{figure}_interval"]
                    cells.append("-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}")
            cells += [shown(mean(rows, "false_reject_rate")), shown(mean(rows, "miss_rate"))]
            table.add_row(*cells, end_section=name == list(reports[0][section])[-1])
    console.print(table)


def by_kind(reports: Sequence[Mapping[str, Any]]) -> bool:
    """FUSED against its best branch on each kind; whether it holds everywhere."""
    branches = list(reports[0]["branches"])
    table = Table(title=f"I-AUROC by kind, mean of {len(reports)} seeds")
    for heading in ("kind", "FUSED", *branches, "RGB", "DEPTH", f"FUSED >= best - {MARGIN}", "misses"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    holds = True
    for kind in reports[0]["kinds"]:
        of_kind = [report["kinds"][kind] for report in reports]
        fused = mean([row["FUSED"] for row in of_kind], "i_auroc")
        each = [mean([row["branches"][name] for row in of_kind], "i_auroc") for name in branches]
        best = max(value for value in each if value is not None)
        ok = fused is not None and fused >= best - MARGIN
        holds = holds and ok
        modes = [mean([row[mode] for row in of_kind], "i_auroc") for mode in ("RGB", "DEPTH")]
        missed = mean([row["FUSED"] for row in of_kind], "miss_rate")
        cells = [shown(fused), *map(shown, each), *map(shown, modes)]
        table.add_row(kind, *cells, "yes" if ok else "NO", shown(missed))
    console.print(table)
    return holds


def main() -> int:
    """Run the benchmark; 1 when FUSED falls behind a branch on a kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder with train/, validation/ and test/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=101, help="synthetic: parts of this seed and after")
    parser.add_argument("--defects", type=int, default=30, help="synthetic: defects of each kind")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    reports: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.seeds):
            seed = args.first_seed + number
            dataset: Dataset = (
                SurfaceDataset(args.data)
                if args.data is not None
                else SyntheticDataset(
                    train=80,
                    validation=30,
                    test_good=60,
                    defects_per_kind=args.defects,
                    seed=seed,
                    product=seed,
                    contrast=(0.5, 1.5),
                )
            )
            chosen = number if args.data is not None else seed
            reports.append(judge(dataset, chosen, Path(folder), args.bootstrap))
            console.print(f"seed {chosen}: FUSED I-AUROC {reports[-1]['modes']['FUSED']['i_auroc']:.3f}")
    where = str(args.data) if args.data is not None else "synthetic parts"
    overall(reports, f"{where}, mean of {args.seeds} seeds")
    holds = by_kind(reports)
    if args.json is not None:
        args.json.write_text(json.dumps(reports, indent=2))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

"""How well it detects: several seeds, a folder of real parts or synthetic parts of unseen seeds.

    python tests/bench/accuracy.py                          synthetic parts of 256 pixels
    python tests/bench/accuracy.py --sizes 192,256,512      at three sizes
    python tests/bench/accuracy.py --data DIR               a folder with train/, validation/ and test/
    python tests/bench/accuracy.py --data MVTEC --profile reference --dino FILE --point-mae FILE --report FILE
                                                            each category of a data set, and their mean

Each seed teaches anew. Rows are the modes, the other rules of fusion on the same evidence, and each branch
alone; FUSED is the default. A good part is REJECT, REVIEW or PASS, and so is a bad one: misses are the bad
parts that PASS. Figures are means over seeds, with the 95 % interval of the mean for synthetic
parts, and the first seed's bootstrap over groups for a folder, whose seeds share their frames.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from inference.datasets.base import Dataset
from inference.datasets.open import categories, open_dataset
from inference.datasets.synthetic import SyntheticDataset
from inference.evaluate import evaluate
from inference.inspector import Inspector
from inference.profiles.runtime import Runtime
from inference.report import write_report
from inference.results import Combined, Measure, Report, combine
from inference.teach import teach
from inference.teach_settings import TeachSettings
from tests.bench.claims import LEAST, Claim, claims
from workers.commands.threads import calmly

MARGIN = 0.03
"""How far FUSED may be under its best branch on any kind, in I-AUROC."""

# Wide, so that a table written to a file keeps its columns.
console = Console(width=200)


def judge(dataset: Dataset, name: str, seed: int, folder: Path, args: argparse.Namespace) -> Report:
    """Teach with a seed and evaluate."""
    settings = TeachSettings(seed=seed, profile=args.profile, device=args.device)
    runtime = Runtime(dino=args.dino, point_mae=args.point_mae)
    bundle = teach(dataset, folder / f"seed-{seed}", name=name, settings=settings, runtime=runtime)
    inspector = Inspector.load(bundle, device=args.device, runtime=runtime)
    return evaluate(
        inspector,
        dataset,
        bootstrap=args.bootstrap,
        seed=seed,
        leave_out_unmarked=args.leave_out_unmarked,
    )


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
    limits = ("good REJECT", "95 %", "good REVIEW", "misses", "95 %", "bad REVIEW")
    for heading in ("", *headings, *limits):
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
            ("good_review_rate", False),
            ("miss_rate", True),
            ("defect_review_rate", False),
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
    parser.add_argument("--dino", type=Path, help="weights file, for the reference profile")
    parser.add_argument("--point-mae", type=Path, help="weights file, for the reference profile")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--leave-out-unmarked", action="store_true", help="leave out defects whose masks mark nothing"
    )
    parser.add_argument("--report", type=Path, help="a page with charts and pictures, of the first seed")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Place:
    """One set of tables: a size of synthetic parts, a folder, or a category of a data set."""

    key: str
    title: str
    open: Callable[[int], Dataset]


def places(args: argparse.Namespace) -> list[Place]:
    """What is measured."""
    if args.data is None:

        def rendered(size: int) -> Callable[[int], Dataset]:
            return lambda seed: synthetic(seed, size, args.defects)

        sizes = [int(one) for one in args.sizes.split(",")]
        return [Place(str(size), f"synthetic parts of {size} pixels", rendered(size)) for size in sizes]
    names = categories(args.data)
    if not names:
        return [Place("data", str(args.data), lambda _: open_dataset(args.data))]

    def category(name: str) -> Callable[[int], Dataset]:
        return lambda _: open_dataset(args.data, category=name)

    return [Place(name, name, category(name)) for name in names]


def main() -> int:
    """Run the benchmark; 1 when FUSED falls behind a row on a kind, or a kind is weak."""
    args = arguments()
    calmly(args.profile)
    holds = True
    real = args.data is not None
    written: dict[str, Any] = {}
    everything: list[list[Report]] = []
    for place in places(args):
        reports: list[Report] = []
        with tempfile.TemporaryDirectory() as folder:
            for number in range(args.seeds):
                seed = number if real else args.first_seed + number
                reports.append(judge(place.open(seed), place.key, seed, Path(folder), args))
                console.print(
                    f"{place.title}, seed {seed}: FUSED I-AUROC {shown(_default(reports[-1]).value)}"
                )
        overall(reports, f"{place.title}, mean of {args.seeds} seeds", independent=not real)
        holds = by_kind(reports) and holds
        found = claims(reports, independent=not real)
        holds = say(found, place.title) and holds
        everything.append(reports)
        written[place.key] = {
            "reports": [report.to_json() for report in reports],
            "claims": [claim.to_json() for claim in found],
        }
    if len(everything) > 1:
        # Over categories (or sizes), which share no frame; of a folder the first seed, as seeds share theirs.
        flat = [report for reports in everything for report in (reports[:1] if real else reports)]
        overall(flat, f"mean of {len(flat)}, {len(everything)} sets", independent=True)
    if args.report is not None:
        write_report(
            args.report, [reports[0] for reports in everything], categories=len(everything) > 1, full=True
        )
    if args.json is not None:
        args.json.write_text(json.dumps(written, indent=2))
    return 0 if holds else 1


def _default(report: Report) -> Measure:
    fullest = report.fullest
    return Measure() if fullest is None else report.modes[fullest].i_auroc


if __name__ == "__main__":
    sys.exit(main())

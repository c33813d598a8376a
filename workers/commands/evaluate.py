"""``crosscheck evaluate``: bundles judged on labelled frames: tables, a page, and what one mode may pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inference.bundle import read_bundle
from inference.datasets.base import Dataset, notes_of
from inference.datasets.conventions import Conventions
from inference.datasets.open import categories, open_dataset
from inference.errors import DatasetError
from inference.evaluate import evaluate
from inference.grants import GRANTABLE, decide, revoke_grant, write_grant
from inference.inspector import Inspector
from inference.profiles.runtime import Runtime
from inference.report import write_report
from inference.report.words import of_masks
from inference.results import Report, combine_reports
from schemas.verdict import Mode
from workers.commands import console
from workers.commands.evaluate_tables import combined_tables, four_numbers, headline_of, tables
from workers.errors import SettingsError
from workers.model_folder import latest_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be judged on what.

    Attributes:
        bundles: folders MODELS/NAME/VERSION, all on the same data. models: a models folder instead, where
            each category of a data set is judged by the latest bundle of that name.
        data: the labelled folder. kind, category: its layout and product, where they are not recognised.
        same_field: depth of another size shows the same field. conventions: what else is said of the files.
        device, runtime: what the networks run on, and where those are that no bundle holds.
        bootstrap, seed: of the intervals.
        leave_out_unmarked: defects whose masks mark nothing are left out, not refused.
        grant, max_miss: modes to grant, and the miss rate that is accepted. revoke: modes to take back.
    """

    bundles: Sequence[Path] = ()
    models: Path | None = None
    data: Path | None = None
    kind: str | None = None
    category: str | None = None
    same_field: bool | None = None
    conventions: Conventions | None = None
    device: str = "cpu"
    runtime: Runtime | None = None
    bootstrap: int = 1000
    seed: int = 0
    leave_out_unmarked: bool = False
    grant: Sequence[Mode] = ()
    max_miss: float | None = None
    revoke: Sequence[Mode] = ()

    def __post_init__(self) -> None:
        if bool(self.bundles) == (self.models is not None):
            raise SettingsError("give --bundle MODELS/NAME/VERSION, or --models for a data set of categories")
        if (self.grant or self.revoke) and len(self.bundles) != 1:
            raise SettingsError("--grant and --revoke are for one --bundle")
        both = set(self.grant) & set(self.revoke)
        if both:
            raise SettingsError(f"--grant and --revoke both name {', '.join(sorted(both))}")
        wrong = [mode.value for mode in (*self.grant, *self.revoke) if mode not in GRANTABLE]
        if wrong:
            raise SettingsError(f"mode {wrong[0]} needs no grant; only RGB and DEPTH can be granted")
        if self.grant and self.max_miss is None:
            raise SettingsError("--grant needs --max-miss, the miss rate that is accepted, such as 0.05")
        if self.max_miss is not None and not self.grant:
            raise SettingsError("--max-miss goes with --grant RGB or --grant DEPTH")
        if self.data is None and not self.revoke:
            raise SettingsError("--data: give the folder with labelled test frames")


def run_evaluate(asked: Asked, *, page: Path | None, json_file: Path | None, full: bool = False) -> None:
    """Judge, print, write, and grant or revoke; ``full`` prints the tables of every row too.

    Raises:
        DatasetError, BundleError, SettingsError: wrong input, said before anything is inspected.
        GrantRefused: after the figures that refuse it were printed and written.
    """
    for mode in asked.revoke:
        folder = asked.bundles[0]
        there = revoke_grant(folder, read_bundle(folder).digest, mode)
        console.out.print(f"{mode.value}: {'revoked' if there else 'was not granted'}, {folder}")
    if asked.data is None:
        return
    pairs = _pairs(asked, asked.data)
    console.check_output("--report", page)
    for _, dataset in pairs:
        dataset.test()  # a split that is not there is said before anything is loaded
    console.tell(dict.fromkeys(note for _, dataset in pairs for note in notes_of(dataset)))
    reports = []
    with console.progress() as progress:
        for folder, dataset in pairs:
            name = "" if len(pairs) == 1 else f"{dataset.name if asked.models else folder.name}: "

            def step(stage: str, done: int, total: int, name: str = name) -> None:
                progress(f"{name}{stage}", done, total)

            inspector = Inspector.load(folder, device=asked.device, runtime=asked.runtime)
            reports.append(
                evaluate(
                    inspector,
                    dataset,
                    bootstrap=asked.bootstrap,
                    seed=asked.seed,
                    leave_out_unmarked=asked.leave_out_unmarked,
                    progress=step,
                )
            )
    apart = asked.models is not None
    console.tell(dict.fromkeys(note for report in reports for note in of_masks(report)))
    console.out.print(headline_of(reports, categories=apart))
    console.out.print(four_numbers(reports, categories=apart))
    if full:
        for report in reports:
            for table in tables(report):
                console.out.print(table)
        if len(reports) > 1:
            for table in combined_tables(reports, categories=apart):
                console.out.print(table)
    else:
        console.out.print("every branch, rule of fusion and pixel figure: --full", style="dim")
    if page is not None:
        made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, version {version('crosscheck')}"
        write_report(page, reports, categories=apart, made=made, full=full)
        console.out.print(f"report: {page}")
    console.write_json(json_file, as_json(reports, categories=apart))
    for mode in asked.grant:
        _grant(asked, reports[0], mode)


def as_json(reports: Sequence[Report], *, categories: bool) -> dict[str, Any]:
    """One report as it is; of several, ``reports`` and what they have in common as ``combined``."""
    if len(reports) == 1 and not categories:
        return reports[0].to_json()
    combined = combine_reports(reports, independent=categories)
    return {
        "over": "categories" if categories else "bundles",
        "reports": [report.to_json() for report in reports],
        "combined": {
            row: {figure: None if found is None else found.to_json() for figure, found in figures.items()}
            for row, figures in combined.items()
        },
    }


def _pairs(asked: Asked, data: Path) -> list[tuple[Path, Dataset]]:
    """Which bundle is judged on which data set."""
    if asked.models is None:
        dataset = _opened(asked, data, asked.category)
        return [(bundle, dataset) for bundle in asked.bundles]
    found = categories(data, kind=asked.kind)
    if not found:
        raise DatasetError(f"{data}: the folder of one product; name its bundle with --bundle")
    if asked.category is not None:
        if asked.category not in found:
            raise DatasetError(f"{data}: no category {asked.category!r}; found: {', '.join(found)}")
        found = [asked.category]
    folders = {name: _latest(asked.models / name) for name in found}
    lacking = [name for name, folder in folders.items() if folder is None]
    if lacking:
        raise SettingsError(
            f"models folder {asked.models}: no bundle for {', '.join(lacking)}; "
            f"run `crosscheck teach {lacking[0]}` with its data, or name one --category"
        )
    return [(folder, _opened(asked, data, name)) for name, folder in folders.items() if folder is not None]


def _opened(asked: Asked, data: Path, category: str | None) -> Dataset:
    return open_dataset(
        data,
        kind=asked.kind,
        category=category,
        same_field=asked.same_field,
        conventions=asked.conventions,
    )


def _latest(product: Path) -> Path | None:
    return latest_bundle(product) if product.is_dir() else None


def _grant(asked: Asked, report: Report, mode: Mode) -> None:
    folder, found = asked.bundles[0], report.modes[mode]
    assert asked.max_miss is not None
    grant = decide(
        mode,
        miss_rate=found.miss_rate.value,
        interval=found.miss_rate.interval,
        defects=found.defects,
        dataset=report.dataset,
        threshold=found.pass_limit,
        max_miss=asked.max_miss,
    )
    path = write_grant(folder, report.bundle_hash, grant)
    console.out.print(
        f"{mode.value} may pass parts alone: misses {100 * grant.miss_rate:.1f} % of {grant.defects} "
        f"defects, at most {100 * grant.interval[1]:.1f} % by the 95 % interval; {path}. "
        "Workers take it up when they start; teaching again revokes it."
    )

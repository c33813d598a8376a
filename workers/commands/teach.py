"""``crosscheck teach`` and ``crosscheck evaluate``: normals to a bundle, a bundle to a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
from rich.table import Table

from inference.datasets.base import Dataset
from inference.datasets.surface import SurfaceDataset
from inference.evaluate import Report, evaluate
from inference.inspector import Inspector
from inference.roi import Roi, draw_roi
from inference.teach import TeachSettings, teach
from workers.commands import console


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The manifest of a bundle that ``Inspector.load`` has accepted."""
    return dict(json.loads((bundle / "manifest.json").read_text(encoding="utf-8")))


def run_teach(
    name: str, data: Path, out: Path, *, seed: int, same_field: bool | None, roi: bool, json_file: Path | None
) -> None:
    """Teach a product from a folder and say what was found."""
    dataset = SurfaceDataset(data, same_field=same_field)
    out.mkdir(parents=True, exist_ok=True)  # said now, not after minutes of work
    with console.progress() as report:
        bundle = teach(dataset, out, name=name, settings=TeachSettings(seed=seed, roi=roi), progress=report)
    manifest = read_manifest(bundle)
    picture = _show_roi(dataset, bundle, manifest)
    table = Table(title=f"{name}, version {bundle.name}")
    table.add_column("mode")
    table.add_column("threshold", justify="right")
    table.add_column("interval", justify="right")
    table.add_column("may pass alone")
    for mode, facts in manifest["point"]["thresholds"][manifest["fusion"]].items():
        may = "yes" if mode == "FUSED" else "not before `crosscheck evaluate --grant`"
        table.add_row(mode, f"{facts['value']:.3f}", f"{facts['low']:.3f} to {facts['high']:.3f}", may)
    console.out.print(table)
    if picture is not None:
        console.out.print(f"region of interest: {picture} (look: the whole part must be inside the box)")
    console.out.print(f"bundle: {bundle}")
    console.write_json(json_file, {"bundle": str(bundle), "manifest": manifest})


def _show_roi(dataset: Dataset, bundle: Path, manifest: dict[str, Any]) -> Path | None:
    first = dataset.train()[0].sample()
    if first.rgb is None:
        return None
    drawn = draw_roi(first.rgb, Roi.from_map(manifest["prepare"]["roi"]))
    path = bundle / "region.png"
    cv2.imwrite(str(path), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    return path


def run_evaluate(
    bundle: Path, data: Path, *, bootstrap: int, seed: int, same_field: bool | None, json_file: Path | None
) -> None:
    """Judge a bundle on a labelled test split and print the table."""
    dataset = SurfaceDataset(data, same_field=same_field)
    dataset.test()  # a split that is not there is said before anything is loaded
    inspector = Inspector.load(bundle)
    with console.progress() as report:
        found = evaluate(inspector, dataset, bootstrap=bootstrap, seed=seed, progress=report)
    console.out.print(_table(found))
    console.write_json(json_file, found.to_json())


def _table(found: Report) -> Table:
    values = found.to_json()
    table = Table(title=f"{found.bundle} on {found.dataset}: {dict(found.counts)}")
    # Broken by hand, so that the table fits a terminal of 80 columns.
    table.add_column("", no_wrap=True)
    for heading in ("image\nAUROC", "95 %", "pixel\nAUROC", "AUPRO\n@30", "false\nrejects", "misses"):
        table.add_column(heading, justify="right")
    sections = (("modes", values["modes"]), ("branches", values["branches"]))
    for section, rows in sections:
        for name, row in rows.items():
            low_high = row["i_auroc_interval"]
            table.add_row(
                name,
                console.number(row["i_auroc"]),
                "-" if low_high is None else f"{low_high[0]:.2f}-{low_high[1]:.2f}",
                console.number(row["p_auroc"]),
                console.number(row["aupro_30"]),
                console.number(row["false_reject_rate"], percent=True),
                console.number(row["miss_rate"], percent=True),
                end_section=section == "modes" and name == list(rows)[-1],
            )
    return table

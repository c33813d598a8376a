"""``crosscheck teach``: normals to a bundle."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from inference.bundle import check_name, read_bundle
from inference.calibration import Limits
from inference.datasets.base import Dataset, Item, notes_of
from inference.datasets.conventions import Conventions
from inference.datasets.open import open_dataset
from inference.features.base import sub
from inference.foreground import Foreground, Found
from inference.profiles.runtime import Runtime
from inference.roi import Roi, draw_roi
from inference.sample import Sample
from inference.station import Station
from inference.teach import check, teach
from inference.teach_settings import TeachSettings
from schemas.verdict import Mode
from workers.board.normals import read_normals
from workers.commands import console
from workers.commands.threads import calmly
from workers.errors import SourceError


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The manifest of a bundle that ``Inspector.load`` has accepted."""
    return dict(json.loads((bundle / "manifest.json").read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which frames: a folder, its layout and product where they must be told, what is said of its files,
    their station, and the folder of parts that people have labelled on the board."""

    data: Path
    kind: str | None = None
    category: str | None = None
    same_field: bool | None = None
    conventions: Conventions | None = None
    station: Path | None = None
    review: Path | None = None


def run_teach(
    name: str,
    source: Source,
    out: Path,
    *,
    settings: TeachSettings,
    runtime: Runtime,
    json_file: Path | None,
) -> None:
    """Teach a product from a folder and say what was found."""
    dataset = open_dataset(
        source.data,
        kind=source.kind,
        category=source.category,
        same_field=source.same_field,
        conventions=source.conventions,
    )
    try:
        check(dataset, settings)  # before any network is loaded
    finally:
        console.tell(notes_of(dataset))
    station = None if source.station is None else Station.load(source.station)
    confirmed = [] if source.review is None else confirmed_of(source.review, name, dataset)
    calmly(settings.profile)
    console.check_out("--out", out / check_name("product", name))  # said now, not after minutes of work
    with console.progress() as report:
        bundle = teach(
            dataset,
            out,
            name=name,
            settings=settings,
            station=station,
            runtime=runtime,
            progress=report,
            confirmed=confirmed,
        )
    manifest = read_manifest(bundle)
    console.tell(manifest["teaching"]["notes"])
    picture = _show_roi(dataset, bundle, manifest)
    table = Table(title=f"{name}, version {bundle.name}")
    table.add_column("mode")
    table.add_column("passes up to", justify="right")
    table.add_column("rejects above", justify="right")
    table.add_column("may pass alone")
    found = manifest["point"]["thresholds"][manifest["fusion"]]
    limits = {mode: Limits.from_map(found[mode.value]) for mode in Mode if mode.value in found}
    for mode, one in limits.items():
        may = "yes" if mode is Mode.FUSED else "no"
        table.add_row(mode.value, f"{one.passes:.3f}", f"{one.rejects:.3f}", may)
    console.out.print(table)
    console.out.print(_promised(next(iter(limits.values()))), highlight=False)
    if Mode.FUSED in limits:
        console.out.print("a sensor may pass parts alone once `crosscheck evaluate --grant` allows it")
    if picture is not None:
        console.out.print(f"{picture}: look at it; the whole part must be inside the box and the outline")
    console.out.print(f"bundle: {bundle}")
    if Mode.FUSED not in limits:
        (only,) = limits
        console.out.print(
            f"as taught, every part is held for review until `crosscheck evaluate --bundle {bundle} --data "
            f"DIR --grant {only} --max-miss 0.05` has shown on labelled defects that {only} alone misses few "
            "enough",
            highlight=False,
            markup=False,
            style="yellow",
        )
    console.write_json(json_file, {"bundle": str(bundle), "manifest": manifest})


def _promised(limits: Limits) -> str:
    """What the limits rest on, what follows for good parts, and what more of them would bring."""
    held = math.ceil(100 * limits.promise)
    said = (
        f"{limits.frames} good parts in {limits.groups} lots were seen: what is above them, or above what is "
        f"likely for good parts, is held for review; of the good parts of a new lot at most {held} in 100 "
        f"will be held or rejected, and about {max(1, round(100 * limits.false_reject))} in 100 rejected"
    )
    asked = limits.false_reject + limits.review_share
    lots = math.ceil(1.0 / asked) - 1
    if limits.promise > asked and lots > limits.groups:
        said += (
            f"; good parts of {lots} lots could promise {100 * asked:.0f} in 100, and each held "
            "part that is confirmed on the board lets more pass"
        )
    return said


def confirmed_of(review: Path, name: str, dataset: Dataset) -> list[Item]:
    """The confirmed normals of a product, as large as the frames of the data; says what was taken and left.

    Raises:
        SourceError: no such folder, a part that is labelled both ways, or nothing that could be taken.
        DatasetError: the data's first frame cannot be read.
    """
    first = dataset.train()[0].sample()
    found = read_normals(
        review,
        name,
        rgb_size=first.rgb_size,
        depth_size=first.depth_size,
        depth_scale=first.depth_scale,
    )
    lots = len({item.group for item in found.items})
    console.out.print(
        f"{review / name}: {len(found.items)} confirmed normals taken, of {lots} lots;"
        f" {found.left.total()} left",
        highlight=False,
    )
    for why, count in found.left.most_common():
        console.out.print(f"  left {count}: {why}", highlight=False, markup=False)
    if not found.items:
        raise SourceError(
            f"{review / name}: nothing in it can be taught; mark false rejects on the board, or leave"
            " --from-review out"
        )
    return list(found.items)


def _show_roi(dataset: Dataset, bundle: Path, manifest: dict[str, Any]) -> Path | None:
    first = dataset.train()[0].sample()
    if first.rgb is None:
        return None
    drawn = draw_roi(first.rgb, Roi.from_map(manifest["prepare"]["roi"]))
    tensors = read_bundle(bundle).tensors
    found = Foreground.restore(sub(tensors, "foreground.")).find(first, _mode(first))
    if found.mask is not None:
        drawn = _outlined(drawn, found)
    path = bundle / "region.png"
    cv2.imwrite(str(path), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    return path


def _mode(sample: Sample) -> Mode:
    return Mode.RGB if sample.depth is None else Mode.FUSED


def _outlined(image: NDArray[np.uint8], found: Found) -> NDArray[np.uint8]:
    """The picture with the foreground's outline on it."""
    height, width = image.shape[:2]
    rows, columns = found.box.pixels(height, width)
    assert found.mask is not None
    size = (columns.stop - columns.start, rows.stop - rows.start)
    mask = cv2.resize(found.mask.astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    out = image.copy()
    cv2.drawContours(out[rows, columns], outlines, -1, (255, 200, 0), max(1, round(min(height, width) / 250)))
    return out

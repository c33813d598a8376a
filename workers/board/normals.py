"""Confirmed normals out of the review folder, for `crosscheck teach --from-review`."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inference.datasets.base import GOOD, Item
from inference.datasets.depth import read_counts
from inference.datasets.files import read_colour, size_of
from inference.datasets.groups import read_groups
from inference.errors import DatasetError
from inference.sample import Sample
from schemas.errors import SchemaError
from schemas.fields import Fields
from schemas.label import Label, LabelKind
from schemas.part import PartKey
from schemas.regular import open_regular
from workers.board.folder import RECORDS, VERSION, stem_of
from workers.errors import SourceError

LOT_GAP_NS = 3600 * 10**9
"""Parts of one run of a station that were labelled and lie within an hour of the next count as one lot."""
MAX_LINE = 64 * 1024
SPLIT = "review"
_PART = re.compile(rb'"part": ?"([A-Za-z0-9._-]+/[0-9]+/[0-9]+)"')


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the folder's records: a label, and what was saved beside it.

    Attributes:
        saved: by sensor, the file's name and its sha256.
        depth_scale: metres a depth count, where the frame said so.
    """

    label: Label
    captured_at: int
    degraded: tuple[str, ...]
    depth_scale: float | None
    saved: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Normals:
    """What a folder holds for teaching.

    Attributes:
        items: confirmed normals with both images, in groups by lot.
        left: why the others of the product were left out, and how many of each.
    """

    items: tuple[Item, ...]
    left: Counter[str]


def read_normals(
    folder: Path,
    product: str,
    *,
    rgb_size: tuple[int, int] | None,
    depth_size: tuple[int, int] | None,
    depth_scale: float | None,
) -> Normals:
    """The confirmed normals of a product.

    Args:
        folder: the board's review folder.
        product: whose; other products' parts are never looked at.
        rgb_size, depth_size: (height, width) of the frames it is taught on.
        depth_scale: metres a count of theirs; None where they do not say.

    Raises:
        SourceError: no such folder, or a part that is labelled both ways.
    """
    root = folder / product
    path = root / RECORDS
    if not path.is_file():
        raise SourceError(
            f"review folder {folder}: holds nothing of product {product!r} ({path} is missing); label rejects"
            " on the board, or name its folder (CROSSCHECK_REVIEW where the board runs)"
        )
    left: Counter[str] = Counter()
    good: list[Record] = []
    for record in _standing(path, product, left):
        if record.label.label is LabelKind.WITHDRAWN:
            left["labels that were taken back"] += 1
            continue
        if record.label.label is not LabelKind.FALSE_REJECT:
            left["true rejects"] += 1
            continue
        why = _unfit(root, record, rgb_size, depth_size, depth_scale)
        if why is None:
            good.append(record)
        else:
            left[why] += 1
    groups = _lots(good, _named(root))
    items = tuple(
        Item(
            name=stem_of(record.label.part),
            group=group,
            split=SPLIT,
            label=GOOD,
            load=partial(_load, root, record),
        )
        for record, group in zip(good, groups, strict=True)
    )
    return Normals(items, left)


def _standing(path: Path, product: str, left: Counter[str]) -> list[Record]:
    """The record that holds of each part: the highest revision, and of one revision the last."""
    held: dict[PartKey, Record] = {}
    unsure: set[str] = set()
    for line in _lines(path):
        try:
            record = _record(line)
        except (SchemaError, ValueError, RecursionError) as error:
            left[f"lines that cannot be read ({str(error)[:60]})"] += 1
            # It may have taken back what the part's other lines say.
            unsure.update(match[1].decode() for match in _PART.finditer(line))
            continue
        if record.label.product != product:
            left["lines about another product"] += 1
            continue
        before = held.get(record.label.part)
        if (
            before is not None
            and before.label.revision == record.label.revision
            and before.label.label is not record.label.label
        ):
            raise SourceError(
                f"{path}: part {record.label.part} is labelled {before.label.label} and"
                f" {record.label.label}, and neither replaces the other: label it again on the board, or take"
                " the wrong line out"
            )
        if before is None or before.label.revision <= record.label.revision:
            held[record.label.part] = record
    for part in [part for part in held if str(part) in unsure]:
        left["parts with a line that cannot be read"] += 1
        del held[part]
    return sorted(held.values(), key=lambda one: (one.label.part.station, one.captured_at, one.label.part))


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open_regular(path) as file:
            while line := file.readline(MAX_LINE):
                if line.strip():
                    yield line
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None


def _record(line: bytes) -> Record:
    """Raises SchemaError or ValueError: no such record."""
    raw = json.loads(line)
    fields = Fields(raw, "record")
    if fields.integer("v") != VERSION:
        raise ValueError(f"version {raw['v']}")
    part = PartKey.parse(fields.text("part"))
    saved: dict[str, tuple[str, str]] = {}
    for name in ("rgb", "depth"):
        if fields.has(name):
            file = fields.nested(name)
            saved[name] = (file.text("file"), file.text("sha256", 64))
    return Record(
        label=Label.from_map(part, fields),
        captured_at=fields.integer("captured_at"),
        degraded=fields.texts("degraded"),
        depth_scale=fields.optional("depth_scale", fields.number),
        saved=saved,
    )


def _unfit(
    root: Path,
    record: Record,
    rgb_size: tuple[int, int] | None,
    depth_size: tuple[int, int] | None,
    depth_scale: float | None,
) -> str | None:
    """Why a confirmed normal cannot be taught; None where it can."""
    if record.degraded:
        return f"a sensor was not to be trusted ({record.degraded[0].partition(':')[0]})"
    for name, size in (("rgb", rgb_size), ("depth", depth_size)):
        if size is None:
            continue
        if name not in record.saved:
            return f"its {name} image was not saved"
        file, digest = record.saved[name]
        # The name is ours to choose: a record that names another is not followed.
        if file != f"{stem_of(record.label.part)}-{name}.png":
            return "its record names another part's file"
        path = root / file
        try:
            width, height = size_of(path)
            if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                return f"its {name} file is not the one that was saved"
        except (OSError, DatasetError):
            return f"its {name} file cannot be read"
        if (height, width) != size:
            return f"its {name} image has another size than the taught ones"
    theirs = record.depth_scale
    if depth_scale is not None and theirs is not None and abs(theirs / depth_scale - 1) > 1e-6:
        return "its depth counts have another scale than the taught ones"
    return None


def _named(root: Path) -> Mapping[str, str]:
    return read_groups(root / "groups.csv")


def _lots(records: list[Record], named: Mapping[str, str]) -> list[str]:
    """The group of each: as ``groups.csv`` beside the pictures names it, else its lot by station and time.

    The records come in the order of their capture within a station.
    """
    groups: list[str] = []
    last: dict[tuple[str, int], tuple[int, str]] = {}
    for record in records:
        part = record.label.part
        run = (part.station, part.run)
        before = last.get(run)
        if before is not None and record.captured_at - before[0] <= LOT_GAP_NS:
            lot = before[1]
        else:
            lot = f"review-{part.station}-{record.captured_at}"
        last[run] = (record.captured_at, lot)
        groups.append(named.get(stem_of(part), lot))
    return groups


def _load(root: Path, record: Record) -> Sample:
    stem = stem_of(record.label.part)
    rgb = read_colour(root / f"{stem}-rgb.png") if "rgb" in record.saved else None
    depth = read_counts(root / f"{stem}-depth.png") if "depth" in record.saved else None
    return Sample(rgb=rgb, depth=depth, depth_scale=record.depth_scale)

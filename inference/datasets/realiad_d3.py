"""Real-IAD D3 (Zhu et al., 2025), one category, in the layout that public readers of it agree on.

    ROOT/realiad_d3_jsons/CATEGORY.json     which images belong to which split
    ROOT/realiad_d3_raw/CATEGORY/...        the images, unpacked

The json has lists "train", "validation" (may be absent) and "test" of maps with "image_path", "xyz_path",
"mask_path" (of a defect) and "anomaly_class" ("OK" = good), paths relative to the category's folder or to
"meta": {"prefix": ...} beside it. "ps_path", the photometric stereo image, is not read.

This reader was written from those readers, not with the data at hand. What they leave open can be set: the
points' unit (``unit``, taken as millimetres) and whether colour and points of different sizes show one field
(``same_field``). Whatever else is not as described is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.datasets.base import GOOD, Item, Notes, no_mask
from inference.datasets.conventions import Conventions
from inference.datasets.depth import check_points
from inference.datasets.files import note_content, size_of
from inference.datasets.groups import Split, split_off
from inference.datasets.masks import check_mask, read_defect
from inference.datasets.points import Pad, load_points, rays_of
from inference.errors import DatasetError
from schemas.regular import read_regular

DEPTH_SCALE = 1e-5
"""Metres in a count of the samples' depth: 10 micrometres, so that 65,535 counts reach 0.66 m."""
UNIT = 1e-3
"""Metres in the unit of the points; not stated by the sources of this reader."""

_JSONS = ("realiad_d3_jsons", "jsons/realiad_d3_jsons")
_RAW = "realiad_d3_raw"
_NORMAL = "OK"
_RAY_FRAMES = 5


def json_folder(root: Path) -> Path | None:
    """The folder of the categories' json files, or None."""
    return next((root / name for name in _JSONS if (root / name).is_dir()), None)


def category_names(root: Path) -> list[str]:
    """The categories with a json file, sorted."""
    folder = json_folder(root)
    found = [] if folder is None else folder.glob("*.json")
    return sorted(path.stem for path in found if not path.name.startswith("."))


class RealIadD3Dataset:
    """Reads one category of the layout above.

    Without a "validation" list, or with no good image in it, every fifth training image calibrates instead.
    Each image is a group of its own. Defects in the validation list are left out.

    Args:
        root: the folder with realiad_d3_jsons/ and realiad_d3_raw/.
        category: the name of its json file without the suffix.
        unit: metres in one unit of the points.
        depth_scale: metres in a count of the samples' depth.
        same_field: whether points of another size than the colour image show the same field.
        conventions: what else is said of the files' numbers.

    Raises:
        DatasetError: a folder, the category or its json is missing, or the json is not as described above.
    """

    kind = "realiad_d3"

    def __init__(
        self,
        root: Path | str,
        category: str,
        *,
        unit: float = UNIT,
        depth_scale: float = DEPTH_SCALE,
        same_field: bool = False,
        conventions: Conventions | None = None,
    ) -> None:
        self.root, self.name, self.same_field = Path(root), category, same_field
        if not (unit > 0 and depth_scale > 0):
            raise DatasetError(f"unit {unit!r} and depth_scale {depth_scale!r}: expected metres, above 0")
        self.unit, self.depth_scale = unit, depth_scale
        self.conventions = replace(conventions or Conventions(), depth_scale=depth_scale)
        self.notes = Notes()
        folder = json_folder(self.root)
        known = category_names(self.root)
        if folder is None or category not in known:
            found = ", ".join(known) or "none"
            raise DatasetError(
                f"{self.root}: no {_JSONS[0]}/{category}.json; the categories found are: {found}"
            )
        self._path = folder / f"{category}.json"
        self._splits, self._base = _read(self._path, self.root / _RAW, category)

    def train(self) -> Sequence[Item]:
        """Good frames to learn from. Raises DatasetError naming the first file that is wrong."""
        items = self._items("train", good=True)
        return items if self._good("validation") else self._divided(items).train

    def validation(self) -> Sequence[Item]:
        """Good frames for thresholds. Raises DatasetError as above."""
        if self._good("validation"):
            return self._items("validation", good=True)
        return self._divided(self._items("train", good=True)).validation

    def _divided(self, items: Sequence[Item]) -> Split:
        divided = split_off(items)
        self.notes.tell(divided.note)
        return divided

    def test(self) -> Sequence[Item]:
        """All frames of the test split, good first. Raises DatasetError as above."""
        items = self._items("test", good=False)
        return sorted(items, key=lambda item: (item.label != GOOD, item.label, item.name))

    def rays(self) -> NDArray[np.float32]:
        """(h, w, 3) directions of the depth pixels: a point is its depth in metres times them."""
        paths = [self._file(entry, "xyz_path") for entry in self._good("train")]
        return rays_of(paths[:: max(1, len(paths) // _RAY_FRAMES)][:_RAY_FRAMES])

    def _good(self, split: str) -> list[Mapping[str, object]]:
        return [entry for entry in self._splits[split] if entry["anomaly_class"] == _NORMAL]

    def _items(self, split: str, *, good: bool) -> list[Item]:
        entries = self._good(split) if good else self._splits[split]
        if not entries:
            raise DatasetError(f"{self._path}: no {'good ' if good else ''}images in {split!r}")
        return [self._item(split, entry) for entry in entries]

    def _item(self, split: str, entry: Mapping[str, object]) -> Item:
        colour, xyz = self._file(entry, "image_path"), self._file(entry, "xyz_path")
        size, points = size_of(colour), check_points(xyz)
        if size != points and not self.same_field:
            raise DatasetError(
                f"{colour} is {size[0]} x {size[1]} and {xyz} is {points[0]} x {points[1]}: "
                "set same_field if both show exactly the same field"
            )
        good = entry["anomaly_class"] == _NORMAL
        truth = None if good else self._file(entry, "mask_path")
        if truth is not None:
            check_mask(truth, size)
        name = colour.relative_to(self._base).with_suffix("").as_posix().replace("/", "_")
        return Item(
            name=name,
            group=f"{split}/{name}",
            split=split,
            label=GOOD if good else str(entry["anomaly_class"]),
            load=partial(load_points, colour, xyz, Pad(), self.conventions, unit=self.unit),
            load_mask=no_mask if truth is None else partial(read_defect, truth),
        )

    def _file(self, entry: Mapping[str, object], key: str) -> Path:
        value = entry.get(key)
        if not isinstance(value, str) or not value:
            raise DatasetError(
                f"{self._path}: an image of class {entry['anomaly_class']!r} without {key}; found: "
                f"{', '.join(sorted(k for k, v in entry.items() if v))}"
            )
        path = self._base / value
        if not path.is_file() or not path.resolve().is_relative_to(self.root.resolve()):
            raise DatasetError(f"{path}: missing; {self._path.name} names it as {key}: unpack it there")
        note_content(path, self.notes)
        return path


def _read(path: Path, raw: Path, category: str) -> tuple[dict[str, list[Mapping[str, object]]], Path]:
    """(entries of each split, folder of their paths)."""
    try:
        values = json.loads(read_regular(path))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(values, dict) or not {"train", "test"} <= values.keys():
        found = ", ".join(sorted(values)) if isinstance(values, dict) else type(values).__name__
        raise DatasetError(f'{path}: expected lists "train" and "test", found: {found}')
    splits: dict[str, list[Mapping[str, object]]] = {}
    for split in ("train", "validation", "test"):
        entries = values.get(split) or []
        if not isinstance(entries, list) or not all(
            isinstance(e, dict) and isinstance(e.get("anomaly_class"), str) for e in entries
        ):
            raise DatasetError(f"{path}: {split!r} is not a list of maps with anomaly_class and image_path")
        splits[split] = entries
    meta = values.get("meta")
    prefix = meta.get("prefix") if isinstance(meta, dict) else None
    base = raw / (prefix if isinstance(prefix, str) else category)
    if not base.is_dir():
        raise DatasetError(f"{base}: missing; unpack the category's images there")
    return splits, base

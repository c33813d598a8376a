"""The folder layout of aligned colour and depth images with defect masks, read and written.

    FOLDER/train/good/rgb/NAME.jpg       colour, of any format in ``inference.datasets.formats``
    FOLDER/train/good/depth/NAME.png     counts of 16 bits, 0 = no reading; or float lengths or points
    FOLDER/validation/good/...           as train; where it is missing, every fifth lot of train
    FOLDER/test/good/...                 as train
    FOLDER/test/KIND/...                 as train, with masks in gt/ (see ``inference.datasets.masks``)
    FOLDER/groups.csv                    optional, "name,group": which images are not independent
    FOLDER/dataset.json                  optional: {"name": ..., "depth_scale": metres, "same_field": bool},
                                         and the other keys of ``inference.datasets.conventions``

A product with one sensor has one of ``rgb/`` and ``depth/``. Where both are there, each name needs both.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.datasets.base import GOOD, Dataset, Item, Notes, no_mask
from inference.datasets.conventions import Conventions
from inference.datasets.depth import check_pair, load_pair
from inference.datasets.files import (
    check_partners,
    check_strangers,
    has_split,
    images,
    subfolders,
)
from inference.datasets.groups import Groups, Split, matched, read_groups, split_off
from inference.datasets.masks import PLACES, check_mask, masks_of, read_defect, without_masks
from inference.errors import DatasetError
from schemas import strict_json
from schemas.regular import read_regular


class SurfaceDataset:
    """Reads a folder of the layout above.

    Groups: ``groups.csv`` where it names the image. Otherwise the name decides: the frame is the text before
    the last "_" (all of it, where there is none) and ends in the frame's number; what comes before the number
    is the recording. Neighbouring frames show overlapping surface, so ``frames_per_group`` consecutive
    numbers of a recording, counted from its first, make one group. A name without a number is its own group.

    Args:
        folder: the layout's root.
        depth_scale: metres per depth count; overrides dataset.json.
        same_field: whether a depth image of another size shows the same field as its colour image at another
            resolution. Without it, differing sizes are an error, since the two would not be aligned.
        frames_per_group: how many neighbouring frames make a group.
        conventions: what else is said of the files' numbers; overrides dataset.json.

    Raises:
        DatasetError: the folder is missing, or its groups.csv or dataset.json cannot be read.
    """

    kind = "surface"

    def __init__(
        self,
        folder: Path | str,
        *,
        depth_scale: float | None = None,
        same_field: bool | None = None,
        frames_per_group: int = 2,
        conventions: Conventions | None = None,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder}: no such folder; give the one that has train/ and validation/")
        described = describe(self.folder / "dataset.json")
        self.name = str(described.get("name", self.folder.resolve().name))
        self.conventions = told(self.folder, described, depth_scale, same_field, conventions)
        self._frames_per_group = max(1, frames_per_group)
        self.notes = Notes()
        self._named_groups = read_groups(self.folder / "groups.csv")
        self._groups: Groups | None = None

    @property
    def depth_scale(self) -> float | None:
        """Metres in a count, where it is known."""
        return self.conventions.depth_scale

    @property
    def same_field(self) -> bool:
        """Whether depth of another size shows the colour image's field."""
        return bool(self.conventions.same_field)

    def train(self) -> Sequence[Item]:
        """Good frames to learn from. Raises DatasetError naming the first file that is wrong."""
        items = self._label("train", GOOD)
        return items if self._has_validation() else self._divided(items).train

    def validation(self) -> Sequence[Item]:
        """Good frames for thresholds: lots of ``train`` where there is no such split. Raises DatasetError."""
        if self._has_validation():
            return self._label("validation", GOOD)
        return self._divided(self._label("train", GOOD)).validation

    def _has_validation(self) -> bool:
        """Raises DatasetError: a folder that looks like the split has another name."""
        return has_split(self.folder, "validation")

    def _divided(self, items: Sequence[Item]) -> Split:
        divided = split_off(items)
        self.notes.tell(divided.note)
        return divided

    def test(self) -> Sequence[Item]:
        """All frames of all labels of the test split, good first. Raises DatasetError as above."""
        root = self.folder / "test"
        if not root.is_dir():
            raise DatasetError(
                f"{root}: missing; evaluation needs test/good and one folder for each kind of defect"
            )
        labels = subfolders(root)
        if not labels:
            raise DatasetError(f"{root}: empty; put good frames in test/good and defects in test/KIND")
        return [
            item
            for label in sorted(labels, key=lambda n: (n != GOOD, n))
            for item in self._label("test", label)
        ]

    def group_of(self, stem: str) -> str:
        """The group of the image called ``stem`` (the file name without its suffix)."""
        if self._groups is None:
            places = self.folder.glob("*/*/*/*")
            stems = sorted({path.stem for path in places if path.parent.name in ("rgb", "depth")})
            named, notes = matched(self._named_groups, stems, self.folder / "groups.csv")
            self._groups = Groups(named, stems, self._frames_per_group)
            self.notes.tell(*notes, *self._groups.guesses(stems))
        return self._groups.of(stem)

    def _label(self, split: str, label: str) -> list[Item]:
        root = self.folder / split / label
        if not root.is_dir():
            use = {
                "train": "teaching needs defect-free frames there",
                "validation": "put defect-free frames there, or take validation/ away: lots of train/good "
                "are held out then",
            }.get(split, "make the folder or leave this label out")
            raise DatasetError(f"{root}: missing; {use}")
        colour, depth = images(root / "rgb", self.notes), images(root / "depth", self.notes)
        known = ("rgb", "depth", *PLACES)
        check_strangers(root, known, ("rgb", "depth"), bool(colour) + bool(depth), self.notes)
        if not colour and not depth:
            raise DatasetError(f"{root}: empty; put colour images in rgb/ and 16-bit depth images in depth/")
        if colour and depth:
            check_partners(colour, depth, root, "depth")
        truth: dict[str, Path] = {}
        if label != GOOD:
            truth = masks_of(root, colour or depth, shared=self.folder / "ground_truth" / label)
            if not truth:
                self.notes.tell(without_masks(root))
        items = []
        for stem in sorted(colour or depth):
            self._check(colour.get(stem), depth.get(stem), truth.get(stem))
            items.append(
                Item(
                    name=stem,
                    group=self.group_of(stem),
                    split=split,
                    label=label,
                    load=partial(load_pair, colour.get(stem), depth.get(stem), self.conventions),
                    load_mask=partial(read_defect, truth[stem]) if stem in truth else no_mask,
                )
            )
        return items

    def _check(self, colour: Path | None, depth: Path | None, truth: Path | None) -> None:
        size = check_pair(colour, depth, same_field=self.same_field)
        if truth is not None:
            check_mask(truth, size)


def told(
    folder: Path,
    described: Mapping[str, object],
    depth_scale: float | None,
    same_field: bool | None,
    conventions: Conventions | None,
) -> Conventions:
    """What is said of a folder's files: by the caller, then by its dataset.json. Raises DatasetError."""
    said = (conventions or Conventions()).over(Conventions.of(described, folder / "dataset.json"))
    return Conventions(depth_scale=depth_scale, same_field=same_field).over(said)


def describe(path: Path) -> dict[str, object]:
    """The map in a dataset.json; empty where there is no such file. Raises DatasetError."""
    try:
        described = strict_json.loads(read_regular(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DatasetError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(described, dict):
        raise DatasetError(f'{path}: expected a map such as {{"depth_scale": 0.0001}}')
    return described


def write_surface_layout(dataset: Dataset, folder: Path, *, quality: int = 92) -> Path:
    """Write a dataset in the layout above, colour as jpg of ``quality``, or as png where that is 100 or more.

    ``folder/train``, ``validation`` and ``test`` are replaced. Returns the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups: list[tuple[str, str]] = []
    scale: float | None = None
    same_field = False
    for split in ("train", "validation", "test"):
        shutil.rmtree(folder / split, ignore_errors=True)
    for item in _all(dataset):
        # One name may occur once in a dataset of this layout: groups.csv goes by it.
        name = f"{item.split}_{item.name}"
        groups.append((name, item.group))
        sample, mask = item.sample(), item.mask()
        root = folder / item.split / item.label
        if sample.rgb is not None:
            suffix = ".png" if quality >= 100 else ".jpg"
            _write(root / "rgb" / (name + suffix), sample.rgb[..., ::-1], quality)
        if sample.depth is not None:
            _write(root / "depth" / f"{name}.png", sample.depth, quality)
            scale = sample.depth_scale
            same_field |= sample.rgb is not None and sample.rgb_size != sample.depth_size
        if mask is not None:
            _write(root / "gt" / f"{name}.png", mask.astype(np.uint8) * np.uint8(255), quality)
    with (folder / "groups.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "group"))
        writer.writerows(groups)
    described = {"name": dataset.name, "depth_scale": scale, "same_field": same_field}
    (folder / "dataset.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return folder


def _all(dataset: Dataset) -> Iterator[Item]:
    for split in (dataset.train, dataset.validation, dataset.test):
        yield from split()


def _write(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16], quality: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
    ok, data = cv2.imencode(path.suffix, np.ascontiguousarray(image), options)
    if not ok:
        raise DatasetError(f"{path}: the image cannot be encoded")
    path.write_bytes(data.tobytes())

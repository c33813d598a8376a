"""Data sets of colour images alone: MVTec AD and those that are laid out like it, and VisA as published.

``mvtec_ad``: the images lie straight in the folder of their label. BTAD has this (``ok`` and ``ko`` for
labels), and VisA once its authors' script has split it (``good`` and ``bad``).

    CATEGORY/train/good/000.png             good, ok or normal, in any case
    CATEGORY/validation/good/...            as train; where it is missing, every fifth lot of train
    CATEGORY/test/good/..., test/KIND/...   as train
    CATEGORY/ground_truth/KIND/000_mask.png masks; or as in ``inference.datasets.masks``
    CATEGORY/groups.csv                     optional, "name,group"; else each image is a lot of its own

``visa``: as downloaded.

    CATEGORY/Data/Images/Normal/0000.JPG
    CATEGORY/Data/Images/Anomaly/000.JPG
    CATEGORY/Data/Masks/Anomaly/000.png
    split_csv/1cls.csv                      beside the categories: object,split,label,image,mask; without it
                                            every fifth good image is for the test
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from inference.datasets.base import GOOD, Item, Notes, no_mask
from inference.datasets.conventions import Conventions
from inference.datasets.files import has_split, images, read_colour, size_of, subfolders
from inference.datasets.formats import is_beside, is_read
from inference.datasets.groups import Split, matched, read_groups, split_off
from inference.datasets.masks import PLACES, check_mask, masks_of, read_defect, without_masks
from inference.errors import DatasetError
from inference.sample import Sample
from schemas.regular import read_regular

GOOD_NAMES = ("good", "ok", "normal")
"""What folders of parts without a defect are called, in any case."""
VISA_IMAGES = Path("Data/Images")
_VISA_SPLIT = Path("split_csv/1cls.csv")


def photos(folder: Path, notes: Notes | None = None) -> dict[str, Path]:
    """The colour images straight in a folder, by name. Raises DatasetError: depth images among them, too."""
    found = images(folder, notes, beside=PLACES)
    for stem, path in found.items():
        if stem.lower().endswith("_depth"):
            raise DatasetError(
                f"{path}: depth among images of a layout of colour alone; put colour into rgb/ and depth "
                f"into depth/ of {folder}, the same names in both"
            )
    return found


def has_photos(folder: Path) -> bool:
    """Whether a folder holds images itself and no folder of a sensor."""
    if not folder.is_dir() or any((folder / sensor).is_dir() for sensor in ("rgb", "depth", "xyz")):
        return False
    return any(is_read(path) and not is_beside(path) for path in folder.iterdir() if path.is_file())


def label_of(name: str) -> str:
    """The label that a folder's name stands for."""
    return GOOD if name.lower() in GOOD_NAMES else name


def good_folder(split: Path) -> Path | None:
    """The folder of good parts in that of a split. Raises DatasetError where there are two."""
    found = [split / name for name in subfolders(split) if label_of(name) == GOOD]
    if len(found) > 1:
        raise DatasetError(f"{found[0]} and {found[1].name}: both mean good parts; keep one of them")
    return found[0] if found else None


class _Photos:
    """What both layouts share: a validation split taken from train, and items of colour images."""

    def __init__(self, folder: Path | str, conventions: Conventions | None = None) -> None:
        self.folder = Path(folder)
        self.conventions = conventions or Conventions()
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder}: no such folder; give a category's")
        self.name = self.folder.resolve().name
        self.notes = Notes()

    def _divided(self, items: Sequence[Item]) -> Split:
        divided = split_off(items)
        self.notes.tell(divided.note)
        return divided

    def _items(
        self,
        found: Mapping[str, Path],
        split: str,
        label: str,
        groups: Mapping[str, str],
        truth: Mapping[str, Path],
    ) -> list[Item]:
        for stem, mask in truth.items():
            check_mask(mask, size_of(found[stem]))
        return [
            Item(
                name=stem,
                group=groups.get(f"{split}/{label}/{stem}", f"{split}/{label}/{stem}"),
                split=split,
                label=label,
                load=partial(_load, path, self.conventions.colour_bits),
                load_mask=partial(read_defect, truth[stem]) if stem in truth else no_mask,
            )
            for stem, path in found.items()
        ]


class PhotosDataset(_Photos):
    """One category of the layout ``mvtec_ad``.

    Raises:
        DatasetError: the folder is missing, or its groups.csv cannot be read.
    """

    kind = "mvtec_ad"

    def __init__(self, folder: Path | str, conventions: Conventions | None = None) -> None:
        super().__init__(folder, conventions)
        self._named = read_groups(self.folder / "groups.csv")
        self._groups: Mapping[str, str] | None = None

    def train(self) -> Sequence[Item]:
        """Good images to learn from. Raises DatasetError naming the first file that is wrong."""
        items = self._good("train")
        return items if has_split(self.folder, "validation") else self._divided(items).train

    def validation(self) -> Sequence[Item]:
        """Good images for thresholds: lots of ``train`` where there is no such split. Raises DatasetError."""
        if has_split(self.folder, "validation"):
            return self._good("validation")
        return self._divided(self._good("train")).validation

    def test(self) -> Sequence[Item]:
        """All images of the test split, good ones first. Raises DatasetError."""
        names = subfolders(self.folder / "test")
        if not names:
            raise DatasetError(f"{self.folder / 'test'}: no folders; expected good and one for each defect")
        good_folder(self.folder / "test")
        ordered = sorted(names, key=lambda name: (label_of(name) != GOOD, name))
        return [item for name in ordered for item in self._label("test", self.folder / "test" / name)]

    def _good(self, split: str) -> list[Item]:
        root = good_folder(self.folder / split)
        if root is None:
            there = ", ".join(subfolders(self.folder / split)) or "no folder"
            raise DatasetError(
                f"{self.folder / split}: no folder of good parts (good, ok or normal); found: {there}"
            )
        return self._label(split, root)

    def _label(self, split: str, root: Path) -> list[Item]:
        found, label = photos(root, self.notes), label_of(root.name)
        if not found:
            raise DatasetError(f"{root}: no images in it; put the {label} ones there")
        truth: dict[str, Path] = {}
        if label != GOOD:
            truth = masks_of(root, found, shared=self.folder / "ground_truth" / root.name)
            if not truth:
                self.notes.tell(without_masks(root))
        return self._items(found, split, label, self._lots(), truth)

    def _lots(self) -> Mapping[str, str]:
        if self._groups is None:
            if not self._named:
                self.notes.tell(
                    "each image counts as a lot of its own; where several are of one lot or recording, "
                    "name them in groups.csv (name,group)"
                )
            places = [
                (f"{split}/{label_of(name)}", self.folder / split / name)
                for split in ("train", "validation", "test")
                for name in subfolders(self.folder / split)
            ]
            keys = [f"{where}/{path.stem}" for where, root in places for path in photos(root).values()]
            self._groups, notes = matched(self._named, keys, self.folder / "groups.csv")
            self.notes.tell(*notes)
        return self._groups


class VisaDataset(_Photos):
    """One category of VisA as published. Each image is a lot of its own.

    Raises:
        DatasetError: the folder is missing, or the split's table cannot be read.
    """

    kind = "visa"

    def __init__(self, folder: Path | str, conventions: Conventions | None = None) -> None:
        super().__init__(folder, conventions)
        self._split = _visa_split(self.folder.parent / _VISA_SPLIT, self.folder.name)

    def train(self) -> Sequence[Item]:
        """Good images to learn from. Raises DatasetError naming the first file that is wrong."""
        return self._divided(self._normal("train")).train

    def validation(self) -> Sequence[Item]:
        """Every fifth of the good images that are not for the test. Raises DatasetError."""
        return self._divided(self._normal("train")).validation

    def test(self) -> Sequence[Item]:
        """The good images of the test split, then the defects. Raises DatasetError."""
        root = self.folder / VISA_IMAGES / "Anomaly"
        found = photos(root, self.notes)
        truth = masks_of(root, found, shared=self.folder / "Data/Masks/Anomaly")
        if found and not truth:
            self.notes.tell(without_masks(root))
        return [*self._normal("test"), *self._items(found, "test", "anomaly", {}, truth)]

    def _normal(self, split: str) -> list[Item]:
        root = self.folder / VISA_IMAGES / "Normal"
        found = photos(root, self.notes)
        if not found:
            raise DatasetError(f"{root}: no images in it; expected those of parts without a defect")
        if self._split is None:
            self.notes.tell(
                f"{self.folder.parent / _VISA_SPLIT}: missing, so every fifth good image is for the test"
            )
            tested = set(list(found)[4::5])
        else:
            tested = {stem for stem in found if self._split.get(stem) == "test"}
            lost = sorted(set(found) - self._split.keys())
            if lost:
                raise DatasetError(
                    f"{found[lost[0]]}: in no split of {_VISA_SPLIT}; add it there, or take the table away"
                )
        kept = {stem: path for stem, path in found.items() if (stem in tested) == (split == "test")}
        return self._items(kept, split, GOOD, {}, {})


def _visa_split(path: Path, category: str) -> dict[str, str] | None:
    """The split of each good image of a category; None where there is no table. Raises DatasetError."""
    try:
        rows = csv.DictReader(io.StringIO(read_regular(path).decode("utf-8-sig")))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not text'})"
        ) from None
    wanted = {"object", "split", "label", "image"}
    if not wanted <= set(rows.fieldnames or ()):
        raise DatasetError(f"{path}: expected the columns {', '.join(sorted(wanted))}")
    return {
        PurePosixPath(row["image"]).stem: row["split"]
        for row in rows
        if row["object"] == category and row["label"] == "normal"
    }


def _load(path: Path, bits: int | None) -> Sample:
    return Sample(read_colour(path, bits), None)

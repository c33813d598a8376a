"""A plain folder of pairs: what a person has who recorded good parts and sorted nothing.

    FOLDER/rgb/NAME.png                     8-bit colour; .png, .jpg or .jpeg
    FOLDER/depth/NAME.png                   16-bit counts, 0 = no reading; or .npy or .tiff, see below
    FOLDER/NAME_rgb.png, NAME_depth.png     instead of the two folders: the pairs side by side
    FOLDER/groups.csv, dataset.json         optional, as in the surface layout
    FOLDER/test/good/..., test/KIND/...     optional, as in the surface layout: labelled frames to be judged

One of the two sensors may be missing altogether; where both are there, each name needs both. An .npy of
uint16 is counts. A float .npy or one-channel float .tiff is metres, 0 or NaN = no reading; it becomes counts
of ``depth_scale``. Every image counts as good: ``train`` and ``validation`` are whole groups of them, every
fifth group for validation, the same at every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.datasets.base import GOOD, Item, Notes
from inference.datasets.files import (
    COLOUR_SUFFIXES,
    TIFF_SUFFIXES,
    check_partners,
    header,
    images,
    read_colour,
    read_depth,
    to_counts,
)
from inference.datasets.groups import Groups, Split, matched, read_groups, split_off
from inference.datasets.surface import SurfaceDataset, depth_scale_of, describe
from inference.datasets.tiff import read_float_tiff, read_tiff
from inference.errors import DatasetError
from inference.sample import Sample

DEPTH_SUFFIXES = (".png", ".npy", *TIFF_SUFFIXES)
METRIC_SCALE = 2e-5
"""Metres in a count of depth that was stored in metres, where nothing else is said; it reaches 1.31 m."""


class PairsDataset:
    """Reads a folder of the layout above.

    Args:
        folder: the folder with rgb/ and depth/, or with the pairs side by side.
        depth_scale: metres in a count; overrides dataset.json.
        same_field: whether a depth image of another size shows the same field as its colour image.
        frames_per_group: how many neighbouring frames of a recording make a group.

    Raises:
        DatasetError: the folder is missing, or its groups.csv or dataset.json cannot be read.
    """

    kind = "pairs"

    def __init__(
        self,
        folder: Path | str,
        *,
        depth_scale: float | None = None,
        same_field: bool | None = None,
        frames_per_group: int = 2,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder}: no such folder; give the one with rgb/ and depth/")
        described = describe(self.folder / "dataset.json")
        self.name = str(described.get("name", self.folder.resolve().name))
        self.depth_scale = depth_scale_of(described, depth_scale, self.folder / "dataset.json")
        self.notes = Notes()
        self.same_field = bool(described.get("same_field", False)) if same_field is None else same_field
        self._frames_per_group = frames_per_group

    def all(self) -> Sequence[Item]:
        """Every pair, in order of the names. Raises DatasetError naming the first file that is wrong."""
        colour, depth = find_pairs(self.folder)
        if not colour and not depth:
            raise DatasetError(
                f"{self.folder}: no pairs; put colour images in rgb/ and depth images of the same names in "
                "depth/, or name them NAME_rgb.png and NAME_depth.png"
            )
        if colour and depth:
            check_partners(colour, depth, self.folder, "depth")
        named = read_groups(self.folder / "groups.csv")
        stems = sorted(colour or depth)
        judged = {p.stem for p in self.folder.glob("test/*/*/*") if p.parent.name in ("rgb", "depth")}
        found, notes = matched(named, {*stems, *judged}, self.folder / "groups.csv")
        groups = Groups(found, stems, self._frames_per_group)
        self.notes.tell(*notes, *groups.guesses(stems))
        for stem in stems:
            self._check(colour.get(stem), depth.get(stem))
        return [
            Item(
                name=stem,
                group=groups.of(stem),
                split="train",
                label=GOOD,
                load=partial(load_pair, colour.get(stem), depth.get(stem), self.depth_scale),
            )
            for stem in stems
        ]

    def train(self) -> Sequence[Item]:
        """Four in five groups of the pairs. Raises DatasetError as ``all`` does."""
        return self._divided().train

    def validation(self) -> Sequence[Item]:
        """Every fifth group, or every fifth frame of too few groups. Raises DatasetError as above."""
        return self._divided().validation

    def _divided(self) -> Split:
        divided = split_off(self.all())
        self.notes.tell(divided.note)
        return divided

    def test(self) -> Sequence[Item]:
        """The labelled frames in test/. Raises DatasetError where there are none."""
        # The layout of test/ is the same, so it has one reader.
        reader = SurfaceDataset(self.folder, depth_scale=self.depth_scale, same_field=self.same_field)
        items = reader.test()
        self.notes.tell(*(note for note in reader.notes if "groups.csv" not in note))
        return items

    def _check(self, colour: Path | None, depth: Path | None) -> None:
        if depth is None or depth.suffix.lower() == ".npy":
            return
        if depth.suffix.lower() == ".png":
            size, mode = header(depth)
            if not mode.startswith("I"):
                raise DatasetError(f"{depth}: {mode} image; depth must be a 16-bit single-channel png")
        else:
            size = read_tiff(depth).size
        if colour is not None and header(colour)[0] != size and not self.same_field:
            one = header(colour)[0]
            raise DatasetError(
                f"{colour} is {one[0]} x {one[1]} and {depth} is {size[0]} x {size[1]}: "
                "align them to one size, or set same_field if both show exactly the same field"
            )


def find_pairs(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """(colour, depth) images of the folder by name; from rgb/ and depth/ where one of these is there.

    Raises:
        DatasetError: two files of one sensor have the same name.
    """
    if (folder / "rgb").is_dir() or (folder / "depth").is_dir():
        return images(folder / "rgb", COLOUR_SUFFIXES), images(folder / "depth", DEPTH_SUFFIXES)
    colour, depth = images(folder, COLOUR_SUFFIXES), images(folder, DEPTH_SUFFIXES)
    return (
        {stem.removesuffix("_rgb"): path for stem, path in colour.items() if stem.endswith("_rgb")},
        {stem.removesuffix("_depth"): path for stem, path in depth.items() if stem.endswith("_depth")},
    )


def load_pair(colour: Path | None, depth: Path | None, depth_scale: float | None) -> Sample:
    """A sample of a colour and a depth image, either of which may be None. Raises DatasetError."""
    rgb = None if colour is None else read_colour(colour)
    if depth is None:
        return Sample(rgb, None)
    counts, scale = read_any_depth(depth, depth_scale)
    return Sample(rgb, counts, scale)


def read_any_depth(path: Path, depth_scale: float | None) -> tuple[NDArray[np.uint16], float | None]:
    """((H, W) uint16 counts, metres in a count) of a 16-bit png, an .npy or a float tiff, as described above.

    Raises:
        DatasetError: another type or shape, an infinite or negative distance, or one beyond the last count.
    """
    suffix = path.suffix.lower()
    if suffix == ".png":
        return read_depth(path), depth_scale
    values = _load_npy(path) if suffix == ".npy" else read_float_tiff(path, channels=1)
    if values.ndim != 2 or not values.size:
        raise DatasetError(f"{path}: {values.dtype} {values.shape}; depth must be (H, W)")
    if values.dtype == np.uint16:
        return np.ascontiguousarray(values, np.uint16), depth_scale
    if values.dtype.kind != "f":
        raise DatasetError(f"{path}: {values.dtype}; depth must be uint16 counts or float metres")
    metres = np.where(np.isnan(values), 0, values).astype(np.float32)
    wrong = int(np.count_nonzero(~np.isfinite(metres) | (metres < 0)))
    if wrong:
        raise DatasetError(f"{path}: {wrong} distances are infinite or negative; 0 or NaN is no reading")
    scale = METRIC_SCALE if depth_scale is None else depth_scale
    return to_counts(metres, scale, path), scale


def _load_npy(path: Path) -> NDArray[np.generic]:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise DatasetError(f"{path}: not an array that can be read; save it again with numpy.save") from None
    if not isinstance(values, np.ndarray):
        raise DatasetError(f"{path}: an archive of arrays; save one array with numpy.save")
    return values

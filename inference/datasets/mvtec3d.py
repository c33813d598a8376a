"""MVTec 3D-AD (Bergmann et al., 2022), one category, as published or after the customary pre-processing.

    CATEGORY/train/good/rgb/000.png         8-bit colour
    CATEGORY/train/good/xyz/000.tiff        3 x 32-bit float, metres in the camera's frame, (0,0,0) = none
    CATEGORY/validation/good/{rgb,xyz}/...  as train
    CATEGORY/test/good/{rgb,xyz,gt}/...     as train; its gt/ is empty masks and is not read
    CATEGORY/test/KIND/{rgb,xyz,gt}/...     with gt/000.png: not 0 = defect
    CATEGORY/calibration/                   may be there; not read, since the points carry the camera

Images may be of any format that is read (``inference.datasets.formats``), points of any with three floats.

As published, the two images have one size. The pre-processing published with BTF and M3DM takes the ground
away and pads the points, not the colour, to a centred square; colour and masks are then padded to it here by
that one rule. Any other pair of sizes is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.datasets.base import GOOD, Item, Notes, no_mask
from inference.datasets.conventions import Conventions
from inference.datasets.depth import check_points
from inference.datasets.files import (
    check_partners,
    check_strangers,
    has_split,
    images,
    size_of,
    subfolders,
)
from inference.datasets.groups import Split, split_off
from inference.datasets.masks import check_mask, masks_of
from inference.datasets.points import Pad, load_padded_mask, load_points, rays_of, square_pad
from inference.errors import DatasetError

DEPTH_SCALE = 2e-5
"""Metres in a count of the samples' depth: 20 micrometres, so that 65,535 counts reach 1.31 m."""

_RAY_FRAMES = 9


class MVTec3DDataset:
    """Reads one category of the layout above.

    Each image is a group of its own: the data set does not say which scans show the same object.

    Args:
        folder: the category's folder, with train/ in it.
        depth_scale: metres in a count of the samples' depth.
        conventions: what else is said of the files' numbers.

    Raises:
        DatasetError: no such folder, or a scale that is not positive.
    """

    kind = "mvtec3d"

    def __init__(
        self,
        folder: Path | str,
        *,
        depth_scale: float = DEPTH_SCALE,
        conventions: Conventions | None = None,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder}: no such folder; give a category's, with train/ in it")
        if not depth_scale > 0:
            raise DatasetError(f"depth_scale {depth_scale!r}: expected metres in a count, above 0")
        self.name = self.folder.resolve().name
        self.depth_scale = depth_scale
        self.conventions = replace(conventions or Conventions(), depth_scale=depth_scale)
        self.notes = Notes()

    def train(self) -> Sequence[Item]:
        """Good frames to learn from. Raises DatasetError naming the first file that is wrong."""
        items = self._label("train", GOOD)
        return items if has_split(self.folder, "validation") else self._divided(items).train

    def validation(self) -> Sequence[Item]:
        """Good frames for thresholds: of ``train``, where there is no such split. Raises DatasetError."""
        if has_split(self.folder, "validation"):
            return self._label("validation", GOOD)
        return self._divided(self._label("train", GOOD)).validation

    def _divided(self, items: Sequence[Item]) -> Split:
        divided = split_off(items)
        self.notes.tell(divided.note)
        return divided

    def test(self) -> Sequence[Item]:
        """All frames of all labels of the test split, good first. Raises DatasetError as above."""
        labels = subfolders(self.folder / "test")
        if not labels:
            raise DatasetError(f"{self.folder / 'test'}: no folders; expected good and one for each defect")
        ordered = sorted(labels, key=lambda n: (n != GOOD, n))
        return [item for label in ordered for item in self._label("test", label)]

    def rays(self) -> NDArray[np.float32]:
        """(H, W, 3) directions of the depth pixels: a point is its depth in metres times them.

        They are measured from up to nine training clouds; where these have no points, they are a pinhole's.

        Raises:
            DatasetError: too few points, or points that no pinhole camera could have seen.
        """
        paths = list(images(self.folder / "train" / GOOD / "xyz").values())
        return rays_of(paths[:: max(1, len(paths) // _RAY_FRAMES)][:_RAY_FRAMES])

    def _label(self, split: str, label: str) -> list[Item]:
        root = self.folder / split / label
        if not root.is_dir():
            raise DatasetError(f"{root}: missing; MVTec 3D-AD has {split}/{label} in every category")
        colour, xyz = images(root / "rgb", self.notes), images(root / "xyz", self.notes)
        check_strangers(root, ("rgb", "xyz", "gt"), ("rgb", "xyz"), bool(colour) + bool(xyz), self.notes)
        if not colour and not xyz:
            raise DatasetError(f"{root}: empty; expected rgb/NAME.png and xyz/NAME.tiff")
        check_partners(colour, xyz, root, "xyz")
        truth = masks_of(root, colour) if label != GOOD else {}
        items = []
        for stem in sorted(colour):
            pad = _fit(colour[stem], xyz[stem])
            if label != GOOD:
                if stem not in truth:
                    raise DatasetError(f"{root / 'gt' / stem}.png: missing; every defect needs its mask")
                check_mask(truth[stem], size_of(colour[stem]))
            items.append(
                Item(
                    name=stem,
                    group=f"{split}/{label}/{stem}",
                    split=split,
                    label=label,
                    load=partial(load_points, colour[stem], xyz[stem], pad, self.conventions),
                    load_mask=partial(load_padded_mask, truth[stem], pad) if stem in truth else no_mask,
                )
            )
        return items


def _fit(colour: Path, xyz: Path) -> Pad:
    size, points = size_of(colour), check_points(xyz)
    pad = square_pad(size, points)
    if pad is None:
        raise DatasetError(
            f"{colour} is {size[0]} x {size[1]} and {xyz} is {points[0]} x {points[1]}: neither one size nor "
            "the points padded to a centred square; pre-process both alike, or use the data as published"
        )
    return pad

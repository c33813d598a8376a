"""Eyecandies (Bonfiglioli et al., 2022), one class, as published.

    CLASS/train/data/000_image_4.png        8-bit colour; image_0 to image_5 are six lights
    CLASS/train/data/000_depth.png          16-bit, from the nearest (0) to the farthest (65535) of this image
    CLASS/train/data/000_info_depth.yaml    what these are in metres: normalization: {max: ..., min: ...}
    CLASS/val/data/...                      as train
    CLASS/test_public/data/00_...           with 00_mask.png and 00_{bumps,dents,colors,normals}_mask.png

The sets' other files (normals, pose, obj_params, metadata) are not read, and test_private has no masks, so it
is not read either. The scenes are rendered ten times as large as sweets are, hence distances of metres.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.datasets.base import GOOD, Item, Notes, no_mask
from inference.datasets.conventions import Conventions
from inference.datasets.depth import read_counts, to_counts
from inference.datasets.files import images, read_colour, size_of
from inference.datasets.masks import check_mask, read_mask
from inference.errors import DatasetError
from inference.sample import Sample
from schemas.regular import read_regular

DEPTH_SCALE = 2e-4
"""Metres in a count of the samples' depth: 0.2 mm, so that 65,535 counts reach 13.1 m."""
FOCAL_LENGTH = 711.11
"""Pixels, of the one camera of all images, at their width of 512 pixels; its axis meets the middle."""
WIDTH = 512
LIGHT = 4
"""The light that published results on this data set use."""

_SPLITS = {"train": "train", "validation": "val", "test": "test_public"}
_KINDS = ("bumps", "dents", "colors", "normals")


class EyecandiesDataset:
    """Reads one class of the layout above.

    Each image is a group of its own: each is rendered from its own random part. A test image is good where
    its mask is empty; otherwise its label is the kinds whose masks are not, as "bumps" or "colors+dents".

    Args:
        folder: the class's folder, with train/data in it.
        light: which image is the colour image, 0 to 5.
        depth_scale: metres in a count of the samples' depth.
        conventions: what else is said of the files' numbers; that of depth is in its info files.

    Raises:
        DatasetError: no such folder, no such light, or a scale that is not positive.
    """

    kind = "eyecandies"

    def __init__(
        self,
        folder: Path | str,
        *,
        light: int = LIGHT,
        depth_scale: float = DEPTH_SCALE,
        conventions: Conventions | None = None,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder}: no such folder; give a class's, with train/data in it")
        if light not in range(6):
            raise DatasetError(f"light {light!r}: Eyecandies has image_0 to image_5")
        if not depth_scale > 0:
            raise DatasetError(f"depth_scale {depth_scale!r}: expected metres in a count, above 0")
        self.name = self.folder.resolve().name
        self.light, self.depth_scale = light, depth_scale
        self.colour_bits = None if conventions is None else conventions.colour_bits
        self.notes = Notes()

    def train(self) -> Sequence[Item]:
        """Good frames to learn from. Raises DatasetError naming the first file that is wrong."""
        return self._split("train")

    def validation(self) -> Sequence[Item]:
        """Good frames for thresholds. Raises DatasetError as above."""
        return self._split("validation")

    def test(self) -> Sequence[Item]:
        """The public test set, good frames first. Raises DatasetError as above."""
        return sorted(self._split("test"), key=lambda item: (item.label != GOOD, item.label, item.name))

    def rays(self) -> NDArray[np.float32]:
        """(H, W, 3) directions of the pixels of the one camera: a point is its depth in metres times them."""
        first = self.train()[0].sample().depth
        assert first is not None
        height, width = first.shape
        focal = FOCAL_LENGTH * width / WIDTH
        rays = np.ones((height, width, 3), np.float32)
        rays[..., 0] = (np.arange(width) - width / 2) / focal
        rays[..., 1] = ((np.arange(height) - height / 2) / focal)[:, None]
        return rays

    def _split(self, split: str) -> list[Item]:
        root = self.folder / _SPLITS[split] / "data"
        if not root.is_dir():
            raise DatasetError(f"{root}: missing; Eyecandies has it in every class")
        found = images(root, self.notes)
        names = [stem.removesuffix("_depth") for stem in found if stem.endswith("_depth")]
        if not names:
            raise DatasetError(f"{root}: no NAME_depth.png; expected NAME_image_{self.light}.png beside it")
        ending = f"_image_{self.light}"
        for stem, path in found.items():
            if stem.endswith(ending) and stem.removesuffix(ending) not in names:
                raise DatasetError(f"{path}: has no partner NAME_depth.png; copy it there")
        return [self._item(root, split, name, found) for name in names]

    def _item(self, root: Path, split: str, name: str, found: Mapping[str, Path]) -> Item:
        depth, info = found[f"{name}_depth"], root / f"{name}_info_depth.yaml"
        colour = found.get(f"{name}_image_{self.light}")
        if colour is None or not info.is_file():
            lacking = info if colour is not None else root / f"{name}_image_{self.light}.png"
            raise DatasetError(f"{lacking}: missing; {depth.name} needs it")
        size = size_of(colour)
        if size_of(depth) != size:
            raise DatasetError(f"{depth}: not of the size of {colour.name}, {size[0]} x {size[1]}")
        label, truth = GOOD, found.get(f"{name}_mask")
        if split == "test":
            if truth is None:
                raise DatasetError(
                    f"{root / name}_mask.png: missing; the public test set has a mask for every image"
                )
            check_mask(truth, size)
            label = _label(found, name) if read_mask(truth).any() else GOOD
        return Item(
            name=name,
            group=f"{split}/{name}",
            split=split,
            label=label,
            load=partial(_load, colour, depth, info, self.depth_scale, self.colour_bits),
            load_mask=no_mask if label == GOOD or truth is None else partial(read_mask, truth),
        )


def _label(found: Mapping[str, Path], name: str) -> str:
    masks = {kind: found.get(f"{name}_{kind}_mask") for kind in _KINDS}
    kinds = [kind for kind, path in masks.items() if path is not None and read_mask(path).any()]
    return "+".join(sorted(kinds)) or "defect"


def read_range(path: Path) -> tuple[float, float]:
    """(nearest, farthest) in metres of an ``info_depth.yaml``.

    Raises:
        DatasetError: it is not a map "normalization" of min and max alone, or min is not below max.
    """
    try:
        text = read_regular(path).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        raise DatasetError(f"{path}: cannot be read; copy it again") from None
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    pairs = re.findall(rf"\b(min|max)[ ]*:[ ]+({number})(?=[\s,}}]|$)", text)
    rest = re.sub(rf"\b(min|max)[ ]*:[ ]+{number}(?=[\s,}}]|$)", "", text)
    values = {key: float(value) for key, value in pairs}
    if len(pairs) != 2 or len(values) != 2 or not re.fullmatch(r"\s*normalization[ ]*:[\s{},]*", rest):
        raise DatasetError(f"{path}: expected a map normalization with the numbers max and min, nothing else")
    if not 0 < values["min"] <= values["max"]:
        raise DatasetError(
            f"{path}: min {values['min']:g} and max {values['max']:g}: expected 0 < min <= max, metres"
        )
    return values["min"], values["max"]


def _load(colour: Path, depth: Path, info: Path, depth_scale: float, bits: int | None) -> Sample:
    nearest, farthest = read_range(info)
    share = read_counts(depth).astype(np.float64) / 65535
    # Every pixel of a rendered image was read: 0 here is the nearest point, not a missing one.
    metres = np.asarray(share * (farthest - nearest) + nearest, np.float32)
    counts, scale = to_counts(metres, Conventions(depth_scale=depth_scale, depth_unit=1.0), depth)
    return Sample(read_colour(colour, bits), counts, scale)

"""Every frame that a folder holds, whatever is wrong with it: what is inspected, not what is learned from.

A reader that teaches stops at the first file that is wrong, since nothing good comes of the rest. A folder
that is inspected holds parts, and each of them gets an answer: a name with one image is a frame whose other
sensor is absent, and a file that cannot be read fails when its frame is loaded, alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inference.datasets.base import Item, Notes, notes_of
from inference.datasets.conventions import Conventions
from inference.datasets.depth import load_pair
from inference.datasets.files import check_strangers, images, subfolders
from inference.datasets.formats import is_beside, is_read
from inference.datasets.masks import PLACES
from inference.datasets.open import open_dataset, recognise
from inference.datasets.pairs import find_pairs
from inference.datasets.photos import has_photos, label_of, photos
from inference.datasets.surface import describe
from inference.errors import DatasetError

PLAIN = ("surface", "pairs", "mvtec_ad")
"""Layouts whose files are found here, one by one; the others have readers that know their index."""


@dataclass(frozen=True, slots=True)
class Found:
    """The frames of a folder.

    Attributes:
        kind: the layout: one of ``inference.datasets.open.KINDS``, or "colour" for a folder of colour images.
        items: in order of label and name; the label is "" where the layout has none.
        notes: what a person should know of the files, a sentence each.
    """

    kind: str
    items: Sequence[Item]
    notes: Sequence[str] = ()


def find_frames(
    folder: Path | str,
    *,
    split: str = "test",
    kind: str | None = None,
    category: str | None = None,
    conventions: Conventions | None = None,
) -> Found:
    """The frames of a folder that are to be inspected.

    Looked for, in this order: the labels of a split (FOLDER/test/good/rgb/ and so on), pairs (rgb/ and
    depth/, or NAME_rgb.png beside NAME_depth.png), labels in the folder itself (FOLDER/LABEL/rgb/), colour
    images alone, and every layout of :func:`inference.datasets.open.open_dataset`.

    Args:
        folder: what is to be inspected.
        split: of a layout that has splits.
        kind: the layout, where it is not to be recognised.
        category: which product of a whole data set.
        conventions: what is said of the files' numbers; overrides dataset.json.

    Raises:
        DatasetError: no such folder, nothing in it that could be a frame, a file that is not read, or a
            layout with an index of its own whose index is wrong.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give the one with the images")
    product = root / category if category is not None and (root / category).is_dir() else root
    if kind is None or kind in PLAIN:
        found = (
            _plain(product, split, conventions or Conventions())
            if kind is not None or not _indexed(product)
            else None
        )
        if found is not None:
            return found
    dataset = open_dataset(root, kind=kind, category=category, conventions=conventions)
    read = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    if split not in read:
        raise DatasetError(f"split {split!r}: use one of {', '.join(read)}")
    items = read[split]()
    return Found(str(getattr(dataset, "kind", kind or dataset.name)), items, notes_of(dataset))


def _indexed(folder: Path) -> bool:
    """Whether the folder is of a layout that only its own reader understands."""
    try:
        return recognise(folder)[0] not in PLAIN
    except DatasetError:
        return False


def _plain(folder: Path, split: str, conventions: Conventions) -> Found | None:
    said, notes = conventions.over(_described(folder)), Notes()
    labelled = _labels(folder / split, split, said, notes)
    if labelled:
        return Found("surface", labelled, notes)
    colour, depth = find_pairs(folder, notes)
    if colour or depth:
        return Found("pairs", _items(colour, depth, split, "", said), notes)
    labelled = _labels(folder, split, said, notes)
    if labelled:
        return Found("surface", labelled, notes)
    if not any(is_read(path) for path in folder.iterdir() if path.is_file() and not is_beside(path)):
        return None
    alone = images(folder, notes)
    return Found("colour", _items(alone, {}, split, "", said), notes)


def _labels(folder: Path, split: str, said: Conventions, notes: Notes) -> list[Item]:
    items = []
    for label in subfolders(folder):
        root = folder / label
        if (root / "rgb").is_dir() or (root / "depth").is_dir():
            colour, depth = find_pairs(root, notes)
            known = ("rgb", "depth", *PLACES)
            check_strangers(root, known, ("rgb", "depth"), bool(colour) + bool(depth), notes)
            items += _items(colour, depth, split, label, said)
        elif has_photos(root):
            items += _items(photos(root, notes), {}, split, label_of(label), said)
    return items


def _items(
    colour: Mapping[str, Path], depth: Mapping[str, Path], split: str, label: str, said: Conventions
) -> list[Item]:
    return [
        Item(
            name=name,
            group="",
            split=split,
            label=label,
            load=partial(load_pair, colour.get(name), depth.get(name), said),
        )
        for name in sorted(colour.keys() | depth.keys())
    ]


def _described(folder: Path) -> Conventions:
    """What dataset.json of the folder says, and where it says nothing, that of the one above it."""
    said = [Conventions.of(describe(p / "dataset.json"), p / "dataset.json") for p in (folder, folder.parent)]
    return said[0].over(said[1])

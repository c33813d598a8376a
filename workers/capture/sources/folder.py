"""A dataset's frames, replayed as if a line ran by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from inference.datasets.base import Dataset, Item, notes_of
from inference.datasets.conventions import Conventions
from inference.datasets.open import open_dataset
from workers.capture.sources.base import Shot
from workers.errors import SourceError

_SPLITS = ("train", "validation", "test")


class FolderSource:
    """One split, in the dataset's order; each image is read when its shot is made.

    Args:
        data: a dataset, or the folder of one in any layout that is known.
        split: "train", "validation" or "test".
        loop: begin again at the end, for ever.
        limit: stop after so many shots.
        same_field: colour and depth of a folder may differ in size and still cover the same field of view.
        conventions: what is said of the numbers in a folder's files; overrides its dataset.json.

    Raises:
        SourceError: an unknown split, or one without frames.
        DatasetError: the folder cannot be read.
    """

    def __init__(
        self,
        data: Dataset | Path,
        *,
        split: str = "test",
        loop: bool = False,
        limit: int | None = None,
        same_field: bool | None = None,
        conventions: Conventions | None = None,
    ) -> None:
        if split not in _SPLITS:
            raise SourceError(f"split {split!r}: use one of {', '.join(_SPLITS)}")
        if limit is not None and limit < 0:
            raise SourceError(f"limit {limit}: use 0 or more shots")
        dataset: Dataset = (
            open_dataset(data, same_field=same_field, conventions=conventions)
            if isinstance(data, Path)
            else data
        )
        reads = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
        self._items: Sequence[Item] = reads[split]()
        if not self._items:
            raise SourceError(f"dataset {dataset.name}: its split {split!r} has no frames to replay")
        self.notes = notes_of(dataset)
        """What a person should know of the files, a sentence each."""
        self._loop = loop
        self._limit = limit
        first = self._items[0].sample()
        self.depth_scale = first.depth_scale
        """Metres per depth count of the first frame, or None."""
        self.expects = tuple(
            name for name, image in (("rgb", first.rgb), ("depth", first.depth)) if image is not None
        )
        """Which sensors the dataset has."""

    def __len__(self) -> int:
        """Shots of one round."""
        return len(self._items) if self._limit is None else min(len(self._items), self._limit)

    def __iter__(self) -> Iterator[Shot]:
        made = 0
        while True:
            for item in self._items:
                if self._limit is not None and made >= self._limit:
                    return
                sample = item.sample()
                yield Shot(
                    sample.rgb,
                    sample.depth,
                    item.label,
                    f"{item.split}/{item.label}/{item.name}",
                    None,
                    item.mask(),
                )
                made += 1
            if not self._loop:
                return

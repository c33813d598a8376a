"""What teaching and evaluation read: named items in three splits, each loaded only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.sample import Sample

GOOD = "good"
"""The label of a part without a defect; every other label names a kind of defect."""


def no_mask() -> None:
    """The mask of an item that has none: None."""


@dataclass(frozen=True, slots=True)
class Item:
    """One frame of a dataset.

    Attributes:
        name: unique within its split and label.
        group: the lot or recording it comes from. Frames of one group are not independent of each other: they
            belong to one fold and count as one in a resampling.
        split: "train", "validation" or "test".
        label: "good", or the kind of defect.
        load: gives the sample; called anew each time, so that a large set does not have to fit in memory.
        load_mask: gives the defect mask (H, W) of the colour image (of the depth image where there is no
            colour image), True = defect; None where there is none.
    """

    name: str
    group: str
    split: str
    label: str
    load: Callable[[], Sample]
    load_mask: Callable[[], NDArray[np.bool_] | None] = no_mask

    @property
    def is_good(self) -> bool:
        """Whether the part has no defect."""
        return self.label == GOOD

    def sample(self) -> Sample:
        """The images. Raises DatasetError where they cannot be read."""
        return self.load()

    def mask(self) -> NDArray[np.bool_] | None:
        """The defect mask, or None. Raises DatasetError where it cannot be read."""
        return self.load_mask()


class Notes(list[str]):
    """What a reader assumed or could not place, each sentence once, for the person whose folder it is."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[str, dict[Path, None]] = {}

    def tell(self, *sentences: str) -> None:
        """Add what was not told before."""
        self.extend(one for one in dict.fromkeys(sentences) if one not in self)

    def about(self, path: Path, remark: str) -> None:
        """A remark about a file; files with the same remark are one sentence: the first, and how many."""
        files = self._files.setdefault(remark, {})
        before = _sentence(files, remark)
        files[path] = None
        if len(files) == 1:
            self.append(_sentence(files, remark))
        else:
            self[self.index(before)] = _sentence(files, remark)


def _sentence(files: Mapping[Path, None], remark: str) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{next(iter(files), '')}{more}: {remark}"


class Dataset(Protocol):
    """A named set of frames. A split that is not there raises DatasetError when it is asked for."""

    @property
    def name(self) -> str:
        """What the set is called in reports."""
        ...

    def train(self) -> Sequence[Item]:
        """Defect-free frames to learn from."""
        ...

    def validation(self) -> Sequence[Item]:
        """Defect-free frames that calibrate thresholds; none of them is in ``train``."""
        ...

    def test(self) -> Sequence[Item]:
        """Frames to be judged, good ones and defects."""
        ...


def notes_of(dataset: Dataset) -> list[str]:
    """What is to be told of the splits that were asked for so far: lots that were guessed, a validation split
    that was taken out of train, names that match nothing. A reader without notes has none."""
    return list(getattr(dataset, "notes", ()))

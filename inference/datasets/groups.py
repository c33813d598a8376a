"""Which images of a folder are not independent of each other: one lot, neighbouring frames of a recording."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from inference.datasets.base import Item
from inference.errors import DatasetError


def read_groups(path: Path) -> dict[str, str]:
    """A csv "name,group"; nothing where there is none. Raises DatasetError where it has other columns."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"name", "group"} <= set(rows.fieldnames or ()):
            raise DatasetError(f"{path}: the first line must be name,group")
        return {str(row["name"]): str(row["group"]) for row in rows}


class Groups:
    """The group of an image by its name.

    A name in ``named`` has the group given there. Otherwise the frame is the text before the last "_" (all of
    it, where there is none) and ends in the frame's number; what comes before the number is the recording.
    ``size`` consecutive numbers of a recording, counted from its first, make one group. A name without a
    number is its own group.
    """

    def __init__(self, named: Mapping[str, str], stems: Iterable[str], size: int) -> None:
        self._named = dict(named)
        self._size = max(1, size)
        self._first: dict[str, int] = {}
        for stem in stems:
            frame = _frame_of(stem)
            if frame is not None:
                self._first[frame[0]] = min(frame[1], self._first.get(frame[0], frame[1]))

    def of(self, stem: str) -> str:
        """The group of the image called ``stem`` (the file name without its suffix)."""
        if stem in self._named:
            return self._named[stem]
        frame = _frame_of(stem)
        if frame is None:
            return stem
        recording, number = frame
        first = self._first.get(recording, 0)
        start = first + (number - first) // self._size * self._size
        if self._size == 1:
            return f"{recording}{start}"
        return f"{recording}{start}-{start + self._size - 1}"


def hold_out(items: Sequence[Item], *, every: int = 5) -> tuple[list[Item], list[Item]]:
    """(train, validation): every fifth group of the items in the order they come in, whole groups only.

    With fewer than ``every`` groups the last one is held out, and a
    single group gives an empty validation.
    """
    names = list(dict.fromkeys(item.group for item in items))
    held = set(names[every - 1 :: every]) or set(names[1:][-1:])
    return [i for i in items if i.group not in held], [i for i in items if i.group in held]


def _frame_of(stem: str) -> tuple[str, int] | None:
    """(recording, frame number) of an image name, or None."""
    found = re.fullmatch(r"(.*?)(\d+)", stem.rsplit("_", 1)[0])
    return None if found is None else (found[1], int(found[2]))

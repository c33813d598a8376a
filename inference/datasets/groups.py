"""Which images of a folder are not independent of each other: one lot, neighbouring frames of a recording."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

from inference.calibration import MIN_GROUPS
from inference.datasets.base import Item
from inference.errors import DatasetError
from schemas.regular import read_regular

COLUMNS = ("name", "group")


def read_groups(path: Path) -> dict[str, str]:
    """A csv "name,group" as a spreadsheet writes it; nothing where there is none.

    UTF-8 with or without a byte order mark, UTF-16 or Windows' code page; comma, semicolon or tab; the
    heading in any case; blank lines and further columns are left out.

    Raises:
        DatasetError: other columns, a name without a group, or a name in two groups; the line is named.
    """
    try:
        lines = _text(read_regular(path)).splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    if lines and lines[0].lower().startswith("sep="):  # Excel's own hint to itself
        lines[0] = ""
    filled = [line for line in lines if line.strip(' \t,;"')]
    heading = filled[0] if filled else ""
    delimiter = max(",;\t", key=heading.count)
    rows = csv.reader(lines, delimiter=delimiter)
    where: dict[str, int] = {}
    named: dict[str, str] = {}
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cell.strip(",;\t") for cell in cells):
                continue
            if not where:
                where = {cell.lower(): column for column, cell in enumerate(cells)}
                if not set(COLUMNS) <= where.keys():
                    raise DatasetError(
                        f"{path}: the first line must be name,group (comma, semicolon or tab); it is "
                        f"{heading.strip()!r}"
                    )
                continue
            name, group = (cells[where[c]] if where[c] < len(cells) else "" for c in COLUMNS)
            if not name or not group:
                lacks = "name" if not name else "group"
                raise DatasetError(f"{path}, line {rows.line_num}: no {lacks}; give both, or delete the line")
            if named.setdefault(name, group) != group:
                raise DatasetError(
                    f"{path}, line {rows.line_num}: {name} is in {named[name]!r} and in {group!r}; keep one"
                )
    except csv.Error as error:
        raise DatasetError(f"{path}, line {rows.line_num}: not readable as csv ({error})") from None
    if not where:
        raise DatasetError(f"{path}: empty; the first line must be name,group, or delete the file")
    return named


def matched(named: Mapping[str, str], stems: Iterable[str], path: Path) -> tuple[dict[str, str], list[str]]:
    """(group by image name, what is to be told) of what ``read_groups`` gave and the images that are there.

    A name may carry a suffix, and folders before it; so may the images' ("train/good/000").

    Raises:
        DatasetError: no name matches any image, or two names of one image have different groups.
    """
    images = set(stems)
    by_last: dict[str, list[str]] = {}
    for one in images:
        by_last.setdefault(one.rpartition("/")[2], []).append(one)
    found: dict[str, str] = {}
    strange: list[str] = []
    for name, group in named.items():
        # Windows' paths are written with either slash.
        *folders, bare = (part for part in PureWindowsPath(name).parts if part not in ("rgb", "depth"))
        candidates = by_last.get(bare) or by_last.get(PureWindowsPath(bare).stem) or []
        meant = [one for one in candidates if _agree(folders, one.split("/")[:-1])]
        if len(meant) > 1:
            raise DatasetError(
                f"{path}: {name} could be {_few(sorted(meant))}; write the folders before it, as "
                f"{sorted(meant)[0]}"
            )
        if not meant:
            strange.append(name)
            continue
        (stem,) = meant
        if found.setdefault(stem, group) != group:
            raise DatasetError(f"{path}: {stem} is in {found[stem]!r} and in {group!r}; keep one")
    if named and images and not found:
        raise DatasetError(
            f"{path}: none of its {len(named)} names ({_few(strange)}) is an image here "
            f"({_few(sorted(images))}){_zeros(strange, images)}; names are those of the files"
        )
    notes = []
    if strange:
        notes.append(
            f"{path}: {len(strange)} of {len(named)} names match no image: {_few(strange)}"
            f"{_zeros(strange, images)}"
        )
    missing = sorted(images - found.keys())
    if named and missing:
        notes.append(f"{path}: {len(missing)} of {len(images)} images are not named in it: {_few(missing)}")
    return found, notes


def _agree(given: Sequence[str], real: Sequence[str]) -> bool:
    """Whether two runs of folders end alike, as far as both go."""
    return all(a == b for a, b in zip(reversed(given), reversed(real), strict=False))


def _text(data: bytes) -> str:
    """What the spreadsheet meant: a byte order mark says UTF-8 or UTF-16, its lack UTF-8 or Windows' own."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data[:64]:  # UTF-16 without its mark: of a Latin heading every other byte is 0
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _zeros(names: Sequence[str], images: Iterable[str]) -> str:
    """A hint where a spreadsheet has taken 007 for the number 7."""
    numbers = {stem.lstrip("0") or "0" for stem in images if stem.startswith("0") and stem.isdigit()}
    if any((PureWindowsPath(name).name or name) in numbers for name in names):
        return "; a spreadsheet has taken leading zeros away: format the column as text"
    return ""


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


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

    def guesses(self, stems: Sequence[str]) -> list[str]:
        """What is to be told of lots that nobody named: how they were guessed, with an example."""
        guessed = [stem for stem in stems if stem not in self._named]
        if not guessed:
            return []
        lots = Counter(self.of(stem) for stem in guessed)
        example = next((stem for stem in guessed if lots[self.of(stem)] > 1), guessed[0])
        frame = _frame_of(example)
        if frame is None:
            how = f"from the names: one without a number is a lot of its own, as {example}"
        else:
            recording, number = frame
            whose = f"recording {recording!r}, " if recording else ""
            how = (
                f"from the number in the name, {self._size} in a row to a lot: {example} is {whose}"
                f"number {number}, lot {self.of(example)}"
            )
        return [
            f"{len(lots)} lots of {len(guessed)} images were guessed {how}; "
            "where that is wrong, name them in groups.csv (name,group)"
        ]


@dataclass(frozen=True, slots=True)
class Split:
    """Good frames divided into those that are learned from and those that set thresholds."""

    train: list[Item]
    validation: list[Item]
    note: str


def split_off(items: Sequence[Item], *, every: int = 5) -> Split:
    """A validation split out of teaching frames: every fifth lot in the order they come in, whole lots only.

    The same at every call. Where too few lots would be left to learn from, it is every fifth frame, which is
    told: frames of one lot resemble each other, so thresholds come out too low for the next lot.
    """
    lots = list(dict.fromkeys(item.group for item in items))
    held = set(lots[every - 1 :: every]) or set(lots[1:][-1:])
    if len(lots) - len(held) >= MIN_GROUPS:
        train = [item for item in items if item.group not in held]
        validation = [item for item in items if item.group in held]
        note = (
            f"no validation split: {len(validation)} of {len(items)} good frames, {len(held)} of {len(lots)} "
            "lots, were held out of teaching to set thresholds; frames of another day in validation/good "
            "are better"
        )
    else:
        train = [item for index, item in enumerate(items) if index % every != every - 1]
        validation = [item for index, item in enumerate(items) if index % every == every - 1]
        lots_are = "1 lot is" if len(lots) == 1 else f"{len(lots)} lots are"
        note = (
            f"no validation split, and {lots_are} too few to hold one out: {len(validation)} of "
            f"{len(items)} good frames were held out of teaching to set thresholds. They are of the lots "
            "that were taught, so the next lot may be rejected too often: add frames of another day "
            "in validation/good"
        )
    return Split(train, [replace(item, split="validation") for item in validation], note)


def _frame_of(stem: str) -> tuple[str, int] | None:
    """(recording, frame number) of an image name, or None."""
    found = re.fullmatch(r"(.*?)(\d+)", stem.rsplit("_", 1)[0])
    return None if found is None else (found[1], int(found[2]))

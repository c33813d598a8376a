"""What lies in a folder that no reader understands, in one line, and what would make it one that is read."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from inference.datasets.formats import SUFFIXES

_MOST_FILES = 20_000
_MOST_FOLDERS = 8
_DEEPEST = 4
_CLOUDS = (".ply", ".pcd", ".xyz")


def survey(folder: Path) -> str:
    """Its folders with the number of their files by suffix: "train/images 120 .jpg; labels 120 .txt"."""
    counted = _counted(folder)
    if not counted:
        return "nothing"
    parts = [
        f"{'' if place == '.' else place + '/ '}{_files(suffixes)}"
        for place, suffixes in list(counted.items())[:_MOST_FOLDERS]
    ]
    more = len(counted) - _MOST_FOLDERS
    return "; ".join(parts) + (f"; and {more} more folders" if more > 0 else "")


def nearest(folder: Path) -> str:
    """What to do to make it the layout that it is nearest to."""
    counted = _counted(folder)
    pictures = [place for place, suffixes in counted.items() if any(s in SUFFIXES for s in suffixes)]
    names = {part.lower() for place in counted for part in place.split("/")}
    if any(suffix in _CLOUDS for suffixes in counted.values() for suffix in suffixes):
        return (
            "nearest is mvtec3d: good parts in train/good/rgb/NAME.png and train/good/xyz/NAME.tiff "
            "(3 floats a pixel)"
        )
    if any(word in name for name in names for word in ("depth", "disparity", "range", "height")):
        return (
            "nearest is surface: good parts in train/good/rgb/NAME.png and train/good/depth/NAME.png, "
            "the same names in both"
        )
    if pictures:
        return (
            f"nearest is mvtec_ad: move the good parts' images ({pictures[0]}) straight into train/good/, "
            "those to judge into test/good/ and test/KIND/, their masks into ground_truth/KIND/"
        )
    return "put good parts' images into train/good/rgb/ and, where there is depth, train/good/depth/"


def _counted(folder: Path) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    seen = 0
    for place, folders, files in os.walk(folder):
        here = Path(place).relative_to(folder)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if len(here.parts) >= _DEEPEST:
            folders.clear()
        visible = [name for name in files if not name.startswith(".")]
        if visible or not folders:
            # Counted by the path of the folder; an empty one is told as empty.
            found[here.as_posix()] = Counter(Path(name).suffix.lower() for name in visible)
        seen += len(files)
        if seen > _MOST_FILES:
            break
    if list(found) == ["."] and not found["."]:
        return {}
    return found


def _files(suffixes: Counter[str]) -> str:
    if not suffixes:
        return "empty"
    return ", ".join(f"{number} {suffix or 'without suffix'}" for suffix, number in suffixes.most_common(3))

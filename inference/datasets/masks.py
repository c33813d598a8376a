"""Masks of defects: found beside their frames, read however they are encoded, and never silently left out.

A mask says where the defect is: every pixel that is not background. Background is 0 (black) in grey and
colour images of any depth, what is transparent where the image has transparency, and black (or else the first
colour) of a palette. So 0 and 1, 0 and 255, 16 bits, classes by number and classes by colour all mean the
same here. A jpg cannot carry exact values: there the halfway between black and its brightest value divides
the two, and one with several levels is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.datasets.files import check_readable, size_of
from inference.datasets.formats import format_of, is_beside, is_clutter, listed, pixels
from inference.errors import DatasetError, UnmarkedDefect

PLACES = ("gt", "mask", "masks", "ground_truth")
"""Folders in that of a kind of defect that may hold its masks."""
ENDINGS = ("", "_mask", "_gt", "_seg", "_label")
"""What may follow the frame's name in that of its mask."""
_WITH_PALETTE = ("PNG", "BMP", "TIFF")
_DIM = 32
"""A jpg whose brightest value is lower has no level that compression noise could not have made."""


def masks_of(root: Path, stems: Iterable[str], *, shared: Path | None = None) -> dict[str, Path]:
    """The mask of each frame of a kind of defect; none where the kind has no masks at all.

    Args:
        root: folder of the kind; its masks are in one of ``PLACES`` in it.
        stems: names of its frames.
        shared: another folder with this kind's masks alone, such as MVTec's ``ground_truth/KIND``.

    Raises:
        DatasetError: masks in two places, one that belongs to no frame, two of one frame, a frame without
            one where others have theirs, or a file that is no image that is read here.
    """
    places = [root / name for name in PLACES] + ([] if shared is None else [shared])
    held = {place: files for place in places if (files := _files(place))}
    if not held:
        return {}
    if len(held) > 1:
        raise DatasetError(f"{' and '.join(map(str, held))}: masks in two places; keep one of them")
    ((place, files),) = held.items()
    frames = sorted(stems)
    found: dict[str, Path] = {}
    for path in files:
        stem = _frame_of(path, frames)
        if stem is None:
            known = ", ".join(frames[:3]) + (" ..." if len(frames) > 3 else "")
            raise DatasetError(
                f"{path}: a mask that belongs to no frame of {root} ({known}); "
                "name it as its frame, or NAME_mask"
            )
        if stem in found:
            raise DatasetError(f"{path}: {found[stem].name} is a mask of {stem} too; keep one of them")
        found[stem] = path
    for stem in frames:
        if stem not in found:
            example = files[0]
            ending = example.stem.removeprefix(_frame_of(example, frames) or "")
            raise DatasetError(
                f"{place / stem}{ending}{example.suffix}: missing; every image of a kind with masks needs one"
            )
    return found


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    files = []
    for path in sorted(place.iterdir()):
        if is_clutter(path):
            continue
        if path.is_dir() or is_beside(path):  # an annotation in a sidecar is one that nobody reads here
            raise DatasetError(f"{path}: not read as a mask; save one image for each frame, as {listed()}")
        check_readable(path)
        files.append(path)
    return files


def _frame_of(path: Path, frames: list[str]) -> str | None:
    known = set(frames)
    return next(
        (
            stem
            for ending in ENDINGS
            if path.stem.endswith(ending) and (stem := path.stem.removesuffix(ending)) in known
        ),
        None,
    )


def without_masks(root: Path) -> str:
    """What is to be told of a kind of defect that has no masks."""
    return f"{root}: no masks, so figures of pixels leave it out (masks go into {root.name}/gt)"


def check_mask(truth: Path, frame: tuple[int, int]) -> None:
    """See that a mask is as large as its frame, (width, height), by its header. Raises DatasetError."""
    size = size_of(truth)
    if size != frame:
        raise DatasetError(
            f"{truth}: mask of {size[0]} x {size[1]}, image of {frame[0]} x {frame[1]}; "
            "draw it at the image's size"
        )


def read_defect(path: Path) -> NDArray[np.bool_]:
    """(H, W) bool, True = defect, of a frame that has one.

    Raises:
        UnmarkedDefect: it marks nothing.
        DatasetError: it cannot be read, or marks everything.
    """
    mask = read_mask(path)
    if not mask.any():
        raise UnmarkedDefect(
            f"{path}: an empty mask, and its frame is labelled as a defect; mark the defect, or move the "
            "frame to test/good"
        )
    if mask.all():
        raise DatasetError(
            f"{path}: every pixel is marked (values {_values(path)}); the background of a mask must be 0"
        )
    return mask


def read_mask(path: Path) -> NDArray[np.bool_]:
    """(H, W) bool, True = not background, as described above. Raises DatasetError."""
    image = pixels(path, "mask")
    indices = _palette(path)
    if indices is not None:
        return indices
    alpha = None
    if image.ndim == 3 and image.shape[2] in (2, 4):
        alpha, image = image[..., -1].astype(bool), image[..., :-1]
    value: NDArray[Any] = image.max(axis=2) if image.ndim == 3 else image
    if _is_jpeg(path):
        return _halved(path, np.asarray(value, np.uint8))
    marked = np.asarray(value > 0)
    if alpha is None or alpha.all():
        return marked
    # Drawn on a transparent layer: the colour says nothing where nothing was drawn, and may itself be black.
    return np.asarray(alpha & marked if (alpha & marked).any() else alpha)


def _palette(path: Path) -> NDArray[np.bool_] | None:
    """The mask of an image with a palette; None for any other."""
    if format_of(path) not in _WITH_PALETTE:
        return None
    with Image.open(path) as image:
        if image.mode != "P":
            return None
        indices = np.asarray(image)
        colours = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    black = [int(index) for index in used if index < len(colours) and not colours[index].any()]
    return np.asarray(~np.isin(indices, black or [0]))


def _is_jpeg(path: Path) -> bool:
    return format_of(path) == "JPEG"


def _halved(path: Path, value: NDArray[np.uint8]) -> NDArray[np.bool_]:
    top = int(value.max())
    if top == 0:
        return np.zeros(value.shape, bool)
    between = ((value > 0.25 * top) & (value < 0.75 * top)).astype(np.uint8)
    # Ringing along an edge is a few pixels wide; a level of its own fills a place.
    if top < _DIM or cv2.erode(between, np.ones((9, 9), np.uint8)).any():
        raise DatasetError(
            f"{path}: a jpg with values {_values(path)} cannot be told from its compression noise; "
            "save the mask as png"
        )
    return np.asarray(value > 0.5 * top)


def _values(path: Path) -> str:
    found = np.unique(pixels(path, "mask"))
    return f"{found[0]} to {found[-1]}" if found.size > 2 else " and ".join(map(str, found))

"""Image files of datasets: found by name, checked by their headers, read, with every mistake named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.datasets.base import Notes
from inference.datasets.formats import SUFFIXES, facts, format_of, is_beside, is_read, listed, pixels
from inference.errors import DatasetError


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in ``folder``, sorted; hidden ones are left out, and no folder has none."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_beside(entry))


def has_split(folder: Path, split: str) -> bool:
    """Whether a folder has the split. Raises DatasetError: it has one under a name that is not read."""
    if (folder / split).is_dir():
        return True
    for name in subfolders(folder):
        if name.lower() in ("val", "valid", split):
            raise DatasetError(
                f"{folder / name}: is this the {split} split? Name the folder {split}, or take it away"
            )
    return False


def images(folder: Path, notes: Notes | None = None, *, beside: tuple[str, ...] = ()) -> dict[str, Path]:
    """The image files of a folder by their name without suffix, sorted; none where there is no folder.

    Hidden files, a desktop's own and sidecars (``formats.SIDECARS``) are passed over. A file whose content is
    of another format than its suffix says is told in ``notes``, and read by its content. Folders called as
    ``beside`` may lie among the images.

    Raises:
        DatasetError: a file that is not read, a folder inside, two files of the same name, or a folder in
            which there is no image at all.
    """
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_beside(path):
            continue
        if path.is_dir() and path.name in beside:
            continue
        if path.is_dir():
            raise DatasetError(f"{path}: a folder among images, which is not looked into; move its files up")
        check_readable(path)
        if path.stem in found:
            raise DatasetError(f"{path}: {found[path.stem].name} has the same name; keep one of them")
        found[path.stem] = path
        if notes is not None:
            note_content(path, notes)
    if not found:
        raise DatasetError(
            f"{folder}: no images in it; put them there, or take the folder away if there are none "
            f"(read are {listed()})"
        )
    return found


def check_readable(path: Path) -> None:
    """See that a file is one of those that are read. Raises DatasetError with what is."""
    if not is_read(path):
        what = f"{path.suffix} files are" if path.suffix else "a file without a suffix is"
        raise DatasetError(
            f"{path}: {what} not read; read are {listed()}: convert it, or take it away if it is no image"
        )
    if not path.is_file():
        raise DatasetError(f"{path}: not a regular file; copy the image there")


def note_content(path: Path, notes: Notes) -> None:
    """Tell where a file's content is of another format than its suffix says. Raises DatasetError."""
    promised, held = SUFFIXES.get(path.suffix.lower()), format_of(path)
    if held is not None and promised != held:
        notes.about(path, f"named {path.suffix}, but holds {held}: read as {held}; give it its own suffix")


def strangers(folder: Path, known: tuple[str, ...]) -> list[Path]:
    """What lies in a folder of sensors' folders and is none of them."""
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.name not in known and not is_beside(path)]


def check_strangers(
    folder: Path, known: tuple[str, ...], sensors: tuple[str, str], found: int, notes: Notes | None
) -> None:
    """What is beside the sensors' folders may be the other sensor under another name.

    Args:
        folder: the label's folder. known: the folders in it that are read.
        sensors: names of the two sensors' folders. found: how many of them have images.

    Raises:
        DatasetError: one sensor's images alone were found, and something that is not read lies beside them.
    """
    for path in strangers(folder, known):
        if found < len(sensors):
            raise DatasetError(
                f"{path}: not read; a sensor's images belong in {' or '.join(f'{s}/' for s in sensors)}. "
                "Rename it, or take it away so that one sensor alone is meant"
            )
        if notes is not None:
            notes.about(path, "not read; it is none of " + ", ".join(f"{name}/" for name in known))


def check_partners(colour: Mapping[str, Path], depth: Mapping[str, Path], root: Path, want: str) -> None:
    """See that each name has both images. Raises DatasetError naming the first that has not."""
    for stem in sorted(colour.keys() ^ depth.keys()):
        have = colour.get(stem) or depth[stem]
        where = want if stem in colour else "rgb"
        raise DatasetError(
            f"{have}: has no partner in {root / where}; add {stem} there or take this file away"
        )


def size_of(path: Path) -> tuple[int, int]:
    """(width, height), from the header where the format has one. Raises DatasetError."""
    return facts(path).size


def read_colour(path: Path, bits: int | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB; grey is repeated, an alpha channel is left out, EXIF orientation is ignored.

    Args:
        path: the file.
        bits: of samples that are stored in 16 bits, such as 12 for Mono12.

    Raises:
        DatasetError: damaged, or of a type that is no picture.
    """
    image = pixels(path, "rgb")
    channels = image.shape[2] if image.ndim == 3 else 1
    if channels not in (1, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise DatasetError(
            f"{path}: {image.dtype} with {channels} channels; colour must be grey or RGB of 8 or 16 bits"
        )
    if image.dtype == np.uint16:
        image = _to_eight(image, bits, path)
    if channels == 1:
        image = np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(image[..., :3], dtype=np.uint8)


def _to_eight(image: NDArray[np.generic], bits: int | None, path: Path) -> NDArray[np.uint8]:
    """The upper eight of ``bits`` bits."""
    highest = int(image.max())
    needed = max(highest.bit_length(), 8)
    if bits is None:
        if needed <= 14:
            # A dark picture of 16 bits looks the same as a bright one of 12: only a person knows.
            likely = 12 if needed <= 12 else 14
            likely = 10 if needed <= 10 else likely
            raise DatasetError(
                f"{path}: 16-bit colour whose highest value is {highest}: from a camera of {likely} bits, as "
                f"Mono{likely}? say --colour-bits {likely}, or --colour-bits 16 if it is only dark "
                f'("colour_bits" in dataset.json)'
            )
        bits = 16
    if needed > bits:
        raise DatasetError(
            f"{path}: its highest value is {highest}, more than {bits} bits hold; "
            "give the camera's bits with --colour-bits"
        )
    return np.asarray(image.astype(np.uint16) >> (bits - 8), np.uint8)

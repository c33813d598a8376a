"""Image files of datasets: found by name, checked by their headers, decoded, with every mistake named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.datasets.tiff import read_float_tiff, read_tiff
from inference.errors import DatasetError

COLOUR_SUFFIXES = (".jpg", ".jpeg", ".png")
TIFF_SUFFIXES = (".tiff", ".tif")
HIGHEST_COUNT = 65535


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in ``folder``, sorted; hidden ones are left out, and no folder has none."""
    if not folder.is_dir():
        return []
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


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


def images(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files with one of these suffixes by their name without it, sorted; none where there is no folder.

    Raises:
        DatasetError: two files have the same name.
    """
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            raise DatasetError(f"{path}: {found[path.stem].name} has the same name; keep one of them")
        found[path.stem] = path
    return found


def check_partners(colour: Mapping[str, Path], depth: Mapping[str, Path], root: Path, want: str) -> None:
    """See that each name has both images. Raises DatasetError naming the first that has not."""
    for stem in sorted(colour.keys() ^ depth.keys()):
        have = colour.get(stem) or depth[stem]
        where = want if stem in colour else "rgb"
        raise DatasetError(
            f"{have}: has no partner in {root / where}; add {stem} there or take this file away"
        )


def header(path: Path) -> tuple[tuple[int, int], str]:
    """((width, height), Pillow's mode) without decoding. Raises DatasetError."""
    try:
        with Image.open(path) as image:
            return image.size, image.mode
    except Exception:  # Pillow raises many types for files that are not images
        raise DatasetError(f"{path}: not an image that can be read; save it again as jpg or png") from None


def decode(path: Path, flags: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A jpg or png as OpenCV reads it with ``flags``. Raises DatasetError where it is damaged or cut off."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    # OpenCV fills the missing rest of a cut file with grey and says nothing, so its end is looked for here.
    end = b"IEND\xaeB`\x82" if path.suffix.lower() == ".png" else b"\xff\xd9"
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if end in data[-1024:] else None
    if image is None:
        raise DatasetError(f"{path}: damaged or cut off; save it again")
    return cast("NDArray[np.uint8] | NDArray[np.uint16]", image)


def read_colour(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB; the EXIF orientation is ignored, since depth has none. Raises DatasetError."""
    image = decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def read_depth(path: Path) -> NDArray[np.uint16]:
    """(H, W) uint16 counts of a png. Raises DatasetError."""
    image = decode(path, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint16 or image.ndim != 2:
        raise DatasetError(f"{path}: {image.dtype} {image.shape}; depth must be a 16-bit single-channel png")
    return np.asarray(image, np.uint16)


def check_xyz(path: Path) -> tuple[int, int]:
    """(width, height) of a point image, from the header. Raises DatasetError where it is not one."""
    found = read_tiff(path)
    if found.channels != 3 or not found.is_float:
        raise DatasetError(f"{path}: {found.kind} image; xyz must be a 3-channel float tiff")
    return found.size


def read_xyz(path: Path) -> NDArray[np.float32]:
    """(H, W, 3) float32: x right, y down, z away from the sensor, (0, 0, 0) = no point, in the file's unit.

    Raises:
        DatasetError: no float tiff of three channels, cut off, a value that is not finite, or a point behind
            the sensor.
    """
    points = read_float_tiff(path, channels=3)
    # The sum is finite where all are, and takes a tenth of the time.
    with np.errstate(invalid="ignore"):
        whole = bool(np.isfinite(points.sum(dtype=np.float64)))
    if not whole:
        bad = int(np.count_nonzero(~np.isfinite(points).all(axis=2)))
        raise DatasetError(
            f"{path}: {bad} points are not finite (NaN or infinite); a point without a reading is (0, 0, 0)"
        )
    x, y, z = (points[..., axis] for axis in range(3))
    behind = int(np.count_nonzero((z < 0) | ((z == 0) & ((x != 0) | (y != 0)))))
    if behind:
        raise DatasetError(
            f"{path}: {behind} points are not in front of the sensor (least z {float(z.min()):g}); "
            "z must be the distance from the camera"
        )
    return points


def to_counts(z: NDArray[np.float32], depth_scale: float, path: Path) -> NDArray[np.uint16]:
    """(H, W) distances in metres, 0 = no reading, as uint16 counts of ``depth_scale`` metres, rounded.

    A reading closer than one count becomes count 1, since 0 stands for no reading.

    Raises:
        DatasetError: a distance beyond the largest count.
    """
    farthest = float(z.max(initial=0.0))
    if farthest / depth_scale > HIGHEST_COUNT + 0.49:
        raise DatasetError(
            f"{path}: a point is {farthest:g} m away, the largest count of {depth_scale:g} m stands for "
            f"{HIGHEST_COUNT * depth_scale:g} m: read it with a depth_scale of at least "
            f"{farthest / HIGHEST_COUNT:.2g}"
        )
    counts = np.rint(z * np.float32(1 / depth_scale))
    np.maximum(counts, 1, out=counts, where=z > 0)
    return np.asarray(np.minimum(counts, HIGHEST_COUNT), np.uint16)

"""The one door for image files: which suffixes are read, what a file holds, and its pixels.

A file is read by its content; where its suffix says something else, that is told (see ``files.images``).

    png jpg jpeg bmp webp tif tiff pgm ppm pnm exr    by OpenCV, of any sample type that it knows
    npy npz                                           by numpy, without pickled objects
    ply pcd                                           organised clouds, by plyfile and pypcd4: (H, W, 3)
"""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

# OpenCV asks for this before it reads its first EXR, which was once a way in for attackers.
os.putenv("OPENCV_IO_ENABLE_OPENEXR", "1")

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.datasets.clouds import read_pcd, read_ply
from inference.datasets.tiff import TiffHeader, read_tiff, tiff_header
from inference.errors import DatasetError
from schemas.errors import BadImage
from schemas.headers import jpeg_end

# What its decoders write to the terminal about a damaged file is said here in words that name the file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

Pixels = NDArray[np.generic]

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".pgm": "PNM",
    ".ppm": "PNM",
    ".pnm": "PNM",
    ".exr": "EXR",
    ".npy": "NPY",
    ".npz": "NPZ",
    ".ply": "PLY",
    ".pcd": "PCD",
}
"""Every suffix that is read, in lower case, and the format that it promises."""
SIDECARS = (".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".log", ".html")
"""Suffixes of notes beside images: they may lie anywhere and are no images."""
_DESKTOP = ("thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx")

_PNG = b"\x89PNG\r\n\x1a\n"
_MAGIC = (
    (_PNG, "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"v/1\x01", "EXR"),
    (b"\x93NUMPY", "NPY"),
    (b"PK\x03\x04", "NPZ"),
    (b"ply\n", "PLY"),
    (b"ply\r", "PLY"),
    (b"# .PCD", "PCD"),
    (b"VERSION", "PCD"),
)
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says about its pixels.

    Attributes:
        size: (width, height).
        channels: samples of a pixel.
        kind: of a sample.
    """

    size: tuple[int, int]
    channels: int
    kind: np.dtype[np.generic]

    @property
    def words(self) -> str:
        """In words: "3-channel 32-bit float"."""
        number = "float" if self.kind.kind == "f" else "integer"
        return f"{self.channels}-channel {8 * self.kind.itemsize}-bit {number}"


def listed() -> str:
    """The suffixes that are read, for a message."""
    return ", ".join(suffix[1:] for suffix in SUFFIXES)


def is_clutter(path: Path) -> bool:
    """Whether a file or folder is hidden or a desktop's own."""
    return path.name.startswith(".") or path.name.lower() in _DESKTOP


def is_beside(path: Path) -> bool:
    """Whether a file or folder is no image by its name: clutter, or a sidecar."""
    return is_clutter(path) or path.suffix.lower() in SIDECARS


def is_read(path: Path) -> bool:
    """Whether the suffix is one that is read."""
    return path.suffix.lower() in SUFFIXES


def format_of(path: Path) -> str | None:
    """The format of a file's content, or None where its first bytes are of none. Raises DatasetError."""
    return _sniff(_head(path))


def facts(path: Path, array: str | None = None) -> Facts:
    """Size and type of a file's pixels, from the header where the format has one of its own.

    ``array`` is which one of an .npz that holds several.

    Raises:
        DatasetError: no image that can be read.
    """
    name = _format(path)
    if name == "TIFF":
        return _tiff_facts(read_tiff(path))
    if name in ("JPEG", "BMP", "WebP", "PNM", "PNG"):
        return _pillow_facts(path, name)
    # The others are mapped into memory, small, or rare.
    return facts_of(pixels(path, array))


def facts_of(image: Pixels) -> Facts:
    """Of pixels (H, W) or (H, W, C)."""
    channels = image.shape[2] if image.ndim == 3 else 1
    return Facts((image.shape[1], image.shape[0]), channels, image.dtype)


def pixels(path: Path, array: str | None = None) -> Pixels:
    """(H, W), or (H, W, C) in the order R, G, B, alpha or x, y, z, of native byte order, as stored.

    A palette is resolved; EXIF orientation is ignored, since depth has none.

    Args:
        path: the file.
        array: which array of an .npz that holds several.

    Raises:
        DatasetError: not an image, damaged, cut off, of several pages, or a cloud that is not organised.
    """
    name = _format(path)
    if name in ("NPY", "NPZ"):
        return _array(path, array, archive=name == "NPZ")
    if name == "PLY":
        return read_ply(path)
    if name == "PCD":
        return read_pcd(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    return _decoded(path, name, data)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(32)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None


def _format(path: Path) -> str:
    name = format_of(path)
    if name is not None:
        return name
    if not path.stat().st_size:
        raise DatasetError(f"{path}: not an image, an empty file; copy it again")
    promised = SUFFIXES.get(path.suffix.lower())
    if promised is None:
        raise DatasetError(f"{path}: not an image that can be read; read are {listed()}")
    a = "an" if promised[0] in "NE" else "a"
    raise DatasetError(
        f"{path}: not an image that can be read: its content is not {a} {promised} file; save it again"
        + (" with numpy.save" if promised == "NPY" else "")
    )


def _sniff(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:1] == b"P" and head[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6") and head[2:3].isspace():
        return "PNM"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


def _tiff_facts(header: TiffHeader) -> Facts:
    letter, octets = "f" if header.is_float else "u", max(1, -(-header.bits // 8))
    if octets == 3:  # no such integer: it will be said when the pixels are read
        octets = 4
    return Facts(header.size, header.channels, np.dtype(f"{letter}{octets}"))


def _pillow_facts(path: Path, name: str) -> Facts:
    try:
        with Image.open(path) as image:
            size, mode, bands = image.size, image.mode, image.getbands()
            # Pillow turns colour of 16 bits to 8; the header of the file says what it holds.
            deep = name == "PNG" and _head(path)[24:25] == b"\x10"
    except Exception:  # Pillow raises many types for files that are not images
        raise DatasetError(f"{path}: not an image that can be read; save it again as jpg or png") from None
    channels = 3 if mode == "P" else len(bands)
    return Facts(size, channels, np.dtype(np.uint16 if deep or mode.startswith("I") else np.uint8))


def _decoded(path: Path, name: str, data: bytes) -> Pixels:
    whole = True
    # OpenCV fills the missing rest of some cut files and says nothing, so their end is looked for here.
    # What lies behind it is padding.
    if name == "PNG":
        whole = _PNG_END in data
    elif name == "JPEG":
        try:
            data = data[: jpeg_end(data)]
        except BadImage:
            whole = False
    elif name == "TIFF":
        header = tiff_header(data, path)
        whole = header.end <= len(data)
        if header.planar:
            raise DatasetError(f"{path}: {header.kind} image in separate planes; store it pixel by pixel")
        if header.pages > 1:
            raise DatasetError(
                f"{path}: {header.pages} pages in one file, of which only one can be a part; "
                "save each page as a file of its own"
            )
    image = None
    if whole:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            image = None
    if image is None:
        raise DatasetError(f"{path}: damaged or cut off; save it again")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim == 3:
        # OpenCV turns three and four channels from file order to the reverse, whatever they mean.
        order = [2, 1, 0, 3][: image.shape[2]] if image.shape[2] in (3, 4) else list(range(image.shape[2]))
        image = image[..., order]
    return np.ascontiguousarray(image)


def _array(path: Path, wanted: str | None, *, archive: bool) -> Pixels:
    try:
        if archive:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                values = found[_chosen(path, list(found.files), wanted)]
        else:
            values = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        raise DatasetError(f"{path}: not an array that can be read; save it again with numpy.save") from None
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or not values.size or values.dtype.kind not in "biuf":
        raise DatasetError(
            f"{path}: {values.dtype} {values.shape}; expected numbers (H, W) or (H, W, channels)"
        )
    native: Pixels = values.astype(values.dtype.newbyteorder("="), copy=False)
    return native


def _chosen(path: Path, names: list[str], wanted: str | None) -> str:
    if len(names) == 1:
        return names[0]
    if wanted not in names:
        call = f", or call it {wanted}" if wanted else ""
        raise DatasetError(f"{path}: {len(names)} arrays ({', '.join(names[:8])}); keep one{call}")
    return wanted

"""Organised clouds: files that hold a point for every pixel of the sensor, row by row.

A cloud without rows and columns has lost which neighbour is which, and is refused: it is no image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from plyfile import PlyData, PlyParseError
from pypcd4.pypcd4 import PointCloud

from inference.errors import DatasetError

_FIX = (
    "export it organised (PCD with HEIGHT above 1, or PLY with its width and height), or save x, y, z as an "
    ".npy of (H, W, 3)"
)
_PLY_SIZES = (
    ("num_cols", "num_rows"),
    ("width", "height"),
    ("frame_width", "frame_height"),
    ("viewportx", "viewporty"),
)
"""Names under which programs write the size of an organised PLY: as obj_info, comment or property."""


def read_pcd(path: Path) -> NDArray[np.float32]:
    """(H, W, 3) x, y, z of an organised PCD; NaN where there is no point. Raises DatasetError."""
    try:
        cloud = PointCloud.from_path(path)
        size, points = (cloud.metadata.width, cloud.metadata.height), cloud.pc_data
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # the library raises what its parts raise
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{path}: not a PCD that can be read ({first[:120]}); save it again") from None
    if size[1] <= 1:
        raise DatasetError(f"{path}: {size[0]} points in no order (HEIGHT {size[1]}); {_FIX}")
    return _laid(path, _xyz(path, points), size)


def read_ply(path: Path) -> NDArray[np.float32]:
    """(H, W, 3) x, y, z of an organised PLY; NaN where there is no point. Raises DatasetError.

    Organised is what names its width and height, in one of the ways of ``_PLY_SIZES``, with a vertex for
    each pixel or a ``range_grid`` of indices.
    """
    try:
        ply = PlyData.read(str(path))
        names = [element.name for element in ply.elements]
        vertices = ply["vertex"].data if "vertex" in names else None
        grid = ply["range_grid"].data if "range_grid" in names else None
        size = _ply_size(ply)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    except (PlyParseError, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{path}: not a PLY that can be read ({first[:120]}); save it again") from None
    if vertices is None:
        raise DatasetError(f"{path}: no vertices in it; {_FIX}")
    points = _xyz(path, vertices)
    if size is None:
        raise DatasetError(f"{path}: {len(points)} points in no order (no width and height); {_FIX}")
    if grid is None:
        return _laid(path, points, size)
    laid = np.full((len(grid), 3), np.nan, np.float32)
    for place, entry in enumerate(grid):
        indices = np.atleast_1d(entry[0])
        if indices.size and 0 <= int(indices[0]) < len(points):
            laid[place] = points[int(indices[0])]
    return _laid(path, laid, size)


def _ply_size(ply: PlyData) -> tuple[int, int] | None:
    told: dict[str, int] = {}
    for line in (*ply.obj_info, *ply.comments):
        for name, value in re.findall(r"\b([A-Za-z_]+)\s*[:=]?\s+(\d+)\b", line):
            told.setdefault(name.lower(), int(value))
    for element in ply.elements:
        if element.count == 1 and element.name != "vertex":
            told |= {name.lower(): int(element.data[name][0]) for name in _numbers(element.data.dtype)}
    for across, down in _PLY_SIZES:
        if told.get(across, 0) > 1 and told.get(down, 0) > 1:
            return told[across], told[down]
    return None


def _numbers(kind: np.dtype[np.void]) -> Sequence[str]:
    return [name for name in kind.names or () if kind[name].kind in "iuf"]


def _xyz(path: Path, points: NDArray[np.void]) -> NDArray[np.float32]:
    names = points.dtype.names or ()
    if not {"x", "y", "z"} <= set(names):
        raise DatasetError(f"{path}: points without x, y and z; found {', '.join(names) or 'nothing'}")
    return np.stack([points[axis].astype(np.float32) for axis in "xyz"], axis=-1)


def _laid(path: Path, points: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    width, height = size
    if len(points) != width * height:
        raise DatasetError(
            f"{path}: {len(points)} points, {width} x {height} are promised: cut off, or no image; {_FIX}"
        )
    return np.ascontiguousarray(points.reshape(height, width, 3))

"""Overlapping tiles for frames much larger than the model grid, and their maps stitched into one.

A five-megapixel frame squeezed onto 256 pixels turns a ten-pixel flaw into one. Tiles are boxes in relative
coordinates, so that one layout holds for colour and depth at any resolution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import BundleError
from inference.roi import Roi

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TileLayout:
    """A grid of ``rows`` x ``columns`` equal tiles over a region, neighbours sharing ``overlap`` of a side.

    Raises:
        BundleError: a count or an overlap that makes no layout.
    """

    roi: Roi
    rows: int = 1
    columns: int = 1
    overlap: float = 0.125

    def __post_init__(self) -> None:
        if not (1 <= self.rows <= 64 and 1 <= self.columns <= 64 and 0 <= self.overlap <= 0.5):
            raise BundleError(
                f"tile layout {self.rows} x {self.columns}, overlap {self.overlap}: expected 1 to 64 tiles "
                "each way and an overlap from 0 to 0.5"
            )

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.rows * self.columns

    def boxes(self) -> tuple[Roi, ...]:
        """The tiles, row by row, in relative coordinates of the whole frame."""
        spans_y = _spans(self.rows, self.overlap)
        spans_x = _spans(self.columns, self.overlap)
        width, height = self.roi.x1 - self.roi.x0, self.roi.y1 - self.roi.y0
        return tuple(
            Roi(
                min(self.roi.x0 + x0 * width, 1.0),
                min(self.roi.y0 + y0 * height, 1.0),
                min(self.roi.x0 + x1 * width, 1.0),
                min(self.roi.y0 + y1 * height, 1.0),
            )
            for y0, y1 in spans_y
            for x0, x1 in spans_x
        )

    def canvas(self, side: int) -> tuple[int, int]:
        """(height, width) of the stitched map of tiles with ``side`` pixels each way."""
        return _length(self.rows, self.overlap, side), _length(self.columns, self.overlap, side)

    def to_map(self) -> dict[str, float | int]:
        """The layout as plain numbers, without the region."""
        return {"rows": self.rows, "columns": self.columns, "overlap": self.overlap}

    @classmethod
    def from_map(cls, roi: Roi, values: Mapping[str, object]) -> TileLayout:
        """The layout written by :meth:`to_map`. Raises BundleError."""
        rows, columns, overlap = (values.get(name) for name in ("rows", "columns", "overlap"))
        if type(rows) is not int or type(columns) is not int or not isinstance(overlap, int | float):
            raise BundleError(f"tile layout {dict(values)!r}: expected rows, columns and overlap")
        return cls(roi, rows, columns, float(overlap))


def plan_tiles(size: tuple[int, int], roi: Roi, *, tile_pixels: int, overlap: float) -> TileLayout:
    """The layout for frames of (height, width) pixels: as few tiles as keep each within ``tile_pixels``."""

    def needed(length: float) -> int:
        if length <= tile_pixels:
            return 1
        step = tile_pixels * (1.0 - overlap)
        return math.ceil((length - tile_pixels) / step - 1e-9) + 1

    rows, columns = roi.pixels(*size)
    return TileLayout(roi, needed(rows.stop - rows.start), needed(columns.stop - columns.start), overlap)


def stitch(maps: Sequence[Image], layout: TileLayout) -> Image:
    """One map from the square maps of all tiles, row by row; overlaps are blended by distance to the edge.

    The blend of a place depends on the layout alone, never on how many frames were inspected together.
    """
    if layout.count == 1:
        return maps[0]
    side = maps[0].shape[0]
    height, width = layout.canvas(side)
    ramp = np.minimum(np.arange(side) + 1, np.arange(side, 0, -1)).astype(np.float32)
    ramp = np.minimum(ramp, max(1.0, layout.overlap * side))
    weight = np.outer(ramp, ramp).astype(np.float32)
    total = np.zeros((height, width), np.float32)
    weights = np.zeros((height, width), np.float32)
    for index, one in enumerate(maps):
        y = _offset(index // layout.columns, layout.rows, height, side)
        x = _offset(index % layout.columns, layout.columns, width, side)
        total[y : y + side, x : x + side] += one * weight
        weights[y : y + side, x : x + side] += weight
    return np.asarray(total / weights, np.float32)


def place(canvas: Image, layout: TileLayout, size: tuple[int, int], *, outside: float) -> Image:
    """A stitched map laid into a map of the whole frame with (height, width) ``size``.

    Places outside the region of interest hold ``outside``: nothing was inspected there.
    """
    rows, columns = layout.roi.pixels(*size)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    if shape != canvas.shape:
        smaller = shape[0] * shape[1] < canvas.size
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        canvas = np.asarray(cv2.resize(canvas, (shape[1], shape[0]), interpolation=how), np.float32)
    if shape == size:
        return canvas
    whole = np.full(size, outside, np.float32)
    whole[rows, columns] = canvas
    return whole


def _spans(count: int, overlap: float) -> list[tuple[float, float]]:
    length = 1.0 / (count - (count - 1) * overlap)
    step = length * (1.0 - overlap)
    return [(k * step, 1.0 if k == count - 1 else k * step + length) for k in range(count)]


def _length(count: int, overlap: float, side: int) -> int:
    return side if count == 1 else round(side * (count - (count - 1) * overlap))


def _offset(index: int, count: int, length: int, side: int) -> int:
    return 0 if count == 1 else round(index * (length - side) / (count - 1))

"""Frames whose depth sensor gives a point a pixel: counts for a sample, rays to rebuild the points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.datasets.conventions import Conventions
from inference.datasets.depth import METRIC_SCALE, read_points, to_counts
from inference.datasets.files import read_colour
from inference.datasets.masks import read_defect
from inference.errors import DatasetError
from inference.sample import Sample

WORST_PINHOLE = 0.002
"""Largest median distance, in units of x / z, of the points from the pinhole that is to fill their holes."""


@dataclass(frozen=True, slots=True)
class Pad:
    """What the colour image lacks to the point image's square: the same number of pixels for its mask.

    Attributes:
        top, bottom, left, right: pixels to add.
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def colour(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image with its border pixels repeated."""
        margins = ((self.top, self.bottom), (self.left, self.right), (0, 0))
        return np.pad(image, margins, mode="edge") if any(map(any, margins)) else image

    def mask(self, image: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The mask with no defect beyond its border."""
        return np.pad(image, ((self.top, self.bottom), (self.left, self.right)))


def square_pad(colour: tuple[int, int], points: tuple[int, int]) -> Pad | None:
    """How a colour image (width, height) goes onto a point image that was padded to a centred square.

    The square's side is the longer side of the image, or that rounded up to a multiple of 100, as the
    pre-processing published with BTF and M3DM makes it; an odd pixel is added behind. None where the sizes do
    not fit that rule.
    """
    if colour == points:
        return Pad()
    side = points[0]
    if points[0] != points[1] or side not in (max(colour), -(-max(colour) // 100) * 100):
        return None
    left, top = (side - colour[0]) // 2, (side - colour[1]) // 2
    return Pad(top=top, bottom=side - colour[1] - top, left=left, right=side - colour[0] - left)


def load_points(
    colour: Path | None,
    xyz: Path,
    pad: Pad,
    conventions: Conventions,
    *,
    unit: float = 1.0,
    scale: float = METRIC_SCALE,
) -> Sample:
    """A sample of a colour and a point image. Raises DatasetError as ``read_points`` and ``to_counts`` do.

    ``unit`` and ``scale`` are metres in a unit of the points and in a count, where nothing was said.
    """
    z = read_points(xyz, conventions)[..., 2]
    rgb = None if colour is None else pad.colour(read_colour(colour, conventions.colour_bits))
    return Sample(rgb, *to_counts(z, conventions, xyz, unit=unit, scale=scale))


def load_padded_mask(path: Path, pad: Pad) -> NDArray[np.bool_]:
    """(H, W) bool at the size of the point image. Raises DatasetError."""
    return pad.mask(read_defect(path))


def rays_of(paths: Sequence[Path]) -> NDArray[np.float32]:
    """The directions (H, W, 3) of a station's pixels from its point images: a point is its z times them.

    A pixel's x / z and y / z are the median over the images that have a point there. Where none has, they are
    those of the pinhole camera that fits the others, linear in column and row.

    Raises:
        DatasetError: no images, sizes that differ, hardly any points, or points far from any pinhole.
    """
    if not paths:
        raise DatasetError("the directions of the pixels: no point images to take them from")
    sums: list[NDArray[np.float32]] = []
    for path in paths:
        points = read_points(path)
        if sums and points.shape[:2] != sums[0].shape[:2]:
            raise DatasetError(
                f"{path}: {points.shape[1]} x {points.shape[0]} points, {paths[0].name} has "
                f"{sums[0].shape[1]} x {sums[0].shape[0]}: the directions of a station need one size"
            )
        z = points[..., 2:]
        slopes = np.full((*points.shape[:2], 2), np.nan, np.float32)
        np.divide(points[..., :2], z, out=slopes, where=z > 0)
        sums.append(slopes)
    return _filled(_median(np.stack(sums)), paths[0].parent)


def _median(slopes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 2) of (N, H, W, 2), NaN where all are; ``nanmedian`` would warn there."""
    ordered = np.sort(slopes, axis=0)  # NaN goes last
    count = np.count_nonzero(~np.isnan(slopes), axis=0)
    first = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, axis=0)[0]
    second = np.take_along_axis(ordered, count[None] // 2, axis=0)[0]
    return np.asarray((first + second) / 2, np.float32)


def _filled(slopes: NDArray[np.float32], place: Path) -> NDArray[np.float32]:
    height, width = slopes.shape[:2]
    seen = np.isfinite(slopes).all(axis=2)
    rows, columns = np.nonzero(seen)
    if rows.size < 12 or np.ptp(rows) == 0 or np.ptp(columns) == 0:
        raise DatasetError(f"{place}: {rows.size} points in all: no directions of the pixels can be found")
    rays = np.ones((height, width, 3), np.float32)
    rays[..., :2] = slopes
    for axis, pixels, grid in ((0, columns, np.arange(width)), (1, rows, np.arange(height)[:, None])):
        values = slopes[..., axis][seen].astype(np.float64)
        gradient, start = np.polyfit(pixels, values, 1)
        off = float(np.median(np.abs(values - gradient * pixels - start)))
        if not seen.all() and off > WORST_PINHOLE:
            raise DatasetError(
                f"{place}: the points are {off:.4f} (in {'xy'[axis]} / z) from any pinhole camera: these are "
                "no camera-frame coordinates, or they were moved; use the points as the sensor gave them"
            )
        model = np.broadcast_to(gradient * grid + start, (height, width))
        rays[..., axis] = np.where(seen, rays[..., axis], model)
    return rays

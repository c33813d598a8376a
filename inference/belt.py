"""Where the belt is in one frame, against where it was when the station was calibrated.

A regular grid of a few hundred single pixels is compared with the depths that they have on the belt. So no
plane is assumed of the belt itself: a lens that bends it, or a groove in it, is part of what was calibrated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.errors import DepthUnusable
from inference.plane import TUKEY, fit_plane, residual

CELLS = 24
"""The belt is watched at no more than so many rows and columns of single pixels."""
LEAST_CELLS = 24
"""Fewer readings of the belt than this say nothing about where it is."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far the belt of a frame may be from that of the reference frames.

    Attributes:
        offset: largest shift at the middle of the field, counts.
        tilt: largest difference of the shift from one side of the field to the other, counts.
        inliers: least share of the belt's readings that lie on one plane.
    """

    offset: float
    tilt: float
    inliers: float


@dataclass(frozen=True, slots=True)
class PlaneDrift:
    """How the belt of one frame lies to that of the reference frames.

    Attributes:
        offset: shift at the middle of the field in counts, positive = away from the sensor.
        tilt: difference of the shift from one side of the field to the other, counts.
        inliers: share of the watched readings that lie on the shifted belt; 0 where too few were read.
        within: whether all three are within the station's tolerance. A belt that cannot be found is not.
        offset_m, tilt_m: the same in metres; None where the sensor is not metric.
        tilt_deg: angle between the two belts; None also where the pixels' directions are not known.
    """

    offset: float
    tilt: float
    inliers: float
    within: bool
    offset_m: float | None = None
    tilt_m: float | None = None
    tilt_deg: float | None = None


def cell_pixels(size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the pixels at which the belt of an image of that (height, width) is watched."""
    rows, columns = (slice(_step(n) // 2 % n, n, _step(n)) for n in size)
    return rows, columns


def belt_shift(
    depth: NDArray[np.uint16], cells: NDArray[np.float32], spread: float
) -> tuple[float, float, float, tuple[float, float]]:
    """(offset, tilt, inliers, counts a pixel along columns and rows) of a frame against ``cells``.

    The terms are those of :class:`PlaneDrift`; all are 0 where fewer than 24 of the cells were read.
    """
    seen = depth[cell_pixels((depth.shape[0], depth.shape[1]))].astype(np.float32)
    belt = cells > 0
    valid = belt & (seen > 0)
    watched = int(np.count_nonzero(belt))
    lost = 0.0, 0.0, 0.0, (0.0, 0.0)
    if np.count_nonzero(valid) < LEAST_CELLS:
        return lost
    shift = seen - cells
    try:
        plane = fit_plane(shift, valid, stride=1, rounds=4)
    except DepthUnusable:
        return lost
    rows, columns = cells.shape
    offset = plane.a * (columns - 1) / 2 + plane.b * (rows - 1) / 2 + plane.c
    tilt = abs(plane.a) * (columns - 1) + abs(plane.b) * (rows - 1)
    on = valid & (np.abs(residual(shift, plane)) <= TUKEY * max(spread, 1.0))
    slopes = plane.a / _step(depth.shape[1]), plane.b / _step(depth.shape[0])
    return offset, tilt, float(np.count_nonzero(on)) / watched, slopes


def _step(size: int) -> int:
    return max(1, math.ceil(size / CELLS))

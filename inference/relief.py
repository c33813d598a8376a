"""The relief of a depth image: its height over the belt on a fixed 128 x 128 grid, without holes and spikes.

Hole edges and flying pixels are what the extremes of normal depth images are made of. So a cell counts only
where enough of it was read, cells beside a hole do not count, and what rises out of its 5 x 5 median by
more than normal frames do is cut to that.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import DepthUnusable, NotFinite
from inference.plane import fill_holes, fit_plane, residual

GRID = 128
_READ_SHARE = 0.3  # a cell counts as read where more than this share of it was


@dataclass(frozen=True, slots=True)
class Relief:
    """Height over the robust plane of its own frame.

    Attributes:
        height: (128, 128) float32, mean of each cell's readings, in the unit of the depth; 0 if not read.
        read: (128, 128) bool, more than 30 % of the cell was read.
        mad: spread of the heights over the whole frame, same unit (``Plane.mad``).
    """

    height: NDArray[np.float32]
    read: NDArray[np.bool_]
    mad: float


def relief(depth: NDArray[np.float32], valid: NDArray[np.bool_]) -> Relief:
    """The relief of one frame.

    Args:
        depth: (H, W) float32, any unit.
        valid: (H, W), where there is a reading.

    Raises:
        DepthUnusable: no plane goes through the readings (``fit_plane``).
        NotFinite: a reading marked valid is NaN or infinite.
    """
    plane = fit_plane(depth, valid)
    over = residual(depth, plane)
    if valid.all():
        height = np.asarray(cv2.resize(over, (GRID, GRID), interpolation=cv2.INTER_AREA), np.float32)
        read = np.ones((GRID, GRID), np.bool_)
    else:
        over[~valid] = 0
        share = cv2.resize(valid.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)
        total = cv2.resize(over, (GRID, GRID), interpolation=cv2.INTER_AREA)
        read = np.asarray(share > _READ_SHARE)
        height = np.divide(total, share, out=np.zeros((GRID, GRID), np.float32), where=read)
    if not np.isfinite(height).all():
        raise NotFinite("depth marked as valid holds NaN or infinite readings: mark them invalid")
    return Relief(height=height, read=read, mad=plane.mad)


def settle(
    height: NDArray[np.float32], read: NDArray[np.bool_], *, limit: float, spike: float | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Heights without holes and spikes, and the cells among them that were read and touch no hole.

    Args:
        height: (128, 128) float32 in units of the normals' spread, anything where not ``read``.
        read: (128, 128) bool.
        limit: heights are clipped to +- this.
        spike: how far a cell may leave the median of its 5 x 5 neighbourhood; None leaves spikes as they are.

    Raises:
        DepthUnusable: no cell is left away from the holes.
    """
    solid = cv2.erode(read.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    if not solid.any():
        raise DepthUnusable(
            "depth has only scattered readings: no 3 x 3 cells of 128 x 128 were read together"
        )
    filled = fill_holes(np.clip(height, -limit, limit), solid)
    if spike is None:
        return filled, solid
    middle = cv2.medianBlur(filled, 5)
    settled = middle + np.clip(filled - middle, -spike, spike)
    return np.asarray(settled, dtype=np.float32), solid


def roughness(filled: NDArray[np.float32], solid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """|height - median of 5 x 5| of the solid cells, (n,): over the normals it gives ``spike``."""
    difference = np.abs(filled - cv2.medianBlur(filled, 5))
    return np.asarray(difference[solid], dtype=np.float32)

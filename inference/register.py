"""Where the part lies: its shift and turn against the median relief of the normals, found in every frame.

Parts in a fixture, and all the more parts on a belt, never lie quite the same, and an edge that is off by
half a cell looks like a deep dent. The pose is found by robust Gauss-Newton steps from coarse to fine
(Lucas and Kanade 1981; weights of Cauchy's likelihood), together with the plane that remains between the
two reliefs: which of its levels a part's robust plane settles on depends on the pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.relief import GRID

Image = NDArray[np.float32]

_LEVELS = ((32, 1.0, 4), (64, 0.7, 4), (128, 0.0, 1))  # side, sigma, steps; the last is the dearest
_MOST_SHIFT = GRID / 6  # cells; further away it is not this part lying a little differently
_MOST_LINEAR = 0.25
_SMALL_STEP = (0.02, 3e-4)  # cells of shift and share of the linear part: a level is done after it
_DAMPING = 1e-3  # keeps a groove or a disk, which can slide or turn unseen, from wandering


@dataclass(frozen=True, slots=True)
class Pose:
    """How one frame lies against the reference.

    A place x of the reference, (column, row) in cells from the centre of the 128 x 128 grid, is found in
    the frame at ``linear`` x + ``shift``. ``plane`` is (per column, per row, level) of frame minus
    reference, at the frame's places counted from the centre, in the unit of the reliefs.

    The linear part is a turn of the part as seen on a grid that was perhaps stretched to a square: hence four
    numbers, row by row, and not an angle.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    linear: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 1.0)
    plane: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def to_frame(self, image: Image) -> Image:
        """An image (s, s) over the reference, as it lies in the frame; the border goes on beyond its edge."""
        return _warp(image, _matrix(self.shift, self.linear, image.shape[0]), cv2.INTER_LINEAR)

    def to_reference(self, image: Image) -> Image:
        """An image (s, s) over the frame, as it lies over the reference."""
        matrix = _matrix(self.shift, self.linear, image.shape[0])
        return _warp(image, matrix, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)

    def relief_to_reference(self, height: Image) -> Image:
        """A relief (128, 128) over the frame, as it lies over the reference; its edges stay sharp."""
        matrix = _matrix(self.shift, self.linear, GRID)
        return _warp(height, matrix, cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)

    def less(self, height: Image, shape: Image) -> Image:
        """``height`` of the frame less ``shape`` where it lies in it, and less the plane between the two."""
        # Linear interpolation rounds an edge off, by how much the pose decides: the rest looks like a dent.
        there = _warp(shape, _matrix(self.shift, self.linear, GRID), cv2.INTER_CUBIC)
        offset = (np.arange(GRID, dtype=np.float32) - (GRID - 1) / 2).astype(np.float32)
        a, b, c = (np.float32(value) for value in self.plane)
        return np.asarray(
            height - there - (a * offset[None, :] + (b * offset + c)[:, None]),
            dtype=np.float32,
        )


@dataclass(frozen=True, slots=True)
class _Level:
    image: Image
    design: Image  # (9, n): what each term of shift, of the linear part and of the plane changes


class Reference:
    """A relief that others are laid over; (128, 128) float32 without holes, any unit."""

    def __init__(self, shape: Image) -> None:
        self._levels = [_level(shape, side, sigma) for side, sigma, _ in _LEVELS]

    def align(self, height: Image) -> Pose:
        """The pose of a relief (128, 128) without holes; the identity's where no nearby pose fits."""
        shift = np.zeros(2)  # cells of the 128 grid, whatever the level
        linear = np.eye(2)
        plane = np.zeros(3)
        for level, (side, sigma, steps) in zip(self._levels, _LEVELS, strict=True):
            image = _reduce(height, side, sigma)
            for _ in range(steps):
                matrix = _matrix((shift[0], shift[1]), tuple(linear.ravel()), side)
                laid = _warp(image, matrix, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
                step, plane = _step(level, (laid - level.image).ravel(), plane)
                shift = shift - step[:2] * (GRID / side)
                linear = linear - step[2:6].reshape(2, 2)
                if np.abs(shift).max() > _MOST_SHIFT or np.abs(linear - np.eye(2)).max() > _MOST_LINEAR:
                    return Pose()
                if _is_small(step[:2] * (GRID / side), step[2:6]):
                    break
        # The plane was found at the reference's places: turn it and move its origin along with the part.
        slope = np.linalg.solve(linear.T, plane[:2])
        level_there = float(plane[2] - slope @ shift)
        return Pose(
            shift=(float(shift[0]), float(shift[1])),
            linear=(float(linear[0, 0]), float(linear[0, 1]), float(linear[1, 0]), float(linear[1, 1])),
            plane=(float(slope[0]), float(slope[1]), level_there),
        )


def _is_small(shift: NDArray[np.float64], linear: NDArray[np.float64]) -> bool:
    return bool(np.abs(shift).max() < _SMALL_STEP[0] and np.abs(linear).max() < _SMALL_STEP[1])


def _step(
    level: _Level, difference: Image, plane: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The change of pose that explains the difference best, and the plane that is left beside it."""
    rest = np.abs(difference - plane.astype(np.float32) @ level.design[6:])
    # A scale needs no more than a thousand places; an odd step, so that they do not lie in columns.
    scale = max(2 * 1.4826 * float(np.median(rest[:: rest.size // 1024 + 1])), 1e-6)
    rest *= np.float32(1 / scale)
    weights = 1 / (1 + np.square(rest))
    weighted = level.design * weights
    matrix = (weighted @ level.design.T).astype(np.float64)
    matrix[np.diag_indices(9)] += _DAMPING * np.maximum(matrix.diagonal(), 1e-9) + 1e-9
    right = (weighted @ difference).astype(np.float64)
    found = np.asarray(np.linalg.solve(matrix, right), dtype=np.float64)
    return found[:6], found[6:]


def _level(shape: Image, side: int, sigma: float) -> _Level:
    image = _reduce(shape, side, sigma)
    gx = cv2.Sobel(image, cv2.CV_32F, 1, 0, scale=1 / 8)
    gy = cv2.Sobel(image, cv2.CV_32F, 0, 1, scale=1 / 8)
    cells = GRID / side
    offset = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    x, y = np.meshgrid(offset, offset)
    pose = [gx, gy, gx * x, gx * y, gy * x, gy * y]
    design = np.stack([*pose, x * cells, y * cells, np.ones_like(x)]).reshape(9, -1)
    return _Level(image=image, design=np.ascontiguousarray(design, dtype=np.float32))


def _reduce(image: Image, side: int, sigma: float) -> Image:
    small = image if side == GRID else cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), sigma) if sigma else small, dtype=np.float32)


def _matrix(shift: tuple[float, float], linear: tuple[float, ...], side: int) -> NDArray[np.float64]:
    """(2, 3): pixels of the reference to pixels of the frame, on a grid of that side."""
    centre = (side - 1) / 2
    a, b, c, d = linear
    x, y = (value * side / GRID for value in shift)
    return np.array(
        [[a, b, centre - (a + b) * centre + x], [c, d, centre - (c + d) * centre + y]],
        dtype=np.float64,
    )


def _warp(image: Image, matrix: NDArray[np.float64], flags: int) -> Image:
    size = (image.shape[1], image.shape[0])
    return np.asarray(
        cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32
    )

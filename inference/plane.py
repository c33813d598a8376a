"""A robust plane under a depth image, the height over it, and the filling of holes.

The surface of a belt or a web is a plane in depth; what inspection looks at is the height over it. Parts,
dents and flying pixels must not bend the plane, hence an M-estimator: Tukey's biweight with c = 4.685 (95 %
efficiency under normal noise; Beaton and Tukey 1974) on the scale 1.4826 * median |residual|.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import DepthUnusable

TUKEY = 4.685
SIGMA_PER_MAD = 1.4826
FILL_BOXES = (13, 37, 109)
MIN_POINTS = 12

# The start is the best of some planes through three points each (least median of residuals, Rousseeuw 1984).
# From a least-squares start a part that covers a third of the frame lifts plane and scale together, and the
# biweight never lets go of it. At 60 % belt all but one in 100,000 frames have a triple on the belt; the
# triples are drawn once, so that the answer depends on the frame alone.
_TRIPLES = np.random.default_rng(20_1984).random((48, 3))
_START_POINTS = 700


@dataclass(frozen=True, slots=True)
class Plane:
    """depth = a * column + b * row + c, in the unit of the depth image, columns and rows counted in pixels.

    ``mad`` is the spread of the residuals at the points of the fit, 1.4826 * median |residual|: for normal
    noise its standard deviation. It is 0 for a surface without noise.
    """

    a: float
    b: float
    c: float
    mad: float


def fit_plane(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], stride: int = 4, rounds: int = 6
) -> Plane:
    """The robust plane through the valid pixels of every ``stride``-th row and column.

    Args:
        depth: (H, W), any unit; values where ``valid`` is false are never read into the fit.
        valid: (H, W), true where there is a reading.
        stride: step of the sub-grid; made smaller where a small or sparse image leaves too few points.
        rounds: rounds of Tukey's biweight.

    Raises:
        DepthUnusable: shapes differ, fewer than 12 valid points, points on one line, or readings not finite.
    """
    if depth.ndim != 2 or depth.shape != valid.shape:
        raise DepthUnusable(f"depth {depth.shape} and validity {valid.shape}: both must be the same (H, W)")
    rows, columns, values = _points(depth, valid, max(1, stride))
    if not np.isfinite(values).all():
        raise DepthUnusable(
            "depth has readings that are not finite: mark them invalid before the plane is fitted"
        )

    # Centred, unit-sized coordinates keep the normal equations well conditioned at any image size.
    row0, column0 = rows.mean(), columns.mean()
    size = float(max(np.ptp(rows), np.ptp(columns), 1.0))
    design = np.stack(((columns - column0) / size, (rows - row0) / size, np.ones_like(rows)))
    if np.linalg.eigvalsh(design @ design.T / rows.size)[0] < 1e-9:
        raise DepthUnusable("the valid depth readings lie on one line: no plane goes through them")
    level = _median(values)
    # Disparities near 50,000 counts would otherwise cost the residuals their last digits.
    values = values - level

    tiny = 1e-9 * max(float(np.abs(values).max()), 1e-30)
    fit = _start(design, values)
    absolute = np.abs(values - fit @ design)
    for _ in range(rounds):
        reach = TUKEY * max(SIGMA_PER_MAD * _median(absolute), tiny)
        share = np.minimum(absolute / reach, 1.0)
        fit = _solve(design, values, np.square(1.0 - np.square(share)), fit)
        absolute = np.abs(values - fit @ design)
    mad = SIGMA_PER_MAD * _median(absolute)

    a, b = float(fit[0]) / size, float(fit[1]) / size
    c = float(fit[2]) + level - a * float(column0) - b * float(row0)
    return Plane(a=a, b=b, c=c, mad=0.0 if mad < 10 * tiny else mad)


def residual(depth: NDArray[np.float32], plane: Plane) -> NDArray[np.float32]:
    """(H, W) float32, depth minus plane, in the unit of ``depth``; meaningless where the depth is."""
    rows = plane.b * np.arange(depth.shape[0], dtype=np.float64) + plane.c
    columns = (plane.a * np.arange(depth.shape[1], dtype=np.float64)).astype(np.float32)
    # The plane of a far surface has more digits than float32: what it holds of a row comes off first, which
    # rounds next to nothing, and the rest after it.
    level = rows.astype(np.float32)
    height: NDArray[np.float32] = np.subtract(depth, level[:, None], dtype=np.float32)
    height -= columns
    height -= (rows - level).astype(np.float32)[:, None]
    return height


def fill_holes(
    height: NDArray[np.float32], valid: NDArray[np.bool_], boxes: tuple[int, ...] = FILL_BOXES
) -> NDArray[np.float32]:
    """``height`` with its invalid pixels filled by the mean of the valid ones around them.

    The means are over boxes of 13, 37 and 109 pixels in turn: a pixel takes the first that holds a reading;
    what no box reaches takes the mean of the frame, and a frame without any reading becomes zero. Valid
    pixels are not touched; (H, W) float32 in and out, a new array.
    """
    filled = np.where(valid, height, np.float32(0))
    if valid.all():
        return filled
    weight = valid.astype(np.float32)
    known = filled.copy()
    missing = ~valid
    for box in boxes:
        total = _box_sum(weight, box)
        reached = missing & (total > 0.5)
        if reached.any():
            np.divide(_box_sum(known, box), total, out=filled, where=reached)
            missing &= ~reached
        if not missing.any():
            return filled
    filled[missing] = np.float32(known[valid].mean(dtype=np.float64)) if valid.any() else np.float32(0)
    return filled


def _points(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], stride: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows, columns and depths of the sub-grid's valid pixels, on the finest grid that is needed."""
    while True:
        rows, columns = np.nonzero(valid[::stride, ::stride])
        if rows.size >= 20 * MIN_POINTS or stride == 1:
            break
        stride //= 2
    if rows.size < MIN_POINTS:
        raise DepthUnusable(
            f"depth has {rows.size} valid readings of {valid.size}: a plane needs {MIN_POINTS}"
        )
    values = depth[::stride, ::stride][rows, columns].astype(np.float64)
    return rows.astype(np.float64) * stride, columns.astype(np.float64) * stride, values


def _start(design: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the planes through the fixed triples, the one with the least median of absolute residuals."""
    count = values.size
    chosen = design.T[(_TRIPLES * count).astype(np.intp)]
    flat = np.abs(np.linalg.det(chosen)) < 1e-4  # three points nearly on one line say nothing about a slope
    chosen[flat] = np.eye(3)
    planes = np.linalg.solve(chosen, values[(_TRIPLES * count).astype(np.intp)][:, :, None])[:, :, 0]
    planes[flat] = (0, 0, _median(values))
    step = max(1, count // _START_POINTS)
    few = np.abs(values[None, ::step] - planes @ design[:, ::step])
    middle = few.shape[1] // 2
    best: NDArray[np.float64] = planes[np.argmin(np.partition(few, middle, axis=1)[:, middle])]
    return best


def _solve(
    design: NDArray[np.float64],
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    before: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weighted least squares; the fit before it where the weights leave points on one line only."""
    weighted = design * weights
    matrix = weighted @ design.T
    # Entries are at most the sum of weights: a determinant that small beside it leaves a slope undetermined.
    if np.linalg.det(matrix) <= 1e-10 * matrix[2, 2] ** 3:
        return before
    return np.asarray(np.linalg.solve(matrix, weighted @ values), dtype=np.float64)


def _median(values: NDArray[np.float64]) -> float:
    """The upper of the two middle values where there are two: a partition is enough for it."""
    middle = values.size // 2
    return float(np.partition(values, middle)[middle])


def _box_sum(image: NDArray[np.float32], box: int) -> NDArray[np.float32]:
    total = cv2.boxFilter(image, cv2.CV_32F, (box, box), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total, dtype=np.float32)

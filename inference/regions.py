"""Where a map says that the defect is: boxes in pixels of the frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.roi import Roi
from schemas.verdict import MAX_REGIONS, Region

Image = NDArray[np.float32]

_CORE = 0.5


def find_regions(
    canvas: Image,
    threshold: float,
    frame: tuple[int, int],
    roi: Roi,
    seen_by: Callable[[NDArray[np.bool_]], str | None],
) -> tuple[Region, ...]:
    """Boxes of connected places above the threshold, the strongest first.

    Wide features carry a strong defect far beyond itself: of a place, what is above half its peak is boxed.

    Args:
        canvas: (h, w) fused map over the region of interest.
        threshold: of the image score.
        frame: (height, width) of the image that boxes refer to.
        roi: the region of interest in that image.
        seen_by: which sensors show the places of a mask (h, w), as a verdict says it.
    """
    # The score is a mean over the strongest places of each branch: a frame above the threshold may have a
    # map whose blurred peak stays below it, and must still say where.
    level = min(threshold, 0.8 * float(canvas.max()))
    above = canvas > level
    count, labels = cv2.connectedComponents(above.astype(np.uint8), connectivity=8)
    core = above & (canvas > _CORE * _peaks(canvas, labels, above, count)[labels])
    count, labels, stats, _ = cv2.connectedComponentsWithStats(core.astype(np.uint8), connectivity=8)
    peaks = _peaks(canvas, labels, core, count)
    height, width = frame
    rows, columns = roi.pixels(height, width)
    scale_y = (rows.stop - rows.start) / canvas.shape[0]
    scale_x = (columns.stop - columns.start) / canvas.shape[1]
    out = []
    for label in sorted(range(1, count), key=lambda one: -float(peaks[one]))[:MAX_REGIONS]:
        x, y, w, h = (int(v) for v in stats[label, :4])
        x0, y0 = columns.start + math.floor(x * scale_x), rows.start + math.floor(y * scale_y)
        x1 = min(columns.start + math.ceil((x + w) * scale_x), width)
        y1 = min(rows.start + math.ceil((y + h) * scale_y), height)
        size = max(1, x1 - x0), max(1, y1 - y0)
        out.append(Region(x0, y0, *size, float(peaks[label]), seen_by(labels == label)))
    return tuple(out)


def _peaks(canvas: Image, labels: NDArray[Any], where: NDArray[np.bool_], count: int) -> Image:
    """(count,) highest value of each label, -infinity for the background."""
    peaks = np.full(count, -np.inf, np.float32)
    np.maximum.at(peaks, np.asarray(labels[where], np.intp), canvas[where])
    return peaks

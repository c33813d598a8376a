"""The region of interest: where the part is, found once from the normals and kept in the bundle.

Looking only where the part is does more for faint defects than a larger network: background is where normal
frames have their extremes. The region is one fixed box for all frames, in relative coordinates, so it holds
for colour and depth at any resolution. It must contain every part that the line will show, wherever the pose
moves it; where the surface fills the frame it is the whole frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import InferenceError, RoiError
from inference.plane import fit_plane, residual

_SIDE = 96  # the search runs on images of this longer side: parts are large, textures are not
_RING = 0.05  # width of the border that shows the background, as a share of each side
_SIGMAS = 5.0  # contrast to the border, in robust standard deviations of the border itself
_LAB_FLOOR = 2.5  # smallest border spread per colour channel in CIE Lab units: compression and shading
_SMALLEST_PART = 0.004  # share of the frame
_SMALLEST_SIDE = 0.15  # a box smaller than this is grown: a tiny one is a wrong one
_PRESENT = 0.8  # share of the frames that must show a part
_AGREEMENT = 0.5  # median overlap (intersection over union) of the frames' boxes with their median box
_WHOLE = 0.85  # a box of this share of the frame gains nothing: identity


@dataclass(frozen=True, slots=True)
class Roi:
    """A box in relative coordinates: 0 <= x0 < x1 <= 1 from the left, 0 <= y0 < y1 <= 1 from the top.

    Raises:
        RoiError: a coordinate is no finite number in [0, 1], or a side is not positive.
    """

    x0: float = 0.0
    y0: float = 0.0
    x1: float = 1.0
    y1: float = 1.0

    def __post_init__(self) -> None:
        for name in ("x0", "y0", "x1", "y1"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not 0 <= value <= 1:
                raise RoiError(f"region of interest {name}={value!r}: expected a number from 0 to 1")
        if self.x0 >= self.x1 or self.y0 >= self.y1:
            raise RoiError(
                f"region of interest ({self.x0}, {self.y0}, {self.x1}, {self.y1}): "
                "expected x0 < x1 and y0 < y1"
            )

    @property
    def whole(self) -> bool:
        """True where the region is the whole frame."""
        return (self.x0, self.y0, self.x1, self.y1) == (0, 0, 1, 1)

    @property
    def area(self) -> float:
        """Share of the frame, in (0, 1]."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def pixels(self, height: int, width: int) -> tuple[slice, slice]:
        """(rows, columns) of the region in an image of that size: at least one pixel each way.

        Raises:
            RoiError: the image has no pixels.
        """
        if height < 1 or width < 1:
            raise RoiError(f"region of interest on an image of {height} x {width} pixels: it has none")
        return _span(self.y0, self.y1, height), _span(self.x0, self.x1, width)

    def to_map(self) -> dict[str, float]:
        """The region as plain numbers for a manifest."""
        return {name: float(getattr(self, name)) for name in ("x0", "y0", "x1", "y1")}

    @classmethod
    def from_map(cls, values: Mapping[str, object]) -> Roi:
        """The region written by :meth:`to_map`.

        Raises:
            RoiError: a coordinate is missing, no number, or out of range.
        """
        missing = [name for name in ("x0", "y0", "x1", "y1") if name not in values]
        if missing:
            raise RoiError(f"region of interest without {', '.join(missing)}: expected x0, y0, x1 and y1")
        # __post_init__ checks the types, so a wrong one is refused with the name of its coordinate.
        return cls(values["x0"], values["y0"], values["x1"], values["y1"])  # type: ignore[arg-type]


def find_roi(
    colours: Sequence[NDArray[np.uint8] | None],
    depths: Sequence[NDArray[np.uint16] | None],
    *,
    margin: float = 0.04,
) -> Roi:
    """The box that holds the part in every normal frame, or the whole frame where there is no such box.

    Per frame the part is what stands out from the border: in colour, from a plane fitted to each Lab channel
    of the border (so a light that falls off to one side is background); in height, from the plane through the
    border's depth. Over the frames the box is the 2nd and 98th percentile of the sides, widened by ``margin``
    of the frame and by the spread of that side. Where fewer than four in five frames show a part, or their
    boxes do not agree, as with a texture that fills the frame, it is the whole frame.

    Args:
        colours: RGB (H, W, 3) each, or None.
        depths: counts (h, w) each, 0 = no reading, or None; the same field of view as the colours.
        margin: share of the frame's side that is added on each side, 0 to 0.5.

    Raises:
        RoiError: no frames, sequences of different length, or a margin out of range.
    """
    if not 0 <= margin <= 0.5:
        raise RoiError(f"margin {margin!r} of the region of interest: expected 0 to 0.5")
    if len(colours) != len(depths) or not colours:
        raise RoiError(
            f"{len(colours)} colour and {len(depths)} depth frames: expected as many of both, not 0"
        )
    found = [_part_box(colour, depth) for colour, depth in zip(colours, depths, strict=True)]
    boxes = np.array([box for box in found if box is not None], dtype=np.float64)
    if len(boxes) < max(1, math.ceil(_PRESENT * len(found))):
        return Roi()
    if float(np.median(_overlap(boxes, np.median(boxes, axis=0)))) < _AGREEMENT:
        return Roi()
    low, high = np.quantile(boxes[:, :2], 0.02, axis=0), np.quantile(boxes[:, 2:], 0.98, axis=0)
    # New parts lie beyond the extremes of a few normals about as far as the normals lie apart.
    spread = 1.4826 * np.median(np.abs(boxes - np.median(boxes, axis=0)), axis=0)
    low, high = low - margin - spread[:2], high + margin + spread[2:]
    for side in range(2):
        lacking = _SMALLEST_SIDE - (high[side] - low[side])
        if lacking > 0:
            low[side], high[side] = low[side] - lacking / 2, high[side] + lacking / 2
    x0, y0 = np.clip(low, 0, 1)
    x1, y1 = np.clip(high, 0, 1)
    roi = Roi(float(x0), float(y0), float(x1), float(y1))
    return Roi() if roi.area >= _WHOLE else roi


def draw_roi(rgb: NDArray[np.uint8], roi: Roi) -> NDArray[np.uint8]:
    """A copy of the picture for a person: the region outlined, what lies outside it darkened."""
    rows, columns = roi.pixels(*rgb.shape[:2])
    picture: NDArray[np.uint8] = (rgb * 0.35).astype(np.uint8)
    picture[rows, columns] = rgb[rows, columns]
    line = max(1, round(max(rgb.shape[:2]) / 200))
    corner, opposite = (columns.start, rows.start), (columns.stop - 1, rows.stop - 1)
    cv2.rectangle(picture, corner, opposite, (0, 220, 90), line)
    return picture


def _span(low: float, high: float, size: int) -> slice:
    start = min(math.floor(low * size), size - 1)
    return slice(start, max(math.ceil(high * size - 1e-9), start + 1))


def _overlap(boxes: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each (x0, y0, x1, y1) with one box."""
    low, high = np.maximum(boxes[:, :2], one[:2]), np.minimum(boxes[:, 2:], one[2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    union = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(one[2:] - one[:2]) - shared
    return np.asarray(shared / np.maximum(union, 1e-12))


def _part_box(
    colour: NDArray[np.uint8] | None, depth: NDArray[np.uint16] | None
) -> tuple[float, float, float, float] | None:
    """(x0, y0, x1, y1) of what stands out from the border of one frame, None where nothing does."""
    masks = []
    if colour is not None:
        masks.append(_stands_out_in_colour(colour))
    if depth is not None:
        masks.append(_stands_out_in_height(depth))
    if not masks:
        return None
    shape = masks[0].shape
    # The two sensors may have other resolutions, hence search grids that differ by a rounding.
    same = [cv2.resize(one, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST) for one in masks]
    mask = cv2.morphologyEx(np.maximum.reduce(same), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return None
    inside = _inside_ring(shape)
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = []
    for x, y, w, h, area in stats[1:]:
        large = area >= _SMALLEST_PART * mask.size and area >= 0.05 * areas.max()
        if large and inside[y : y + h, x : x + w].any():  # not a stain of the border alone
            kept.append((x, y, x + w, y + h))
    if not kept:
        return None
    sides = np.array(kept, dtype=np.float64)
    height, width = shape
    return (
        float(sides[:, 0].min() / width),
        float(sides[:, 1].min() / height),
        float(sides[:, 2].max() / width),
        float(sides[:, 3].max() / height),
    )


def _stands_out_in_colour(colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    small = cv2.resize(colour, _search_size(colour.shape), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    ring = ~_inside_ring(lab.shape[:2])
    contrast = np.zeros(lab.shape[:2], np.float32)
    for channel in range(3):
        plane = np.ascontiguousarray(lab[:, :, channel], dtype=np.float32)
        contrast = np.maximum(contrast, _contrast(plane, ring, floor=_LAB_FLOOR))
    return (contrast > _SIGMAS).astype(np.uint8)


def _stands_out_in_height(depth: NDArray[np.uint16]) -> NDArray[np.uint8]:
    valid = (depth > 0).astype(np.float32)
    size = _search_size(depth.shape)
    share = cv2.resize(valid, size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(depth.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    level = np.asarray(total / np.maximum(share, 1e-6), dtype=np.float32)
    read = share > 0.5
    ring = ~_inside_ring(read.shape) & read
    if ring.sum() < 0.2 * ring.size * _RING:  # most of the border was not read: no background to compare with
        return np.zeros(read.shape, np.uint8)
    # One count of floor: quantisation, where the belt is flat to the sensor.
    contrast = _contrast(level, ring, floor=1.0)
    return ((contrast > _SIGMAS) & read).astype(np.uint8)


def _contrast(image: NDArray[np.float32], ring: NDArray[np.bool_], *, floor: float) -> NDArray[np.float32]:
    """|image - plane through its border| in robust deviations of the border; 0 if no plane goes there."""
    try:
        plane = fit_plane(image, ring, stride=1)
    except InferenceError:
        return np.zeros(image.shape, np.float32)
    return np.asarray(np.abs(residual(image, plane)) / max(plane.mad, floor), dtype=np.float32)


def _search_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """(width, height) for cv2.resize."""
    scale = min(1.0, _SIDE / max(shape[:2]))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _inside_ring(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    height, width = shape[:2]
    rows, columns = max(1, math.ceil(_RING * height)), max(1, math.ceil(_RING * width))
    inside = np.zeros((height, width), np.bool_)
    inside[rows : height - rows, columns : width - columns] = True
    return inside

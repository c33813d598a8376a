"""Outlines of a part on a small grid: a frame seen small, what stands out of the belt, and where it lies.

Everything works on ``SIDE`` x ``SIDE`` cells over one box of the frame, whatever the sensors' resolutions.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import InferenceError
from inference.plane import fit_plane, residual
from inference.roi import Roi
from inference.sample import Sample

SIDE = 128

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

_READ = 0.3  # a cell counts as read where more than this share of it was, as in the relief
_MOST_READ = 512  # depth images larger than this are thinned first: a cell's mean needs no more readings
_SMALLEST = 0.003  # share of the grid; smaller things on a belt are lint
_SMALL_BESIDE = 0.05  # share of the largest piece
_COARSE = 64  # the place is sought on this grid
_PULL = 0.05  # of the shape's size: what the furthest shift must be better by


@dataclass(frozen=True, slots=True)
class View:
    """One frame, small.

    Attributes:
        lab: (SIDE, SIDE, 3) float32 CIE Lab, area mean; None without colour.
        level: (SIDE, SIDE) float32 mean depth count of each cell's readings, 0 where not ``read``; None
            without depth.
        share: (SIDE, SIDE) float32 share of each cell that the depth sensor read.
    """

    lab: Image | None = None
    level: Image | None = None
    share: Image | None = None

    @property
    def read(self) -> Mask:
        """(SIDE, SIDE) cells of which enough was read; none without depth."""
        if self.share is None:
            return np.zeros((SIDE, SIDE), np.bool_)
        return np.asarray(self.share > _READ)


def view(sample: Sample, box: Roi, *, colour: bool = True, depth: bool = True) -> View:
    """The frame's ``box`` on the small grid, with the sensors asked for that it has."""
    lab = level = share = None
    if colour and sample.rgb is not None:
        crop = sample.rgb[box.pixels(*sample.rgb.shape[:2])]
        small = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        unit = small.astype(np.float32) * np.float32(1 / 255)
        lab = np.asarray(cv2.cvtColor(unit, cv2.COLOR_RGB2LAB), np.float32)
    if depth and sample.depth is not None:
        counts = sample.depth[box.pixels(*sample.depth.shape)]
        thin = max(1, min(counts.shape) // _MOST_READ)
        counts = counts[::thin, ::thin]
        valid = (counts > 0).astype(np.float32)
        share = np.asarray(cv2.resize(valid, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)
        total = cv2.resize(counts.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        level = np.divide(total, share, out=np.zeros((SIDE, SIDE), np.float32), where=share > _READ)
    return View(lab, level, share)


def over_belt(seen: View, belt: Mask) -> tuple[Image, float] | None:
    """(SIDE, SIDE) counts beyond the plane through the belt, and its spread; None where no plane fits.

    Args:
        seen: one frame.
        belt: cells that show the belt in every frame.
    """
    if seen.level is None:
        return None
    try:
        plane = fit_plane(seen.level, seen.read & belt)
    except InferenceError:
        return None
    return residual(seen.level, plane), plane.mad


def pieces(mask: Mask) -> Mask:
    """The mask without specks, its holes filled: bores and bolt holes belong to the part."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    if count < 2:
        return np.zeros(mask.shape, np.bool_)
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = 1 + np.flatnonzero((areas >= _SMALLEST * mask.size) & (areas >= _SMALL_BESIDE * areas.max()))
    part = np.isin(labels, kept)
    # What the border cannot reach without crossing the part is inside it.
    outside = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    flooded = np.pad(part.astype(np.uint8), 1)
    cv2.floodFill(flooded, np.pad(outside, 1), (0, 0), 2)
    return np.asarray(flooded[1:-1, 1:-1] != 2)


def bridged(own: Mask, known: Mask) -> Mask:
    """``own`` with single unknown cells between its own counted in: sensors miss readings at edges most."""
    closed = cv2.morphologyEx(own.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0
    return np.asarray(own | (closed & ~known))


def grown(mask: Mask, cells: int) -> Mask:
    """The mask, ``cells`` wider on every side, corners included."""
    if cells <= 0:
        return mask
    side = 2 * cells + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0)


def shifted(image: Image, shift: tuple[int, int]) -> Image:
    """``image`` moved by (columns, rows) cells; zero comes in."""
    dx, dy = shift
    if not dx and not dy:
        return image
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_NEAREST), np.float32)


def place(own: Mask, known: Mask, shape: Image, reach: int) -> tuple[int, int]:
    """The shift (columns, rows) at which ``shape`` lies best over what a frame shows, at most ``reach``.

    Cells that show the part speak for the shape, cells that show the belt against it, and cells that nothing
    is known of are silent, so a hole in depth moves nothing. Of places that fit alike the nearest is taken: a
    part that lost a whole side would otherwise be looked for beside it.

    Args:
        own: cells that show the part.
        known: cells that something is known of.
        shape: share of the normals' parts at each cell, 0 to 1.
        reach: cells.
    """
    if reach <= 0:
        return 0, 0
    signed = np.where(own, np.float32(1), np.where(known, np.float32(-1), np.float32(0)))
    step = SIDE // _COARSE
    small = cv2.resize(signed, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
    template = cv2.resize(shape, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
    limit = -(-reach // step)
    padded = cv2.copyMakeBorder(small, limit, limit, limit, limit, cv2.BORDER_CONSTANT, value=0)
    fit = cv2.matchTemplate(padded, template, cv2.TM_CCORR)
    far = np.square(np.arange(-limit, limit + 1, dtype=np.float32) / limit)
    pull = np.float32(_PULL * float(template.sum())) * (far[:, None] + far[None, :])
    row, column = np.unravel_index(int(np.argmax(fit - pull)), fit.shape)
    dx, dy = (int(column) - limit) * step, (int(row) - limit) * step
    return max(-reach, min(reach, dx)), max(-reach, min(reach, dy))

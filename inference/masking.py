"""A branch's map judged inside the foreground alone: the belt neither lends nor takes evidence.

Cutting the belt away after the blur would leave what the blur carried over the part's edge. So the map is
blurred as a weighted mean over the foreground's cells: normalised convolution (Knutsson and Westin 1993).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

_PART = 0.25  # share of a cell that must be foreground for its value to count
_LEAST_WEIGHT = 0.05


@dataclass(frozen=True, slots=True)
class Inside:
    """The foreground of one tile, ready for maps on any grid.

    Attributes:
        mask: (S, S) bool at the size of a tile's map, some of it true.
        blur: sigma of the maps' blur, in pixels of that map.
    """

    mask: Mask
    blur: float
    _grids: dict[int, tuple[Mask, Image]] = field(default_factory=dict, repr=False, compare=False)

    def enlarge(self, raw: Image) -> Image:
        """(S, S): bilinear and blurred from cells inside alone; outside, the lowest value inside."""
        side = self.mask.shape[0]
        cells, weight = self._cells(raw.shape[0])
        value = cv2.resize(np.where(cells, raw, np.float32(0)), (side, side), interpolation=cv2.INTER_LINEAR)
        blurred = cv2.GaussianBlur(value, (0, 0), self.blur, borderType=cv2.BORDER_REFLECT_101)
        out = np.asarray(blurred, np.float32) * weight
        lowest, *_ = cv2.minMaxLoc(out, self._bytes())
        np.copyto(out, np.float32(lowest), where=~self.mask)
        return out

    def _bytes(self) -> NDArray[np.uint8]:
        return self.mask.view(np.uint8)

    def cut(self, raw: Image) -> Image:
        """The map on its own grid; the lowest value inside where it is outside."""
        cells = self._share(raw.shape[0]) > _PART
        if not cells.any():
            return raw
        return np.where(cells, raw, raw[cells].min())

    def _share(self, side: int) -> Image:
        whole = self.mask.astype(np.float32)
        if side == whole.shape[0]:
            return whole
        return np.asarray(cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA), np.float32)

    def _cells(self, grid: int) -> tuple[Mask, Image]:
        """Cells of a grid that count, and one over their blurred weight at that size."""
        known = self._grids.get(grid)
        if known is None:
            cells = np.asarray(self._share(grid) > _PART)
            if not cells.any():
                cells = np.ones((grid, grid), np.bool_)
            side = self.mask.shape[0]
            weight = cv2.resize(cells.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
            blurred = cv2.GaussianBlur(weight, (0, 0), self.blur, borderType=cv2.BORDER_REFLECT_101)
            known = cells, np.asarray(1.0 / np.maximum(blurred, _LEAST_WEIGHT), np.float32)
            self._grids[grid] = known
        return known

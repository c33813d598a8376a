"""The frames of a test set that are worth looking at, kept small: weakest defects, worst good parts."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.datasets.base import Item
from inference.results import Exhibit
from inference.sample import Sample

KEPT = 6
SIDE = 360
"""Longest side of a kept picture."""


class Seen(Protocol):
    """What is shown of a finding."""

    @property
    def score(self) -> float:
        """Of the frame."""
        ...

    @property
    def threshold(self) -> float:
        """A score above it is a defect."""
        ...

    @property
    def branches(self) -> Mapping[str, float]:
        """Score of each branch."""
        ...

    @property
    def map(self) -> NDArray[np.float32]:
        """(h, w), over the whole frame."""
        ...


@dataclass(slots=True)
class Showcase:
    """Keeps ``KEPT`` frames of either sort while a test set goes by."""

    _defects: list[tuple[float, int, Exhibit]] = field(default_factory=list)
    _good: list[tuple[float, int, Exhibit]] = field(default_factory=list)
    _count: int = 0

    @property
    def defects(self) -> list[Exhibit]:
        """The defects with the lowest scores, the lowest first."""
        return [entry[-1] for entry in sorted(self._defects, key=lambda entry: (-entry[0], -entry[1]))]

    @property
    def good(self) -> list[Exhibit]:
        """The good parts with the highest scores, the highest first."""
        return [entry[-1] for entry in sorted(self._good, key=lambda entry: (-entry[0], -entry[1]))]

    def show(self, item: Item, sample: Sample, mask: NDArray[np.bool_] | None, seen: Seen) -> None:
        """Take a frame in, where it is worse than what is kept."""
        heap, badness = (self._good, seen.score) if item.is_good else (self._defects, -seen.score)
        self._count += 1
        # Of equal ones the first stays: the order of the test set decides, not that of the heap.
        rank = -self._count
        if len(heap) == KEPT and (badness, rank) <= heap[0][:2]:
            return
        entry = (badness, rank, _exhibit(item, sample, mask, seen))
        if len(heap) < KEPT:
            heapq.heappush(heap, entry)
        else:
            heapq.heapreplace(heap, entry)


def _exhibit(item: Item, sample: Sample, mask: NDArray[np.bool_] | None, seen: Seen) -> Exhibit:
    picture = _picture(sample)
    height, width = picture.shape[:2]
    shrink = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = None
    if mask is not None:
        # By area, so that a scratch of one pixel does not vanish.
        small = cv2.resize(np.asarray(mask, np.float32), size, interpolation=cv2.INTER_AREA) > 0.2
    return Exhibit(
        name=f"{item.split}/{item.label}/{item.name}",
        label=item.label,
        score=seen.score,
        threshold=seen.threshold,
        branches=dict(seen.branches),
        picture=np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8),
        heat=np.asarray(cv2.resize(seen.map, size, interpolation=cv2.INTER_LINEAR), np.float32),
        mask=small,
    )


def _picture(sample: Sample) -> NDArray[np.uint8]:
    """(H, W, 3): the colour image; without one, depth in grey from its 2nd to its 98th percentile."""
    if sample.rgb is not None:
        return sample.rgb
    assert sample.depth is not None
    read = sample.depth[sample.depth > 0]
    if not read.size:
        return np.zeros((*sample.depth.shape, 3), np.uint8)
    low, high = np.quantile(read, [0.02, 0.98])
    grey = (sample.depth - low) / max(high - low, 1.0)
    grey = np.where(sample.depth > 0, 40 + 215 * grey.clip(0, 1), 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)

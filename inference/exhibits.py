"""The frames of a test set worth looking at, kept small: clear hits, weakest defects, worst good parts."""

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


_Entry = tuple[float, int, Exhibit]
"""What it is worth keeping for, minus its place in the test set, and the frame."""


class Seen(Protocol):
    """What is shown of a finding."""

    @property
    def score(self) -> float:
        """Of the frame."""
        ...

    @property
    def pass_limit(self) -> float:
        """A score above it does not pass."""
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
    """Keeps ``KEPT`` frames of each sort while a test set goes by."""

    _defects: list[_Entry] = field(default_factory=list)
    _good: list[_Entry] = field(default_factory=list)
    _hits: dict[str, list[_Entry]] = field(default_factory=dict)
    _count: int = 0

    @property
    def defects(self) -> list[Exhibit]:
        """The defects with the lowest scores, the lowest first."""
        return _sorted(self._defects)

    @property
    def good(self) -> list[Exhibit]:
        """The good parts with the highest scores, the highest first."""
        return _sorted(self._good)

    @property
    def hits(self) -> list[Exhibit]:
        """Rejected defects: the clearest of each kind, then the second of each, and so on."""
        by_kind = [_sorted(heap) for _, heap in sorted(self._hits.items())]
        ranks = range(max(map(len, by_kind), default=0))
        return [kind[rank] for rank in ranks for kind in by_kind if rank < len(kind)][:KEPT]

    def show(self, item: Item, sample: Sample, mask: NDArray[np.bool_] | None, seen: Seen) -> None:
        """Take a frame in, where it says more than what is kept."""
        self._count += 1
        # Of equal ones the first stays: the order of the test set decides, not that of the heap.
        rank = -self._count
        if item.is_good:
            wanted = [(self._good, seen.score)]
        else:
            wanted = [(self._defects, -seen.score)]
            if seen.score > seen.threshold:
                wanted.append((self._hits.setdefault(item.label, []), seen.score))
        wanted = [(heap, worth) for heap, worth in wanted if len(heap) < KEPT or (worth, rank) > heap[0][:2]]
        if not wanted:
            return
        exhibit = _exhibit(item, sample, mask, seen)
        for heap, worth in wanted:
            (heapq.heappush if len(heap) < KEPT else heapq.heapreplace)(heap, (worth, rank, exhibit))


def _sorted(heap: list[_Entry]) -> list[Exhibit]:
    return [entry[-1] for entry in sorted(heap, key=lambda entry: (-entry[0], -entry[1]))]


def _exhibit(item: Item, sample: Sample, mask: NDArray[np.bool_] | None, seen: Seen) -> Exhibit:
    height, width = sample.rgb_size or sample.depth_size or seen.map.shape
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
        pass_limit=seen.pass_limit,
        threshold=seen.threshold,
        branches=dict(seen.branches),
        colour=None if sample.rgb is None else _shrunk(sample.rgb, size),
        depth=None if sample.depth is None else _shrunk(_grey(sample.depth), size),
        heat=np.asarray(cv2.resize(seen.map, size, interpolation=cv2.INTER_LINEAR), np.float32),
        mask=small,
    )


def _shrunk(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _grey(depth: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """(H, W, 3): small values are dark, from the 2nd to the 98th percentile; black where nothing was read."""
    read = depth[depth > 0]
    if not read.size:
        return np.zeros((*depth.shape, 3), np.uint8)
    low, high = np.quantile(read, [0.02, 0.98])
    grey = (depth - low) / max(high - low, 1.0)
    grey = np.where(depth > 0, 40 + 215 * grey.clip(0, 1), 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)

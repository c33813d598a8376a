"""The last parts of one series, block by block: older ones weigh less, and none is kept.

Parts come in blocks. Behind each block the sums of all earlier ones shrink, so that they always stand for
about the last ``window`` parts. The means of the last blocks are kept by themselves: what they differ by
tells how many independent parts a block is worth. Parts of one lot resemble each other; a thousand parts of
ten lots know little more than ten.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

BLOCK = 50
"""Parts."""
WINDOW = 1000
"""Parts after which one weighs 1/e; they are worth twice as many of equal weight."""
LEARN = 4000
"""First parts of a station that become its own reference."""
KEPT = 32
"""Block means that are kept."""
LEAST_BLOCKS = 10
"""Fewer say nothing about how blocks differ."""
_SCALES = (1, 2, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a series looks back, in parts; tests take shorter ones.

    Attributes:
        block: parts of a block.
        window: see ``WINDOW``.
        learn: parts of the station's own reference.
    """

    block: int = BLOCK
    window: int = WINDOW
    learn: int = LEARN

    def slower(self, times: int) -> Pace:
        """The same over so many times as many parts."""
        return Pace(block=self.block * times, window=self.window * times, learn=self.learn * times)


@dataclass(slots=True)
class BlockWindow:
    """Forgetting sums of vectors, one a block, and the last blocks' means.

    Attributes:
        size: of the vectors.
        pace: see the class.
        sums: the vectors' sums, the newest block with weight one.
        weight, square: sums of the blocks' weights and of their squares.
        means: of the last blocks.
    """

    size: int
    pace: Pace = field(default_factory=Pace)
    sums: NDArray[np.float64] = field(init=False)
    weight: float = 0.0
    square: float = 0.0
    means: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def __post_init__(self) -> None:
        self.sums = np.zeros(self.size)

    def add(self, vector: NDArray[np.float64], mean: float) -> None:
        """One more block."""
        fade = math.exp(-self.pace.block / self.pace.window)
        self.sums = self.sums * fade + vector
        self.weight = self.weight * fade + 1.0
        self.square = self.square * fade * fade + 1.0
        self.means.append(mean)

    @property
    def blocks(self) -> float:
        """How many blocks of equal weight know as much: (sum w)^2 / sum w^2 (Kish)."""
        return self.weight**2 / self.square if self.square > 0 else 0.0

    @property
    def parts(self) -> float:
        """The same in parts."""
        return self.blocks * self.pace.block

    @property
    def ready(self) -> bool:
        """Whether enough blocks were seen."""
        return len(self.means) >= LEAST_BLOCKS

    def variance(self) -> float:
        """By which independent blocks would differ as much in the long run as these do.

        The variance of the means of one, two and four neighbouring blocks, times as many; the largest. Blocks
        that a lot spans differ little from their neighbours, and more from those further away.
        """
        values = np.asarray(self.means)
        largest = 0.0
        for scale in _SCALES:
            count = len(values) // scale
            if count < min(LEAST_BLOCKS, KEPT // _SCALES[-1]):
                break
            together = values[-count * scale :].reshape(count, scale).mean(axis=1)
            largest = max(largest, scale * float(together.var(ddof=1)))
        return largest

    def to_map(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "sums": [round(float(value), 4) for value in self.sums],
            "weight": round(self.weight, 6),
            "square": round(self.square, 6),
            "means": [round(value, 5) for value in self.means],
        }

    @classmethod
    def from_map(cls, values: Mapping[str, Any], size: int, pace: Pace) -> Self:
        """Back from :meth:`to_map`. Raises ValueError, KeyError or TypeError: written by something else."""
        window = cls(size, pace)
        sums = np.array([finite(value) for value in values["sums"]])
        if sums.shape != (size,):
            raise ValueError(f"{sums.size} sums, expected {size}")
        window.sums = sums
        window.weight, window.square = finite(values["weight"]), finite(values["square"])
        window.means.extend(finite(value) for value in values["means"])
        if window.weight < 0 or window.square < 0 or bool(window.means) != (window.square > 0):
            raise ValueError("a window without blocks")
        return window


def finite(value: object) -> float:
    """A finite number of a state that was read. Raises ValueError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)

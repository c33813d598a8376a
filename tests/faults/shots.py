"""What the cameras of the fault line see: a few rendered parts, used again and again, and what they tell.

A stamp in the corner of the colour image tells the stand-in model what to answer, so that every part's right
answer is known from its bytes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from inference.datasets.defects import Defect, DefectKind
from inference.datasets.synthetic import SyntheticPart
from workers.capture.sources import SyntheticLine

PRODUCT = "cap"
SEED = 5
SIZE = 192
"""Pixels of the frames that the real model judges; it was taught with this size."""
SMALL = 64
"""Pixels of the frames that the stand-in judges."""
BAD_EVERY = 5
POOL = 40


class Stamp(IntEnum):
    """What the stand-in model is to do with a frame; a grey value, far from its neighbours'."""

    GOOD = 20
    BAD = 60
    LETHAL = 100
    """The model takes its process down."""
    SLOW = 140
    """The model needs longer than the group waits."""


STAMP_PIXELS = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """What both sensors gave of one part, and whether it is bad."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    bad: bool

    def stamped(self, stamp: Stamp) -> Picture:
        """The same picture with another stamp."""
        rgb = self.rgb.copy()
        rgb[:STAMP_PIXELS, :STAMP_PIXELS] = int(stamp)
        return Picture(rgb, self.depth, stamp is Stamp.BAD)


def stamp_of(rgb: NDArray[np.uint8]) -> Stamp | None:
    """The stamp of a colour image, or None where it carries none."""
    try:
        return Stamp(round(float(np.median(rgb[:STAMP_PIXELS, :STAMP_PIXELS]))))
    except ValueError:
        return None


def pictures(*, real: bool, count: int = POOL) -> list[Picture]:
    """Pictures in the order of the line, one in ``BAD_EVERY`` bad, no two alike.

    Args:
        real: for the real model: unstamped, with a defect that nobody could miss in the bad ones.
    """
    part = SyntheticPart(SEED, SIZE if real else SMALL)
    bad = range(0, count, BAD_EVERY)
    defects = {n: Defect(DefectKind.BOTH.value, size=40.0, contrast=2.0, seed=n) for n in bad} if real else {}
    found = []
    for number, shot in enumerate(SyntheticLine(part, count=count, script=defects, seed=3)):
        assert shot.rgb is not None
        assert shot.depth is not None
        picture = Picture(shot.rgb, shot.depth, number in bad)
        found.append(picture if real else picture.stamped(Stamp.BAD if number in bad else Stamp.GOOD))
    return found

"""One shot: what the sensors of a station see of one part, and what is known to be true of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inference.datasets.base import GOOD
from inference.datasets.defects import Defect


@dataclass(frozen=True, slots=True)
class Shot:
    """What a source gives for one trigger.

    Attributes:
        rgb: (H, W, 3) uint8, RGB order, or None while the camera is out.
        depth: (h, w) uint16 counts, 0 = no reading, or None while the depth sensor is out.
        truth: "good", or the kind of defect.
        name: which part of the source it is.
        defect: what was planted, where it was.
        mask: (H, W) bool, True at the defect; None where it is not known.
    """

    rgb: NDArray[np.uint8] | None = field(repr=False)
    depth: NDArray[np.uint16] | None = field(repr=False)
    truth: str = GOOD
    name: str = ""
    defect: Defect | None = None
    mask: NDArray[np.bool_] | None = field(default=None, repr=False)

    @property
    def is_good(self) -> bool:
        """Whether the part has no defect."""
        return self.truth == GOOD

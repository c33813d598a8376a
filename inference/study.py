"""What evaluation reads: the evidence on one frame in full precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inference.calibration import Limits
from schemas.verdict import Mode

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Alternative:
    """What another rule of fusion makes of the same evidence: score, its limits, map over the frame."""

    score: float
    threshold: float
    pass_limit: float
    map: Image = field(repr=False)


@dataclass(frozen=True, slots=True)
class Study:
    """The evidence on one frame in full precision: what evaluation reads.

    Attributes:
        mode, score, threshold, pass_limit, coverage, degraded: as in Inspection.
        branches: calibrated image score of each branch of the mode.
        map: (h, w) float32 fused map over the whole frame, on the score's scale.
        branch_maps: the calibrated map of each branch, likewise; empty unless asked for.
        low: what the maps hold where nothing was inspected.
        alternatives: by rule of fusion, those that do not decide; empty unless asked for.
        branch_limits: by which each branch would decide, were it alone.
    """

    mode: Mode
    score: float
    threshold: float
    pass_limit: float
    coverage: float
    degraded: tuple[str, ...]
    branches: Mapping[str, float]
    map: Image = field(repr=False)
    branch_maps: Mapping[str, Image] = field(repr=False)
    low: float = 0.0
    alternatives: Mapping[str, Alternative] = field(default_factory=dict, repr=False)
    branch_limits: Mapping[str, Limits] = field(default_factory=dict)

"""What the model says of one frame: evidence, never a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from inference.belt import PlaneDrift
from schemas.errors import CrosscheckError
from schemas.verdict import Mode, Region


@dataclass(frozen=True, slots=True)
class HeatmapArray:
    """An 8-bit map over the inspected frame: value = low + byte / 255 * (high - low), on the score's scale.

    Attributes:
        values: (h, w) uint8, covering the whole frame whatever its resolution.
        low, high: scores of byte 0 and byte 255.
    """

    values: NDArray[np.uint8] = field(repr=False)
    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[np.float32], threshold: float) -> HeatmapArray:
        """8 bits with the threshold at the middle: comparable between the frames of one mode."""
        high = 2.0 * threshold if threshold > 0 else 1.0
        scaled = np.clip(values * np.float32(255.0 / high), 0.0, 255.0)
        return cls(np.asarray(np.rint(scaled), np.uint8), 0.0, high)


@dataclass(frozen=True, slots=True)
class Inspection:
    """The evidence on one frame.

    Attributes:
        mode: which sensors the score rests on; None where there is an error.
        score: on the fused scale of ``mode``.
        threshold, pass_limit: on the same scale: above the threshold the part is rejected, up to the pass
            limit it may pass, between them a person looks.
        coverage: share of the inspected region with valid readings, 0 to 1.
        branches: calibrated score of each branch that took part.
        regions: of a part that does not pass, where the map is above the pass limit; in pixels of the colour
            frame (of the depth frame in DEPTH mode).
        heatmap: the fused map; None where there is an error.
        degraded: why a sensor was not used, as ``depth:absent``.
        degraded_pass: whether this mode may PASS by itself; always true for FUSED.
        error: why there is no score.
        timings: this frame's share of the batch, milliseconds per stage.
        foreground: what told the part from the belt: "depth", "silhouette", "region", "belt" or "frame"; None
            where it was not asked or there is an error.
        silhouette: (64, 64) bool, where the part lay, to be given to frames of the station that lack depth;
            None where depth did not show it.
        belt: how the belt lies to where the station's calibration found it; None where it was not looked for.
    """

    mode: Mode | None
    score: float | None
    threshold: float | None
    pass_limit: float | None
    coverage: float
    branches: Mapping[str, float]
    regions: tuple[Region, ...]
    heatmap: HeatmapArray | None
    degraded: tuple[str, ...]
    degraded_pass: bool
    error: CrosscheckError | None
    timings: Mapping[str, float]
    foreground: str | None = None
    silhouette: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)
    belt: PlaneDrift | None = None

    @classmethod
    def failed(cls, error: CrosscheckError, degraded: tuple[str, ...] = ()) -> Inspection:
        """No score, and why."""
        return cls(
            mode=None,
            score=None,
            threshold=None,
            pass_limit=None,
            coverage=0.0,
            branches={},
            regions=(),
            heatmap=None,
            degraded=degraded,
            degraded_pass=False,
            error=error,
            timings={},
        )


def shared(inspections: Sequence[Inspection], wall_ms: float) -> list[Inspection]:
    """Timings as shares of the batch: frames that ran side by side must not add up to more than passed."""
    spent = sum(sum(one.timings.values()) for one in inspections)
    share = wall_ms / spent if spent > 0 else 1.0
    return [
        replace(one, timings={stage: share * ms for stage, ms in one.timings.items()}) for one in inspections
    ]

"""One part as the sensors saw it: the arrays that go into teaching and inspection."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.errors import BadSample

SILHOUETTE = (64, 64)
"""Shape of a silhouette."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A colour image, a depth image, or both, of one field of view.

    Attributes:
        rgb: (H, W, 3) uint8 in RGB order, or None where the camera gave nothing.
        depth: (h, w) uint16 in sensor counts, 0 = no reading, or None where the depth sensor gave nothing.
            It covers the same field as ``rgb`` and may have another resolution.
        depth_scale: metres per count, where the sensor is metric.
        silhouette: (64, 64) bool, the part as it was last seen well at this station, as the foreground of an
            earlier frame gave it under the same bundle; None where nothing is remembered. Used where depth
            is missing.

    Raises:
        BadSample: an array of another shape or type, or a scale that is no length.
    """

    rgb: NDArray[np.uint8] | None
    depth: NDArray[np.uint16] | None
    depth_scale: float | None = None
    silhouette: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        for name, array in (("rgb", self.rgb), ("depth", self.depth), ("silhouette", self.silhouette)):
            if array is not None and not isinstance(array, np.ndarray):
                raise BadSample(f"{name} is a {type(array).__name__}: expected a numpy array")
        if self.depth_scale is not None and not 0 < self.depth_scale < math.inf:
            raise BadSample(f"depth_scale is {self.depth_scale}: expected metres per count, above 0")
        if self.rgb is not None and (
            self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or not self.rgb.size
        ):
            raise BadSample(
                f"rgb is {self.rgb.dtype} {self.rgb.shape}: expected uint8 (H, W, 3) in RGB order"
            )
        if self.depth is not None and (
            self.depth.dtype != np.uint16 or self.depth.ndim != 2 or not self.depth.size
        ):
            raise BadSample(f"depth is {self.depth.dtype} {self.depth.shape}: expected uint16 (h, w)")
        if self.silhouette is not None and (
            self.silhouette.dtype != np.bool_ or self.silhouette.shape != SILHOUETTE
        ):
            raise BadSample(
                f"silhouette is {self.silhouette.dtype} {self.silhouette.shape}: expected bool {SILHOUETTE}"
            )

    @property
    def rgb_size(self) -> tuple[int, int] | None:
        """(height, width) of the colour image."""
        return None if self.rgb is None else (self.rgb.shape[0], self.rgb.shape[1])

    @property
    def depth_size(self) -> tuple[int, int] | None:
        """(height, width) of the depth image."""
        return None if self.depth is None else (self.depth.shape[0], self.depth.shape[1])

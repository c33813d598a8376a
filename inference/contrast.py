"""Masked differences of Gaussians: how much each place stands out from its surroundings, at five sizes.

Gaussians of sigma 1.5, 2.4, 3.84, 6.14, 9.83 and 15.7 cells of a 128 x 128 relief (ratio 1.6, so that
neighbouring differences overlap); the wide ones are computed on 64 and 32 cells, where they cost little.
Each is a normalised convolution: it averages the solid cells under it and nothing else (Knutsson and Westin
1993), beyond the border there are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

SIGMAS = (1.5, 2.4, 3.84, 6.14, 9.83, 15.7)
SCALES = 5
SIDES = (128, 128, 64, 64, 64)
"""Side of the grid that each scale's difference lives on."""
_LEAST_COVERAGE = 0.2
_LEAST_WEIGHT = 0.1

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Response:
    """One scale of one frame, on a grid of ``SIDES[k]`` cells a side.

    Attributes:
        difference: (s, s) float32, G_k - G_(k+1); 0 where not ``known``.
        coverage: (s, s) float32, share of solid cells under the wider Gaussian, 0 to 1.
        known: (s, s) bool, at least 0.2 of the narrower Gaussian lay on solid cells.
    """

    difference: Image
    coverage: Image
    known: NDArray[np.bool_]


def responses(height: Image, solid: NDArray[np.bool_]) -> list[Response]:
    """The five differences of one relief, finest first.

    Args:
        height: (128, 128) float32, finite everywhere.
        solid: (128, 128) bool, the cells that count.
    """
    weights = _all_solid() if solid.all() else _weights(solid)
    masked = np.where(solid, height, np.float32(0))
    sums = _pyramid(masked)
    found = []
    for k in range(SCALES):
        near, near_weight = sums[k], weights[k]
        far, far_weight = sums[k + 1], weights[k + 1]
        if k == 2:  # the narrower one lives on 128 cells, the wider on 64
            near, near_weight = _half(near), _half(near_weight)
        elif k == 4:
            far, far_weight = _double(far), _double(far_weight)
        known = near_weight >= _LEAST_COVERAGE
        difference = np.asarray(near / np.maximum(near_weight, _LEAST_WEIGHT), dtype=np.float32)
        difference -= far / np.maximum(far_weight, _LEAST_WEIGHT)
        difference[~known] = 0
        found.append(Response(difference=difference, coverage=far_weight, known=known))
    return found


def _pyramid(image: Image) -> list[Image]:
    """The six blurred images, on 128, 128, 128, 64, 64 and 32 cells."""
    half = _half(image)
    quarter = _half(half)
    blurred = [_blur(image, sigma) for sigma in SIGMAS[:3]]
    blurred += [_blur(half, sigma / 2) for sigma in SIGMAS[3:5]]
    return [*blurred, _blur(quarter, SIGMAS[5] / 4)]


def _weights(solid: NDArray[np.bool_]) -> list[Image]:
    return _pyramid(solid.astype(np.float32))


@cache
def _all_solid() -> list[Image]:
    """The weights of a frame without holes, which most are: half of the work, done once."""
    weights = _weights(np.ones((SIDES[0], SIDES[0]), np.bool_))
    for image in weights:
        image.flags.writeable = False
    return weights


def _blur(image: Image, sigma: float) -> Image:
    # The border is zero in sum and weight alike: what lies outside counts for nothing.
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred, dtype=np.float32)


def _half(image: Image) -> Image:
    side = image.shape[0] // 2
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _double(image: Image) -> Image:
    side = image.shape[0] * 2
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.float32)

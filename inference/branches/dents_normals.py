"""How strong contrast is by nature, which the normals teach the dent detector: by coverage and by place."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.contrast import SCALES, SIDES, SIGMAS, Response
from inference.plane import SIGMA_PER_MAD
from inference.register import Pose
from inference.relief import GRID

Image = NDArray[np.float32]

BINS = 12
"""Of coverage, 0 to 1."""
LEAST_NOISE = 0.01
"""Units; a surface without any noise would otherwise make everything infinitely strange."""

_THIN = 400  # pixels; a bin of coverage with fewer takes the level between its neighbours


def levels_by_coverage(frames: Sequence[Sequence[Response]]) -> Image:
    """(5, 12) float32: noise of each scale's difference by coverage, never rising with it.

    A bin's level is max(rms of min(|q|, 6 sd), sd) with sd = 1.4826 median |q| over the normals' pixels.
    """
    table = np.zeros((SCALES, BINS), np.float32)
    middles = (np.arange(BINS) + 0.5) / BINS
    for k in range(SCALES):
        strength = np.concatenate([np.abs(one[k].difference[one[k].known]) for one in frames])
        if not strength.size:  # no normal was read widely enough for this scale: nor will others be
            continue
        coverage = np.concatenate([one[k].coverage[one[k].known] for one in frames])
        bins = np.minimum((coverage * BINS).astype(np.intp), BINS - 1)
        counts = np.bincount(bins, minlength=BINS)
        # With little to go by, the fullest bin alone must do.
        usable = np.flatnonzero(counts >= min(_THIN, int(counts.max())))
        levels = [_level(strength[bins == b]) for b in usable]
        row = np.interp(middles, middles[usable], levels)
        # Fewer readings cannot mean less noise; where a bin says so, it was chance.
        table[k] = np.maximum.accumulate(row[::-1])[::-1]
    return np.maximum(table, np.float32(LEAST_NOISE))


def levels_by_place(
    frames: Sequence[Sequence[Response]], tiles: Sequence[int], poses: Sequence[Pose]
) -> tuple[tuple[Image, ...], ...]:
    """Per tile and scale (s, s) float32: rms of the difference at that place, smoothed over half its size.

    The edge of a part that never lies quite the same is strange on every frame; there it takes more.
    """
    places = []
    for tile in range(max(tiles) + 1):
        mine = [
            (frame, pose) for frame, index, pose in zip(frames, tiles, poses, strict=True) if index == tile
        ]
        scales = []
        for k in range(SCALES):
            side = SIDES[k]
            power, count = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
            for frame, pose in mine:
                power += pose.to_reference(np.square(frame[k].difference))
                count += pose.to_reference(frame[k].known.astype(np.float32))
            # More smoothing spreads the noise of edges over the quiet places beside them, where dents lie.
            sigma = 0.5 * SIGMAS[k] * side / GRID
            smooth = [
                cv2.GaussianBlur(one, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for one in (power, count)
            ]
            level = np.sqrt(np.maximum(smooth[0], 0) / np.maximum(smooth[1], 0.5))
            scales.append(np.asarray(level, dtype=np.float32))
        places.append(tuple(scales))
    return tuple(places)


def _level(strength: Image) -> float:
    sd = SIGMA_PER_MAD * float(np.median(strength))
    # A surface whose differences are mostly zero (coarse counts) has no sd; its rms still counts.
    cap = 6 * sd if sd > 0 else float(strength.max())
    return max(float(np.sqrt(np.mean(np.square(np.minimum(strength, cap)), dtype=np.float64))), sd)

"""The dent detector: contrast of the relief at five sizes, each measured in its own normal noise.

A dent is a place that lies lower (or higher) than its surroundings by more than the surface does by nature.
Nature differs by size, by how much of the neighbourhood was read, and by how restless the frame is just
there; each of the three is divided out, and what remains is compared with the strongest place of every
normal frame. The score is the excess of the strongest place, so that one small dent counts as much as it
would alone.

Heights come settled, and less the shape that parts share where they share one (features/heights.py); there
the noise is known place by place as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inference.branches.base import Evidence, FitSettings, Needs, Reduce
from inference.branches.dents_normals import BINS, levels_by_coverage, levels_by_place
from inference.contrast import SCALES, SIDES, Response, responses
from inference.errors import BundleError, DepthUnusable, NotFinite, TeachError
from inference.register import Pose
from inference.relief import GRID

Image = NDArray[np.float32]

_BOXES = (25, 39, 31, 49, 79)  # neighbourhood of the local contrast, about ten sigma of the wider Gaussian
_TOP = (8, 8, 2, 2, 2)  # pixels whose mean is a frame's strongest place: one pixel alone is noisier
_LOCAL_CAP = 2.5  # a dent must not raise the restlessness that it is judged by
_PLACE_FLOOR = 0.3  # of the noise by coverage: most of a part is quieter than its edges, which that holds too
_LEAST_SPREAD = 0.05  # of log strength; perfectly even normals still differ from new ones
_LEAST_RATIO = 1e-3
_LOWEST = -8.0  # score of a place with nothing to see


@dataclass(frozen=True, slots=True)
class Noise:
    """What normals show at each scale.

    Attributes:
        levels: (5, 12) float32, |difference| by coverage, in units of the normals' height spread.
        places: per tile the five (s, s) float32 levels by place; empty unless parts share a shape.
        centre: (5,) float32, mean over normals of the log strength of the strongest place.
        spread: (5,) float32, its standard deviation.
    """

    levels: Image
    places: tuple[tuple[Image, ...], ...]
    centre: Image
    spread: Image


class Dents:
    """Dents and bumps in the depth image; one frame's answer depends on that frame alone."""

    name: ClassVar[str] = "dents"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.DEPTH})
    reduce: ClassVar[Reduce] = Reduce.MAX
    wide: ClassVar[bool] = False

    def __init__(self, noise: Noise) -> None:
        """From fitted state; see :meth:`fit`."""
        self.noise = noise
        self._tables = [_fine_table(row) for row in noise.levels]

    @classmethod
    def fit(cls, evidence: Sequence[Evidence], settings: FitSettings) -> Self:
        """Fit on the tiles of normal frames that have heights.

        Raises:
            TeachError: fewer than three do.
        """
        tiles = [one.tile for one in evidence if one.heights is not None]
        heights = [one.heights for one in evidence if one.heights is not None]
        if len(heights) < 3:
            raise TeachError(
                f"dents: {len(heights)} of {len(evidence)} normal tiles have enough depth: 3 are needed"
            )
        found = [responses(one.bare, one.solid) for one in heights]
        poses = [one.pose for one in heights if one.pose is not None]
        draft = Noise(
            levels=levels_by_coverage(found),
            places=levels_by_place(found, tiles, poses) if poses else (),
            centre=np.zeros(SCALES, np.float32),
            spread=np.ones(SCALES, np.float32),
        )
        branch = cls(draft)
        strongest = np.array(
            [
                [_strongest(branch._ratio(k, one, tile, seen.pose), _TOP[k]) for k, one in enumerate(frame)]
                for frame, tile, seen in zip(found, tiles, heights, strict=True)
            ]
        )
        own = strongest.std(axis=0, ddof=1)
        # Half its own and half of all scales: the spread of a few frames' extremes is itself uncertain.
        spread = np.maximum(0.5 * own + 0.5 * own.mean(), _LEAST_SPREAD).astype(np.float32)
        branch.noise = replace(draft, centre=strongest.mean(axis=0).astype(np.float32), spread=spread)
        return branch

    def score(self, evidence: Evidence) -> Image:
        """(128, 128) float32: by how many spreads of log strength a place exceeds a normal frame's strongest.

        At least -8 everywhere, also where nothing was read.

        Raises:
            DepthUnusable: no heights, or a tile that was not taught.
            NotFinite: the result is not a number.
        """
        seen = evidence.heights
        if seen is None:
            raise DepthUnusable("dents: the tile has no depth image that can be used")
        if seen.pose is not None and evidence.tile >= len(self.noise.places):
            raise DepthUnusable(
                f"dents: tile {evidence.tile} was not taught: the bundle holds {len(self.noise.places)} tiles"
            )
        best = np.full((GRID, GRID), _LOWEST, np.float32)
        for k, response in enumerate(responses(seen.bare, seen.solid)):
            ratio = np.maximum(self._ratio(k, response, evidence.tile, seen.pose), np.float32(_LEAST_RATIO))
            strength = np.asarray(cv2.log(ratio), dtype=np.float32)
            strength -= self.noise.centre[k]
            strength /= self.noise.spread[k]
            if SIDES[k] != GRID:
                # Nearest, so that the highest value stays what it was measured to be.
                strength = _double(strength)
            np.maximum(best, strength, out=best)
        if not np.isfinite(best).all():
            raise NotFinite("the dent map holds values that are not finite")
        return best

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The whole state, float32."""
        state = {"levels": self.noise.levels, "centre": self.noise.centre, "spread": self.noise.spread}
        if self.noise.places:
            for k in range(SCALES):
                state[f"places{k}"] = np.stack([tile[k] for tile in self.noise.places])
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()}

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Self:
        """The branch back from :meth:`tensors`; it always runs on the CPU, where OpenCV does.

        Raises:
            BundleError: a tensor is missing, misshapen or not finite.
        """
        tiles = int(tensors["places0"].shape[0]) if "places0" in tensors else 0
        expected: dict[str, tuple[int, ...]] = {
            "levels": (SCALES, BINS),
            "centre": (SCALES,),
            "spread": (SCALES,),
        }
        if tiles:
            expected |= {f"places{k}": (tiles, SIDES[k], SIDES[k]) for k in range(SCALES)}
        state: dict[str, Image] = {}
        for name, shape in expected.items():
            if name not in tensors:
                raise BundleError(
                    f"dents: tensor {name!r} is missing from the bundle: teach the product again"
                )
            value = np.ascontiguousarray(tensors[name].detach().cpu().numpy(), dtype=np.float32)
            if value.shape != shape or not np.isfinite(value).all():
                raise BundleError(f"dents: tensor {name!r} is {value.shape}, expected finite {shape}")
            state[name] = value
        if state["levels"].min() <= 0 or state["spread"].min() <= 0:
            raise BundleError("dents: a scale of the bundle is not positive: teach the product again")
        places = tuple(tuple(state[f"places{k}"][tile] for k in range(SCALES)) for tile in range(tiles))
        return cls(
            Noise(levels=state["levels"], places=places, centre=state["centre"], spread=state["spread"])
        )

    def _ratio(self, k: int, response: Response, tile: int, pose: Pose | None) -> Image:
        """|difference| in units of its normal noise there, less the more restless its neighbourhood."""
        index = cv2.convertScaleAbs(response.coverage, alpha=255)
        noise = cv2.LUT(index, self._tables[k])
        if pose is not None:
            place = pose.to_frame(self.noise.places[tile][k])
            noise = np.maximum(noise * np.float32(_PLACE_FLOOR), place)
        ratio = np.abs(response.difference)
        ratio /= noise
        capped = np.minimum(ratio, np.float32(_LOCAL_CAP))
        local = _local_mean(capped, response.known, _BOXES[k])
        ratio /= np.sqrt(np.float32(0.3) + np.float32(0.875) * local)
        return np.asarray(ratio, dtype=np.float32)


def _fine_table(levels: Image) -> Image:
    """The twelve levels as a table over coverage in 256 steps, linear in between."""
    middles = (np.arange(BINS) + 0.5) / BINS
    return np.interp(np.arange(256) / 255, middles, levels).astype(np.float32)


def _double(image: Image) -> Image:
    return np.asarray(cv2.resize(image, (GRID, GRID), interpolation=cv2.INTER_NEAREST), dtype=np.float32)


def _strongest(ratio: Image, count: int) -> float:
    """Log of the mean of the highest ``count`` values."""
    top = np.partition(ratio.ravel(), ratio.size - count)[-count:]
    return float(np.log(max(float(top.mean(dtype=np.float64)), _LEAST_RATIO)))


def _local_mean(values: Image, known: NDArray[np.bool_], box: int) -> Image:
    """Mean over the known places of a box around each place."""
    total = _box_sum(values, box)  # unknown places hold zero
    count = _count(values.shape[0], box) if known.all() else _box_sum(known.astype(np.float32), box)
    return np.asarray(total / np.maximum(count, 1), dtype=np.float32)


@cache
def _count(side: int, box: int) -> Image:
    return _box_sum(np.ones((side, side), np.float32), box)


def _box_sum(image: Image, box: int) -> Image:
    total = cv2.boxFilter(image, cv2.CV_32F, (box, box), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total, dtype=np.float32)

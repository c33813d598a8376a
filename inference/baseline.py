"""What a branch's map looks like over a normal part: places that are always strange are not news.

A hub or an edge of a part is rare among its tokens, so every normal frame shows it as a hot spot, and the
spot hides defects: it sets the image score of good and bad frames alike. Where normals agree on a place, its
mean is taken off and its spread divided out, in part; on a texture without places nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inference.errors import BundleError

Image = NDArray[np.float32]

_LOCAL = 0.5
"""Weight of a place's own variance against that of the whole map: few normals know it badly."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Of one branch.

    Attributes:
        level: mean of the map over all places and normals.
        offset: (tiles, h, w) how far normals' mean at a place is above ``level``.
        gain: (tiles, h, w) factor on what remains, above 1 where normals vary less than elsewhere.
    """

    level: float
    offset: Image
    gain: Image

    @classmethod
    def fit(cls, maps: Sequence[Sequence[Image | None]], groups: Sequence[str]) -> Self:
        """From maps of normals that the branch was not fitted on.

        Args:
            maps: per frame, the map of each tile; None where a tile was not seen.
            groups: of each frame. Frames of one group agree too easily: reliability counts groups.
        """
        offsets, gains = [], []
        seen = [
            np.stack([one for frame in maps if (one := frame[t]) is not None]) for t in range(len(maps[0]))
        ]
        level = float(np.mean([stack.mean(dtype=np.float64) for stack in seen]))
        count = max(len(set(groups)), 2)
        for stack in seen:
            mean = _soft(stack.mean(0, dtype=np.float64))
            variance = _soft(stack.var(0, dtype=np.float64))
            # Share of the spread between places that the noise of so few normals does not explain.
            between, noise = float(mean.var()), float(variance.mean()) / count
            trust = max(0.0, 1.0 - noise / between) if between > 0 else 0.0
            offsets.append(trust * (mean - level))
            whole = float(variance.mean())
            mixed = _LOCAL * trust * variance + (1.0 - _LOCAL * trust) * whole
            gains.append(np.sqrt(whole / mixed) if whole > 0 else np.ones_like(mean))
        return cls(level, np.stack(offsets).astype(np.float32), np.stack(gains).astype(np.float32))

    def apply(self, raw: Image, tile: int) -> Image:
        """The map of a tile without what every normal shows there."""
        out: Image = raw - self.offset[tile]
        out -= np.float32(self.level)
        out *= self.gain[tile]
        out += np.float32(self.level)
        return out

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state, for the bundle."""
        return {
            "level": torch.tensor([self.level], dtype=torch.float64),
            "offset": torch.from_numpy(self.offset),
            "gain": torch.from_numpy(self.gain),
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor], tiles: int) -> Self:
        """Back from :meth:`tensors`. Raises BundleError: a tensor is missing or misshapen."""
        parts = [tensors.get(name) for name in ("level", "offset", "gain")]
        level, offset, gain = parts
        if level is None or offset is None or gain is None or level.shape != (1,):
            raise BundleError("a baseline of the bundle is incomplete: teach the product again")
        if offset.ndim != 3 or offset.shape[0] != tiles or offset.shape != gain.shape:
            raise BundleError(f"a baseline of the bundle is not for {tiles} tiles: teach the product again")
        return cls(float(level[0]), offset.float().numpy(), gain.float().numpy())


def _soft(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """A little blur: the next part lies a little differently."""
    return np.asarray(
        cv2.GaussianBlur(image, (0, 0), image.shape[0] / 40.0, borderType=cv2.BORDER_REFLECT_101)
    )

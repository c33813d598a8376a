"""Colour tokens: texture as the network sees it, beside plain local contrast of colour.

The network was taught to name things whatever their colour, and its tokens are brought to unit length: a pale
stain on a plain surface hardly moves them. Three channels of local contrast in CIE Lab see it. They are
differences from the surroundings, since light and tint differ between lots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from inference.errors import BundleError
from inference.features import lite
from inference.features.lite import LiteExtractor

TEXTURE = lite.CHANNELS
CONTRAST = 3
CHANNELS = TEXTURE + CONTRAST
_SURROUNDINGS = 3.0
"""Sigma of what a cell is compared with, in cells of the 28 grid."""
_WEIGHT = 2.0
"""Of a contrast channel against a texture channel: they are 3 against 152."""


def contrast(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(28, 28, 3): CIE Lab of each cell minus that of its surroundings, averaged over 3 x 3."""
    small = np.asarray(cv2.resize(rgb, (2 * lite.GRID, 2 * lite.GRID), interpolation=cv2.INTER_AREA))
    lab = cv2.cvtColor(small.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB)
    cells = np.asarray(cv2.resize(lab, (lite.GRID, lite.GRID), interpolation=cv2.INTER_AREA))
    around = cv2.GaussianBlur(cells, (0, 0), _SURROUNDINGS, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.blur(cells - around, (3, 3), borderType=cv2.BORDER_REFLECT_101), np.float32)


def raw_tokens(extractor: LiteExtractor, rgb: NDArray[np.uint8]) -> torch.Tensor:
    """(28, 28, 155) of a (224, 224, 3) RGB tile: 152 channels of texture, 3 of contrast."""
    texture = extractor.tokens(rgb)
    return torch.cat((texture, torch.from_numpy(contrast(rgb)).to(texture.device)), -1)


def raw_tokens_batch(extractor: LiteExtractor, tiles: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """(B, 28, 28, 155) of (224, 224, 3) tiles; on a GPU queued, the host working on contrast meanwhile."""
    texture = extractor.tokens_batch(tiles)
    found = torch.from_numpy(np.stack([contrast(one) for one in tiles]))
    if texture.device.type == "cuda":
        found = found.pin_memory()
    return torch.cat((texture, found.to(texture.device, non_blocking=True)), -1)


@dataclass(frozen=True, slots=True)
class ColourStandard:
    """Raw tokens to standardised ones.

    Texture: scaled by channel, brought to unit length, then standardised; the unit length lets nearest
    neighbours compare texture and not its strength. Contrast: divided by its deviation, times its weight.
    """

    scale: torch.Tensor
    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def fit(cls, tokens: Sequence[torch.Tensor]) -> Self:
        """From the raw tokens (28, 28, 155) of all teaching tiles."""
        flat = torch.cat([one.reshape(-1, CHANNELS) for one in tokens]).double()
        scale = flat.std(0).clamp_min(1e-6)
        unit = functional.normalize(flat[:, :TEXTURE] / scale[:TEXTURE], dim=1)
        return cls(scale.float(), unit.mean(0).float(), unit.std(0).clamp_min(1e-6).float())

    @torch.inference_mode()
    def apply(self, tokens: torch.Tensor) -> torch.Tensor:
        """(..., 28, 28, 155) raw to standardised, of one tile or a batch."""
        scaled = tokens / self.scale
        texture = scaled[..., :TEXTURE]
        length = torch.linalg.vector_norm(texture, dim=-1, keepdim=True).clamp_min_(1e-12)
        texture.div_(length).sub_(self.mean).div_(self.deviation)
        scaled[..., TEXTURE:].mul_(_WEIGHT)
        return scaled

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state, for the bundle."""
        return {"scale": self.scale.cpu(), "mean": self.mean.cpu(), "deviation": self.deviation.cpu()}

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Self:
        """Back from ``tensors()``. Raises BundleError: a tensor is missing or misshapen."""
        sizes = {"scale": CHANNELS, "mean": TEXTURE, "deviation": TEXTURE}
        parts: list[torch.Tensor] = []
        for name, size in sizes.items():
            found = tensors.get(name)
            if found is None or found.shape != (size,):
                raise BundleError("the bundle's colour standard is incomplete: teach the product again")
            parts.append(found.to(device))
        return cls(*parts)

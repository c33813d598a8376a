"""The published arithmetic of CMDR-IAD (arXiv 2603.03939), frame by frame, as plainly as it can be written.

It evaluates every head on every pixel of the grid, which the native grids do not: they are measured against
this, in speed and in arithmetic. Nothing here is quick on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from inference import cmdr
from inference.features import spread
from inference.features.dino import Dino
from inference.features.point_mae import PointMae
from inference.heads.distance import distance
from inference.heads.together import HeadNets


@dataclass(frozen=True, slots=True)
class Published:
    """What the published method says of one frame on a grid of g x g pixels.

    Attributes:
        m2, m3: (g, g) distances of the mappings, 0 where not valid.
        r2, r3: (g, g) distances of the decoders, 0 where not valid; r2 before its smoothing.
        psi: (g, g) the fused map.
        score: the image score.
    """

    m2: NDArray[np.float32]
    m3: NDArray[np.float32]
    r2: NDArray[np.float32]
    r3: NDArray[np.float32]
    psi: NDArray[Any]
    score: float


def pixel_features(tokens: torch.Tensor, grid: int) -> torch.Tensor:
    """Colour tokens (t, t, C) to one vector a pixel (g, g, C): bilinear, pixel centres aligned."""
    image = tokens.permute(2, 0, 1)[None]
    large = functional.interpolate(image, size=(grid, grid), mode="bilinear", align_corners=False)
    return large[0].permute(1, 2, 0).contiguous()


def published_frame(
    dino: Dino,
    point_mae: PointMae,
    nets: HeadNets,
    rgb: NDArray[np.uint8],
    cloud: torch.Tensor,
    valid: torch.Tensor,
    settings: cmdr.CmdrSettings = cmdr.PUBLISHED,
) -> Published:
    """From pixels and points to the score of one frame.

    Args:
        dino: frozen image network of side S; ViT-B/8 at 224 as published.
        point_mae: frozen point network; published with ``grouping`` "published" and ``norm`` "frame".
        nets: of grid S.
        rgb: (S, S, 3).
        cloud: (S, S, 3) float32 metres; valid: (S, S) bool.

    Raises:
        EncoderError: an image of another size or type.
        DepthUnusable: a cloud that cannot be grouped.
        NoReading, NotFinite: as :func:`published_scores`.
    """
    tokens = dino.tokens(rgb[None])[0]
    device = next(point_mae.parameters()).device
    clouds, seen = cloud[None].to(device), valid[None].to(device)
    said = point_mae(clouds, seen)
    # Means over neighbours carry features a pixel or two past the readings: those pixels count as well.
    canvas, reached = spread.published(said.tokens, said.groups, clouds, seen)
    return published_scores(tokens, canvas[0], reached[0], nets, settings)


@torch.inference_mode()
def published_scores(
    tokens: torch.Tensor,
    canvas: torch.Tensor,
    valid: torch.Tensor,
    nets: HeadNets,
    settings: cmdr.CmdrSettings = cmdr.PUBLISHED,
) -> Published:
    """From frozen features to the score of one frame.

    Args:
        tokens: (t, t, C2) colour tokens as the image network gave them; 28 x 28 as published.
        canvas: (g, g, C3) shape features on the full grid, 0 where nothing was read; g = 224 as published.
        valid: (g, g) bool, pixels that were read.
        nets: of grid g; they run in the precision they have.

    Raises:
        NoReading: no pixel is valid.
        NotFinite: a distance on a valid pixel is NaN or infinite.
    """
    colour = pixel_features(tokens.float(), canvas.shape[0])
    shape = canvas.float()
    m2 = _where(valid, distance(_answer(nets.m32, shape), colour))
    m3 = _where(valid, distance(_answer(nets.m23, colour), shape))
    r2 = _where(valid, distance(_answer(nets.d2, colour), colour))
    r3 = _where(valid, distance(_answer(nets.d3, shape), shape))
    psi = cmdr.evidence(m2, m3, r2, r3, valid.cpu().numpy(), settings)
    return Published(m2, m3, r2, r3, psi, cmdr.image_score(psi))


def _where(valid: torch.Tensor, found: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(torch.where(valid, found, 0.0).cpu().numpy(), np.float32)


def _answer(net: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """(g, g, D) what a net says of one frame, in float32."""
    first = next(net.parameters())
    said: torch.Tensor = net(features.to(device=first.device, dtype=first.dtype)[None])
    return said[0].float()

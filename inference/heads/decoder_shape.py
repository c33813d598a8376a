"""D3: shape tokens again, through a narrow middle along the raster axis."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import nn

from inference.heads.config import DROPOUT, HeadConfig


class Excite(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018): channels scaled by what their means say."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(channels, squeeze), nn.ReLU(), nn.Linear(squeeze, channels), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, 1, N) to the same."""
        out: torch.Tensor = x * self.gate(x.mean((2, 3)))[:, :, None, None]
        return out


class ShapeDecoder(nn.Module):
    """Linear layers over all cells of one channel, then doublings along the raster axis.

    CMDR-IAD (arXiv 2603.03939). It learns where on the grid each value belongs: a part that moves is strange
    to it, and its weights fit one grid only. The last is a tanh: only directions are compared afterwards.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        short = config.positions
        self.narrow = nn.Sequential(
            nn.Linear(config.cells, short),
            nn.GELU(),
            nn.LayerNorm(short),
            nn.Dropout(DROPOUT),
            nn.Linear(short, short),
            nn.GELU(),
            nn.LayerNorm(short),
        )
        doublings: list[nn.Module] = []
        stages = config.stages
        for index, (source, target) in enumerate(pairwise(stages)):
            # One axis as a row of an image: with channels innermost that is up to eight times as fast as 1-D.
            doublings.append(nn.ConvTranspose2d(source, target, (1, 4), stride=(1, 2), padding=(0, 1)))
            last = index == len(stages) - 2
            doublings += [nn.Tanh()] if last else [nn.BatchNorm2d(target), nn.GELU()]
        self.doublings = nn.Sequential(*doublings)
        self.excite = Excite(config.shape, config.squeeze)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, g, g, C3) to the same."""
        batch, rows, columns, channels = tokens.shape
        x = tokens.reshape(batch, rows * columns, channels).transpose(1, 2)
        x = self.narrow(x)[:, :, None].contiguous(memory_format=torch.channels_last)
        x = self.excite(self.doublings(x))
        return cast(torch.Tensor, x.permute(0, 2, 3, 1).reshape(batch, rows, columns, channels))

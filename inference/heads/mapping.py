"""M23 and M32: what one sensor's token should be, given the other's at the same cell."""

from __future__ import annotations

import torch
from torch import nn

from inference.heads.config import DROPOUT, HeadConfig


class MappingNet(nn.Module):
    """A perceptron applied to every cell by itself; no cell sees its neighbours.

    CMDR-IAD (arXiv 2603.03939): the mapping of Crossmodal Feature Mapping (Costanzino et al., CVPR 2024) with
    one layer more, layer norms and dropout.
    """

    def __init__(self, source: int, target: int, hidden: int) -> None:
        """Maps tokens of ``source`` channels to tokens of ``target`` channels."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(source, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.LayerNorm(hidden),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, target),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(..., source) to (..., target)."""
        out: torch.Tensor = self.layers(tokens)
        return out


def colour_to_shape(config: HeadConfig) -> MappingNet:
    """M23."""
    return MappingNet(config.colour, config.shape, config.hidden)


def shape_to_colour(config: HeadConfig) -> MappingNet:
    """M32."""
    return MappingNet(config.shape, config.colour, config.hidden)

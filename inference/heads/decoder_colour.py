"""D2: a colour token again from itself and its neighbours, through a narrow middle."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from inference.heads.config import DROPOUT, HeadConfig


class WindowAttention(nn.Module):
    """Self-attention among ``window`` consecutive cells in raster order.

    The windows are runs along the rows, not patches; there is no position encoding and no shift.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        """``heads`` divides ``width``."""
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, C) to the same, N a multiple of the window."""
        batch, cells, width = x.shape
        qkv: torch.Tensor = self.qkv(x)
        # (3, B * windows, heads, window, C / heads)
        q, k, v = (
            qkv.view(batch * cells // self.window, self.window, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        seen = functional.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT if self.training else 0.0)
        joined = seen.transpose(1, 2).reshape(batch, cells, width)
        return cast(torch.Tensor, self.drop(self.out(joined)))


class Block(nn.Module):
    """One transformer block, norms first."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, window)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(2 * width, width),
            nn.Dropout(DROPOUT),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, C) to the same."""
        x = x + self.attention(self.norm_attention(x))
        return cast(torch.Tensor, x + self.mlp(self.norm_mlp(x)))


def _conv(source: int, target: int) -> nn.Sequential:
    # Transposed at stride 1 is an ordinary convolution with its kernel turned round.
    return nn.Sequential(
        nn.ConvTranspose2d(source, target, 3, stride=1, padding=1), nn.BatchNorm2d(target), nn.GELU()
    )


class ColourDecoder(nn.Module):
    """Half the width, one block of window attention, three 3 x 3 convolutions, a head.

    CMDR-IAD (arXiv 2603.03939). Batch norms see the background as well: the whole grid goes through.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        full, r = config.colour, config.latent
        self.narrow = nn.Sequential(
            nn.Linear(full, r),
            nn.GELU(),
            nn.LayerNorm(r),
            nn.Dropout(DROPOUT),
            nn.Linear(r, r),
            nn.GELU(),
            nn.LayerNorm(r),
        )
        self.block = Block(r, config.heads, config.window)
        self.convs = nn.Sequential(
            _conv(r, max(1, r * 2 // 3)), _conv(max(1, r * 2 // 3), max(1, r // 3)), _conv(max(1, r // 3), r)
        )
        self.head = nn.Sequential(
            nn.Linear(r, 4 * r),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(4 * r, full),
            nn.LayerNorm(full),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, g, g, C2) to the same."""
        batch, rows, columns, full = tokens.shape
        x: torch.Tensor = self.block(self.narrow(tokens.reshape(batch, rows * columns, full)))
        # Channels stay innermost in memory: the permutation copies nothing and convolutions like it so.
        image = x.view(batch, rows, columns, -1).permute(0, 3, 1, 2)
        out: torch.Tensor = self.head(self.convs(image).permute(0, 2, 3, 1))
        return out

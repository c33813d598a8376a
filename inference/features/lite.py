"""Colour tokens from EfficientNet-Lite0, up to stride 16: a few milliseconds a tile on one core.

On a CPU one tile runs at a time: convolution kernels are chosen by batch size, and another kernel rounds
otherwise. A GPU takes a whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from inference.features.exact import exact
from inference.features.lite_layers import INPUT, TAPS, folded_layers, load_classifier, weights_digest
from inference.features.lite_torch import FusedNetwork, Network, PlainNetwork, Precision, Taps
from inference.features.openvino_lite import OpenVinoNetwork

__all__ = [
    "CHANNELS",
    "GRID",
    "INPUT",
    "LiteExtractor",
    "Precision",
    "Runtime",
    "load_classifier",
    "weights_digest",
]

GRID = 28
CHANNELS = sum(channels for channels, _ in TAPS)
"""40 channels at stride 8 and 112 at stride 16."""

Runtime = Literal["torch", "openvino"]
"""What runs the network on a CPU. Their tokens differ by rounding alone: 1e-4 of the largest in float32."""


def _averaging(side: int) -> torch.Tensor:
    """(28, side): mean of three neighbours, fewer at the border, then linear to 28 between cell centres.

    Both are the same for rows and columns, so that a map becomes tokens by two small products of matrices.
    """
    cells = np.arange(side)
    near = (np.abs(cells[:, None] - cells[None]) <= 1).astype(np.float64)
    near /= near.sum(1, keepdims=True)
    at = np.clip((np.arange(GRID) + 0.5) * side / GRID - 0.5, 0, side - 1)
    linear = np.clip(1 - np.abs(at[:, None] - cells[None]), 0, None)
    return torch.from_numpy(linear @ near).float()


def _spread(maps: torch.Tensor, averaging: torch.Tensor) -> torch.Tensor:
    """(B, h, w, C) to (B, 28, 28, C)."""
    batch, side, _, channels = maps.shape
    rows = torch.matmul(averaging, maps.reshape(batch, side, side * channels))
    cells = torch.matmul(averaging, rows.view(batch * GRID, side, channels))
    return cells.view(batch, GRID, GRID, channels)


class LiteExtractor:
    """RGB tile in, raw tokens out; no state but the weights. Threads may share it.

    Args:
        device: where tokens go.
        runtime: what runs the network on a CPU; another device always uses torch.
        precision: "bfloat16" halves the time where the processor knows it. Tokens differ by some percent:
            a product is taught and served in the same one.

    Raises:
        InferenceError: the runtime is not installed.
    """

    def __init__(
        self, device: torch.device, *, runtime: Runtime = "torch", precision: Precision = "float32"
    ) -> None:
        self._device = device
        self.precision: Precision = precision
        self._network = _network(device, runtime, precision)
        self._averaging = tuple(_averaging(side).to(device) for _, side in TAPS)

    @torch.inference_mode()
    def taps(self, rgb: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """The feature maps (1, 40, 28, 28) and (1, 112, 14, 14) of a (224, 224, 3) RGB tile."""
        fine, coarse = self._network.taps(_pixels(rgb).to(self._device))
        return fine.permute(0, 3, 1, 2), coarse.permute(0, 3, 1, 2)

    @torch.inference_mode()
    def tokens(self, rgb: NDArray[np.uint8]) -> torch.Tensor:
        """(28, 28, 152) raw tokens: each tap averaged over 3 x 3 on its own grid, then brought to 28."""
        with exact(self._device):
            return self._tokens(self._network.taps(_pixels(rgb).to(self._device)))[0]

    @torch.inference_mode()
    def tokens_batch(self, tiles: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """(B, 28, 28, 152) raw tokens of (224, 224, 3) tiles.

        On a CPU these are the very numbers of :meth:`tokens`. On a GPU one copy from pinned memory and one
        pass of the network are queued, and the call returns before they are done.
        """
        if self._device.type == "cpu":
            return torch.stack([self.tokens(one) for one in tiles])
        pixels = torch.empty(len(tiles), INPUT, INPUT, 3, dtype=torch.uint8, pin_memory=True)
        for row, one in zip(pixels, tiles, strict=True):
            row.copy_(_pixels(one)[0])
        with exact(self._device):
            return self._tokens(self._network.taps(pixels.to(self._device, non_blocking=True)))

    def _tokens(self, taps: Taps) -> torch.Tensor:
        return torch.cat([_spread(*one) for one in zip(taps, self._averaging, strict=True)], -1)


def _pixels(rgb: NDArray[np.uint8]) -> torch.Tensor:
    """(1, 224, 224, 3), sharing memory where it can."""
    return torch.from_numpy(np.ascontiguousarray(rgb))[None]


def _network(device: torch.device, runtime: Runtime, precision: Precision) -> Network:
    layers = folded_layers()
    if device.type != "cpu":
        return PlainNetwork(layers, device, precision)
    if runtime == "openvino":
        return OpenVinoNetwork(layers, precision)
    if FusedNetwork.available(precision):
        return FusedNetwork(layers, precision)
    return PlainNetwork(layers, device, precision)

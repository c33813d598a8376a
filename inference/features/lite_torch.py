"""The colour network's layers run by torch: one by one anywhere, or fused where oneDNN is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch.nn import functional

from inference.features.lite_layers import CENTRE, INPUT, SPREAD, Layer

Precision = Literal["float32", "bfloat16"]
"""Of weights and feature maps; sums are float32 in both."""

Taps = tuple[torch.Tensor, torch.Tensor]
"""(B, 28, 28, 40) and (B, 14, 14, 112) float32."""

_UNIT = [1, 1]


class Network(Protocol):
    """Something that runs the layers."""

    def taps(self, pixels: torch.Tensor) -> Taps:
        """The two feature maps of (B, 224, 224, 3) uint8 RGB pictures on the network's device."""
        ...


def _maps(found: Sequence[torch.Tensor]) -> Taps:
    """(B, C, h, w) in channels-last memory seen as (B, h, w, C)."""
    first, second = (one.permute(0, 2, 3, 1).float() for one in found)
    return first, second


class PlainNetwork:
    """Layer by layer, on any device and for any batch.

    bfloat16 on a CPU is float32 arithmetic on rounded weights and rounded maps: the same numbers up to the
    order of sums, on processors that know no bfloat16. Elsewhere it is the device's own.
    """

    def __init__(self, layers: Sequence[Layer], device: torch.device, precision: Precision) -> None:
        self._rounds = precision == "bfloat16" and device.type == "cpu"
        self._dtype = torch.bfloat16 if precision == "bfloat16" and not self._rounds else torch.float32
        self._layers = [
            (
                layer,
                self._round(layer.weight)
                .to(device, self._dtype)
                .contiguous(memory_format=torch.channels_last),
                self._round(layer.bias).to(device, self._dtype),
            )
            for layer in layers
        ]

    def _round(self, x: torch.Tensor) -> torch.Tensor:
        return x.bfloat16().float() if self._rounds else x

    @torch.inference_mode()
    def taps(self, pixels: torch.Tensor) -> Taps:
        """See :class:`Network`."""
        # (B, H, W, C) memory seen as (B, C, H, W) is channels-last already.
        x = ((pixels.float() - CENTRE) / SPREAD).to(self._dtype).permute(0, 3, 1, 2)
        kept = x
        found: list[torch.Tensor] = []
        for layer, weight, bias in self._layers:
            if layer.opens:
                kept = x
            before, after = layer.padding
            if before != after:
                x = functional.pad(x, (before, after, before, after))
                before = 0
            x = functional.conv2d(x, weight, bias, layer.stride, before, 1, layer.groups)
            if layer.relu6:
                x = x.clamp_(0.0, 6.0)
            if layer.closes:
                x = x.add_(kept)
            x = self._round(x)
            if layer.tap:
                found.append(x)
        return _maps(found)


@dataclass(frozen=True, slots=True)
class _Step:
    """A layer as oneDNN wants it.

    Attributes:
        weight: in the blocked layout that the convolution of these sizes takes.
        padding: zeros on each side, added by the convolution itself.
        frame: zeros (before, after) that are added to the input here, None for none.
        blank: how much of the result's border is not the layer's but the next one's padding.
    """

    layer: Layer
    weight: torch.Tensor
    bias: torch.Tensor
    padding: list[int]
    stride: list[int]
    frame: tuple[int, int, int, int] | None
    blank: tuple[int, int] | None


class FusedNetwork:
    """oneDNN convolutions with clipping and skip connections fused in: a third less time on one core.

    Weights are brought to oneDNN's layout once. A convolution of stride 2 wants one zero more on the right
    than on the left, which oneDNN cannot add itself: copying a wide map into a wider one costs more than the
    convolution. The 1 x 1 convolution before it runs on an input that was padded while it was still narrow.

    One picture at a time: kernels are chosen by batch size, and another kernel rounds otherwise.
    """

    def __init__(self, layers: Sequence[Layer], precision: Precision) -> None:
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        ops: Any = torch.ops.mkldnn
        self._conv: Any = ops._convolution_pointwise.default
        self._conv_add: Any = ops._convolution_pointwise_.binary
        self._steps = tuple(self._plan(layers))

    @staticmethod
    def available(precision: Precision) -> bool:
        """Whether this build of torch and this processor can run it."""
        ops: Any = torch.ops.mkldnn
        built = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        if not built or not hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight"):
            return False
        if not all(hasattr(ops, name) for name in ("_convolution_pointwise", "_convolution_pointwise_")):
            return False
        return precision == "float32" or bool(ops._is_mkldnn_bf16_supported())

    @torch.no_grad()
    def _plan(self, layers: Sequence[Layer]) -> list[_Step]:
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        steps: list[_Step] = []
        side = INPUT
        for index, layer in enumerate(layers):
            # The picture is only centred: a division by 128 is exact in the weights too.
            weight = (layer.weight / SPREAD if index == 0 else layer.weight).to(self._dtype)
            before, after = layer.padding
            following = layers[index + 1].padding if index + 1 < len(layers) else (0, 0)
            blank = following if following[0] != following[1] else None
            frame = (following[0], following[1], following[0], following[1]) if blank else None
            own = before if before == after else 0
            wide = side + sum(blank or (0, 0)) + (before + after - 2 * own)
            shape = [1, weight.shape[1] * layer.groups, wide, wide]
            packed = reorder(
                weight.contiguous().to_mkldnn(), [own] * 2, [layer.stride] * 2, _UNIT, layer.groups, shape
            )
            bias = layer.bias.to(self._dtype)
            steps.append(_Step(layer, packed, bias, [own] * 2, [layer.stride] * 2, frame, blank))
            side //= layer.stride
        return steps

    @torch.inference_mode()
    def taps(self, pixels: torch.Tensor) -> Taps:
        """See :class:`Network`; B is 1."""
        before, after = self._steps[0].layer.padding
        wide = INPUT + before + after
        picture = torch.zeros(1, wide, wide, 3)
        torch.sub(pixels, CENTRE, out=picture[:, before : before + INPUT, before : before + INPUT])
        x = picture.to(self._dtype).permute(0, 3, 1, 2)
        kept = x
        found: list[torch.Tensor] = []
        for step in self._steps:
            layer = step.layer
            if layer.opens:
                kept = x
            if step.frame is not None:
                x = functional.pad(x, step.frame)
            where = (step.padding, step.stride, _UNIT, layer.groups)
            if layer.closes:
                x = self._conv_add(kept, x, step.weight, step.bias, *where, "add", 1.0, None, [], None)
            elif layer.relu6:
                x = self._conv(x, step.weight, step.bias, *where, "hardtanh", [0.0, 6.0], "")
            else:
                x = self._conv(x, step.weight, step.bias, *where, "none", [], "")
            if step.blank is not None:
                _clear(x, *step.blank)
            if layer.tap:
                found.append(x)
        return _maps(found)


def _clear(x: torch.Tensor, before: int, after: int) -> None:
    """Zero the border of (1, C, H, W) in place."""
    if before:
        x[:, :, :before] = 0.0
        x[:, :, :, :before] = 0.0
    x[:, :, -after:] = 0.0
    x[:, :, :, -after:] = 0.0

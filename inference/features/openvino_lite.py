"""The colour network's layers run by OpenVINO, an optional extra: about half of torch's time on one core.

The graph is built from the same folded layers, so that nothing is traced, converted or downloaded.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from inference.errors import InferenceError
from inference.features.lite_layers import CENTRE, INPUT, SPREAD, Layer
from inference.features.lite_torch import Precision, Taps

_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}


def _module() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise InferenceError(
            "colour runtime openvino: the package is not installed; pip install 'crosscheck[openvino]', "
            "or use the runtime torch"
        ) from error
    return openvino


def build(layers: Sequence[Layer]) -> Any:
    """An ``openvino.Model``: (1, 224, 224, 3) uint8 in, (1, 28, 28, 40) and (1, 14, 14, 112) float32 out.

    Raises:
        InferenceError: OpenVINO is not installed.
    """
    ov = _module()
    ops = ov.opset13
    source = ops.parameter([1, INPUT, INPUT, 3], np.uint8, name="rgb")
    x = ops.convert(source, np.float32)
    x = ops.divide(ops.subtract(x, np.float32(CENTRE)), np.float32(SPREAD))
    x = ops.transpose(x, np.array([0, 3, 1, 2]))
    kept = x
    taps = []
    for layer in layers:
        if layer.opens:
            kept = x
        before, after = layer.padding
        weight = layer.weight.contiguous().numpy()
        where = ([layer.stride] * 2, [before] * 2, [after] * 2, [1, 1])
        if layer.groups > 1:
            x = ops.group_convolution(x, weight.reshape(layer.groups, -1, *weight.shape[1:]), *where)
        else:
            x = ops.convolution(x, weight, *where)
        x = ops.add(x, layer.bias.numpy()[None, :, None, None])
        if layer.relu6:
            x = ops.clamp(x, 0.0, 6.0)
        if layer.closes:
            x = ops.add(x, kept)
        if layer.tap:
            taps.append(ops.transpose(x, np.array([0, 2, 3, 1])))
    return ov.Model(taps, [source], "lite0")


class OpenVinoNetwork:
    """See :class:`inference.features.lite_torch.Network`; on the CPU, one picture at a time, one thread.

    Threads that call it do not wait for each other: each compiles the graph for itself, once, on its first
    picture (0.1 s).
    """

    def __init__(self, layers: Sequence[Layer], precision: Precision) -> None:
        """Raises InferenceError: OpenVINO is not installed."""
        self._core = _module().Core()
        self._model = build(layers)
        self._settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            # Every compiled graph would bind its thread to the first core.
            "ENABLE_CPU_PINNING": False,
        }
        self._lock = threading.Lock()
        self._own = threading.local()

    def _request(self) -> Any:
        request = getattr(self._own, "request", None)
        if request is None:
            with self._lock:
                compiled = self._core.compile_model(self._model, "CPU", self._settings)
            request = self._own.request = compiled.create_infer_request()
        return request

    def taps(self, pixels: torch.Tensor) -> Taps:
        """See :class:`inference.features.lite_torch.Network`; B is 1."""
        found = self._request().infer({0: pixels.numpy()}, share_inputs=True)
        first, second = (torch.from_numpy(found[index]) for index in (0, 1))
        return first, second

"""What a GPU would be asked to do, followed with pretended tensors: no GPU is needed, none is touched.

torch's fake tensors have shapes, types and devices but no values: an operation that mixes devices, or that
waits for a value (and so for the GPU), raises.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from inference.features import grouping, spread
from inference.features.dino import Dino, DinoConfig
from inference.features.point_encoder import Neighbourhood, Norm
from inference.features.point_mae import PointConfig, PointMae


@pytest.fixture(autouse=True)
def _no_kept_tensors() -> Iterator[None]:
    """Pretended tensors must not stay in the caches, nor real ones come out of them."""
    kept = (grouping._window, grouping._central_first)
    for cache in kept:
        cache.cache_clear()
    yield
    for cache in kept:
        cache.cache_clear()


def to_pretended_gpu(model: torch.nn.Module) -> None:
    for module in model.modules():
        for name, old in module._parameters.items():
            if old is not None:
                made = torch.empty(old.shape, dtype=old.dtype, device="cuda")
                module._parameters[name] = torch.nn.Parameter(made, requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("norm", "neighbourhood"), [("frame", "raw"), ("running", "matched")])
def test_a_batch_of_clouds_never_waits_for_the_gpu(
    norm: Norm, neighbourhood: Neighbourhood, dtype: torch.dtype
) -> None:
    config = PointConfig(
        dim=16,
        depth=3,
        heads=2,
        taps=(0, 2),
        group_size=6,
        cells=4,
        reach=2,
        widths=(6, 8, 12),
        position=8,
        norm=norm,
        neighbourhood=neighbourhood,
    )
    model = PointMae.random(config, dtype=dtype)
    with FakeTensorMode():
        to_pretended_gpu(model)
        cloud = torch.zeros(3, 16, 16, 3, device="cuda")
        valid = torch.ones(3, 16, 16, dtype=torch.bool, device="cuda")
        found = model(cloud, valid)
        features, mask = spread.native(found.tokens, found.groups, cloud, valid, 8)
    assert features.shape == (3, 8, 8, 32)
    assert features.dtype == torch.float32
    assert features.device.type == mask.device.type == "cuda"


def test_a_batch_of_images_never_waits_for_the_gpu() -> None:
    model = Dino.random(DinoConfig(dim=32, depth=2, heads=4, side=32), dtype=torch.bfloat16)
    with FakeTensorMode():
        to_pretended_gpu(model._model)
        model.device = torch.device("cuda")
        model._mean = model._share = torch.empty(1, 3, 1, 1, device="cuda")
        tokens = model.tokens(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    assert tokens.shape == (2, 4, 4, 32)
    assert tokens.device.type == "cuda"


def test_waiting_for_a_value_would_be_noticed() -> None:
    with FakeTensorMode():
        value = torch.ones(2, dtype=torch.bool, device="cuda")
        with pytest.raises(Exception, match=r"_local_scalar_dense|data-dependent"):
            bool(value.any())

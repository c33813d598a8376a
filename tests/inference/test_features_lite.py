"""The colour network: the right weights in the right places, and no way of running it changes its tokens."""

from __future__ import annotations

import builtins
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from torch.nn import functional

from inference.errors import InferenceError
from inference.features import lite, openvino_lite
from inference.features.exact import exact
from inference.features.lite import Precision, Runtime
from inference.features.lite_layers import folded_layers
from inference.features.lite_torch import FusedNetwork, PlainNetwork

CPU = torch.device("cpu")
ROUNDING = 1e-4
"""Of the largest value: how far tokens of different kernels may be apart in float32. 2e-6 was seen."""
HALF = 0.15
"""Root mean square difference of bfloat16 against float32, relative: 8 bits through 33 layers."""


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """Red ball on blue: smooth shading, an edge, two colours."""
    y, x = np.mgrid[:224, :224].astype(np.float32)
    ball = np.clip(1.2 - np.hypot(x - 100, y - 120) / 60, 0, 1)[..., None]
    shade = (0.6 + 0.4 * np.cos((x - 90) / 60))[..., None]
    scene = ball**0.3 * np.array([220, 40, 30]) * shade + (1 - ball**0.3) * np.array([30, 60, 160])
    return np.asarray(np.clip(scene, 0, 255), np.uint8)


@pytest.fixture(scope="module")
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)


def features_only(model: torch.nn.Module) -> Any:
    plain = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(2, 3)
    )
    state = model.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain.eval()


def pixels(*tiles: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.stack(tiles))


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, as a share of the largest value."""
    return float((a - b).abs().max() / b.abs().max())


def test_the_weights_fit_and_the_classifier_tells_pictures_apart(
    picture: NDArray[np.uint8], noise: NDArray[np.uint8]
) -> None:
    model = lite.load_classifier()
    assert model.bn1.eps == 1e-3  # type: ignore[union-attr]
    grey = np.full((224, 224, 3), 127, np.uint8)
    batch = pixels(picture, noise, grey).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        share = model((batch - 127) / 128).softmax(1)
    top, label = share.max(1)
    # Tensors in wrong places give one flat answer for every picture; ImageNet knows one as round.
    assert float(top[0]) > 0.05
    assert len(set(label.tolist())) > 1
    assert float((share[0] - share[1]).abs().sum()) > 0.5


def test_folded_taps_equal_those_of_the_plain_network(
    picture: NDArray[np.uint8], noise: NDArray[np.uint8]
) -> None:
    plain = features_only(lite.load_classifier())
    extractor = lite.LiteExtractor(CPU)
    for tile in (picture, noise):
        with torch.inference_mode():
            expected = plain((pixels(tile).permute(0, 3, 1, 2).float() - 127) / 128)
        found = extractor.taps(tile)
        assert [tuple(one.shape) for one in found] == [(1, 40, 28, 28), (1, 112, 14, 14)]
        for a, b in zip(found, expected, strict=True):
            assert apart(a, b) < ROUNDING


def test_tokens_are_the_taps_averaged_then_brought_to_the_grid(noise: NDArray[np.uint8]) -> None:
    extractor = lite.LiteExtractor(CPU)
    fine, coarse = (
        functional.avg_pool2d(one.contiguous(), 3, 1, 1, count_include_pad=False)
        for one in extractor.taps(noise)
    )
    coarse = functional.interpolate(coarse, size=(28, 28), mode="bilinear", align_corners=False)
    expected = torch.cat((fine, coarse), 1)[0].permute(1, 2, 0)
    tokens = extractor.tokens(noise)
    assert tokens.shape == (28, 28, lite.CHANNELS)
    assert tokens.is_contiguous()
    assert apart(tokens, expected) < 1e-5


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fused_layers_are_the_plain_ones(noise: NDArray[np.uint8], precision: Precision) -> None:
    if not FusedNetwork.available(precision):
        # A processor without bfloat16 serves it by the plain layers, and there is nothing to compare.
        assert precision == "bfloat16"
        return
    plain = PlainNetwork(folded_layers(), CPU, precision).taps(pixels(noise))
    fused = FusedNetwork(folded_layers(), precision).taps(pixels(noise))
    for a, b in zip(fused, plain, strict=True):
        assert a.dtype == torch.float32
        # Sums in another order may round to the other neighbour, one step of 8 bits.
        assert apart(a, b) < (ROUNDING if precision == "float32" else 0.02)


def test_plain_layers_take_batches(picture: NDArray[np.uint8], noise: NDArray[np.uint8]) -> None:
    plain = PlainNetwork(folded_layers(), CPU, "float32")
    together = plain.taps(pixels(picture, noise))
    for index, tile in enumerate((picture, noise)):
        for a, b in zip(together, plain.taps(pixels(tile)), strict=True):
            assert apart(a[index : index + 1], b) < ROUNDING


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_bfloat16_stays_near_float32_and_is_not_the_same(
    picture: NDArray[np.uint8], noise: NDArray[np.uint8], runtime: Runtime
) -> None:
    full = lite.LiteExtractor(CPU)
    half = lite.LiteExtractor(CPU, runtime=runtime, precision="bfloat16")
    for tile in (picture, noise):
        exactly = full.tokens(tile)
        found = float((half.tokens(tile) - exactly).norm() / exactly.norm())
        assert 1e-3 < found < HALF


def test_openvino_gives_the_tokens_of_torch(picture: NDArray[np.uint8], noise: NDArray[np.uint8]) -> None:
    torches = lite.LiteExtractor(CPU)
    other = lite.LiteExtractor(CPU, runtime="openvino")
    for tile in (picture, noise):
        assert apart(other.tokens(tile), torches.tokens(tile)) < ROUNDING


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_threads_share_an_extractor_and_get_the_bits_of_one(
    picture: NDArray[np.uint8], noise: NDArray[np.uint8], runtime: Runtime
) -> None:
    extractor = lite.LiteExtractor(CPU, runtime=runtime)
    tiles = [picture, noise] * 4
    alone = [extractor.tokens(one) for one in tiles]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(extractor.tokens, tiles))
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(extractor.tokens_batch(tiles[:3]), torch.stack(alone[:3]))


def test_a_missing_openvino_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "openvino":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InferenceError, match=r"pip install 'crosscheck\[openvino\]'"):
        openvino_lite.OpenVinoNetwork(folded_layers(), "float32")


def test_full_precision_ends_with_its_block_and_leaves_a_cpu_alone() -> None:
    before = torch.get_float32_matmul_precision()
    with exact(CPU):
        assert torch.get_float32_matmul_precision() == before
    with exact(torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == before

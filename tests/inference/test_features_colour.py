"""Colour tokens: standardised texture, and contrast that sees what the network does not care for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.errors import BundleError
from inference.features import colour
from inference.features.lite import LiteExtractor

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def raw() -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    extractor = LiteExtractor(CPU)
    coarse = rng.integers(60, 200, (3, 28, 28, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    return [colour.raw_tokens(extractor, one) for one in coarse]


def test_standardised_tokens_have_no_mean_and_their_spread(raw: list[torch.Tensor]) -> None:
    standard = colour.ColourStandard.fit(raw)
    flat = torch.cat([standard.apply(one).reshape(-1, colour.CHANNELS) for one in raw])
    assert flat[:, :152].mean(0).abs().max() < 1e-3
    assert (flat[:, :152].std(0) - 1).abs().max() < 1e-3
    assert flat[:, 152:].std(0).numpy() == pytest.approx(2.0, abs=1e-3)


def test_the_strength_of_a_texture_does_not_matter(raw: list[torch.Tensor]) -> None:
    standard = colour.ColourStandard.fit(raw)
    strong = raw[0].clone()
    strong[..., :152] *= 3
    assert torch.allclose(standard.apply(raw[0]), standard.apply(strong), atol=1e-4)


def test_the_standard_comes_back_from_its_tensors_and_refuses_less(raw: list[torch.Tensor]) -> None:
    standard = colour.ColourStandard.fit(raw)
    back = colour.ColourStandard.restore(standard.tensors(), CPU)
    assert torch.equal(back.apply(raw[0]), standard.apply(raw[0]))
    for missing in ("scale", "mean", "deviation"):
        with pytest.raises(BundleError, match="colour standard"):
            colour.ColourStandard.restore({**standard.tensors(), missing: torch.zeros(3)}, CPU)


def test_contrast_sees_a_pale_stain_and_not_the_light() -> None:
    def plain(level: int) -> NDArray[np.uint8]:
        return np.full((224, 224, 3), level, np.uint8)

    assert np.abs(colour.contrast(plain(90))).max() < 1e-3
    assert np.abs(colour.contrast(plain(200))).max() < 1e-3
    stained = plain(120)
    stained[96:112, 96:112] = (124, 112, 120)
    found = np.linalg.norm(colour.contrast(stained), axis=2)
    assert divmod(int(found.argmax()), 28) in [(12, 12), (12, 13), (13, 12), (13, 13)]
    assert found.max() > 1.0


def test_a_batch_is_its_tiles_bit_by_bit_on_a_cpu(raw: list[torch.Tensor]) -> None:
    rng = np.random.default_rng(1)
    tiles = [rng.integers(0, 255, (224, 224, 3), np.uint8) for _ in range(3)]
    extractor = LiteExtractor(CPU)
    standard = colour.ColourStandard.fit(raw)
    batch = standard.apply(colour.raw_tokens_batch(extractor, tiles))
    assert batch.shape == (3, 28, 28, colour.CHANNELS)
    for one, tile in zip(batch, tiles, strict=True):
        assert torch.equal(one, standard.apply(colour.raw_tokens(extractor, tile)))

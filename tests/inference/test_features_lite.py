"""The colour network: the right weights in the right places, and the folding changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray

from inference.features import lite


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """Red ball on blue: smooth shading, an edge, two colours."""
    y, x = np.mgrid[:224, :224].astype(np.float32)
    ball = np.clip(1.2 - np.hypot(x - 100, y - 120) / 60, 0, 1)[..., None]
    shade = (0.6 + 0.4 * np.cos((x - 90) / 60))[..., None]
    scene = ball**0.3 * np.array([220, 40, 30]) * shade + (1 - ball**0.3) * np.array([30, 60, 160])
    return np.asarray(np.clip(scene, 0, 255), np.uint8)


def features_only(model: torch.nn.Module) -> Any:
    plain = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(2, 3)
    )
    state = model.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain.eval()


def test_the_weights_fit_and_the_classifier_tells_pictures_apart(picture: NDArray[np.uint8]) -> None:
    model = lite.load_classifier()
    assert model.bn1.eps == 1e-3  # type: ignore[union-attr]
    noise = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    grey = np.full((224, 224, 3), 127, np.uint8)
    batch = torch.from_numpy(np.stack((picture, noise, grey))).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        share = model((batch - 127) / 128).softmax(1)
    top, label = share.max(1)
    # Tensors in wrong places give one flat answer for every picture; ImageNet knows one as round.
    assert float(top[0]) > 0.05
    assert len(set(label.tolist())) > 1
    assert float((share[0] - share[1]).abs().sum()) > 0.5


def test_folded_taps_equal_those_of_the_plain_network(picture: NDArray[np.uint8]) -> None:
    plain = features_only(lite.load_classifier())
    x = (torch.from_numpy(picture).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.inference_mode():
        expected = plain(x)
    found = lite.LiteExtractor(torch.device("cpu")).taps(picture)
    assert [tuple(one.shape) for one in found] == [(1, 40, 28, 28), (1, 112, 14, 14)]
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max()) < 1e-3 * float(b.abs().max())


def test_tokens_average_what_lies_around_them(picture: NDArray[np.uint8]) -> None:
    extractor = lite.LiteExtractor(torch.device("cpu"))
    fine, coarse = extractor.taps(picture)
    tokens = extractor.tokens(picture)
    assert tokens.shape == (28, 28, lite.CHANNELS)
    assert tokens[10, 12, :40].numpy() == pytest.approx(
        fine[0, :, 9:12, 11:14].mean((1, 2)).numpy(), abs=1e-4
    )
    assert tokens[0, 0, :40].numpy() == pytest.approx(fine[0, :, :2, :2].mean((1, 2)).numpy(), abs=1e-4)
    corner = coarse[0, :, :2, :2].mean((1, 2)).numpy()
    assert tokens[0, 0, 40:].numpy() == pytest.approx(corner, abs=1e-4)

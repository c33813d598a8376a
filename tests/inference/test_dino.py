"""The colour transformer, tiny, against its arithmetic written out."""

from __future__ import annotations

import math
import socket
import time
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from inference.errors import EncoderError, WeightsError
from inference.features import dino
from inference.features.dino import Dino, DinoConfig

TINY = DinoConfig(dim=32, depth=2, heads=4, patch=8, side=32)


def images(count: int, seed: int = 0, side: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def published_state(config: DinoConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of the file that Meta publishes."""
    dim, tokens = config.dim, config.grid**2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, tokens, dim),
        "patch_embed.proj.weight": (dim, 3, config.patch, config.patch),
        "patch_embed.proj.bias": (dim,),
    }
    for number in range(config.depth):
        for name, shape in (
            ("norm1.weight", (dim,)),
            ("norm1.bias", (dim,)),
            ("attn.qkv.weight", (3 * dim, dim)),
            ("attn.qkv.bias", (3 * dim,)),
            ("attn.proj.weight", (dim, dim)),
            ("attn.proj.bias", (dim,)),
            ("norm2.weight", (dim,)),
            ("norm2.bias", (dim,)),
            ("mlp.fc1.weight", (4 * dim, dim)),
            ("mlp.fc1.bias", (4 * dim,)),
            ("mlp.fc2.weight", (dim, 4 * dim)),
            ("mlp.fc2.bias", (dim,)),
        ):
            shapes[f"blocks.{number}.{name}"] = shape
    shapes |= {"norm.weight": (dim,), "norm.bias": (dim,)}
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


def naive(image: NDArray[np.uint8], state: dict[str, torch.Tensor], config: DinoConfig) -> torch.Tensor:
    """One image, one token after the other, in float64."""
    w = {name: tensor.double() for name, tensor in state.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean = x.mean(-1, keepdim=True)
        variance = ((x - mean) ** 2).mean(-1, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]

    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    patch, dim = config.patch, config.dim
    rows = [w["cls_token"][0, 0]]
    for row in range(config.grid):
        for column in range(config.grid):
            cut = image[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            total = w["patch_embed.proj.bias"].clone()
            for channel in range(3):
                plane = torch.from_numpy((cut[..., channel] / 255 - mean[channel]) / deviation[channel])
                total += (w["patch_embed.proj.weight"][:, channel] * plane).sum((1, 2))
            rows.append(total)
    x = torch.stack(rows) + w["pos_embed"][0]
    size = dim // config.heads
    for number in range(config.depth):
        at = f"blocks.{number}"
        qkv = norm(x, f"{at}.norm1") @ w[f"{at}.attn.qkv.weight"].T + w[f"{at}.attn.qkv.bias"]
        seen = torch.zeros_like(x)
        for head in range(config.heads):
            q, k, v = (qkv[:, part * dim + head * size :][:, :size] for part in range(3))
            for token in range(len(x)):
                share = torch.softmax((q[token] * k).sum(1) / math.sqrt(size), dim=0)
                seen[token, head * size : (head + 1) * size] = (share[:, None] * v).sum(0)
        x = x + seen @ w[f"{at}.attn.proj.weight"].T + w[f"{at}.attn.proj.bias"]
        wide = norm(x, f"{at}.norm2") @ w[f"{at}.mlp.fc1.weight"].T + w[f"{at}.mlp.fc1.bias"]
        wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
        x = x + wide @ w[f"{at}.mlp.fc2.weight"].T + w[f"{at}.mlp.fc2.bias"]
    return norm(x, "norm")[1:].view(config.grid, config.grid, dim)


def test_published_weights_give_the_tokens_of_the_written_out_arithmetic(tmp_path: Path) -> None:
    state = published_state(TINY)
    torch.save(state, tmp_path / "dino_vitbase8_pretrain.pth")
    model = Dino.load(tmp_path / "dino_vitbase8_pretrain.pth", config=TINY)
    batch = images(2)
    tokens = model.tokens(batch)
    assert tokens.shape == (2, 4, 4, 32)
    assert tokens.dtype == torch.float32
    for image, found in zip(batch, tokens, strict=True):
        torch.testing.assert_close(found.double(), naive(image, state, TINY), atol=2e-5, rtol=1e-4)


def test_safetensors_and_wrapped_files_give_the_same_tokens(tmp_path: Path) -> None:
    state = published_state(TINY)
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "a.pth")
    safetensors.torch.save_file(state, tmp_path / "b.safetensors")
    batch = images(1)
    one = Dino.load(tmp_path / "a.pth", config=TINY)
    two = Dino.load(tmp_path / "b.safetensors", config=TINY)
    assert torch.equal(one.tokens(batch), two.tokens(batch))
    assert one.identity()["sha256"] != two.identity()["sha256"]


def test_the_full_size_is_the_published_file() -> None:
    with torch.device("meta"):
        model = dino._build(DinoConfig())
    found = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert found["pos_embed"] == (1, 785, 768)
    assert sum(math.prod(shape) for shape in found.values()) == 85_807_872
    tiny = published_state(TINY)
    blocks = {name for name in tiny if name.startswith("blocks.0")}
    assert {name for name in found if name.startswith("blocks.0")} == blocks
    assert {name for name in found if "blocks" not in name} == {n for n in tiny if "blocks" not in n}


def test_weights_of_another_model_are_refused_with_a_list(tmp_path: Path) -> None:
    state = published_state(TINY)
    state["pos_embed"] = torch.zeros(1, 5, 32)
    state["head.weight"] = torch.zeros(1)
    del state["norm.bias"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        Dino.load(tmp_path / "w.pth", config=TINY)
    message = str(caught.value)
    assert "1 missing: norm.bias" in message
    assert "1 unexpected: head.weight" in message
    assert "pos_embed (1, 5, 32) not (1, 17, 32)" in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_image_has_the_same_tokens_alone_and_in_a_batch(dtype: torch.dtype) -> None:
    model = Dino.random(TINY, 1, dtype=dtype)
    batch = images(5)
    together = model.tokens(batch)
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    for number in range(5):
        alone = model.tokens(batch[number : number + 1])[0]
        assert float((alone - together[number]).abs().max()) <= tolerance * float(alone.abs().max())
    assert torch.equal(model.tokens(batch.copy()), together)


def test_bfloat16_changes_tokens_by_little() -> None:
    batch = images(2)
    exact = Dino.random(TINY, 2).tokens(batch)
    rounded = Dino.random(TINY, 2, dtype=torch.bfloat16).tokens(torch.from_numpy(batch))
    assert rounded.dtype == torch.float32
    assert float(torch.cosine_similarity(exact, rounded, dim=3).min()) > 0.999
    assert not torch.equal(exact, rounded)


def test_autocast_around_it_changes_nothing() -> None:
    model = Dino.random(TINY, 3)
    batch = images(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model.tokens(batch)
    assert torch.equal(inside, model.tokens(batch))


def test_tokens_can_be_trained_on() -> None:
    tokens = Dino.random(TINY, 3).tokens(images(1))
    layer = torch.nn.Linear(32, 1)
    layer(tokens).sum().backward()
    assert layer.weight.grad is not None


def test_what_does_not_fit_is_refused() -> None:
    model = Dino.random(TINY)
    for wrong in (images(1, side=40), images(1).astype(np.float32), images(1)[0]):
        with pytest.raises(EncoderError, match=r"expected uint8 \(B, 32, 32, 3\)"):
            model.tokens(wrong)  # type: ignore[arg-type]
    with pytest.raises(EncoderError, match="do not divide"):
        DinoConfig(side=30)
    with pytest.raises(EncoderError, match="5 heads"):
        DinoConfig(heads=5)
    with pytest.raises(EncoderError, match="not float32 or bfloat16"):
        Dino.random(TINY, dtype=torch.float16)
    with pytest.raises(EncoderError, match="for a GPU"):
        Dino.random(TINY, compiled=True)


def test_without_a_file_and_offline_the_message_says_what_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"dino_vitbase8_pretrain\.pth"):
        Dino.load(None)


def test_a_hub_that_does_not_answer_is_given_up_on(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        start = time.monotonic()
        # Bound and not listening: nobody else can take the port, and nobody answers.
        with pytest.raises(WeightsError, match="the hub cannot be reached"):
            dino.fetch(endpoint=f"http://127.0.0.1:{port}", cache=tmp_path)
    assert time.monotonic() - start < 30


def test_the_hubs_cache_is_enough(tmp_path: Path) -> None:
    """A cache laid out as the hub's client does it is found without a network."""
    folder = tmp_path / ("models--" + dino.HUB.replace("/", "--"))
    commit = "0" * 40
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    safetensors.torch.save_file(published_state(TINY), snapshot / dino.HUB_FILE)
    path = dino.fetch(endpoint="http://127.0.0.1:9", cache=tmp_path)
    assert Dino.load(path, config=TINY).identity()["file"] == "model.safetensors"

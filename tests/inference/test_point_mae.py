"""The point encoder, tiny: blocks written out, checkpoints in the published layout, batches."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.errors import DepthUnusable, EncoderError, WeightsError
from inference.features import point_mae
from inference.features.point_mae import Block, PointConfig, PointMae

TINY = PointConfig(
    dim=16,
    depth=3,
    heads=2,
    taps=(0, 2),
    groups=10,
    group_size=6,
    cells=4,
    reach=2,
    widths=(6, 8, 12),
    position=8,
)
SIDE = 16


def surface(seed: int, holes: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] * 1e-3
    cloud = np.stack((x, y, 1e-3 * generator.random((SIDE, SIDE))), axis=2).astype(np.float32)
    valid = generator.random((SIDE, SIDE)) >= holes
    valid[8, 8] = True
    cloud[~valid] = np.nan
    return torch.from_numpy(cloud)[None], torch.from_numpy(valid)[None]


def changed(**changes: object) -> PointConfig:
    return replace(TINY, **changes)  # type: ignore[arg-type]


def published_checkpoint(config: PointConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """A ``base_model`` dictionary with the names and shapes of the published pre-training."""
    first, second, third = config.widths
    dim = config.dim
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.first_conv.0.weight": (first, 3, 1),
        "encoder.first_conv.0.bias": (first,),
        "encoder.first_conv.3.weight": (second, first, 1),
        "encoder.first_conv.3.bias": (second,),
        "encoder.second_conv.0.weight": (third, 2 * second, 1),
        "encoder.second_conv.0.bias": (third,),
        "encoder.second_conv.3.weight": (dim, third, 1),
        "encoder.second_conv.3.bias": (dim,),
        "pos_embed.0.weight": (config.position, 3),
        "pos_embed.0.bias": (config.position,),
        "pos_embed.2.weight": (dim, config.position),
        "pos_embed.2.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
    }
    for place, width in (("first_conv.1", first), ("second_conv.1", third)):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"encoder.{place}.{part}"] = (width,)
    for number in range(config.depth):
        for name, shape in (
            ("norm1.weight", (dim,)),
            ("norm1.bias", (dim,)),
            ("attn.qkv.weight", (3 * dim, dim)),
            ("attn.proj.weight", (dim, dim)),
            ("attn.proj.bias", (dim,)),
            ("norm2.weight", (dim,)),
            ("norm2.bias", (dim,)),
            ("mlp.fc1.weight", (4 * dim, dim)),
            ("mlp.fc1.bias", (4 * dim,)),
            ("mlp.fc2.weight", (dim, 4 * dim)),
            ("mlp.fc2.bias", (dim,)),
        ):
            shapes[f"blocks.blocks.{number}.{name}"] = shape
    generator = torch.Generator().manual_seed(seed)
    state = {
        f"module.MAE_encoder.{name}": torch.randn(shape, generator=generator) * 0.3
        for name, shape in shapes.items()
    }
    for name in ("first_conv.1", "second_conv.1"):
        state[f"module.MAE_encoder.encoder.{name}.running_var"].abs_()
        state[f"module.MAE_encoder.encoder.{name}.num_batches_tracked"] = torch.tensor(5)
    state["module.mask_token"] = torch.zeros(1, 1, dim)
    state["module.decoder_pos_embed.0.weight"] = torch.zeros(8, 3)
    state["module.MAE_decoder.blocks.0.norm1.weight"] = torch.zeros(dim)
    state["module.increase_dim.0.weight"] = torch.zeros(96, dim, 1)
    return state


def saved(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save({"base_model": state, "epoch": 299, "best_metrics": {"acc": np.float64(91.0)}}, path)
    return path


def naive(
    state: dict[str, torch.Tensor],
    config: PointConfig,
    cloud: torch.Tensor,
    centres: torch.Tensor,
    members: torch.Tensor,
) -> torch.Tensor:
    """(G, dim * taps) of one frame in float64, token after token, from the published names."""
    w = {name.removeprefix("module.MAE_encoder."): tensor.double() for name, tensor in state.items()}

    def layer(x: torch.Tensor, name: str) -> torch.Tensor:
        weight = w[f"{name}.weight"]
        return x @ weight.reshape(weight.shape[0], -1).T + w[f"{name}.bias"]

    def batch_norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance = x.mean((0, 1)), x.var((0, 1), correction=0)
        return (x - mean) / torch.sqrt(variance + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x: torch.Tensor) -> torch.Tensor:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    points = cloud.reshape(-1, 3)[members].double() - centres.double()[:, None]
    h = batch_norm(layer(points, "encoder.first_conv.0"), "encoder.first_conv.1").clamp_min(0)
    h = layer(h, "encoder.first_conv.3")
    h = torch.cat((h.amax(1, keepdim=True).expand_as(h), h), dim=2)
    h = batch_norm(layer(h, "encoder.second_conv.0"), "encoder.second_conv.1").clamp_min(0)
    x = layer(h, "encoder.second_conv.3").amax(1)
    position = layer(gelu(layer(centres.double(), "pos_embed.0")), "pos_embed.2")
    size = config.dim // config.heads
    taps = []
    for number in range(config.depth):
        at = f"blocks.blocks.{number}"
        x = x + position
        qkv = norm(x, f"{at}.norm1") @ w[f"{at}.attn.qkv.weight"].T
        seen = torch.zeros_like(x)
        for head in range(config.heads):
            q, k, v = (qkv[:, part * config.dim + head * size :][:, :size] for part in range(3))
            for token in range(len(x)):
                share = torch.softmax((k @ q[token]) / math.sqrt(size), dim=0)
                seen[token, head * size : (head + 1) * size] = share @ v
        x = x + layer(seen, f"{at}.attn.proj")
        x = x + layer(gelu(layer(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1")), f"{at}.mlp.fc2")
        if number in config.taps:
            taps.append(norm(x, "norm"))
    return torch.cat(taps, dim=1)


@pytest.mark.parametrize("grouping", ["lattice", "published"])
def test_a_published_checkpoint_gives_the_tokens_of_the_written_out_arithmetic(
    tmp_path: Path, grouping: str
) -> None:
    config = changed(grouping=grouping)
    state = published_checkpoint(config)
    model = PointMae.load(saved(tmp_path / "pointmae_pretrain.pth", state), config=config)
    cloud, valid = surface(1)
    found = model(cloud, valid)
    there = found.groups.present[0]
    expected = naive(state, config, cloud, found.groups.centres[0, there], found.groups.points[0, there])
    torch.testing.assert_close(found.tokens[0, there].double(), expected, atol=1e-4, rtol=1e-4)


def test_the_full_size_is_the_published_encoder() -> None:
    config = PointConfig()
    with torch.device("meta"):
        model = PointMae(config)
    own = model.state_dict()
    names = point_mae.published_names(config)
    assert set(names) == {name for name in own if not name.endswith("num_batches_tracked")}
    theirs = {n.removeprefix("module.MAE_encoder.") for n in published_checkpoint(changed(depth=12))}
    assert set(names.values()) <= theirs
    assert sum(own[name].numel() for name in names if "running" not in name) == 21_825_024
    assert config.channels == 1152


def test_files_of_another_encoder_are_refused_with_a_list(tmp_path: Path) -> None:
    state = published_checkpoint(TINY)
    del state["module.MAE_encoder.norm.bias"]
    state["module.MAE_encoder.encoder.first_conv.3.weight"] = torch.zeros(8, 6)
    state["module.MAE_encoder.cls_token"] = torch.zeros(1, 1, 16)
    state["module.something_else"] = torch.zeros(1)
    with pytest.raises(WeightsError) as caught:
        PointMae.load(saved(tmp_path / "w.pth", state), config=TINY)
    message = str(caught.value)
    assert "1 missing: norm.bias" in message
    assert "2 unexpected: cls_token, something_else" in message
    assert "1 of another shape: encoder.first_conv.3.weight (8, 6) not (8, 6, 1)" in message


def test_a_frame_has_the_same_tokens_alone_and_in_a_batch_in_any_order() -> None:
    model = PointMae.random(TINY, 1)
    frames = [surface(seed, holes) for seed, holes in ((2, 0.0), (3, 0.4), (4, 0.93))]
    clouds, masks = torch.cat([f[0] for f in frames]), torch.cat([f[1] for f in frames])
    together = model(clouds, masks).tokens
    turned = model(clouds.flip(0), masks.flip(0)).tokens.flip(0)
    assert torch.equal(together, turned)
    for number, (cloud, valid) in enumerate(frames):
        assert torch.equal(model(cloud, valid).tokens[0], together[number])


@pytest.mark.parametrize("norm", ["frame", "running"])
def test_the_form_with_masks_gives_the_tokens_of_the_form_without(norm: str) -> None:
    """A GPU computes absent groups and masks them, a CPU leaves them out."""
    model = PointMae.random(changed(norm=norm), 2)
    frames = [surface(seed, holes) for seed, holes in ((5, 0.0), (6, 0.9), (7, 0.95))]
    clouds, masks = torch.cat([f[0] for f in frames]), torch.cat([f[1] for f in frames])
    masks[2] = False
    groups = model.group(clouds[:2], masks[:2])
    left_out = model(clouds[:2], masks[:2]).tokens
    assert not bool(groups.present.all())
    present = torch.cat((groups.present, torch.zeros(1, 16, dtype=torch.bool)))
    relative = torch.cat((groups.neighbourhoods(clouds[:2].nan_to_num()), torch.zeros(1, 16, 6, 3)))
    centres = torch.cat((groups.centres, torch.zeros(1, 16, 3)))
    masked = model.encode(relative, centres, present)
    torch.testing.assert_close(masked[:2], left_out, atol=1e-4, rtol=1e-4)
    assert not masked[2].any()


def test_only_the_position_sees_where_the_cloud_is() -> None:
    model = PointMae.random(TINY, 3)
    generator = np.random.default_rng(1)
    cloud = torch.from_numpy(generator.integers(0, 1024, (1, SIDE, SIDE, 3)).astype(np.float32) / 1024)
    valid = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    here, there = model(cloud, valid), model(cloud + 2.0, valid)
    relative = here.groups.neighbourhoods(cloud)
    torch.testing.assert_close(relative, there.groups.neighbourhoods(cloud + 2.0), rtol=0, atol=0)
    assert torch.equal(model.encoder(relative), model.encoder(there.groups.neighbourhoods(cloud + 2.0)))
    assert float((here.tokens - there.tokens).abs().max()) > 0.1


def test_autocast_and_invalid_pixels_change_nothing() -> None:
    model = PointMae.random(TINY, 4)
    cloud, valid = surface(8)
    expected = model(cloud, valid).tokens
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(cloud, valid).tokens, expected)
    other = torch.where(valid[..., None], cloud, torch.tensor(1e6))
    assert torch.equal(model(other, valid).tokens, expected)


def test_bfloat16_changes_tokens_by_little() -> None:
    cloud, valid = surface(9)
    exact = PointMae.random(TINY, 5)(cloud, valid)
    rounded = PointMae.random(TINY, 5, dtype=torch.bfloat16)(cloud, valid)
    assert rounded.tokens.dtype == torch.float32
    assert torch.equal(exact.groups.points, rounded.groups.points)
    there = exact.groups.present
    assert float(torch.cosine_similarity(exact.tokens[there], rounded.tokens[there], dim=1).min()) > 0.99


@pytest.mark.parametrize("grouping", ["lattice", "published"])
@pytest.mark.parametrize("points", [1, 5])
def test_clouds_of_few_points_have_finite_tokens(grouping: str, points: int) -> None:
    cloud, _ = surface(10, holes=0.0)
    valid = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    valid[0, 3, 3 : 3 + points] = True
    found = PointMae.random(changed(grouping=grouping), 6)(cloud, valid)
    assert 1 <= int(found.groups.present.sum()) <= points
    assert bool(torch.isfinite(found.tokens).all())
    assert not found.tokens[~found.groups.present].any()


def test_empty_clouds_and_nan_are_refused() -> None:
    model = PointMae.random(TINY)
    cloud, valid = surface(11)
    with pytest.raises(DepthUnusable, match="cloud 1 of the batch has no valid point"):
        model(torch.cat((cloud, cloud)), torch.cat((valid, valid & False)))
    with pytest.raises(DepthUnusable, match="not finite"):
        model(cloud, valid | True)


def test_identity_names_everything_that_decides_the_tokens(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", published_checkpoint(TINY))
    identity = PointMae.load(path, config=TINY).identity()
    assert identity["file"] == "w.pth"
    assert len(str(identity["sha256"])) == 64
    assert identity["taps"] == [0, 2]
    assert {"norm", "grouping", "cells", "reach", "group_size", "precision"} <= set(identity)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "3 heads"),
        ({"taps": (0, 3)}, "taps"),
        ({"taps": ()}, "taps"),
        ({"group_size": 0}, "at least 1"),
        ({"norm": "batch"}, "frame or running"),
        ({"grouping": "voxels"}, "lattice or published"),
        ({"neighbourhood": "scaled"}, "raw or matched"),
        ({"neighbourhood": "matched"}, "rescales neighbourhoods already"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        changed(**changes)


def test_a_precision_that_geometry_could_not_bear_is_refused() -> None:
    with pytest.raises(EncoderError, match="float32 or bfloat16"):
        PointMae.random(TINY, dtype=torch.float16)


def test_a_block_with_a_mask_does_not_look_at_what_is_absent() -> None:
    block = Block(16, 2).eval().requires_grad_(False)
    x = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([True, True, True, True, False, False])[None, None, None]
    torch.testing.assert_close(block(x, mask)[:, :4], block(x[:, :4], None), atol=1e-5, rtol=1e-5)

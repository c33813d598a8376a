"""The four nets against loops over cells and tokens, written from the paper and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from inference.heads.config import HeadConfig
from inference.heads.decoder_colour import ColourDecoder, WindowAttention
from inference.heads.decoder_shape import ShapeDecoder
from inference.heads.distance import distance
from inference.heads.mapping import colour_to_shape, shape_to_colour
from inference.heads.together import HeadNets, Heads

Rows = NDArray[np.float64]
MAKERS: dict[str, Callable[[HeadConfig], nn.Module]] = {
    "m23": colour_to_shape,
    "m32": shape_to_colour,
    "d2": ColourDecoder,
    "d3": ShapeDecoder,
}


def make(kind: str, config: HeadConfig, seed: int = 0) -> nn.Module:
    """A net in float64 whose norms have statistics and gains of their own, so that none can be forgotten."""
    generator = torch.Generator().manual_seed(seed)
    net = MAKERS[kind](config).double().eval().requires_grad_(False)
    for name, one in net.state_dict().items():
        if one.dtype == torch.float64:
            drawn = torch.randn(one.shape, generator=generator, dtype=torch.float64)
            one.copy_(drawn.abs() + 0.5 if "running_var" in name else 0.4 * drawn)
    return net


def tokens(config: HeadConfig, channels: int, batch: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, config.grid, config.grid, channels, generator=generator, dtype=torch.float64)


def width_of(kind: str, config: HeadConfig) -> int:
    return config.colour if kind in ("m23", "d2") else config.shape


# The naive layers: one row at a time.


def gelu(row: Rows) -> Rows:
    return np.array([0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0))) for x in row])


def linear(row: Rows, layer: Any) -> Rows:
    weight, bias = layer.weight.numpy(), layer.bias.numpy()
    return np.array([float(np.sum(weight[k] * row)) + bias[k] for k in range(len(bias))])


def layer_norm(row: Rows, layer: Any) -> Rows:
    mean = sum(row) / len(row)
    variance = sum((x - mean) ** 2 for x in row) / len(row)
    normed = np.array([(x - mean) / math.sqrt(variance + 1e-5) for x in row])
    return np.asarray(normed * layer.weight.numpy() + layer.bias.numpy())


def batch_norm(row: Rows, layer: Any) -> Rows:
    mean, variance = layer.running_mean.numpy(), layer.running_var.numpy()
    gain, bias = layer.weight.numpy(), layer.bias.numpy()
    return np.array(
        [(row[c] - mean[c]) / math.sqrt(variance[c] + 1e-5) * gain[c] + bias[c] for c in range(len(row))]
    )


def naive_attention(x: Rows, layer: WindowAttention) -> Rows:
    """(N, C): every token against those of its window, head by head."""
    count, width = x.shape
    part = width // layer.heads
    qkv = [linear(row, layer.qkv) for row in x]
    out = np.zeros_like(x)
    for i in range(count):
        first = i // layer.window * layer.window
        joined = np.zeros(width)
        for h in range(layer.heads):
            low = h * part
            q = qkv[i][low : low + part]
            logits = []
            for j in range(first, first + layer.window):
                k = qkv[j][width + low : width + low + part]
                logits.append(float(np.sum(q * k)) / math.sqrt(part))
            weights = [math.exp(one - max(logits)) for one in logits]
            for j, weight in enumerate(weights):
                v = qkv[first + j][2 * width + low : 2 * width + low + part]
                joined[low : low + part] += weight / sum(weights) * v
        out[i] = linear(joined, layer.out)
    return out


def naive_transposed_2d(image: Rows, layer: Any) -> Rows:
    """(h, w, C): every pixel paints a 3 x 3 patch."""
    weight, bias = layer.weight.numpy(), layer.bias.numpy()
    height, width, channels = image.shape
    out = np.zeros((height, width, len(bias))) + bias
    for y in range(height):
        for x in range(width):
            for ky in range(3):
                for kx in range(3):
                    v, u = y + ky - 1, x + kx - 1
                    if 0 <= v < height and 0 <= u < width:
                        for c in range(channels):
                            out[v, u] += image[y, x, c] * weight[c, :, ky, kx]
    return np.asarray(out)


def naive_transposed_1d(signal: Rows, layer: Any) -> Rows:
    """(n, C) to (2 n, D): kernel 4, stride 2, padding 1."""
    weight, bias = layer.weight.numpy()[:, :, 0], layer.bias.numpy()
    out = np.zeros((2 * len(signal), len(bias))) + bias
    for i in range(len(signal)):
        for k in range(4):
            to = 2 * i + k - 1
            if 0 <= to < len(out):
                for c in range(signal.shape[1]):
                    out[to] += signal[i, c] * weight[c, :, k]
    return np.asarray(out)


def naive_mapping(x: Rows, net: Any) -> Rows:
    lin, _, lin2, _, norm2, _, lin3, _, norm3, last = net.layers
    out = []
    for row in x.reshape(-1, x.shape[-1]):
        row = gelu(linear(row, lin))
        row = layer_norm(gelu(linear(row, lin2)), norm2)
        row = layer_norm(gelu(linear(row, lin3)), norm3)
        out.append(linear(row, last))
    return np.array(out).reshape(*x.shape[:-1], -1)


def naive_colour_decoder(x: Rows, net: ColourDecoder) -> Rows:
    g = x.shape[0]
    lin, _, norm, _, lin2, _, norm2 = net.narrow
    flat = np.array(
        [
            layer_norm(gelu(linear(layer_norm(gelu(linear(r, lin)), norm), lin2)), norm2)
            for r in x.reshape(g * g, -1)
        ]
    )
    block: Any = net.block
    flat = flat + naive_attention(
        np.array([layer_norm(r, block.norm_attention) for r in flat]), block.attention
    )
    wide, _, _, back, _ = block.mlp
    flat = flat + np.array([linear(gelu(linear(layer_norm(r, block.norm_mlp), wide)), back) for r in flat])
    image = flat.reshape(g, g, -1)
    stages: Any = net.convs
    for stage in stages:
        conv, norm, _ = stage
        painted = naive_transposed_2d(image, conv)
        image = np.array([[gelu(batch_norm(one, norm)) for one in row] for row in painted])
    wide, _, _, back, last = net.head
    return np.array(
        [[layer_norm(linear(gelu(linear(one, wide)), back), last) for one in row] for row in image]
    )


def naive_shape_decoder(x: Rows, net: ShapeDecoder) -> Rows:
    g, _, channels = x.shape
    lin, _, norm, _, lin2, _, norm2 = net.narrow
    columns = []
    for c in range(channels):
        along = np.array([x[i // g, i % g, c] for i in range(g * g)])
        columns.append(layer_norm(gelu(linear(layer_norm(gelu(linear(along, lin)), norm), lin2)), norm2))
    signal = np.array(columns).T
    layers: list[Any] = list(net.doublings)
    while layers:
        signal = naive_transposed_1d(signal, layers.pop(0))
        after = layers.pop(0)
        if isinstance(after, nn.Tanh):
            signal = np.tanh(signal)
        else:
            signal = np.array([gelu(batch_norm(row, after)) for row in signal])
            layers.pop(0)
    gate: Any = net.excite.gate
    first, _, second, _ = gate
    squeezed = np.array([sum(signal[:, c]) / len(signal) for c in range(channels)])
    w1, w2 = first.weight.numpy(), second.weight.numpy()
    hidden = [max(0.0, float(np.sum(w1[k] * squeezed)) + float(first.bias[k])) for k in range(len(w1))]
    scale = [
        1.0 / (1.0 + math.exp(-(float(np.sum(w2[c] * np.array(hidden))) + float(second.bias[c]))))
        for c in range(channels)
    ]
    return np.asarray(signal * np.array(scale)).reshape(g, g, channels)


TINY = HeadConfig(grid=4, colour=8, shape=10)


@pytest.mark.parametrize("kind", ["m23", "m32"])
def test_a_mapping_answers_every_cell_as_a_loop_over_cells_does(kind: str) -> None:
    net = make(kind, TINY)
    x = tokens(TINY, width_of(kind, TINY), 2)
    np.testing.assert_allclose(net(x).numpy(), naive_mapping(x.numpy(), net), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("window", [2, 4, 8])
def test_attention_stays_within_runs_of_the_raster(window: int) -> None:
    generator = torch.Generator().manual_seed(window)
    layer = WindowAttention(6, 3, window).double().eval().requires_grad_(False)
    x = torch.randn(2, 16, 6, generator=generator, dtype=torch.float64)
    expected = np.stack([naive_attention(one.numpy(), layer) for one in x])
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "config", [TINY, HeadConfig(grid=14, colour=4, shape=9)], ids=["one-window", "windows"]
)
def test_the_colour_decoder_is_that_of_loops(config: HeadConfig) -> None:
    net = make("d2", config)
    assert isinstance(net, ColourDecoder)
    x = tokens(config, config.colour, 1)
    assert config.cells // config.window == (1 if config is TINY else 2)
    expected = naive_colour_decoder(x[0].numpy(), net)
    np.testing.assert_allclose(net(x)[0].numpy(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("grid", [4, 8])
def test_the_shape_decoder_is_that_of_loops(grid: int) -> None:
    config = HeadConfig(grid=grid, colour=8, shape=18)
    net = make("d3", config)
    assert isinstance(net, ShapeDecoder)
    x = tokens(config, config.shape, 1)
    expected = naive_shape_decoder(x[0].numpy(), net)
    np.testing.assert_allclose(net(x)[0].numpy(), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "parameters"), [("m23", 3_694_272), ("m32", 3_693_888), ("d2", 5_026_176), ("d3", 87_840_208)]
)
def test_published_sizes_have_the_published_number_of_parameters(kind: str, parameters: int) -> None:
    with torch.device("meta"):
        net = MAKERS[kind](HeadConfig(grid=224, published=True))
    assert sum(one.numel() for one in net.parameters()) == parameters


@pytest.mark.parametrize(
    ("grid", "window", "positions", "doublings"),
    [(224, 128, 1568, 5), (112, 128, 392, 5), (56, 112, 98, 5), (28, 112, 49, 4)],
)
def test_windows_and_doublings_fit_the_grid(grid: int, window: int, positions: int, doublings: int) -> None:
    config = HeadConfig(grid=grid)
    assert (config.window, config.positions, config.halvings) == (window, positions, doublings)
    assert config.cells % config.window == 0
    assert config.positions * 2**doublings == config.cells
    assert len(config.stages) == doublings + 1


@given(st.integers(2, 60).map(lambda half: 2 * half), st.integers(4, 300), st.integers(9, 300))
def test_every_even_grid_has_nets_whose_sizes_fit(grid: int, colour: int, shape: int) -> None:
    config = HeadConfig(grid=grid, colour=colour, shape=shape)
    assert config.cells % config.window == 0
    assert config.latent % config.heads == 0
    assert config.positions << config.halvings == config.cells
    assert config.positions >= 4
    assert all(one >= 1 for one in config.stages)


@pytest.mark.parametrize(
    "values", [{"grid": 5}, {"grid": 2}, {"grid": 28, "colour": 2}, {"grid": 28, "shape": 0}]
)
def test_sizes_that_no_net_can_have_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="heads: "):
        HeadConfig(**values)  # type: ignore[arg-type]


def test_published_means_the_published_sizes() -> None:
    with pytest.raises(ValueError, match="published sizes are grid 224"):
        HeadConfig(grid=28, published=True)


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_a_frame_is_answered_alike_alone_in_any_batch_and_in_any_order(kind: str) -> None:
    config = HeadConfig(grid=8, colour=16, shape=24)
    net = make(kind, config)
    x = tokens(config, width_of(kind, config), 5)
    together = net(x)
    for index in range(5):
        torch.testing.assert_close(net(x[index : index + 1])[0], together[index], rtol=1e-10, atol=1e-10)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(net(x[order]), together[order], rtol=1e-10, atol=1e-10)


def naive_distance(a: Rows, b: Rows) -> float:
    length_a, length_b = math.sqrt(sum(a**2)), math.sqrt(sum(b**2))
    return math.sqrt(sum((x / length_a - y / length_b) ** 2 for x, y in zip(a, b, strict=True)))


vectors = st.lists(st.floats(-10, 10), min_size=3, max_size=3).filter(lambda v: sum(x * x for x in v) > 1e-3)


@given(vectors, vectors, st.floats(1e-3, 1e3))
def test_the_distance_is_of_directions_only(a: list[float], b: list[float], scale: float) -> None:
    x, y = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    found = float(distance(x, y))
    assert found == pytest.approx(naive_distance(np.array(a), np.array(b)), abs=1e-9)
    assert float(distance(scale * x, y)) == pytest.approx(found, abs=1e-9)
    assert float(distance(y, x)) == pytest.approx(found, abs=1e-12)
    assert 0.0 <= found <= 2.0
    assert float(distance(x, -x)) == pytest.approx(2.0)
    assert float(distance(x, scale * x)) == pytest.approx(0.0, abs=1e-9)


def test_a_token_without_a_direction_is_one_away_and_nan_stays_nan() -> None:
    nothing, one = torch.zeros(4), torch.tensor([0.0, 3.0, 0.0, 4.0])
    assert float(distance(nothing, one)) == pytest.approx(1.0)
    assert float(distance(nothing, nothing)) == 0.0
    assert bool(distance(one, one * torch.nan).isnan())


def test_small_angles_are_not_lost_to_rounding() -> None:
    a = torch.tensor([1.0, 0.0])
    b = torch.tensor([1.0, 1e-5])
    assert float(distance(a, b)) == pytest.approx(1e-5, rel=1e-3)


CONFIG = HeadConfig(grid=8, colour=16, shape=24)


def drawn(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    colour = torch.randn(batch, 8, 8, 16, generator=generator)
    shape = torch.randn(batch, 8, 8, 24, generator=generator)
    return colour, shape, torch.rand(batch, 8, 8, generator=generator) > 0.3


def test_heads_together_give_what_each_net_gives_by_itself() -> None:
    nets = HeadNets.random(CONFIG, 3)
    colour, shape, valid = drawn(3)
    maps = Heads(nets).maps(colour, shape, valid)
    assert list(maps) == ["colour", "shape", "colour_from_shape", "shape_from_colour"]
    for index in range(3):
        one, other, kept = colour[index], shape[index], valid[index]
        expected = {
            "colour": distance(nets.d2(one[None])[0], one),
            "shape": distance(nets.d3(other[None])[0], other),
            "colour_from_shape": distance(nets.m32(other), one),
            "shape_from_colour": distance(nets.m23(one), other),
        }
        for name, found in expected.items():
            torch.testing.assert_close(maps[name][index][kept], found[kept], rtol=1e-4, atol=1e-5)
            if name != "colour":
                assert not maps[name][index][~kept].any()


def test_heads_one_frame_at_a_time_give_the_same_bits_in_any_batch() -> None:
    heads = Heads(HeadNets.random(CONFIG, 3), frames=1)
    colour, shape, valid = drawn(4)
    together = heads.maps(colour, shape, valid)
    alone = heads.maps(colour[2:3], shape[2:3], valid[2:3])
    assert all(torch.equal(together[name][2], alone[name][0]) for name in together)


def test_heads_in_bfloat16_differ_by_its_rounding_only() -> None:
    nets = HeadNets.random(CONFIG, 3)
    colour, shape, _ = drawn(2)
    full, half = Heads(nets).maps(colour, shape), Heads(nets, dtype=torch.bfloat16).maps(colour, shape)
    for name in full:
        assert half[name].dtype == torch.float32
        torch.testing.assert_close(half[name], full[name], rtol=0.0, atol=0.05)


def test_random_heads_follow_their_seed_and_leave_the_callers_randomness_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (HeadNets.random(CONFIG, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    a, b, c = (next(one.m23.parameters()) for one in (first, again, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_heads_without_a_frame_at_a_time_are_refused() -> None:
    with pytest.raises(ValueError, match="frames must be at least 1"):
        Heads(HeadNets.random(CONFIG, 0), frames=0)

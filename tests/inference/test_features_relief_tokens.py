"""Geometry tokens against sums written out, and what they must not depend on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.datasets.synthetic import SyntheticPart
from inference.errors import BundleError
from inference.features import relief_tokens
from inference.features.relief_tokens import CHANNELS, COARSE, FINE, SIGMAS, ShapeStandard, Standard
from inference.features.shared_shape import Reading
from inference.relief import GRID

Image = NDArray[np.float32]
Doubles = NDArray[np.float64]


def rough(seed: int, size: int = GRID) -> Image:
    rng = np.random.default_rng(seed)
    return np.asarray(cv2.GaussianBlur(rng.normal(0, 4, (size, size)), (0, 0), 1.5), np.float32)


def mirrored(index: int, size: int) -> int:
    index = abs(index)
    return 2 * (size - 1) - index if index >= size else index


def naive_blur(image: Doubles, sigma: float) -> Doubles:
    """Gaussian mean of each cell by explicit sums along rows, then columns, mirrored at the border."""
    size = image.shape[0]
    reach = round(4 * sigma)
    weight = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    weight /= weight.sum()
    kernel = np.zeros((size, size))
    for row in range(size):
        for step in range(-reach, reach + 1):
            kernel[row, mirrored(row + step, size)] += weight[step + reach]
    return np.asarray(kernel @ image @ kernel.T)


def naive_channels(height: Image) -> Doubles:
    size = height.shape[0] // 2
    small = np.empty((size, size))
    for row in range(size):
        for column in range(size):
            small[row, column] = height[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean()
    blurred = [naive_blur(small, sigma) for sigma in SIGMAS]
    channels = []
    for near, far in pairwise(blurred):
        channels += [near - far, np.abs(near - far)]
    ragged = np.square(small - blurred[0])
    channels += [np.log(naive_blur(ragged, 0.75) + 1e-3), np.log(naive_blur(ragged, 2.0) + 1e-3)]
    dx, dy = np.empty((size, size)), np.empty((size, size))
    for row in range(size):
        for column in range(size):
            total_x = total_y = 0.0
            for step, weight in ((-1, 1), (0, 2), (1, 1)):
                r, c = mirrored(row + step, size), mirrored(column + step, size)
                left, right = mirrored(column - 1, size), mirrored(column + 1, size)
                up, down = mirrored(row - 1, size), mirrored(row + 1, size)
                total_x += weight * (blurred[1][r, right] - blurred[1][r, left])
                total_y += weight * (blurred[1][down, c] - blurred[1][up, c])
            dx[row, column], dy[row, column] = total_x / 8, total_y / 8
    channels += [np.hypot(dx, dy), dx, dy, blurred[2], np.abs(blurred[2])]
    return np.stack(channels)


def test_the_channels_are_those_of_explicit_sums() -> None:
    height = rough(1)
    found = relief_tokens.raw_tokens(height)
    assert found.shape == (CHANNELS, FINE, FINE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, naive_channels(height), atol=4e-3)


def test_a_slope_is_given_in_units_per_cell() -> None:
    rows, columns = np.mgrid[:GRID, :GRID].astype(np.float32)
    found = relief_tokens.raw_tokens(0.5 * columns - 0.25 * rows)
    inside = (slice(None), slice(20, 44), slice(20, 44))
    length, x, y = found[12:15][inside]
    np.testing.assert_allclose(x, 1.0, atol=1e-3)
    np.testing.assert_allclose(y, -0.5, atol=1e-3)
    np.testing.assert_allclose(length, np.hypot(1.0, 0.5), atol=1e-3)


def test_the_fine_mean_is_that_of_nine_cells() -> None:
    raw = np.random.default_rng(2).normal(0, 1, (3, FINE, FINE)).astype(np.float32)
    found = relief_tokens.fine(raw)
    for row, column in ((5, 9), (0, 0), (63, 31), (30, 63)):
        rows = [mirrored(row + step, FINE) for step in (-1, 0, 1)]
        columns = [mirrored(column + step, FINE) for step in (-1, 0, 1)]
        expected = raw[:, rows][:, :, columns].mean(axis=(1, 2))
        np.testing.assert_allclose(found[:, row, column], expected, atol=1e-5)


def test_the_coarse_mean_is_that_of_the_area() -> None:
    raw = np.random.default_rng(3).normal(0, 1, (2, FINE, FINE)).astype(np.float32)
    # On 28 * 64 points a side every border of either grid lies between two points.
    dense = np.repeat(np.repeat(raw, COARSE, axis=1), COARSE, axis=2).astype(np.float64)
    area = dense.reshape(2, COARSE, FINE, COARSE, FINE).mean(axis=(2, 4))
    padded = np.pad(area, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    expected = sum(
        padded[:, i : i + COARSE, j : j + COARSE] for i in range(3) for j in range(3)
    ) / np.float64(9)
    np.testing.assert_allclose(relief_tokens.coarse(raw), expected, atol=1e-5)


def test_the_standard_is_that_of_numpy_written_out() -> None:
    tokens = [np.random.default_rng(seed).gamma(2, 3, (4, 8, 8)).astype(np.float32) for seed in range(5)]
    standard = Standard.fit(tokens)
    flat = np.stack([one.reshape(4, -1) for one in tokens]).transpose(1, 0, 2).reshape(4, -1)
    q1, q2, q3 = np.quantile(flat, (0.25, 0.5, 0.75), axis=1)
    scale = np.maximum((q3 - q1) / 1.349, 0.1 * flat.std(axis=1))
    robust = np.arcsinh((flat - q2[:, None]) / scale[:, None])
    one = np.arcsinh((tokens[2].reshape(4, -1) - q2[:, None]) / scale[:, None])
    expected = (one - robust.mean(1, keepdims=True)) / robust.std(1, keepdims=True)
    found = standard.apply(tokens[2])
    assert found.shape == (8, 8, 4)
    np.testing.assert_allclose(found.reshape(-1, 4).T, expected, atol=2e-5)


def readings(kind: str) -> list[Reading]:
    if kind == "web":
        out = []
        for seed in range(10):
            depth = 30_000 + 20 * rough(seed, 192)
            out.append(Reading(depth, np.ones(depth.shape, np.bool_), 0, f"lot{seed // 2}"))
        return out
    line = SyntheticPart(0, 128)
    frames = []
    for seed in range(12):
        found = line.render(seed, lot=seed // 3).sample.depth
        assert found is not None
        frames.append(Reading(found.astype(np.float32), found > 0, 0, f"lot{seed // 3}"))
    return frames


def shape_of(kind: str) -> tuple[ShapeStandard, Reading]:
    frames = readings(kind)
    return ShapeStandard.fit(frames, lambda *_: None), frames[1]


def tokens_of(standard: ShapeStandard, one: Reading) -> tuple[torch.Tensor, torch.Tensor]:
    return standard.tokens(standard.heights.see(one.depth, one.valid))


@pytest.mark.parametrize(("kind", "wide"), [("web", CHANNELS), ("parts", 2 * CHANNELS)])
def test_colour_is_compared_with_the_shape_and_with_what_is_left_of_it(kind: str, wide: int) -> None:
    standard, one = shape_of(kind)
    fine, coarse = tokens_of(standard, one)
    assert fine.shape == (FINE, FINE, CHANNELS)
    assert coarse.shape == (COARSE, COARSE, wide)
    assert bool(fine.isfinite().all())
    assert bool(coarse.isfinite().all())


@pytest.mark.parametrize("kind", ["web", "parts"])
def test_the_state_survives_its_tensors_bit_for_bit(kind: str) -> None:
    standard, one = shape_of(kind)
    again = ShapeStandard.restore(standard.tensors())
    for found, expected in zip(tokens_of(again, one), tokens_of(standard, one), strict=True):
        assert torch.equal(found, expected)


def test_the_same_depth_gives_the_same_bits_wherever_it_lies_in_memory() -> None:
    raw = relief_tokens.raw_tokens(rough(4))
    expected = relief_tokens.coarse(raw)
    for shift in range(0, 16, 3):
        memory = np.empty(raw.size + 16, np.float32)
        moved = memory[shift : shift + raw.size].reshape(raw.shape)
        moved[:] = raw
        assert np.array_equal(relief_tokens.coarse(moved), expected)


def test_damaged_state_is_refused() -> None:
    state = shape_of("web")[0].tensors()
    with pytest.raises(BundleError, match="geometry"):
        ShapeStandard.restore({name: one for name, one in state.items() if name != "fine.mean"})
    with pytest.raises(BundleError, match="geometry"):
        ShapeStandard.restore(state | {"coarse.scale": torch.ones(3, 1, 1)})


@settings(max_examples=12, deadline=None)
@given(st.floats(-9e3, 9e3), st.floats(-4, 4), st.floats(-4, 4))
def test_distance_and_tilt_of_the_surface_do_not_change_tokens(level: float, a: float, b: float) -> None:
    standard, one = _WEB
    rows, columns = np.mgrid[: one.depth.shape[0], : one.depth.shape[1]]
    moved = replace(one, depth=(one.depth + level + a * columns + b * rows).astype(np.float32))
    for found, expected in zip(tokens_of(standard, moved), tokens_of(standard, one), strict=True):
        # Depth counts near 30,000 have steps of 1/512 in float32, and the noise is a few counts.
        np.testing.assert_allclose(found, expected, atol=0.05)


_WEB = shape_of("web")


def test_a_dent_moves_the_tokens_where_it_is() -> None:
    standard, one = _WEB
    rows, columns = np.mgrid[: one.depth.shape[0], : one.depth.shape[1]]
    away = np.minimum(np.hypot(rows - 60, columns - 120) / 12, 1)
    dent = replace(one, depth=(one.depth - 400 * (1 - away)).astype(np.float32))
    moved = (tokens_of(standard, dent)[0] - tokens_of(standard, one)[0]).abs().amax(-1)
    row, column = divmod(int(moved.argmax()), FINE)
    assert abs(row * 192 / FINE - 60) < 14
    assert abs(column * 192 / FINE - 120) < 14
    assert float(moved.median()) < 0.5 < float(moved.max())

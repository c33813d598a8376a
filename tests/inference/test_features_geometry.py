"""Geometry features against slow, plain references on small arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.errors import BundleError
from inference.features import geometry

Image = NDArray[np.float32]


@pytest.fixture
def height() -> Image:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:40, :48]
    return np.asarray(0.1 * x - 0.05 * y + 2 * np.sin(x / 6) + rng.normal(0, 0.5, (40, 48)), np.float32)


def naive_plane(height: Image, mask: Image, row: int, column: int, radius: int) -> tuple[float, ...]:
    """Intercept, slopes and residual RMS by lstsq over the window's valid pixels."""
    rows = slice(max(0, row - radius), row + radius + 1)
    columns = slice(max(0, column - radius), column + radius + 1)
    y, x = np.mgrid[rows.start : min(rows.stop, 40), columns.start : min(columns.stop, 48)]
    use = mask[rows, columns] > 0
    z = height[rows, columns][use].astype(float)
    design = np.stack((np.ones(use.sum()), x[use] - column, y[use] - row), 1)
    fit, *_ = np.linalg.lstsq(design, z, rcond=None)
    return (*fit, float(np.sqrt(np.mean(np.square(z - design @ fit)))))


@pytest.mark.parametrize("radius", geometry.RADII)
@pytest.mark.parametrize("holes", [False, True])
def test_local_planes_are_least_squares_fits(height: Image, radius: int, holes: bool) -> None:
    mask = np.ones_like(height)
    if holes:
        mask[10:18, 20:31] = 0
        mask[np.random.default_rng(2).random(mask.shape) < 0.1] = 0
    found = geometry.local_planes(height, mask if holes else None, radius)
    for row, column in ((0, 0), (5, 47), (20, 24), (39, 10), (12, 19), (30, 30)):
        size = mask[
            max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1
        ].sum()
        if size < 6:
            continue
        expected = naive_plane(height, mask, row, column, radius)
        assert [float(one[row, column]) for one in found] == pytest.approx(expected, abs=5e-3)


def test_a_window_without_readings_has_the_filled_height_and_no_slope(height: Image) -> None:
    mask = np.ones_like(height)
    mask[8:30, 8:30] = 0
    a, b, c, rms = geometry.local_planes(height, mask, 3)
    assert a[18, 18] == height[18, 18]
    assert (b[18, 18], c[18, 18], rms[18, 18]) == (0, 0, 0)
    assert all(np.isfinite(one).all() for one in (a, b, c, rms))


def test_a_sheet_of_full_mask_equals_no_mask(height: Image) -> None:
    with_mask = geometry.local_planes(height, np.ones_like(height), 7)
    without = geometry.local_planes(height, None, 7)
    assert all(np.array_equal(a, b) for a, b in zip(with_mask, without, strict=True))


def test_curvatures_of_a_paraboloid_are_its_second_derivatives() -> None:
    y, x = (np.mgrid[:81, :81] - 40).astype(np.float32)
    mean, gaussian = geometry.curvatures(0.02 * x * x + 0.01 * y * y, 1.5)
    assert mean[40, 40] == pytest.approx(1.5**2 * (0.04 + 0.02) / 2, rel=1e-3)
    assert gaussian[40, 40] == pytest.approx(1.5**2 * np.sqrt(0.04 * 0.02), rel=1e-3)
    _, saddle = geometry.curvatures(0.02 * x * x - 0.01 * y * y, 1.5)
    assert saddle[40, 40] == pytest.approx(-(1.5**2) * np.sqrt(0.04 * 0.02), rel=1e-3)


def test_histograms_are_the_shares_of_each_block() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(224, 224)).astype(np.float32)
    edges = np.sort(rng.normal(size=4)).astype(np.float32)
    found = geometry.histogram(values, edges)
    assert found.shape == (5, 56, 56)
    for row, column in ((0, 0), (55, 55), (20, 31)):
        block = values[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].ravel()
        digit = np.searchsorted(edges, block, side="left")
        assert found[:, row, column] == pytest.approx(np.bincount(digit, minlength=5) / 16)


def test_pooling_and_smoothing_match_plain_loops() -> None:
    rng = np.random.default_rng(4)
    channels = rng.normal(size=(3, 12, 12)).astype(np.float32)
    pooled = geometry.block_mean(channels[1], 4)
    assert pooled[2, 0] == pytest.approx(channels[1, 8:12, 0:4].mean(), abs=1e-6)
    smooth = geometry.smooth(channels)
    for row, column in ((0, 0), (0, 6), (11, 11), (5, 5)):
        window = channels[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        assert smooth[:, row, column] == pytest.approx(window.mean((1, 2)), abs=1e-6)


def test_the_channels_are_ninety_one_and_the_share_of_holes() -> None:
    rng = np.random.default_rng(5)
    x = np.arange(224)[None]
    depth = (20_000 + 3 * x + rng.normal(0, 20, (224, 224))).astype(np.float32)
    valid = np.ones((224, 224), bool)
    valid[64:96, 64:96] = False
    height, mask = geometry.heights(depth, valid, 20.0)
    assert abs(float(np.median(height))) < 0.2
    continuous, binned = geometry.quantities(height, mask)
    assert len(continuous) + len(binned) * geometry.BINS == 91
    edges = np.quantile(np.stack(binned).reshape(12, -1), geometry.EDGES, axis=1).T.astype(np.float32)
    fine, coarse = geometry.raw_tokens(height, mask, edges)
    assert fine.shape == (92, 56, 56)
    assert coarse.shape == (92, 28, 28)
    assert fine[-1, 20, 20] == 1.0
    assert coarse[-1, 0, 0] == 0.0
    standard = geometry.Standard.fit([fine])
    tokens = standard.apply(fine)
    assert tokens.shape == (56, 56, 92)
    z = (fine - standard.median) / standard.scale
    expected = (np.arcsinh(z.astype(float)) - standard.mean) / standard.deviation
    assert tokens.permute(2, 0, 1).numpy() == pytest.approx(expected, abs=2e-4)


def test_the_standard_comes_back_from_its_tensors_and_refuses_less() -> None:
    rng = np.random.default_rng(6)
    ones = [geometry.Standard.fit([rng.normal(size=(92, g, g)).astype(np.float32)]) for g in (56, 28)]
    edges = np.sort(rng.normal(size=(12, 4)), axis=1).astype(np.float32)
    standard = geometry.GeometryStandard(3.5, edges, ones[0], ones[1])
    tensors = standard.tensors()
    back = geometry.GeometryStandard.restore(tensors)
    assert back.unit == 3.5
    assert np.array_equal(back.fine.scale, standard.fine.scale)
    tensors["fine.mean"] = torch.zeros(3)
    with pytest.raises(BundleError, match="geometry standard"):
        geometry.GeometryStandard.restore(tensors)

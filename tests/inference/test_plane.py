"""The plane under a depth image, and the filling of holes, against naive references."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.errors import DepthUnusable
from inference.plane import Plane, fill_holes, fit_plane, residual

Depth = NDArray[np.float32]


def tilted(
    height: int = 256, width: int = 256, a: float = 3.25, b: float = -1.5, c: float = 50_000.0
) -> Depth:
    rows, columns = np.mgrid[:height, :width]
    return np.asarray(a * columns + b * rows + c, dtype=np.float32)


def everywhere(depth: Depth) -> NDArray[np.bool_]:
    return np.ones(depth.shape, np.bool_)


@pytest.mark.parametrize("shape", [(256, 256), (200, 320), (7, 5)])
def test_the_plane_without_noise_is_found_exactly(shape: tuple[int, int]) -> None:
    depth = tilted(*shape)
    plane = fit_plane(depth, everywhere(depth))
    assert (plane.a, plane.b, plane.c) == pytest.approx((3.25, -1.5, 50_000.0), abs=0.02)
    assert plane.mad < 0.01
    assert np.abs(residual(depth, plane)).max() < 0.02


def test_the_spread_is_the_standard_deviation_of_normal_noise() -> None:
    depth = tilted() + np.random.default_rng(1).normal(0, 20, (256, 256)).astype(np.float32)
    assert fit_plane(depth, everywhere(depth)).mad == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_a_part_on_the_belt_does_not_lift_the_plane(share: float) -> None:
    rng = np.random.default_rng(2)
    depth = tilted() + rng.normal(0, 2, (256, 256)).astype(np.float32)
    side = int(256 * share**0.5)
    depth[5 : 5 + side, 90 : 90 + side] += 400  # off centre, so that it would tilt a least-squares plane
    height = residual(depth, fit_plane(depth, everywhere(depth)))
    belt = np.ones((256, 256), np.bool_)
    belt[5 : 5 + side, 90 : 90 + side] = False
    assert abs(float(np.median(height[belt]))) < 0.5
    assert float(np.abs(height[belt]).mean()) < 2.0


def test_flying_pixels_and_invalid_values_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    depth = tilted() + rng.normal(0, 2, (256, 256)).astype(np.float32)
    clean = fit_plane(depth, everywhere(depth))
    valid = rng.random((256, 256)) > 0.3
    spoilt = depth.copy()
    spoilt[~valid] = 0
    spoilt[valid & (rng.random((256, 256)) < 0.05)] += 5_000
    found = fit_plane(spoilt, valid)
    assert (found.a, found.b, found.c) == pytest.approx((clean.a, clean.b, clean.c), abs=0.5)


def test_the_same_image_gives_the_same_plane() -> None:
    depth = tilted() + np.random.default_rng(4).normal(0, 9, (256, 256)).astype(np.float32)
    assert fit_plane(depth, everywhere(depth)) == fit_plane(depth.copy(), everywhere(depth))


def test_sparse_readings_are_still_found_between_the_strides() -> None:
    depth = tilted()
    valid = np.zeros(depth.shape, np.bool_)
    valid[1::16, 3::16] = True  # none of these lies on the stride-4 sub-grid
    assert fit_plane(depth, valid).a == pytest.approx(3.25, abs=0.01)


def test_too_few_readings_are_refused_with_their_number() -> None:
    depth = tilted()
    valid = np.zeros(depth.shape, np.bool_)
    with pytest.raises(DepthUnusable, match="0 valid readings"):
        fit_plane(depth, valid)
    valid[10, 10:15] = True
    with pytest.raises(DepthUnusable, match="5 valid readings"):
        fit_plane(depth, valid)


def test_readings_on_one_line_are_refused() -> None:
    depth = tilted()
    valid = np.zeros(depth.shape, np.bool_)
    valid[40] = True
    with pytest.raises(DepthUnusable, match="one line"):
        fit_plane(depth, valid)


def test_readings_that_are_not_finite_are_refused() -> None:
    depth = tilted()
    depth[8, 8] = np.nan
    with pytest.raises(DepthUnusable, match="finite"):
        fit_plane(depth, everywhere(depth))


def test_mismatched_shapes_are_refused() -> None:
    with pytest.raises(DepthUnusable, match="same"):
        fit_plane(tilted(8, 8), np.ones((8, 9), np.bool_))


def test_the_residual_is_depth_minus_plane() -> None:
    height = residual(np.full((2, 3), 10, np.float32), Plane(a=1, b=2, c=3, mad=1))
    assert height.tolist() == [[7, 6, 5], [5, 4, 3]]


def naive_fill(height: Depth, valid: NDArray[np.bool_], boxes: tuple[int, ...]) -> Depth:
    filled = np.where(valid, height, 0).astype(np.float64)
    for row, column in np.argwhere(~valid):
        filled[row, column] = height[valid].mean() if valid.any() else 0
        for box in boxes:
            half = box // 2
            window = np.s_[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
            if valid[window].any():
                filled[row, column] = height[window][valid[window]].mean()
                break
    return filled.astype(np.float32)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.02, 0.002])
def test_holes_are_filled_as_the_naive_means_say(share: float) -> None:
    rng = np.random.default_rng(5)
    height = rng.normal(0, 5, (40, 31)).astype(np.float32)
    valid = rng.random(height.shape) < share
    valid[3, 4] = True
    boxes = (5, 9, 21)
    filled = fill_holes(height, valid, boxes)
    np.testing.assert_allclose(filled, naive_fill(height, valid, boxes), atol=1e-4)
    assert np.array_equal(filled[valid], height[valid])


def test_a_frame_of_holes_only_is_filled_with_zero() -> None:
    height = np.full((20, 20), np.nan, np.float32)
    assert not fill_holes(height, np.zeros((20, 20), np.bool_)).any()

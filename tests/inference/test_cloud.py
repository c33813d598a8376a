"""Depth to clouds: planes and parts whose coordinates are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.errors import DepthUnusable
from inference.features import cloud
from inference.features.cloud import Belt, Rays

SIDE = 64
SCALE = 1e-5


def pinhole(focal: float = 80.0, side: int = SIDE) -> Rays:
    row, column = np.mgrid[:side, :side] - (side - 1) / 2
    return Rays(np.stack((column / focal, row / focal, np.ones_like(row)), axis=2).astype(np.float32))


def view(
    rays: Rays, tilt: tuple[float, float] = (0.0, 0.0), distance: float = 0.5, part: float = 0.0
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Counts of a tilted belt with a block of ``part`` metres height on it, and the belt's normal."""
    normal = np.array((tilt[0], tilt[1], -1.0))
    normal /= np.linalg.norm(normal)
    offset = np.full((SIDE, SIDE), normal[2] * distance)
    offset[20:40, 24:44] += part
    depth = offset / (rays.map.astype(np.float64) @ normal)
    return (depth / SCALE).astype(np.float32), normal


def test_with_rays_a_point_is_its_depth_times_its_ray() -> None:
    rays = pinhole()
    depth, _ = view(rays, (0.1, -0.05), part=0.01)
    made = cloud.build(depth, np.ones_like(depth, bool), depth_scale=SCALE, rays=rays, frame="camera")
    for row, column in ((0, 0), (31, 17), (63, 63)):
        expected = float(depth[row, column]) * SCALE * rays.map[row, column]
        np.testing.assert_allclose(made.xyz[row, column], expected, rtol=1e-6)


@given(tilt=st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)), distance=st.floats(0.3, 1.2))
@settings(max_examples=20, deadline=None)
def test_over_a_belt_z_is_the_height_however_the_camera_stands(
    tilt: tuple[float, float], distance: float
) -> None:
    rays = pinhole()
    depth, _ = view(rays, tilt, distance, part=0.02)
    made = cloud.build(depth, np.ones_like(depth, bool), depth_scale=SCALE, rays=rays)
    block = np.zeros(depth.shape, bool)
    block[20:40, 24:44] = True
    np.testing.assert_allclose(made.xyz[~block][:, 2], 0, atol=2e-5)
    np.testing.assert_allclose(made.xyz[block][:, 2], 0.02, atol=3e-5)


def test_distances_between_points_are_those_of_the_camera() -> None:
    rays = pinhole()
    depth, _ = view(rays, (0.2, 0.1), part=0.02)
    valid = np.ones_like(depth, bool)
    there = cloud.build(depth, valid, depth_scale=SCALE, rays=rays).xyz
    here = cloud.build(depth, valid, depth_scale=SCALE, rays=rays, frame="camera").xyz
    for a, b in (((0, 0), (63, 10)), ((30, 30), (31, 30)), ((5, 60), (22, 25))):
        np.testing.assert_allclose(
            np.linalg.norm(there[a] - there[b]), np.linalg.norm(here[a] - here[b]), rtol=1e-3
        )


def test_the_fitted_belt_is_the_belt() -> None:
    rays = pinhole()
    depth, normal = view(rays, (0.15, -0.1), 0.7, part=0.03)
    belt = cloud.fit_belt(depth, np.ones_like(depth, bool), SCALE, rays)
    np.testing.assert_allclose(belt.normal, normal, atol=1e-5)
    assert belt.offset == pytest.approx(normal[2] * 0.7, abs=1e-5)
    calibrated = cloud.build(depth, np.ones_like(depth, bool), depth_scale=SCALE, rays=rays, belt=belt)
    fitted = cloud.build(depth, np.ones_like(depth, bool), depth_scale=SCALE, rays=rays)
    np.testing.assert_array_equal(calibrated.xyz, fitted.xyz)


def test_only_what_stands_above_the_belt_is_kept() -> None:
    rays = pinhole()
    depth, _ = view(rays, (0.1, 0.0), part=0.02)
    made = cloud.build(
        depth, np.ones_like(depth, bool), depth_scale=SCALE, rays=rays, above=cloud.CLEARANCE_M
    )
    block = np.zeros(depth.shape, bool)
    block[20:40, 24:44] = True
    np.testing.assert_array_equal(made.valid, block)
    assert not made.xyz[~block].any()


def test_a_centred_part_is_where_it_was_after_the_camera_moved() -> None:
    focal = 80.0
    rays = pinhole(focal)
    depth, _ = view(rays, part=0.02)
    moved = np.roll(depth, (6, -9), axis=(0, 1))
    valid = np.ones_like(depth, bool)
    options = {"depth_scale": SCALE, "rays": rays, "above": 0.005}
    loose = [cloud.build(d, valid, **options) for d in (depth, moved)]  # type: ignore[arg-type]
    tight = [cloud.build(d, valid, **options, centred=True) for d in (depth, moved)]  # type: ignore[arg-type]
    assert abs(loose[0].xyz[loose[0].valid].mean(0) - loose[1].xyz[loose[1].valid].mean(0)).max() > 0.03
    np.testing.assert_allclose(tight[0].xyz[tight[0].valid], tight[1].xyz[tight[1].valid], atol=1e-5)
    np.testing.assert_allclose(tight[0].xyz[tight[0].valid][:, 2], 0.02, atol=1e-5)
    camera = cloud.build(depth, valid, depth_scale=SCALE, rays=rays, frame="camera", centred=True)
    np.testing.assert_allclose(camera.xyz.reshape(-1, 3).mean(0), 0, atol=1e-6)


@pytest.mark.parametrize(("scale", "up"), [(SCALE, -1.0), (-SCALE, 1.0)])
def test_without_rays_pixels_are_a_pitch_apart_and_z_is_the_height(scale: float, up: float) -> None:
    row, column = np.mgrid[:SIDE, :SIDE]
    depth = (50_000 + 3 * row - 2 * column).astype(np.float32)
    depth[10:30, 10:30] += up * 700
    made = cloud.build(depth, np.ones_like(depth, bool), depth_scale=scale, pitch=5e-4)
    np.testing.assert_allclose(np.diff(made.xyz[..., 0], axis=1), 5e-4, rtol=1e-3)
    np.testing.assert_allclose(np.diff(made.xyz[..., 1], axis=0), -5e-4, rtol=1e-3)
    np.testing.assert_allclose(made.xyz[..., :2].mean((0, 1)), 0, atol=1e-8)
    np.testing.assert_allclose(made.xyz[12:28, 12:28, 2], 0.007, atol=2e-7)
    np.testing.assert_allclose(made.xyz[40:, :, 2], 0, atol=2e-7)


def test_without_a_scale_a_count_is_as_high_as_a_pixel_is_wide() -> None:
    depth = np.full((SIDE, SIDE), 1000, np.float32)
    depth[4, 4] = 998
    made = cloud.build(depth, np.ones_like(depth, bool), depth_scale=None)
    assert made.xyz[4, 4, 2] == pytest.approx(2 / SIDE)
    assert np.ptp(made.xyz[..., 0]) == pytest.approx((SIDE - 1) / SIDE)


def test_a_point_at_zero_is_a_point_and_readings_that_are_none_are_not() -> None:
    depth = np.full((9, 9), 1000, np.float32)
    depth[0, 0], depth[1, 1], depth[2, 2], depth[3, 3] = np.nan, np.inf, 0, -5
    said = np.ones((9, 9), bool)
    said[5, 5] = False
    made = cloud.build(depth, said, depth_scale=SCALE, pitch=1e-3, frame="camera")
    expected = np.ones((9, 9), bool)
    for k in (0, 1, 2, 3, 5):
        expected[k, k] = False
    np.testing.assert_array_equal(made.valid, expected)
    # The middle column is x = 0 and stays.
    assert made.valid[0, 4]
    assert made.xyz[0, 4, 0] == 0
    assert np.isfinite(made.xyz).all()


def test_one_point_is_a_cloud_in_the_cameras_frame_and_no_belt() -> None:
    depth = np.zeros((16, 16), np.float32)
    depth[3, 5] = 40_000
    made = cloud.build(depth, depth > 0, depth_scale=SCALE, rays=pinhole(side=16), frame="camera")
    assert int(made.valid.sum()) == 1
    with pytest.raises(DepthUnusable, match="1 valid readings"):
        cloud.build(depth, depth > 0, depth_scale=SCALE, rays=pinhole(side=16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valid": np.zeros((SIDE, SIDE), bool)}, "no valid reading"),
        ({"depth": np.full((SIDE, SIDE), np.nan, np.float32)}, "no valid reading"),
        ({"depth": np.ones((4, SIDE), np.float32)}, "both must be the same"),
        ({"depth_scale": None}, "need depth_scale"),
        ({"depth_scale": 0.0}, "no number of metres"),
        ({"depth_scale": -SCALE}, "no number of metres"),
        ({"depth_scale": float("nan")}, "no number of metres"),
        ({"rays": pinhole(side=8)}, "a ray map of"),
        ({"rays": None, "pitch": -1.0}, "pixel pitch"),
        ({"above": 0.05}, "nothing lies more than 50 mm"),
        ({"above": 0.005, "frame": "camera"}, "belt's frame only"),
        ({"belt": Belt((1.0, 0.0, 0.0), 0.0)}, "edge on"),
    ],
)
def test_what_makes_no_cloud_is_refused(changes: dict[str, object], message: str) -> None:
    rays = pinhole()
    depth, _ = view(rays, part=0.02)
    given = {"depth": depth, "valid": np.ones_like(depth, bool), "depth_scale": SCALE, "rays": rays}
    with pytest.raises(DepthUnusable, match=message):
        cloud.build(**(given | changes))  # type: ignore[arg-type]


def test_a_belt_through_points_on_one_line_is_refused() -> None:
    rays = pinhole()
    depth, _ = view(rays)
    valid = np.zeros_like(depth, bool)
    valid[7] = True
    with pytest.raises(DepthUnusable, match="one line"):
        cloud.build(depth, valid, depth_scale=SCALE, rays=rays)


@pytest.mark.parametrize(
    ("shape", "value", "message"), [((4, 5, 3), 1.0, "not"), ((4, 4, 3), np.nan, "not finite")]
)
def test_a_ray_map_that_is_none_is_refused(shape: tuple[int, ...], value: float, message: str) -> None:
    with pytest.raises(DepthUnusable, match=message):
        Rays(np.full(shape, value, np.float32))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_belt_is_found_through_noise_holes_and_a_part_over_a_third_of_the_frame(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rays = pinhole()
    depth, normal = view(rays, (0.12, -0.08), 0.6)
    towards = rays.map.astype(np.float64) @ normal
    part = np.zeros(depth.shape, bool)
    part[8:48, 10:46] = True
    depth[part] += (0.015 / towards[part] / SCALE).astype(np.float32)
    depth += generator.normal(0, 20, depth.shape).astype(np.float32)
    depth[generator.random(depth.shape) < 0.01] = 65_535
    valid = generator.random(depth.shape) > 0.1
    made = cloud.build(depth, valid, depth_scale=SCALE, rays=rays)
    # 0.2 mm of noise: heights are right to a fraction of it on average.
    assert abs(np.median(made.xyz[valid & ~part][:, 2])) < 1e-4
    assert abs(np.median(made.xyz[valid & part][:, 2]) - 0.015) < 2e-4

"""The published arithmetic of a whole frame, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference import cmdr
from inference.errors import DepthUnusable, NoReading
from inference.features import spread
from inference.features.dino import Dino, DinoConfig
from inference.features.point_mae import PointConfig, PointMae
from inference.heads.config import HeadConfig
from inference.heads.together import HeadNets, Heads
from inference.published import Published, pixel_features, published_frame, published_scores

CONFIG = HeadConfig(grid=16, colour=12, shape=18)


def frame(side: int, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(side, side, 12, generator=generator)
    canvas = torch.randn(16, 16, 18, generator=generator)
    valid = torch.zeros(16, 16, dtype=torch.bool)
    valid[3:13, 4:15] = True
    return tokens, canvas * valid[..., None], valid


def test_tokens_are_spread_by_the_distance_of_pixel_centres() -> None:
    tokens, _, _ = frame(4)
    found = pixel_features(tokens, 16)
    for y in range(16):
        for x in range(16):
            v, u = ((one + 0.5) * 4 / 16 - 0.5 for one in (y, x))
            v, u = min(max(v, 0.0), 3.0), min(max(u, 0.0), 3.0)
            top, left = math.floor(v), math.floor(u)
            below, right = min(top + 1, 3), min(left + 1, 3)
            upper = (1 - (u - left)) * tokens[top, left] + (u - left) * tokens[top, right]
            lower = (1 - (u - left)) * tokens[below, left] + (u - left) * tokens[below, right]
            expected = (1 - (v - top)) * upper + (v - top) * lower
            torch.testing.assert_close(found[y, x], expected, rtol=1e-5, atol=1e-6)


def test_a_frame_is_scored_as_a_loop_over_its_pixels_does() -> None:
    nets = HeadNets.random(CONFIG, 2)
    tokens, canvas, valid = frame(4)
    found = published_scores(tokens, canvas, valid, nets)
    colour = pixel_features(tokens, 16)
    decoded = {"r2": nets.d2(colour[None])[0], "r3": nets.d3(canvas[None])[0]}
    expected = {name: np.zeros((16, 16)) for name in ("m2", "m3", "r2", "r3")}
    for y, x in valid.nonzero().tolist():
        seen, shape = colour[y, x], canvas[y, x]
        for name, said, target in (
            ("m2", nets.m32(shape), seen),
            ("m3", nets.m23(seen), shape),
            ("r2", decoded["r2"][y, x], seen),
            ("r3", decoded["r3"][y, x], shape),
        ):
            cosine = float(said @ target) / float(said.norm() * target.norm())
            expected[name][y, x] = math.sqrt(max(0.0, 2.0 - 2.0 * cosine))
    for name, one in expected.items():
        np.testing.assert_allclose(getattr(found, name), one, atol=2e-5)
    m2, m3, r2, r3 = (expected[name] for name in ("m2", "m3", "r2", "r3"))
    psi = cmdr.evidence(m2, m3, r2, r3, valid.numpy())
    np.testing.assert_allclose(found.psi, psi, rtol=1e-3, atol=1e-6)
    assert found.score == pytest.approx(cmdr.image_score(psi), rel=1e-3)


def test_on_the_tokens_own_grid_it_is_the_native_arithmetic() -> None:
    nets = HeadNets.random(CONFIG, 3)
    tokens, canvas, valid = frame(16)
    found = published_scores(tokens, canvas, valid, nets)
    native = Heads(nets).maps(tokens[None], canvas[None], valid[None])
    for name, one in (
        ("colour", found.r2),
        ("shape", found.r3),
        ("colour_from_shape", found.m2),
        ("shape_from_colour", found.m3),
    ):
        where = valid.numpy()
        np.testing.assert_allclose(native[name][0].numpy()[where], one[where], rtol=1e-4, atol=1e-5)
    psi = cmdr.psi({name: one[0].numpy() for name, one in native.items()}, valid.numpy())
    np.testing.assert_allclose(psi, found.psi, rtol=1e-3, atol=1e-6)


def test_a_frame_without_a_reading_has_no_score() -> None:
    tokens, canvas, valid = frame(4)
    with pytest.raises(NoReading, match="nothing to score"):
        published_scores(tokens, canvas, torch.zeros_like(valid), HeadNets.random(CONFIG, 2))


SIDE = 32
DINO = DinoConfig(dim=12, depth=1, heads=3, patch=8, side=SIDE)
POINTS = PointConfig(
    dim=6,
    depth=3,
    heads=2,
    taps=(0, 1, 2),
    groups=24,
    group_size=8,
    grouping="published",
    widths=(8, 8, 8),
    position=8,
)


def scene(seed: int = 3) -> tuple[NDArray[np.uint8], torch.Tensor, torch.Tensor]:
    """A bumpy part on nothing, half a metre away."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) * np.float32(1e-3)
    z = 0.5 + 0.002 * np.sin(900 * x) * np.cos(700 * y)
    cloud = torch.from_numpy(np.stack((x, y, z), -1).astype(np.float32))
    valid = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    valid[6:26, 8:27] = True
    return rgb, cloud * valid[..., None], valid


def scored(rgb: NDArray[np.uint8], cloud: torch.Tensor, valid: torch.Tensor, nets: HeadNets) -> Published:
    return published_frame(Dino.random(DINO, 1), PointMae.random(POINTS, 2), nets, rgb, cloud, valid)


def test_a_frame_goes_from_pixels_and_points_to_a_score() -> None:
    nets = HeadNets.random(HeadConfig(grid=SIDE, colour=12, shape=18), 4)
    rgb, cloud, valid = scene()
    found = scored(rgb, cloud, valid, nets)
    points = PointMae.random(POINTS, 2)(cloud[None], valid[None])
    canvas, reached = spread.published(points.tokens, points.groups, cloud[None], valid[None])
    expected = published_scores(Dino.random(DINO, 1).tokens(rgb[None])[0], canvas[0], reached[0], nets)
    assert found.score == expected.score
    np.testing.assert_array_equal(found.psi, expected.psi)
    seen = reached[0].numpy()
    assert seen[valid.numpy()].all()
    assert not found.m2[~seen].any()
    assert found.m3[seen].all()
    other = scored(255 - rgb, cloud, valid, nets)
    assert other.score != found.score
    np.testing.assert_array_equal(other.r3, found.r3)


def test_a_frame_without_a_point_is_refused() -> None:
    nets = HeadNets.random(HeadConfig(grid=SIDE, colour=12, shape=18), 4)
    rgb, cloud, valid = scene()
    with pytest.raises(DepthUnusable):
        scored(rgb, cloud, torch.zeros_like(valid), nets)

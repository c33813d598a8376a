"""Tokens brought to pixels and cells, against a loop over points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.errors import EncoderError
from inference.features import grouping, spread
from inference.features.grouping import Groups

SIDE = 12


def scene(seed: int, holes: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] * 1e-3
    cloud = np.stack((x, y, 0.4 + 5e-4 * generator.random((SIDE, SIDE))), axis=2).astype(np.float32)
    valid = generator.random((SIDE, SIDE)) >= holes
    valid[0, 0] = True
    return torch.from_numpy(cloud)[None], torch.from_numpy(valid)[None]


def naive_point(point: np.ndarray, centres: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    squared = ((centres - point) ** 2).sum(axis=1)
    nearest = np.argsort(squared, kind="stable")[:3]
    inverse = 1 / (squared[nearest] + 1e-8)
    return np.asarray((tokens[nearest] * (inverse / inverse.sum())[:, None]).sum(axis=0))


def naive_published(
    cloud: np.ndarray, valid: np.ndarray, centres: np.ndarray, tokens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scatter, 3 x 3 mean without margin, adaptive mean: pixel by pixel, with validity as a channel."""
    side, channels = len(valid), tokens.shape[1]
    canvas = np.zeros((side, side, channels + 1))
    for row, column in zip(*np.nonzero(valid), strict=True):
        canvas[row, column, :channels] = naive_point(cloud[row, column], centres, tokens)
        canvas[row, column, channels] = 1
    small = np.zeros((side - 2, side - 2, channels + 1))
    for row in range(side - 2):
        for column in range(side - 2):
            small[row, column] = canvas[row : row + 3, column : column + 3].mean(axis=(0, 1))
    out = np.zeros((side, side, channels + 1))
    for row in range(side):
        top, bottom = row * (side - 2) // side, -(-(row + 1) * (side - 2) // side)
        for column in range(side):
            left, right = column * (side - 2) // side, -(-(column + 1) * (side - 2) // side)
            out[row, column] = small[top:bottom, left:right].mean(axis=(0, 1))
    return out[..., :channels], out[..., channels] > 0


def made(seed: int, lattice: bool) -> tuple[torch.Tensor, torch.Tensor, Groups, torch.Tensor]:
    cloud, valid = scene(seed)
    if lattice:
        groups = grouping.lattice(cloud, valid, cells=6, size=3, reach=2)
    else:
        groups = grouping.published(cloud, valid, groups=15, size=3)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, groups.present.shape[1], 5, generator=generator)
    return cloud, valid, groups, tokens


@pytest.mark.parametrize("lattice", [False, True])
def test_published_features_are_those_of_a_loop_over_pixels(lattice: bool) -> None:
    cloud, valid, groups, tokens = made(1, lattice)
    features, mask = spread.published(tokens, groups, cloud, valid)
    there = groups.present[0].numpy()
    expected, seen = naive_published(
        cloud[0].double().numpy(),
        valid[0].numpy(),
        groups.centres[0].double().numpy()[there],
        tokens[0].double().numpy()[there],
    )
    np.testing.assert_allclose(features[0].numpy(), expected, atol=2e-5)
    np.testing.assert_array_equal(mask[0].numpy(), seen)


def test_published_mask_is_where_features_are_not_zero() -> None:
    cloud, _, _, _ = made(2, False)
    valid = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    valid[0, 4:6, 3:8] = True
    groups = grouping.published(cloud, valid, groups=8, size=3)
    features, mask = spread.published(torch.rand(1, 8, 4) + 0.1, groups, cloud, valid)
    np.testing.assert_array_equal(features[0].sum(2).numpy() != 0, mask[0].numpy())
    assert 10 < int(mask.sum()) < 80


@pytest.mark.parametrize("grid", [3, 6, 12])
@pytest.mark.parametrize("lattice", [False, True])
def test_native_cells_are_the_published_weights_at_their_pixel(grid: int, lattice: bool) -> None:
    cloud, valid, groups, tokens = made(3, lattice)
    features, mask = spread.native(tokens, groups, cloud, valid, grid)
    there = groups.present[0].numpy()
    pixels, present = grouping.cell_pixels(valid, grid)
    assert torch.equal(mask.view(1, -1), present)
    for cell in range(grid * grid):
        found = features[0].view(-1, 5)[cell].numpy()
        if not present[0, cell]:
            assert not found.any()
            continue
        point = cloud.reshape(-1, 3)[pixels[0, cell]].double().numpy()
        expected = naive_point(
            point, groups.centres[0].double().numpy()[there], tokens[0].double().numpy()[there]
        )
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_native_looks_in_a_window_of_the_lattice() -> None:
    """A centre that is near in space but more than two lattice cells away in the image has no part."""
    cloud, _, _, _ = made(4, True)
    cloud[0, :, 10:] = cloud[0, :, :2] + 1e-4
    valid = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    groups = grouping.lattice(cloud, valid, cells=6, size=3, reach=2)
    tokens = torch.zeros(1, 36, 1)
    tokens[0, 5::6] = 1.0
    features, _ = spread.native(tokens, groups, cloud, valid, 12)
    assert float(features[0, :, 0].abs().max()) == 0.0
    assert float(features[0, :, 11].min()) > 0.5


@pytest.mark.parametrize("points", [1, 2])
def test_fewer_than_three_centres_share_the_whole_weight(points: int) -> None:
    cloud, _, _, _ = made(5, True)
    valid = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    for number in range(points):
        valid[0, 5, 5 + 2 * number] = True
    for groups in (
        grouping.lattice(cloud, valid, cells=6, size=3, reach=2),
        grouping.published(cloud, valid, groups=9, size=3),
        grouping.published(cloud, valid, groups=points, size=3),
    ):
        tokens = torch.full((1, groups.present.shape[1], 2), 7.0)
        features, mask = spread.native(tokens, groups, cloud, valid, 6)
        assert int(mask.sum()) == points
        torch.testing.assert_close(features[mask], torch.full((points, 2), 7.0))
        whole, _ = spread.published(tokens, groups, cloud, valid)
        assert bool(torch.isfinite(whole).all())


def test_native_features_of_a_frame_are_the_same_in_a_batch() -> None:
    one, two = made(6, True), made(7, True)
    together = grouping.lattice(
        torch.cat((one[0], two[0])), torch.cat((one[1], two[1])), cells=6, size=3, reach=2
    )
    features, _ = spread.native(
        torch.cat((one[3], two[3])), together, torch.cat((one[0], two[0])), torch.cat((one[1], two[1])), 6
    )
    for frame, (cloud, valid, groups, tokens) in enumerate((one, two)):
        alone, _ = spread.native(tokens, groups, cloud, valid, 6)
        assert torch.equal(alone[0], features[frame])


def test_a_grid_that_does_not_divide_the_image_is_refused() -> None:
    cloud, valid, groups, tokens = made(8, True)
    with pytest.raises(EncoderError, match="does not divide"):
        spread.native(tokens, groups, cloud, valid, 7)

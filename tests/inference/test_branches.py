"""The closed forms against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.branches import with_sensors
from inference.branches.base import Branch, Evidence, FitSettings
from inference.branches.gaussian import ShapeGaussian
from inference.branches.linear import SHRINK
from inference.branches.mapping import RIDGE, ColourFromShape, ShapeFromColour
from inference.branches.nearest import Nearest, k_centre
from inference.errors import BundleError, TeachError
from inference.profiles.compact import CompactProfile
from schemas.verdict import Mode

SETTINGS = FitSettings(seed=0, bank_size=40)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiles() -> list[Evidence]:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(5, 7))
    out = []
    for _ in range(6):
        colour = rng.normal(size=(8, 8, 5))
        shape = colour @ mix + 0.3 * rng.normal(size=(8, 8, 7)) + 1.0
        fine = rng.normal(size=(16, 16, 7)) @ rng.normal(size=(7, 7))
        colour_t, shape_t, fine_t = (torch.from_numpy(a).float() for a in (colour, shape, fine))
        out.append(Evidence(rgb_tokens=colour_t, shape_tokens=shape_t, fine_tokens=fine_t))
    return out


def rows(tiles: list[Evidence], name: str) -> NDArray[np.float64]:
    return np.concatenate([getattr(t, name).reshape(-1, getattr(t, name).shape[-1]).numpy() for t in tiles])


def shrunk(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    size = len(covariance)
    return np.asarray((1 - SHRINK) * covariance + SHRINK * np.trace(covariance) / size * np.eye(size))


def rms_whitened(x: NDArray[np.float64], covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.einsum("ij,jk,ik->i", x, np.linalg.inv(covariance), x) / x.shape[1]))


def test_k_centre_takes_the_farthest_point_each_time() -> None:
    points = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    chosen = [7]
    for _ in range(9):
        distance = np.linalg.norm(points[:, None] - points[chosen][None], axis=2).min(1)
        chosen.append(int(distance.argmax()))
    assert k_centre(points, 10, 7).tolist() == chosen
    assert sorted(k_centre(points, 60, 0).tolist()) == list(range(60))


def test_nearest_is_the_euclidean_distance_to_the_bank(tiles: list[Evidence]) -> None:
    branch = Nearest.fit(tiles[:4], SETTINGS)
    bank = branch.tensors()["bank"].numpy()
    assert bank.shape == (40, 5)
    x = rows(tiles[5:], "rgb_tokens")
    expected = np.linalg.norm(x[:, None] - bank[None], axis=2).min(1)
    assert branch.score(tiles[5]).ravel() == pytest.approx(expected, abs=1e-4)


def test_distances_of_a_batch_are_those_of_its_tiles(tiles: list[Evidence]) -> None:
    branch = Nearest.fit(tiles[:4], SETTINGS)
    tokens = [one.rgb_tokens for one in tiles if one.rgb_tokens is not None]
    batch = branch.distances(torch.stack(tokens))
    assert batch.shape == (6, 8, 8)
    for one, tile in zip(batch, tiles, strict=True):
        assert one.numpy() == pytest.approx(branch.score(tile), abs=1e-4)


def test_the_gaussian_is_a_shrunk_mahalanobis_distance(tiles: list[Evidence]) -> None:
    branch = ShapeGaussian.fit(tiles[:4], SETTINGS)
    x = rows(tiles[:4], "fine_tokens")
    expected = rms_whitened(rows(tiles[5:], "fine_tokens") - x.mean(0), shrunk(np.cov(x.T, bias=True)))
    assert branch.score(tiles[5]).ravel() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "source", "target"),
    [(ColourFromShape, "shape_tokens", "rgb_tokens"), (ShapeFromColour, "rgb_tokens", "shape_tokens")],
)
def test_the_mappings_are_ridge_regressions_with_whitened_residuals(
    tiles: list[Evidence], kind: type[ColourFromShape], source: str, target: str
) -> None:
    branch = kind.fit(tiles[:4], SETTINGS)
    x, y = rows(tiles[:4], source), rows(tiles[:4], target)
    xc, yc = x - x.mean(0), y - y.mean(0)
    weight = np.linalg.solve(xc.T @ xc + RIDGE * len(x) * np.eye(x.shape[1]), xc.T @ yc)
    covariance = shrunk(np.cov((yc - xc @ weight).T, bias=True))
    residual = rows(tiles[5:], target) - y.mean(0) - (rows(tiles[5:], source) - x.mean(0)) @ weight
    assert branch.score(tiles[5]).ravel() == pytest.approx(rms_whitened(residual, covariance), rel=1e-3)


@pytest.mark.parametrize("kind", [Nearest, ShapeGaussian, ColourFromShape, ShapeFromColour])
def test_a_branch_comes_back_from_its_tensors_bit_by_bit(tiles: list[Evidence], kind: type[Branch]) -> None:
    branch = kind.fit(tiles, SETTINGS)
    tensors = branch.tensors()
    back = kind.restore(tensors, CPU)
    assert np.array_equal(back.score(tiles[0]), branch.score(tiles[0]))
    for missing in tensors:
        with pytest.raises(BundleError, match=missing):
            kind.restore({name: t for name, t in tensors.items() if name != missing}, CPU)


@pytest.mark.parametrize("kind", [Nearest, ShapeGaussian, ColourFromShape, ShapeFromColour])
def test_nothing_to_fit_on_is_refused(kind: type[Branch]) -> None:
    with pytest.raises(TeachError, match=kind.name):
        kind.fit([Evidence()], SETTINGS)


def test_each_mode_takes_the_branches_whose_sensors_it_has() -> None:
    assert [b.name for b in with_sensors(CompactProfile.kinds, Mode.RGB)] == ["colour"]
    assert [b.name for b in with_sensors(CompactProfile.kinds, Mode.DEPTH)] == ["shape", "dents"]
    assert len(with_sensors(CompactProfile.kinds, Mode.FUSED)) == 5

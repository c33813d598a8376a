"""Groups of points against what a loop over points says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import DepthUnusable, EncoderError
from inference.features import grouping
from inference.features.grouping import Groups

SIDE = 16
KINDS = ("published", "lattice")


def surface(seed: int, holes: float = 0.2, side: int = SIDE) -> tuple[torch.Tensor, torch.Tensor]:
    """One rough surface (1, S, S, 3) with holes, and NaN where nothing was read."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] * 1e-3
    cloud = np.stack((x, y, 0.4 + 1e-3 * generator.random((side, side))), axis=2).astype(np.float32)
    valid = generator.random((side, side)) >= holes
    valid[side // 2, side // 2] = True
    cloud[~valid] = np.nan
    return torch.from_numpy(cloud)[None], torch.from_numpy(valid)[None]


def make(kind: str, cloud: torch.Tensor, valid: torch.Tensor) -> Groups:
    """Ten published groups, or one for each of 4 x 4 cells; five points each."""
    if kind == "published":
        return grouping.published(cloud, valid, groups=10, size=5)
    return grouping.lattice(cloud, valid, cells=4, size=5, reach=2)


def squared(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a.double() - b.double()) ** 2).sum())


def naive_farthest(points: torch.Tensor, count: int) -> list[int]:
    chosen = [0]
    while len(chosen) < count:
        away = [min(squared(p, points[c]) for c in chosen) for p in points]
        chosen.append(int(np.argmax(away)))
    return chosen


def test_farthest_points_are_those_of_a_loop() -> None:
    cloud, valid = surface(1)
    points = cloud[valid]
    assert grouping.farthest(points, 12).tolist() == naive_farthest(points, 12)


def test_nearest_points_are_those_of_a_sort() -> None:
    cloud, valid = surface(2)
    points = cloud[valid]
    found = grouping.nearest_points(points, points[::7], 9)
    for centre, members in zip(points[::7], found, strict=True):
        order = sorted(range(len(points)), key=lambda i: squared(points[i], centre))
        assert set(members.tolist()) == set(order[:9])


def test_published_groups_hold_valid_pixels_only_and_start_at_the_first() -> None:
    cloud, valid = surface(3)
    groups = grouping.published(cloud, valid, groups=20, size=8)
    flat = valid.reshape(-1)
    assert bool(flat[groups.pixels].all())
    assert bool(flat[groups.points].all())
    assert int(groups.pixels[0, 0]) == int(flat.nonzero()[0])
    assert bool(groups.present.all())
    assert groups.lattice is None


@pytest.mark.parametrize("seed", [4, 5])
def test_lattice_centres_are_the_valid_pixels_nearest_to_the_middle_of_their_cells(seed: int) -> None:
    _, valid = surface(seed, holes=0.7)
    pixels, present = grouping.cell_pixels(valid, 4)
    for cell in range(16):
        rows = range(cell // 4 * 4, cell // 4 * 4 + 4)
        columns = range(cell % 4 * 4, cell % 4 * 4 + 4)
        middle = (cell // 4 * 4 + 1.5, cell % 4 * 4 + 1.5)
        inside = [(r, c) for r in rows for c in columns if valid[0, r, c]]
        assert bool(present[0, cell]) == bool(inside)
        if inside:
            best = min(inside, key=lambda p: ((p[0] - middle[0]) ** 2 + (p[1] - middle[1]) ** 2, p))
            assert int(pixels[0, cell]) == best[0] * SIDE + best[1]


@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_lattice_neighbours_are_the_nearest_of_the_window(holes: float) -> None:
    cloud, valid = surface(6, holes)
    groups = grouping.lattice(cloud, valid, cells=4, size=7, reach=3)
    for group in range(16):
        assert bool(groups.present[0, group])
        row, column = divmod(int(groups.pixels[0, group]), SIDE)
        window = [
            (r, c)
            for r in range(max(0, row - 3), min(SIDE, row + 4))
            for c in range(max(0, column - 3), min(SIDE, column + 4))
            if valid[0, r, c]
        ]
        centre = cloud[0, row, column]
        order = sorted(window, key=lambda p: squared(cloud[0, p[0], p[1]], centre))
        assert set(groups.points[0, group].tolist()) == {r * SIDE + c for r, c in order[:7]}


def test_lattice_of_a_flat_surface_has_the_neighbours_of_the_published_search() -> None:
    generator = np.random.default_rng(7)
    y, x = np.mgrid[:24, :24] * 1e-3
    cloud = np.stack((x, y, np.full_like(x, 0.4)), axis=2) + generator.normal(0, 1e-5, (24, 24, 3))
    points = torch.from_numpy(cloud.astype(np.float32))[None]
    valid = torch.ones(1, 24, 24, dtype=torch.bool)
    groups = grouping.lattice(points, valid, cells=3, size=20, reach=5)
    everywhere = grouping.nearest_points(points.reshape(-1, 3), groups.centres[0], 20)
    assert [set(row) for row in groups.points[0].tolist()] == [set(row) for row in everywhere.tolist()]


def test_neighbourhoods_are_relative_to_their_centre() -> None:
    cloud, valid = surface(8)
    groups = grouping.lattice(cloud, valid, cells=4, size=6, reach=2)
    relative = groups.neighbourhoods(cloud)
    for group in range(16):
        centre = cloud.reshape(-1, 3)[groups.pixels[0, group]]
        expected = cloud.reshape(-1, 3)[groups.points[0, group]] - centre
        torch.testing.assert_close(relative[0, group], expected)


@given(shift=st.tuples(*[st.integers(-4, 4)] * 3), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_groups_do_not_depend_on_where_the_cloud_is(shift: tuple[int, int, int], seed: int) -> None:
    # Quarters of a unit on a grid of 2^-10: sums are exact, so not even ties may fall differently.
    generator = np.random.default_rng(seed)
    cloud = torch.from_numpy(generator.integers(0, 1024, (1, SIDE, SIDE, 3)).astype(np.float32) / 1024)
    valid = torch.from_numpy(generator.random((1, SIDE, SIDE)) > 0.3)
    moved = cloud + torch.tensor(shift) / 4
    for kind in KINDS:
        here, there = make(kind, cloud, valid), make(kind, moved, valid)
        assert torch.equal(here.pixels, there.pixels)
        assert torch.equal(here.points.sort(2).values, there.points.sort(2).values)


def test_published_sampling_finds_the_same_points_in_any_order() -> None:
    cloud, valid = surface(9)
    points = cloud[valid]
    order = torch.cat((torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(len(points) - 1)))
    here = points[grouping.farthest(points, 15)]
    there = points[order][grouping.farthest(points[order], 15)]
    torch.testing.assert_close(here, there, rtol=0, atol=0)


@pytest.mark.parametrize("points", [1, 3])
def test_few_points_are_repeated_in_turn(points: int) -> None:
    cloud, _ = surface(10, holes=0.0)
    valid = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    valid[0, 5, 5 : 5 + points] = True
    for groups in (
        grouping.published(cloud, valid, groups=6, size=7),
        grouping.lattice(cloud, valid, cells=4, size=7, reach=2),
    ):
        assert 1 <= int(groups.present.sum()) <= points
        for members in groups.points[groups.present]:
            counts = torch.bincount(members)[members.unique()]
            assert int(counts.max() - counts.min()) <= 1
            assert bool(valid.reshape(-1)[members].all())
        assert bool((groups.neighbourhoods(cloud)[~groups.present] == 0).all())


def test_a_frame_is_grouped_alike_alone_and_in_a_batch() -> None:
    clouds, masks = zip(*(surface(seed) for seed in (11, 12, 13)), strict=True)
    for kind in KINDS:
        together = make(kind, torch.cat(clouds), torch.cat(masks))
        for frame, (cloud, mask) in enumerate(zip(clouds, masks, strict=True)):
            alone = make(kind, cloud, mask)
            assert torch.equal(alone.points[0], together.points[frame])
            assert torch.equal(alone.centres[0], together.centres[frame])


def test_clouds_that_cannot_be_grouped_are_refused() -> None:
    cloud, valid = surface(14, holes=0.0)
    with pytest.raises(DepthUnusable, match="no valid point"):
        grouping.check(cloud, torch.zeros_like(valid))
    broken = cloud.clone()
    broken[0, 3, 3, 2] = torch.nan
    with pytest.raises(DepthUnusable, match="not finite"):
        grouping.check(broken, valid)
    with pytest.raises(DepthUnusable, match=r"\(B, S, S, 3\)"):
        grouping.check(cloud[0], valid[0])
    with pytest.raises(DepthUnusable, match="expected bool"):
        grouping.check(cloud, valid.float())
    with pytest.raises(EncoderError, match="does not divide"):
        grouping.lattice(cloud, valid, cells=5, size=4, reach=2)
    with pytest.raises(EncoderError, match="cannot hold groups of 26"):
        grouping.lattice(cloud, valid, cells=4, size=26, reach=2)

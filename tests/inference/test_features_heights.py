"""Settled heights: units, the shape that parts share, and how teaching keeps a lot out of its own shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.datasets.synthetic import SyntheticPart
from inference.errors import BundleError, DepthUnusable, TeachError
from inference.features.heights import HeightStandard
from inference.features.shared_shape import Reading
from inference.relief import GRID

LINE = SyntheticPart(0, 128)


def part(seed: int, lot: int | None = None) -> Reading:
    depth = LINE.render(seed, lot=seed // 3 if lot is None else lot).sample.depth
    assert depth is not None
    return Reading(depth.astype(np.float32), depth > 0, 0, f"lot{seed // 3}")


PARTS = [part(seed) for seed in range(15)]
STANDARD = HeightStandard.fit(PARTS)


def test_a_new_part_less_the_shape_is_as_even_as_the_normals_were() -> None:
    new = part(500)
    found = STANDARD.see(new.depth, new.valid)
    assert found.pose is not None
    spread = 1.4826 * float(np.median(np.abs(found.bare[found.solid])))
    assert 0.6 < spread < 1.6
    assert float(np.abs(found.plain).mean()) > 3 * float(np.abs(found.bare).mean()) * (
        STANDARD.bare.unit / STANDARD.plain.unit
    )


def test_the_even_heights_spread_alike_at_edges_and_on_faces() -> None:
    new = [STANDARD.see(one.depth, one.valid) for one in (part(seed) for seed in range(500, 508))]
    assert STANDARD.spread is not None
    restless = STANDARD.spread[0] > np.quantile(STANDARD.spread[0], 0.8)
    contrasts = []
    for heights in ([one.bare for one in new], [one.even for one in new]):
        power = np.mean(np.square(heights), axis=0)
        contrasts.append(float(power[restless].mean() / power[~restless].mean()))
    assert contrasts[1] < contrasts[0] / 3


def test_a_lot_is_not_compared_with_itself() -> None:
    one = PARTS[4]
    as_new = STANDARD.see(one.depth, one.valid, group=one.group)
    as_taught = STANDARD.see(one.depth, one.valid)
    left_new, left_taught = (float(np.abs(found.bare[found.solid]).mean()) for found in (as_new, as_taught))
    assert left_taught < left_new
    assert np.array_equal(as_new.plain, as_taught.plain)
    unknown = STANDARD.see(one.depth, one.valid, group="another lot")
    assert np.array_equal(unknown.bare, as_taught.bare)


def test_without_a_shared_shape_the_bare_heights_are_the_plain_ones() -> None:
    standard = HeightStandard.fit(PARTS, shared=False)
    found = standard.see(PARTS[0].depth, PARTS[0].valid, group=PARTS[0].group)
    assert found.bare is found.plain
    assert found.pose is None
    assert found.plain.shape == (GRID, GRID)


@pytest.mark.parametrize(
    "depth",
    [
        np.zeros((0, 0)),
        np.zeros((64, 64)),
        np.full((1, 1), 700.0),
        np.full((1, 64), 700.0),
        np.full((64, 1), 700.0),
        np.eye(64) * 700,
    ],
    ids=["empty", "no reading", "one pixel", "one row", "one column", "a line"],
)
def test_depth_that_carries_no_plane_is_refused(depth: NDArray[np.float64]) -> None:
    with pytest.raises(DepthUnusable):
        STANDARD.see(depth.astype(np.float32), depth > 0)
    one = depth.copy()
    if one.size:
        one.flat[0] = 9.0
        valid = np.zeros(one.shape, np.bool_)
        valid.flat[0] = True
        with pytest.raises(DepthUnusable):
            STANDARD.see(one.astype(np.float32), valid)


def test_a_constant_depth_is_flat_and_not_a_crash() -> None:
    depth = np.full((64, 64), 700, np.float32)
    for standard in (STANDARD, HeightStandard.fit(PARTS, shared=False)):
        found = standard.see(depth, np.ones(depth.shape, np.bool_))
        assert np.isfinite(found.plain).all()
        assert np.isfinite(found.bare).all()
    np.testing.assert_allclose(found.plain, 0, atol=1e-5)


def test_a_tile_that_was_not_taught_is_refused() -> None:
    with pytest.raises(DepthUnusable, match="tile 2 was not taught"):
        STANDARD.see(PARTS[0].depth, PARTS[0].valid, tile=2)


def test_too_few_normals_with_depth_cannot_teach() -> None:
    blind = Reading(np.zeros((64, 64), np.float32), np.zeros((64, 64), np.bool_))
    with pytest.raises(TeachError, match="2 of 4"):
        HeightStandard.fit([*PARTS[:2], blind, blind])


def test_damaged_state_is_refused() -> None:
    state = STANDARD.tensors()
    for broken in (
        {name: one for name, one in state.items() if name != "measures"},
        state | {"measures": torch.zeros(2, 3)},
        state | {"measures": torch.ones(3)},
        state | {"shape": torch.zeros(1, 5, 5)},
        state | {"spread": torch.zeros(1, GRID, GRID)},
        {name: one for name, one in state.items() if name != "spread"},
        state | {"shape": torch.full((1, GRID, GRID), float("nan"))},
    ):
        with pytest.raises(BundleError):
            HeightStandard.restore(broken)
    assert HeightStandard.restore(state).bare == STANDARD.bare

"""Which sensor shows a defect: scales from normals alone, and no word where depth was not read."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inference.branches.base import Branch, Needs
from inference.branches.dents import Dents
from inference.branches.gaussian import ShapeGaussian
from inference.branches.mapping import ColourFromShape, ShapeFromColour
from inference.branches.nearest import Nearest
from inference.calibration import Scale
from inference.disagreement import LAMBDA, OPTIONS, Disagreement, SideMaps, modulate, side_maps, sides_of
from inference.errors import BundleError, TeachError
from inference.fusion import fuse_maps, top_mean
from inference.roi import Roi
from inference.tiles import TileLayout, stitch
from schemas.verdict import SeenBy

SHAPE = (24, 32)
BRANCHES: tuple[type[Branch], ...] = (Nearest, ShapeGaussian, ColourFromShape, ShapeFromColour, Dents)
values = hnp.arrays(np.float32, SHAPE, elements=st.floats(-20, 20, width=32))


def frame(seed: int, *, colour: float = 0.0, shape: float = 0.0, valid: bool = True) -> SideMaps:
    """A frame of noise, with a spot of given height on either side, read by depth or not."""
    rng = np.random.default_rng(seed)
    maps = [rng.normal(-3, 1, SHAPE).astype(np.float32) for _ in range(2)]
    for image, height in zip(maps, (colour, shape), strict=True):
        image[8:14, 10:18] += height
    read = np.ones(SHAPE, bool)
    read[6:16, 8:20] = valid
    return SideMaps(maps[0], maps[1], np.logaddexp(*maps), read)


NORMALS = [frame(seed) for seed in range(30)]
SCORES = [top_mean(one.fused) for one in NORMALS]
SPOT = np.zeros(SHAPE, bool)
SPOT[8:14, 10:16] = True


@pytest.fixture(scope="module")
def fitted() -> Disagreement:
    return Disagreement.fit(NORMALS, SCORES)


@pytest.mark.parametrize(
    ("colour", "shape", "expected"),
    [
        (9.0, 0.0, SeenBy.COLOUR_ONLY),
        (0.0, 9.0, SeenBy.SHAPE_ONLY),
        (9.0, 9.0, SeenBy.BOTH),
        (9.0, 30.0, SeenBy.BOTH),
        (0.0, 0.0, SeenBy.BOTH),  # what neither shows alone, the two show together
    ],
)
def test_a_region_is_labelled_by_the_side_that_shows_more_than_normals_do(
    fitted: Disagreement, colour: float, shape: float, expected: SeenBy
) -> None:
    # By its definition two blocks of normals in a hundred are above the level.
    found = [fitted.label(SPOT, frame(seed, colour=colour, shape=shape)) for seed in range(100, 160)]
    assert np.mean([one is expected for one in found]) >= 0.9


def test_a_region_of_the_whole_frame_is_measured_against_whole_frames(fitted: Disagreement) -> None:
    everywhere = np.ones(SHAPE, bool)
    labels = [fitted.label(everywhere, frame(seed, colour=9.0)) for seed in range(100, 160)]
    assert np.mean([one is SeenBy.COLOUR_ONLY for one in labels]) >= 0.9


def test_where_depth_read_nothing_a_defect_is_not_called_colour_only(fitted: Disagreement) -> None:
    blind = frame(100, colour=9.0, shape=9.0, valid=False)
    assert fitted.label(SPOT, blind) is None
    assert not fitted.disagreement(blind)[6:16, 8:20].any()
    half = SPOT & (np.arange(SHAPE[1]) < 13)
    assert blind.valid is not None
    half_read = SideMaps(blind.colour, frame(100).shape, blind.fused, ~half)
    assert fitted.label(SPOT, half_read) is SeenBy.COLOUR_ONLY


def test_what_a_side_shows_is_measured_against_places_of_a_regions_size(fitted: Disagreement) -> None:
    normal = np.stack([one.colour for one in NORMALS])
    blocks = [normal[:, y : y + 6, x : x + 6].max((1, 2)) for y in range(0, 24, 6) for x in range(0, 30, 6)]
    assert fitted.colour_shown == pytest.approx(float(np.quantile(np.stack(blocks), 0.98)), abs=1e-6)
    assert fitted.colour_shown < fitted.colour.high


def test_an_empty_region_has_no_label(fitted: Disagreement) -> None:
    assert fitted.label(np.zeros(SHAPE, bool), frame(100, colour=9.0)) is None


def test_the_label_does_not_change_with_the_rest_of_the_frame(fitted: Disagreement) -> None:
    plain = frame(100, colour=9.0)
    louder = SideMaps(plain.colour.copy(), plain.shape.copy(), plain.fused, plain.valid)
    louder.colour[20:, 25:] += 50
    louder.shape[20:, 25:] += 80
    assert fitted.label(SPOT, louder) is fitted.label(SPOT, plain)
    here = (slice(0, 18), slice(0, 22))
    np.testing.assert_array_equal(fitted.disagreement(louder)[here], fitted.disagreement(plain)[here])


def test_normals_hardly_disagree_and_a_one_sided_defect_does(fitted: Disagreement) -> None:
    fresh = [frame(seed) for seed in range(200, 240)]
    assert np.mean([fitted.disagreement(one).any() for one in fresh]) <= 0.25
    assert max(fitted.disagreement(one).mean() for one in fresh) < 0.02
    for marked in (frame(300, colour=9.0), frame(300, shape=9.0)):
        gap = fitted.disagreement(marked)
        assert gap[8:14, 10:18].mean() > 0.4
        assert gap[:6].max() == 0.0
    assert fitted.disagreement(frame(300, colour=20.0, shape=20.0))[8:14, 10:18].max() < 0.05


@given(values, values, values, hnp.arrays(np.bool_, SHAPE))
@settings(deadline=None, max_examples=40)
def test_maps_agree_with_a_plain_loop_over_places(colour: Any, shape: Any, fused: Any, valid: Any) -> None:
    model = Disagreement.fit(NORMALS, SCORES)
    maps = SideMaps(colour, shape, fused, valid)
    gap, stronger = model.disagreement(maps), model.modulated(maps)
    for y in range(0, SHAPE[0], 3):
        for x in range(0, SHAPE[1], 3):
            c = (float(colour[y, x]) - model.colour.low) / (model.colour.high - model.colour.low)
            s = (float(shape[y, x]) - model.shape.low) / (model.shape.high - model.shape.low)
            if min(abs(max(c, s) - 1.0), 1.0) < 1e-5:
                continue  # on the edge itself, float32 and float64 may differ
            expected = abs(min(max(c, 0), 1) - min(max(s, 0), 1)) if valid[y, x] and max(c, s) > 1 else 0.0
            assert gap[y, x] == pytest.approx(expected, abs=1e-5)
            m = float(fused[y, x])
            assert stronger[y, x] == pytest.approx(m + LAMBDA * expected * max(m, 0.0), abs=1e-4)
    assert (gap >= 0).all()
    assert (gap <= 1).all()
    assert (stronger >= fused).all()


def test_without_disagreement_modulation_changes_nothing() -> None:
    image = np.linspace(-5, 5, 60, dtype=np.float32).reshape(6, 10)
    np.testing.assert_array_equal(modulate(image, np.zeros_like(image)), image)
    np.testing.assert_array_equal(modulate(image, np.ones_like(image), lam=0.0), image)


def test_the_mixed_score_is_the_published_formula_on_the_normals_scales(fitted: Disagreement) -> None:
    maps = frame(400, colour=7.0)
    image, gap = fitted.modulated(maps), fitted.disagreement(maps)
    ranked = np.sort(image.ravel().astype(np.float64))
    base = float(ranked[-round(0.01 * ranked.size) :].mean())
    upper = float(np.quantile(image.astype(np.float64), 0.95))
    robust = 0.60 * upper + 0.25 * float(image.mean()) + 0.15 * float(gap.mean())

    def tilde(value: float, span: Any) -> float:
        return float(np.clip((value - span.low) / (span.high - span.low), 0.0, 1.0))

    reliable = 1 - abs(tilde(base, fitted.base) - tilde(upper, fitted.upper))
    conflict = abs(tilde(base, fitted.base) - tilde(robust, fitted.robust))
    weight = 1 / (1 + math.exp(-(conflict - reliable)))
    found = fitted.scores(maps, top_mean(maps.fused))
    assert set(found) == set(OPTIONS)
    assert found["dual"] == pytest.approx((1 - weight) * base + weight * robust, rel=1e-5)
    assert found["modulated"] == pytest.approx(base, rel=1e-5)
    assert found["modulated"] > top_mean(maps.fused)
    peaked = fitted.scores(maps, 40.0)
    assert peaked["modulated"] == pytest.approx(40.0 + found["modulated"] - top_mean(maps.fused), rel=1e-5)
    # Why the paper's recovery term is left out.
    assert upper <= base


def test_the_state_comes_back_from_the_manifest(fitted: Disagreement) -> None:
    back = Disagreement.from_map(json.loads(json.dumps(fitted.to_map())))
    assert back == fitted
    maps = frame(800, shape=8.0)
    assert back.scores(maps, 3.0) == fitted.scores(maps, 3.0)


@pytest.mark.parametrize("name", ["colour", "shape", "colour_shown", "base", "robust", "upper"])
@pytest.mark.parametrize(
    "damage", [None, True, {}, {"low": 1.0, "high": 1.0}, {"low": math.nan, "high": 2.0}]
)
def test_a_damaged_manifest_is_refused(fitted: Disagreement, name: str, damage: Any) -> None:
    with pytest.raises(BundleError, match="teach"):
        Disagreement.from_map({**fitted.to_map(), name: damage})


def test_fitting_says_what_is_wrong_with_its_normals() -> None:
    with pytest.raises(TeachError, match="0 normal frames"):
        Disagreement.fit([], [])
    with pytest.raises(TeachError, match="2 normal frames and 3 scores"):
        Disagreement.fit(NORMALS[:2], SCORES[:3])
    with pytest.raises(TeachError, match="only once"):
        Disagreement.fit((one for one in NORMALS), SCORES)
    blind = SideMaps(NORMALS[0].colour, NORMALS[0].shape, NORMALS[0].fused, np.zeros(SHAPE, bool))
    with pytest.raises(TeachError, match="no depth reading"):
        Disagreement.fit([blind], [0.0])


def test_normals_that_are_all_alike_divide_by_nothing() -> None:
    flat = np.full(SHAPE, 2.0, np.float32)
    model = Disagreement.fit([SideMaps(flat, flat, flat)] * 3, [2.0, 2.0, 2.0])
    marked = flat.copy()
    marked[3, 3] = 9.0
    assert np.isfinite(model.modulated(SideMaps(marked, flat, marked))).all()
    assert Disagreement.from_map(model.to_map()) == model


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one \\(h, w\\)"):
        SideMaps(np.zeros((3, 3), np.float32), np.zeros((3, 4), np.float32), np.zeros((3, 3), np.float32))


def test_a_branch_that_looks_at_both_sensors_is_on_neither_side() -> None:
    assert sides_of(BRANCHES) == (("colour",), ("shape", "dents"))
    for branch in BRANCHES:
        side = [branch.name in names for names in sides_of(BRANCHES)]
        assert side == [branch.needs == {Needs.RGB}, branch.needs == {Needs.DEPTH}]


def test_side_maps_are_the_fused_maps_of_their_branches_and_know_where_depth_looked() -> None:
    rng = np.random.default_rng(0)
    scales = {branch.name: Scale(float(k), 1.0 + k) for k, branch in enumerate(BRANCHES)}
    tiles = [
        {branch.name: rng.random((128, 128), np.float32) for branch in BRANCHES},
        {"colour": rng.random((128, 128), np.float32)},
    ]
    layout = TileLayout(Roi(), 1, 2, 0.0)
    fused = stitch([fuse_maps(tile, scales, empty=0.0) for tile in tiles], layout)
    half = np.zeros((128, 128), bool)
    half[:100] = True
    found = side_maps(tiles, BRANCHES, scales, layout, fused=fused, valid=[half, None])
    assert found is not None
    assert found.valid is not None
    np.testing.assert_array_equal(found.valid[:, :128], half)
    assert not found.valid[:, 128:].any()
    expected = np.logaddexp(
        *((tiles[0][n] - scales[n].mean) / scales[n].deviation for n in ("shape", "dents"))
    )
    np.testing.assert_allclose(found.shape[:, :128], expected, atol=1e-5)
    np.testing.assert_allclose(found.colour[:, 128:], tiles[1]["colour"], atol=1e-6)
    assert found.shape[:, 128:].max() < found.shape[:, :128].min() - 5
    unmasked = side_maps(tiles, BRANCHES, scales, layout, fused=fused)
    assert unmasked is not None
    assert unmasked.valid is not None
    assert unmasked.valid[:, :128].all()
    assert side_maps(tiles, (Nearest,), scales, layout, fused=fused) is None
    assert side_maps(tiles, (ShapeGaussian, Dents), scales, layout, fused=fused) is None

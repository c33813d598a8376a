"""The foreground: a defect never hides the part it is on, the belt is left out, an empty belt is said."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.datasets.defects import Defect
from inference.datasets.synthetic import SyntheticPart
from inference.errors import BundleError, NoPart
from inference.foreground import Foreground, Found, Source, widened
from inference.masking import Inside
from inference.roi import Roi, find_roi
from inference.sample import SILHOUETTE, Sample
from inference.silhouette import SIDE, grown, pieces, place, shifted
from inference.tiles import TileLayout
from schemas.verdict import Mode

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]

HEIGHT, WIDTH = 160, 200
MIDDLE: Box = (60, 50, 130, 110)
WHOLE = Roi()


def frame(box: Box | None, seed: int, *, bite: Box | None = None, burr: Box | None = None) -> Sample:
    """A red block 300 counts over a belt that leans; ``bite`` is missing from it, ``burr`` was left on."""
    rng = np.random.default_rng(seed)
    there = np.zeros((HEIGHT, WIDTH), bool)
    for one, value in ((box, True), (bite, False), (burr, True)):
        if one is not None:
            there[one[1] : one[3], one[0] : one[2]] = value
    grey = rng.normal(90, 6, (HEIGHT, WIDTH, 1))
    colour = np.repeat(grey, 3, axis=2).clip(0, 255).astype(np.uint8)
    colour[there] = (170, 60, 50)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth = 20_000 + 2.0 * columns + 1.0 * rows + rng.normal(0, 5, (HEIGHT, WIDTH)) - 300 * there
    depth[rng.random((HEIGHT, WIDTH)) < 0.05] = 0
    return Sample(colour, depth.astype(np.uint16))


def moved(dx: int, dy: int) -> Box:
    return MIDDLE[0] + dx, MIDDLE[1] + dy, MIDDLE[2] + dx, MIDDLE[3] + dy


@cache
def taught(reach: int = 4, sensors: str = "both") -> tuple[Foreground, TileLayout]:
    """Of twenty parts that lie up to ``reach`` pixels from their place."""
    rng = np.random.default_rng(9)
    frames = [frame(moved(*map(int, rng.integers(-reach, reach + 1, 2))), seed) for seed in range(20)]
    if sensors != "both":
        frames = [
            Sample(one.rgb if sensors == "colour" else None, one.depth if sensors == "depth" else None)
            for one in frames
        ]
    layout = TileLayout(find_roi([one.rgb for one in frames], [one.depth for one in frames]))
    return Foreground.fit([Foreground.look(one, layout) for one in frames], layout), layout


def over_frame(found: Found) -> Mask:
    """The mask in the frame's own pixels; outside the box it is False."""
    assert found.mask is not None
    rows, columns = found.box.pixels(HEIGHT, WIDTH)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    out = np.zeros((HEIGHT, WIDTH), bool)
    out[rows, columns] = cv2.resize(found.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return out


def holds(found: Found, box: Box) -> bool:
    return bool(over_frame(found)[box[1] : box[3], box[0] : box[2]].all())


shifts = st.tuples(st.integers(-4, 4), st.integers(-4, 4))


@settings(max_examples=10, deadline=None)
@given(shift=shifts, seed=st.integers(100, 999))
def test_the_part_is_inside_and_most_of_the_belt_is_not(shift: tuple[int, int], seed: int) -> None:
    foreground, _ = taught()
    box = moved(*shift)
    found = foreground.find(frame(box, seed), Mode.FUSED)
    assert found.source is Source.DEPTH
    assert holds(found, box)
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert over_frame(found).sum() < 1.45 * area


@settings(max_examples=15, deadline=None)
@given(
    shift=shifts,
    seed=st.integers(100, 999),
    size=st.tuples(st.integers(4, 26), st.integers(4, 26)),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    mode=st.sampled_from(list(Mode)),
)
def test_a_piece_broken_off_stays_inside_wherever_it_was(
    shift: tuple[int, int], seed: int, size: tuple[int, int], at: tuple[float, float], mode: Mode
) -> None:
    box = moved(*shift)
    x = round(box[0] - 1 + at[0] * (box[2] - box[0] + 2 - size[0]))
    y = round(box[1] - 1 + at[1] * (box[3] - box[1] + 2 - size[1]))
    bite = (max(x, box[0]), max(y, box[1]), min(x + size[0], box[2]), min(y + size[1], box[3]))
    found = taught()[0].find(frame(box, seed, bite=bite), mode)
    assert holds(found, bite)


@settings(max_examples=10, deadline=None)
@given(along=st.integers(0, 50), out=st.integers(4, 12), side=st.integers(0, 1), seed=st.integers(100, 999))
def test_what_was_left_on_the_edge_is_inside(along: int, out: int, side: int, seed: int) -> None:
    x0, y0, x1, _ = MIDDLE
    burr = (x0 + along, y0 - out, x0 + along + 8, y0) if side else (x1, y0 + along, x1 + out, y0 + along + 8)
    found = taught()[0].find(frame(MIDDLE, seed, burr=burr), Mode.FUSED)
    assert holds(found, burr)


@settings(max_examples=10, deadline=None)
@given(
    x=st.integers(40, 120), y=st.integers(40, 100), w=st.integers(2, 60), h=st.integers(2, 50), shift=shifts
)
def test_a_hole_in_depth_stays_inside_and_lowers_the_coverage(
    x: int, y: int, w: int, h: int, shift: tuple[int, int]
) -> None:
    foreground, layout = taught()
    box = moved(*shift)
    whole = frame(box, 77)
    assert whole.depth is not None
    depth = whole.depth.copy()
    depth[y : y + h, x : x + w] = 0
    found = foreground.find(Sample(whole.rgb, depth), Mode.FUSED)
    assert holds(found, box)
    coverage = found.coverage(layout)
    assert coverage is not None
    part = np.zeros((HEIGHT, WIDTH), bool)
    part[box[1] : box[3], box[0] : box[2]] = True
    assert coverage == pytest.approx(float((depth[part] > 0).mean()), abs=0.04)


def test_a_part_that_depth_did_not_see_at_all_is_not_taken_for_an_empty_belt() -> None:
    foreground, layout = taught()
    whole = frame(MIDDLE, 5)
    assert whole.depth is not None
    depth = whole.depth.copy()
    depth[40:120, 50:140] = 0
    found = foreground.find(Sample(None, depth), Mode.DEPTH)
    assert found.source is Source.REGION
    assert holds(found, MIDDLE)
    assert found.coverage(layout) == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("reach", [4, 35])
def test_an_empty_belt_is_no_part(mode: Mode, reach: int) -> None:
    foreground, _ = taught(reach)
    for seed in range(2):
        with pytest.raises(NoPart, match="stands out of the belt"):
            foreground.find(frame(None, 300 + seed), mode)


def test_half_a_part_is_a_part() -> None:
    foreground, _ = taught()
    for mode in Mode:
        found = foreground.find(frame(MIDDLE, 8, bite=(60, 50, 95, 110)), mode)
        assert holds(found, MIDDLE)


@settings(max_examples=10, deadline=None)
@given(dx=st.integers(-33, 33), dy=st.integers(-33, 33), mode=st.sampled_from(list(Mode)))
def test_parts_that_lie_anywhere_are_found_where_they_lie(dx: int, dy: int, mode: Mode) -> None:
    foreground, _ = taught(35)
    assert not foreground.still
    box = moved(dx, dy)
    found = foreground.find(frame(box, 50), mode)
    assert found.source is (Source.BELT if mode is Mode.RGB else Source.DEPTH)
    assert holds(found, (box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1))
    assert over_frame(found).sum() < 1.5 * 70 * 60


def test_without_depth_it_is_the_last_silhouette_then_the_region() -> None:
    foreground, _ = taught()
    colour = frame(MIDDLE, 3).rgb
    seen = foreground.find(frame(moved(3, -2), 4), Mode.FUSED).silhouette
    assert seen is not None
    assert seen.shape == SILHOUETTE
    assert seen.dtype == np.bool_
    last = foreground.find(Sample(colour, None, silhouette=seen), Mode.RGB)
    region = foreground.find(Sample(colour, None), Mode.RGB)
    assert (last.source, region.source) == (Source.SILHOUETTE, Source.REGION)
    assert last.silhouette is None
    for found in (last, region):
        assert holds(found, MIDDLE)
        assert over_frame(found).sum() < 1.6 * 70 * 60
        assert found.coverage(taught()[1]) is None


def test_the_place_of_the_part_before_says_nothing_where_parts_lie_anywhere() -> None:
    foreground, _ = taught(35)
    elsewhere = np.zeros(SILHOUETTE, bool)
    elsewhere[:20, :20] = True
    found = foreground.find(Sample(frame(MIDDLE, 3).rgb, None, silhouette=elsewhere), Mode.RGB)
    assert found.source is Source.BELT
    assert not over_frame(found)[:20, :20].any()


@pytest.mark.parametrize("sensors", ["colour", "depth"])
def test_a_product_with_one_sensor_has_a_foreground_too(sensors: str) -> None:
    foreground, layout = taught(4, sensors)
    sample = frame(MIDDLE, 31)
    if sensors == "colour":
        found = foreground.find(Sample(sample.rgb, None), Mode.RGB)
        assert found.source is Source.REGION
    else:
        found = foreground.find(Sample(None, sample.depth), Mode.DEPTH)
        assert found.source is Source.DEPTH
        assert found.coverage(layout) == pytest.approx(0.95, abs=0.02)
    assert holds(found, MIDDLE)


def surface(seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 3)
    colour = np.repeat((110 + 150 * texture[..., None]).clip(0, 255), 3, axis=2).astype(np.uint8)
    return Sample(colour, (20_000 + 200 * texture + rng.normal(0, 5, texture.shape)).astype(np.uint16))


def test_a_surface_that_fills_the_frame_is_all_foreground() -> None:
    frames = [surface(seed) for seed in range(12)]
    layout = TileLayout(WHOLE)
    foreground = Foreground.fit([Foreground.look(one, layout) for one in frames], layout)
    assert foreground.whole
    for mode in Mode:
        found = foreground.find(surface(99), mode)
        assert (found.source, found.mask, found.coverage(layout)) == (Source.FRAME, None, None)
        assert found.tile(WHOLE, 256) is None


@pytest.mark.parametrize("reach", [4, 35, None])
def test_a_restored_foreground_answers_bit_for_bit(reach: int | None) -> None:
    foreground = Foreground.everything() if reach is None else taught(reach)[0]
    again = Foreground.restore({name: one.clone() for name, one in foreground.tensors().items()})
    for name, one in foreground.tensors().items():
        assert torch.equal(one, again.tensors()[name])
    for mode in Mode:
        before, after = (f.find(frame(moved(2, 1), 44), mode) for f in (foreground, again))
        assert (before.source, before.box) == (after.source, after.box)
        assert before.mask is after.mask is None or np.array_equal(over_frame(before), over_frame(after))


def test_a_damaged_foreground_is_refused() -> None:
    tensors = taught()[0].tensors()
    for name in ("box", "region", "belt", "place", "colour.mean"):
        with pytest.raises(BundleError, match="teach"):
            Foreground.restore({key: one for key, one in tensors.items() if key != name})
    with pytest.raises(BundleError, match="shape"):
        Foreground.restore({**tensors, "shape": torch.zeros(3, 3)})


def test_the_tiles_of_a_frame_hold_what_the_frame_holds() -> None:
    foreground, layout = taught()
    found = foreground.find(frame(MIDDLE, 12), Mode.FUSED)
    whole = found.tile(layout.roi, 256)
    assert whole is not None
    quarters = TileLayout(layout.roi, 2, 2, 0.0)
    tiles = [found.tile(box, 128) for box in quarters.boxes()]
    joined = np.block([[tiles[0], tiles[1]], [tiles[2], tiles[3]]])
    assert float(np.mean(joined != whole)) < 0.01


def test_coverage_is_that_of_the_tile_that_shows_the_part_worst() -> None:
    foreground, layout = taught()
    sample = frame(MIDDLE, 12)
    assert sample.depth is not None
    depth = sample.depth.copy()
    depth[:, 95:130] = 0
    found = foreground.find(Sample(sample.rgb, depth), Mode.FUSED)
    assert found.coverage(layout) == pytest.approx(0.47, abs=0.05)
    assert found.coverage(TileLayout(layout.roi, 1, 2, 0.0)) == pytest.approx(0.0, abs=0.1)


def test_a_part_too_small_to_fill_a_tile_has_its_coverage_all_the_same() -> None:
    box = (90, 70, 110, 88)
    layout = TileLayout(WHOLE)
    views = [Foreground.look(frame(box, seed), layout) for seed in range(12)]
    foreground = Foreground.fit(views, layout)
    assert foreground.shape is not None
    assert float((foreground.shape > 0.5).mean()) < 0.03
    sample = frame(box, 44)
    assert sample.depth is not None
    assert foreground.find(sample, Mode.FUSED).coverage(layout) == pytest.approx(0.95, abs=0.05)
    for rows, expected in ((slice(0, 79), 0.5), (slice(60, 100), 0.0)):
        depth = sample.depth.copy()
        depth[rows, 80:120] = 0
        found = foreground.find(Sample(sample.rgb, depth), Mode.FUSED)
        assert found.coverage(layout) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("mode", [Mode.FUSED, Mode.RGB])
def test_a_part_that_lies_half_out_of_sight_is_covered_by_half(mode: Mode) -> None:
    foreground, layout = taught(35)
    right = int(layout.roi.x1 * WIDTH)
    out = foreground.find(frame(moved(right - 95, 0), 51), mode).coverage(layout)
    assert out == pytest.approx(0.5, abs=0.1)
    inside = foreground.find(frame(moved(20, 0), 52), mode).coverage(layout)
    assert inside is None if mode is Mode.RGB else inside == pytest.approx(0.95, abs=0.05)


def test_what_sticks_out_of_the_region_by_its_colour_is_inside() -> None:
    foreground, _ = taught()
    burr = (130, 70, 146, 84)
    found = foreground.find(Sample(frame(MIDDLE, 6, burr=burr).rgb, None), Mode.RGB)
    assert found.source is Source.REGION
    assert holds(found, burr)


def test_a_covered_lens_is_not_taken_for_an_empty_belt() -> None:
    colour, _ = taught(4, "colour")
    sample = frame(MIDDLE, 61)
    found = colour.find(Sample(np.full((HEIGHT, WIDTH, 3), 9, np.uint8), sample.depth), Mode.DEPTH)
    assert found.source is Source.REGION
    assert holds(found, MIDDLE)


def test_sensors_of_any_resolution_show_the_same_part() -> None:
    foreground, _ = taught()
    sample = frame(MIDDLE, 21)
    assert sample.rgb is not None
    assert sample.depth is not None
    large = np.repeat(np.repeat(sample.depth, 5, axis=0), 5, axis=1)
    found = foreground.find(Sample(sample.rgb[::2, ::2], large), Mode.FUSED)
    plain = foreground.find(sample, Mode.FUSED)
    assert float(np.mean(over_frame(found) != over_frame(plain))) < 0.01


def test_every_chip_on_the_edge_of_a_rendered_part_is_inside() -> None:
    part = SyntheticPart(5, 128)
    normals = [part.render(seed, lot=seed // 3).sample for seed in range(9)]
    layout = TileLayout(find_roi([one.rgb for one in normals], [one.depth for one in normals]))
    foreground = Foreground.fit([Foreground.look(one, layout) for one in normals], layout)
    assert not foreground.whole
    chips = 0
    for seed in range(24):
        made = part.render(1000 + seed, defect=Defect("both", 18.0, 2.0, seed))
        if made.form != "chip":
            continue
        chips += 1
        for mode in Mode:
            mask = foreground.find(made.sample, mode).tile(WHOLE, 128)
            assert mask is not None
            assert not (made.mask & ~mask).any()
    assert chips > 3


def sums(
    own: Mask, known: Mask, shape: NDArray[np.float32], reach: Sequence[int]
) -> dict[tuple[int, int], float]:
    """Every shift's fit, written out."""
    signed = np.where(own, 1.0, np.where(known, -1.0, 0.0))
    return {(dx, dy): float((signed * shifted(shape, (dx, dy))).sum()) for dx in reach for dy in reach}


def test_the_place_is_the_best_of_all_shifts() -> None:
    rng = np.random.default_rng(0)
    shape = np.zeros((SIDE, SIDE), np.float32)
    shape[40:80, 30:90] = 1.0
    for dx, dy in rng.integers(-5, 6, (3, 2)) * 2:
        own = shifted(shape, (int(dx), int(dy))) > 0.5
        own[50:70, 30:50] = False
        known = rng.random((SIDE, SIDE)) > 0.3
        found = place(own & known, known, shape, 10)
        fits = sums(own & known, known, shape, range(-10, 11, 2))
        assert found == max(fits, key=lambda one: fits[one]) == (dx, dy)


def test_pieces_leave_out_specks_and_fill_holes() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[30:90, 30:90] = True
    mask[50:60, 50:60] = False
    mask[5, 5] = mask[10:12, 100:102] = True
    found = pieces(mask)
    assert found[30:90, 30:90].all()
    assert found.sum() == 3600
    assert not pieces(np.zeros((SIDE, SIDE), bool)).any()
    assert grown(found, 2).sum() > found.sum() == grown(found, 0).sum()


def test_the_box_around_the_region_stays_inside_the_frame() -> None:
    box = widened(Roi(0.0, 0.4, 0.5, 0.6))
    assert [box.x0, box.x1, box.y0, box.y1] == pytest.approx([0.0, 0.56, 0.376, 0.624])


def test_a_masked_map_is_the_weighted_mean_of_the_cells_inside() -> None:
    rng = np.random.default_rng(4)
    mask = np.zeros((256, 256), bool)
    mask[64:192, 32:200] = True
    raw = rng.random((28, 28)).astype(np.float32)
    inside = Inside(mask, 5.4)
    found = inside.enlarge(raw)
    cells = cv2.resize(mask.astype(np.float32), (28, 28), interpolation=cv2.INTER_AREA) > 0.25

    def blurred(image: NDArray[np.float32]) -> NDArray[np.float32]:
        large = cv2.resize(image, (256, 256), interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.GaussianBlur(large, (0, 0), 5.4), np.float32)

    expected = blurred(np.where(cells, raw, 0)) / np.maximum(blurred(cells.astype(np.float32)), 1e-6)
    assert found[mask] == pytest.approx(expected[mask], abs=1e-5)
    assert (found[~mask] == found[mask].min()).all()
    elsewhere = np.where(cells, raw, np.float32(50.0))
    assert np.array_equal(inside.enlarge(elsewhere), found)
    assert np.array_equal(inside.cut(elsewhere), np.where(cells, raw, raw[cells].min()))
    assert inside.enlarge(np.full((56, 56), 2.0, np.float32)) == pytest.approx(2.0)

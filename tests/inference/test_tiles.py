"""Tiles cover their region, and stitching puts every map back where it came from."""

from __future__ import annotations

import numpy as np
import pytest

from inference.errors import BundleError
from inference.roi import Roi
from inference.tiles import TileLayout, place, plan_tiles, stitch


@pytest.mark.parametrize(
    ("size", "grid"),
    [((256, 256), (1, 1)), ((640, 640), (1, 1)), ((641, 400), (2, 1)), ((2048, 2448), (4, 5))],
)
def test_the_layout_follows_from_the_size(size: tuple[int, int], grid: tuple[int, int]) -> None:
    layout = plan_tiles(size, Roi(), tile_pixels=640, overlap=0.125)
    assert (layout.rows, layout.columns) == grid
    for box in layout.boxes():
        rows, columns = box.pixels(*size)
        assert rows.stop - rows.start <= 642
        assert columns.stop - columns.start <= 642


def test_tiles_cover_the_region_and_neighbours_overlap() -> None:
    roi = Roi(0.1, 0.2, 0.9, 1.0)
    layout = TileLayout(roi, 3, 4, 0.2)
    boxes = layout.boxes()
    assert len(boxes) == layout.count == 12
    assert (boxes[0].x0, boxes[0].y0) == (0.1, 0.2)
    assert (boxes[-1].x1, boxes[-1].y1) == pytest.approx((0.9, 1.0))
    seen = np.zeros((1000, 1000), int)
    for box in boxes:
        seen[box.pixels(1000, 1000)] += 1
    assert (seen[roi.pixels(1000, 1000)] >= 1).all()
    assert boxes[0].x1 - boxes[1].x0 == pytest.approx(0.2 * (boxes[0].x1 - boxes[0].x0))


def test_a_smooth_map_survives_cutting_and_stitching() -> None:
    layout = TileLayout(Roi(), 3, 2, 0.125)
    height, width = layout.canvas(64)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    whole = np.sin(x / 20) + np.cos(y / 17)
    maps = []
    for box in layout.boxes():
        top, left = round(box.y0 * height), round(box.x0 * width)
        top, left = min(top, height - 64), min(left, width - 64)
        maps.append(whole[top : top + 64, left : left + 64].astype(np.float32))
    found = stitch(maps, layout)
    assert found.shape == (height, width)
    assert np.abs(found - whole).max() < 0.12


def test_a_constant_stays_constant_and_one_tile_is_its_own_map() -> None:
    layout = TileLayout(Roi(), 2, 3, 0.25)
    assert stitch([np.full((32, 32), 2.5, np.float32)] * 6, layout) == pytest.approx(2.5)
    one = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    assert stitch([one], TileLayout(Roi())) is one


def test_outside_the_region_of_interest_nothing_is_claimed() -> None:
    layout = TileLayout(Roi(0.25, 0.5, 0.75, 1.0))
    found = place(np.ones((64, 64), np.float32), layout, (100, 200), outside=-7.0)
    assert found.shape == (100, 200)
    assert (found[50:, 50:150] == 1.0).all()
    assert (found[:50] == -7.0).all()
    assert (found[:, :50] == -7.0).all()


@pytest.mark.parametrize("values", [{}, {"rows": 0, "columns": 1, "overlap": 0.1}, {"rows": "2"}])
def test_a_damaged_layout_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="tile layout"):
        TileLayout.from_map(Roi(), values)
    good = TileLayout(Roi(), 2, 3, 0.1)
    assert TileLayout.from_map(Roi(), good.to_map()) == good

"""Which sensors can be used, and what reaches the model's grids."""

from __future__ import annotations

import numpy as np
import pytest

from inference.errors import BundleError, NoReading, WrongSize
from inference.prepare import Preparation
from inference.roi import Roi
from inference.sample import Sample
from inference.tiles import TileLayout, plan_tiles
from schemas.verdict import Mode


def preparation(roi: Roi | None = None, rgb: tuple[int, int] | None = (300, 400)) -> Preparation:
    return Preparation(
        rgb_size=rgb, depth_size=(150, 200), layout=TileLayout(roi or Roi()), least_coverage=0.2
    )


def sample(seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(
        rng.integers(0, 255, (300, 400, 3), np.uint8), rng.integers(900, 1100, (150, 200)).astype(np.uint16)
    )


def test_both_sensors_are_fused_and_coverage_counts_the_region_only() -> None:
    one = sample()
    assert one.depth is not None
    one.depth[:, :100] = 0
    found = preparation().sensors(one)
    assert (found.mode, found.degraded) == (Mode.FUSED, ())
    assert found.coverage == pytest.approx(0.5)
    right = preparation(Roi(0.5, 0.0, 1.0, 1.0)).sensors(one)
    assert right.coverage == 1.0


@pytest.mark.parametrize("level", [1, 1000, 65535])
def test_one_value_all_over_is_no_reading_whatever_the_holes(level: int) -> None:
    one = sample()
    assert one.depth is not None
    one.depth[:] = level
    one.depth[:30] = 0
    found = preparation().sensors(one)
    assert (found.mode, found.degraded) == (Mode.RGB, ("depth:constant",))


def test_extreme_counts_are_readings() -> None:
    one = sample()
    assert one.depth is not None
    one.depth[:] = 65535
    one.depth[3, 3] = 1
    assert preparation().sensors(one).mode is Mode.FUSED


def test_nothing_to_look_at_is_an_error_that_names_both_sensors() -> None:
    black = np.zeros((300, 400, 3), np.uint8)
    with pytest.raises(NoReading, match=r"rgb:constant, depth:absent"):
        preparation().sensors(Sample(black, None))


def test_another_size_is_an_error_that_names_both_sizes() -> None:
    with pytest.raises(WrongSize, match=r"depth image is 100 x 150 pixels.*200 x 150"):
        preparation().sensors(Sample(None, np.ones((150, 100), np.uint16)))


def test_a_product_without_colour_ignores_a_colour_image() -> None:
    found = preparation(rgb=None).sensors(sample())
    assert (found.mode, found.degraded) == (Mode.DEPTH, ())


def test_depth_is_never_interpolated_and_both_sensors_show_the_same_place() -> None:
    one = sample()
    assert one.depth is not None
    assert one.rgb is not None
    one.depth[:] = 1000
    one.depth[60:90, 80:120] = 2000
    one.depth[0, 0] = 0
    one.rgb[:] = 10
    one.rgb[120:180, 160:240] = 200
    (tile,) = preparation().tiles(one, Mode.FUSED)
    assert tile.rgb is not None
    assert tile.depth is not None
    assert tile.valid is not None
    assert tile.shape_depth is not None
    assert set(np.unique(tile.depth)) == {0.0, 1000.0, 2000.0}
    assert not tile.valid[0, 0]
    high = tile.shape_depth == 2000
    assert tile.rgb.shape == (224, 224, 3)
    assert (tile.rgb[high] > 100).mean() > 0.97
    assert (tile.rgb[~high] < 100).mean() > 0.97


def test_a_large_frame_becomes_tiles_of_both_sensors() -> None:
    size = (1024, 1280)
    prepared = Preparation(
        rgb_size=size,
        depth_size=(512, 640),
        layout=plan_tiles(size, Roi(), tile_pixels=512, overlap=0.125),
        least_coverage=0.2,
    )
    y, x = np.mgrid[:512, :640]
    one = Sample(np.zeros((*size, 3), np.uint8), (1000 + x + y).astype(np.uint16))
    tiles = prepared.tiles(one, Mode.FUSED)
    assert [tile.index for tile in tiles] == list(range(prepared.layout.count))
    assert len(tiles) == 9
    first, last = tiles[0].depth, tiles[-1].depth
    assert first is not None
    assert last is not None
    assert first[0, 0] == 1000
    assert last[-1, -1] == pytest.approx(1000 + 511 + 639, abs=2)


def test_the_preparation_comes_back_from_its_map_and_refuses_another_version() -> None:
    one = preparation(Roi(0.1, 0.2, 0.9, 1.0))
    assert Preparation.from_map(one.to_map()) == one
    with pytest.raises(BundleError, match="teach the product again"):
        Preparation.from_map({**one.to_map(), "version": "prepare/99"})
    for key in ("roi", "tiles", "least_coverage"):
        with pytest.raises(BundleError):
            Preparation.from_map({**one.to_map(), key: None})
    with pytest.raises(BundleError, match="height, width"):
        Preparation.from_map({**one.to_map(), "rgb_size": [1, "2"]})

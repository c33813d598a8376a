"""What the foreground does to an inspection: named, counted as coverage, and an empty belt refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.bundle import read_bundle
from inference.datasets.synthetic import SyntheticDataset
from inference.errors import BundleError, NoPart
from inference.inspector import Inspector
from inference.prepare import Tile
from inference.profiles.base import Raw
from inference.sample import SILHOUETTE, Sample
from schemas.verdict import Mode


@pytest.fixture(scope="module")
def good(parts: SyntheticDataset) -> Sample:
    return next(item.sample() for item in parts.test() if item.is_good)


@pytest.fixture(scope="module")
def belt(good: Sample) -> Sample:
    """The belt without a part: the strip above the part over and over, and a level depth."""
    assert good.rgb is not None
    assert good.depth is not None
    rng = np.random.default_rng(0)
    strip = good.rgb[:12]
    rgb = np.concatenate([strip if i % 2 else strip[::-1] for i in range(good.rgb.shape[0] // 12)])
    level = float(np.median(good.depth[:12][good.depth[:12] > 0]))
    depth = (level + rng.normal(0, 4, good.depth.shape)).astype(np.uint16)
    return Sample(rgb, depth, good.depth_scale)


def test_with_both_sensors_depth_tells_the_part_and_its_place_is_remembered(
    inspector: Inspector, good: Sample
) -> None:
    (found,) = inspector.inspect([good])
    assert found.error is None
    assert found.foreground == "depth"
    assert found.silhouette is not None
    assert found.silhouette.shape == SILHOUETTE
    assert 0.9 < found.coverage < 1.0


def test_without_depth_the_last_silhouette_stands_in_then_the_taught_region(
    inspector: Inspector, good: Sample
) -> None:
    (seen,) = inspector.inspect([good])
    alone = replace(good, depth=None)
    lent = replace(alone, silhouette=seen.silhouette)
    dark = Sample(good.rgb, np.zeros_like(good.depth), silhouette=seen.silhouette)
    region, silhouette, blind = inspector.inspect([alone, lent, dark])
    assert (region.mode, region.foreground) == (Mode.RGB, "region")
    assert (silhouette.mode, silhouette.foreground) == (Mode.RGB, "silhouette")
    assert (blind.mode, blind.foreground) == (Mode.RGB, "silhouette")
    assert region.silhouette is silhouette.silhouette is None
    assert blind.score == silhouette.score


def test_a_silhouette_changes_nothing_where_depth_is_there(inspector: Inspector, good: Sample) -> None:
    odd = replace(good, silhouette=np.zeros(SILHOUETTE, bool))
    one, other = inspector.inspect([good, odd])
    assert one == replace(other, timings=one.timings, heatmap=one.heatmap)
    assert one.heatmap is not None
    assert other.heatmap is not None
    assert np.array_equal(one.heatmap.values, other.heatmap.values)


@pytest.mark.parametrize("sensors", ["both", "colour", "depth"])
def test_an_empty_belt_is_an_error_and_takes_no_neighbour_along(
    inspector: Inspector, good: Sample, belt: Sample, sensors: str
) -> None:
    empty = replace(
        belt,
        rgb=None if sensors == "depth" else belt.rgb,
        depth=None if sensors == "colour" else belt.depth,
    )
    before, refused, after = inspector.inspect([good, empty, good])
    assert isinstance(refused.error, NoPart)
    assert refused.error.reason == "no_part"
    assert (refused.mode, refused.score, refused.heatmap) == (None, None, None)
    assert before.error is after.error is None
    assert before.score == after.score


def test_a_hole_over_the_part_lowers_the_coverage_by_its_share_of_the_part(
    inspector: Inspector, good: Sample
) -> None:
    assert good.depth is not None
    (whole,) = inspector.inspect([good])
    rows, columns = good.depth.shape
    depth = good.depth.copy()
    depth[:, columns // 2 :] = 0
    half, level = inspector.inspect([replace(good, depth=depth), good])
    assert level.coverage == whole.coverage
    assert half.coverage == pytest.approx(whole.coverage / 2, abs=0.06)
    beside = good.depth.copy()
    beside[: rows // 12] = 0
    (belt_unread,) = inspector.inspect([replace(good, depth=beside)])
    assert belt_unread.coverage == pytest.approx(whole.coverage, abs=0.01)


def test_a_frame_that_trips_the_networks_takes_no_frame_of_its_pass_along(
    inspector: Inspector, good: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert good.rgb is not None
    odd = replace(good, rgb=255 - good.rgb)
    odd_tile = inspector.preparation.tiles(odd, Mode.FUSED)[0].rgb
    assert odd_tile is not None
    profile = inspector._profile
    read = profile._lite.tokens  # type: ignore[attr-defined]

    def tokens(rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> object:
        if np.array_equal(rgb, odd_tile):
            raise RuntimeError("out of memory")
        return read(rgb)

    def read_batch(tiles: Sequence[Tile]) -> list[Raw]:
        return [profile.read(tile) for tile in tiles]

    monkeypatch.setattr(profile._lite, "tokens", tokens)  # type: ignore[attr-defined]
    monkeypatch.setattr(profile, "read_batch", read_batch)
    before, tripped, after = inspector._inspect_together([good, odd, good])
    assert "out of memory" in str(tripped.error)
    assert before.error is after.error is None
    assert before.score == after.score == inspector.inspect([good])[0].score


def test_a_damaged_station_is_refused_and_not_taken_for_none(bundle: Path) -> None:
    whole = read_bundle(bundle)
    with pytest.raises(BundleError, match="station"):
        Inspector(replace(whole, manifest={**whole.manifest, "station": "none"}))

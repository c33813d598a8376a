"""Teaching: the same normals give the same bundle; normals that cannot teach are named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.branches.base import Evidence
from inference.bundle import TENSORS
from inference.datasets.base import Item
from inference.datasets.synthetic import SyntheticDataset
from inference.errors import DepthUnusable, TeachError
from inference.grants import Grant, write_grant
from inference.inspector import Inspector
from inference.sample import Sample
from inference.teach import folds_by_group, teach
from inference.teach_settings import TeachSettings
from schemas.verdict import Mode

SMALL = TeachSettings(bank_size=60, folds=2)


@dataclass
class Listed:
    """A dataset of given items."""

    train_items: Sequence[Item]
    validation_items: Sequence[Item]
    name: str = "listed"

    def train(self) -> Sequence[Item]:
        return self.train_items

    def validation(self) -> Sequence[Item]:
        return self.validation_items

    def test(self) -> Sequence[Item]:
        raise AssertionError("teaching must never ask for the test split")


@pytest.fixture(scope="module")
def normals() -> Listed:
    made = SyntheticDataset(train=8, validation=2, test_good=0, defects_per_kind=0, size=96, lot_size=2)
    return Listed(made.train(), made.validation())


def changed(item: Item, change: Callable[[Sample], Sample]) -> Item:
    return replace(item, load=lambda: change(item.sample()))


def test_the_same_normals_and_seed_give_the_same_tensors(normals: Listed, tmp_path: Path) -> None:
    digests = [
        hashlib.sha256((teach(normals, tmp_path, name=name, settings=s) / TENSORS).read_bytes()).hexdigest()
        for name, s in (("a", SMALL), ("b", SMALL), ("c", replace(SMALL, seed=1)))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_the_manifest_says_what_it_rests_on(bundle: Path, parts: SyntheticDataset) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["teaching"]["train"] == 18
    assert manifest["teaching"]["validation"] == 6
    assert manifest["teaching"]["groups"] == 8
    assert len(manifest["teaching"]["frames_sha256"]) == 64
    assert manifest["prepare"]["rgb_size"] == [192, 192]
    assert manifest["fusion"] == "calibrated"
    for mode in ("FUSED", "RGB", "DEPTH"):
        one = manifest["point"]["thresholds"]["calibrated"][mode]
        assert one["low"] < one["reach"] < one["high"]
        assert one["passes"] <= one["rejects"]
        assert (one["groups"], one["frames"]) == (8, 24)


def test_versions_count_up_and_progress_reaches_its_totals(normals: Listed, tmp_path: Path) -> None:
    seen: dict[str, tuple[int, int]] = {}
    first = teach(
        normals, tmp_path, name="part", settings=SMALL, progress=lambda s, d, t: seen.update({s: (d, t)})
    )
    second = teach(normals, tmp_path, name="part", settings=SMALL)
    assert (first.name, second.name) == ("1", "2")
    assert {"train", "folds", "validate", "write"} <= set(seen)
    assert all(done == total for done, total in seen.values())


def test_a_grant_lets_its_mode_pass_until_the_product_is_taught_again(
    normals: Listed, tmp_path: Path
) -> None:
    first = teach(normals, tmp_path, name="part", settings=SMALL)
    sample = normals.train_items[0].sample()
    assert not Inspector.load(first).inspect([Sample(sample.rgb, None)])[0].degraded_pass
    grant = Grant(
        mode=Mode.RGB,
        miss_rate=0.0,
        interval=(0.0, 0.04),
        defects=90,
        dataset="labelled",
        threshold=1.0,
        max_miss=0.05,
    )
    write_grant(first, Inspector.load(first).bundle_hash, grant)
    assert Inspector.load(first).inspect([Sample(sample.rgb, None)])[0].degraded_pass
    assert not Inspector.load(first).inspect([Sample(None, sample.depth)])[0].degraded_pass
    second = teach(normals, tmp_path, name="part", settings=SMALL)
    assert not Inspector.load(second).inspect([Sample(sample.rgb, None)])[0].degraded_pass


@pytest.mark.parametrize(("sensor", "mode"), [("rgb", Mode.RGB), ("depth", Mode.DEPTH)])
def test_a_product_with_one_sensor_has_that_mode_alone(
    normals: Listed, tmp_path: Path, sensor: str, mode: Mode
) -> None:
    def only(sample: Sample) -> Sample:
        return Sample(sample.rgb if sensor == "rgb" else None, sample.depth if sensor == "depth" else None)

    one = Listed(
        [changed(i, only) for i in normals.train()], [changed(i, only) for i in normals.validation()]
    )
    inspector = Inspector.load(teach(one, tmp_path, name="one", settings=SMALL))
    assert inspector.modes == (mode,)
    found = inspector.inspect([normals.train_items[0].sample()])[0]
    assert (found.mode, found.degraded, found.degraded_pass) == (mode, (), False)


def test_a_large_frame_is_taught_and_inspected_in_tiles(
    normals: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiled = replace(SMALL, tile_pixels=64, roi=False)
    inspector = Inspector.load(teach(normals, tmp_path, name="tiled", settings=tiled))
    assert inspector.preparation.layout.count == 4
    sample = normals.validation_items[0].sample()
    found = inspector.inspect([sample])[0]
    assert found.mode is Mode.FUSED
    assert found.heatmap is not None
    assert found.heatmap.values.shape == (96, 96)
    assert sample.rgb is not None
    rgb = sample.rgb.copy()
    rgb[60:80, 60:80] = (250, 0, 250)
    marked = inspector.study(Sample(rgb, sample.depth))
    assert found.score is not None
    assert marked.score > found.score
    peak = np.unravel_index(int(marked.map.argmax()), marked.map.shape)
    assert 50 <= peak[0] <= 90
    assert 50 <= peak[1] <= 90
    # One tile that the depth sensor did not see is not made good by the three it did.
    assert sample.depth is not None
    depth = sample.depth.copy()
    depth[:40, :40] = 0
    blind = inspector.inspect([Sample(sample.rgb, depth)])[0]
    assert found.coverage > 0.8
    assert blind.coverage < 0.6
    # Nor is one that was read, and whose readings a branch cannot use.
    dents = inspector._branches["dents"]
    score = dents.score

    def unusable(evidence: Evidence) -> NDArray[np.float32]:
        if evidence.tile == 0:
            raise DepthUnusable("scattered readings")
        return score(evidence)

    monkeypatch.setattr(dents, "score", unusable)
    half_seen = inspector.inspect([sample])[0]
    assert (half_seen.mode, half_seen.coverage) == (Mode.FUSED, 0.0)


def test_normals_that_cannot_teach_are_named(normals: Listed, tmp_path: Path) -> None:
    items = list(normals.train())
    small = changed(items[3], lambda s: Sample(None if s.rgb is None else s.rgb[:90], s.depth))
    no_depth = changed(items[3], lambda s: Sample(s.rgb, None))
    dead = changed(items[3], lambda s: Sample(s.rgb, np.zeros((96, 96), np.uint16)))
    cases = [
        (items[:4], normals.validation(), "4 teaching frames"),
        (items, [], "no validation split"),
        ([replace(i, group="one") for i in items], normals.validation(), "1 lot,"),
        ([*items[:-1], replace(items[-1], label="dent")], normals.validation(), "labelled 'dent'"),
        (
            [*items[:3], small, *items[4:]],
            normals.validation(),
            f"{items[3].name}: its colour image is 96 x 90",
        ),
        (
            [*items[:3], no_depth, *items[4:]],
            normals.validation(),
            f"{items[3].name}: its depth image is missing",
        ),
        ([*items[:3], dead, *items[4:]], normals.validation(), f"{items[3].name}: depth:invalid"),
    ]
    for train, validation, match in cases:
        with pytest.raises(TeachError, match=match):
            teach(Listed(train, validation), tmp_path, name="bad", settings=SMALL)
    assert not (tmp_path / "bad").exists()


def test_settings_out_of_range_are_named() -> None:
    for bad in ({"folds": 1}, {"false_reject": 0.5}, {"bank_size": 0}, {"tile_overlap": 0.9}):
        with pytest.raises(TeachError, match=next(iter(bad))):
            TeachSettings(**bad)


def test_folds_keep_groups_together_and_are_of_like_size() -> None:
    groups = [name for name in "abcdefghij" for _ in range(5)]
    folds = folds_by_group(groups, 5, seed=0)
    for name in set(groups):
        assert len({fold for fold, group in zip(folds, groups, strict=True) if group == name}) == 1
    assert np.bincount(folds).tolist() == [10] * 5
    assert folds == folds_by_group(groups, 5, seed=0)
    assert max(folds_by_group(["a", "b"], 5, seed=0)) == 1

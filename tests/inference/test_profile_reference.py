"""The reference profile from weight files to verdict's evidence, with networks small enough for a test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.branches.heads import PUBLISHED_HEADS
from inference.bundle import MANIFEST
from inference.datasets.synthetic import SyntheticDataset
from inference.errors import BundleError, TeachError, WeightsError
from inference.features.dino import Dino, DinoConfig
from inference.features.point_mae import PointConfig, PointMae, published_names
from inference.inspector import Inspector
from inference.profiles.reference import ReferenceProfile, ReferenceSettings
from inference.profiles.runtime import Runtime
from inference.sample import Sample
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.verdict import Mode

DINO = DinoConfig(dim=24, depth=2, heads=2)
POINTS = PointConfig(dim=12, depth=3, heads=2, taps=(0, 1, 2), group_size=16, widths=(8, 12, 16), position=8)
SETTINGS = TeachSettings(profile="reference", epochs=2, reference=ReferenceSettings(dino=DINO, points=POINTS))


def weights(folder: Path, seed: int = 0) -> Runtime:
    """Both files in their published layouts, drawn from a seed."""
    dino = Dino.random(DINO, seed)
    torch.save(dino._model.state_dict(), folder / "dino_vitbase8_pretrain.pth")
    points = PointMae.random(POINTS, seed)
    own = points.state_dict()
    published = {
        f"module.MAE_encoder.{theirs}": own[ours].unsqueeze(-1)
        if theirs.startswith("encoder.") and own[ours].ndim == 2
        else own[ours]
        for ours, theirs in published_names(POINTS).items()
    }
    torch.save({"base_model": published}, folder / "pointmae_pretrain.pth")
    return Runtime(dino=folder / "dino_vitbase8_pretrain.pth", point_mae=folder / "pointmae_pretrain.pth")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def normals() -> SyntheticDataset:
    return SyntheticDataset(train=8, validation=6, test_good=0, defects_per_kind=0, size=96, lot_size=2)


@pytest.fixture(scope="module")
def bundle(normals: SyntheticDataset, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach(normals, tmp_path_factory.mktemp("models"), name="part", settings=SETTINGS, runtime=runtime)


def test_it_teaches_and_inspects_in_every_mode(
    bundle: Path, runtime: Runtime, normals: SyntheticDataset
) -> None:
    inspector = Inspector.load(bundle, runtime=runtime)
    sample = normals.validation()[0].sample()
    found = inspector.inspect([sample, Sample(sample.rgb, None), Sample(None, sample.depth)])
    assert [one.error for one in found] == [None, None, None]
    assert [one.mode for one in found] == [Mode.FUSED, Mode.RGB, Mode.DEPTH]
    assert set(found[0].branches) == {"colour", "shape", "colour_from_shape", "shape_from_colour"}
    assert set(found[1].branches) == {"colour"}
    assert set(found[2].branches) == {"shape"}
    again = Inspector.load(bundle, runtime=runtime).inspect([sample])[0]
    assert again.score == found[0].score


def test_one_pass_over_a_batch_gives_what_frames_give_one_by_one(
    bundle: Path, runtime: Runtime, normals: SyntheticDataset
) -> None:
    inspector = Inspector.load(bundle, runtime=runtime)
    samples = [item.sample() for item in normals.train()[:3]]
    samples[1] = replace(samples[1], depth=None)
    alone = [inspector.inspect([one])[0] for one in samples]
    together = inspector._inspect_together(samples)
    assert [one.mode for one in together] == [one.mode for one in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-3)


def test_published_heads_are_a_setting_that_the_bundle_keeps(
    normals: SyntheticDataset, runtime: Runtime, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, epochs=1, reference=replace(SETTINGS.reference, published_heads=True))
    bundle = teach(normals, tmp_path, name="part", settings=settings, runtime=runtime)
    inspector = Inspector.load(bundle, runtime=runtime)
    assert inspector.inspect([normals.validation()[0].sample()])[0].error is None
    kinds = ReferenceProfile.load(settings.reference, runtime, torch.device("cpu")).branches(Mode.FUSED)
    assert kinds == PUBLISHED_HEADS


def test_a_marked_part_scores_higher_than_a_good_one_by_either_rule(
    bundle: Path, runtime: Runtime, normals: SyntheticDataset
) -> None:
    inspector = Inspector.load(bundle, runtime=runtime)
    sample = normals.validation()[1].sample()
    assert sample.rgb is not None
    assert sample.depth is not None
    rgb, depth = sample.rgb.copy(), sample.depth.copy()
    rgb[40:60, 40:60] = (255, 0, 255)
    depth[40:60, 40:60] -= 400
    good = inspector.study(sample, alternatives=True)
    bad = inspector.study(replace(sample, rgb=rgb, depth=depth), alternatives=True)
    assert bad.score > good.score
    assert bad.alternatives["cmdr"].score > good.alternatives["cmdr"].score


def test_a_frame_of_which_nothing_was_read_is_scored_by_colour(
    bundle: Path, runtime: Runtime, normals: SyntheticDataset
) -> None:
    sample = normals.validation()[0].sample()
    assert sample.depth is not None
    found = Inspector.load(bundle, runtime=runtime).inspect(
        [replace(sample, depth=np.zeros_like(sample.depth))]
    )[0]
    assert (found.mode, found.degraded) == (Mode.RGB, ("depth:invalid",))


def test_other_weights_than_it_was_taught_with_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="weights it was taught with"):
        Inspector.load(bundle, runtime=weights(tmp_path, seed=1))


def test_without_weights_the_file_to_give_is_named(bundle: Path, runtime: Runtime) -> None:
    with pytest.raises(WeightsError, match="--point-mae"):
        Inspector.load(bundle, runtime=replace(runtime, point_mae=None))
    with pytest.raises(WeightsError, match="sha256"):
        Inspector.load(bundle, runtime=replace(runtime, dino_sha256="0" * 64))


def test_settings_that_no_network_has_are_refused(bundle: Path, runtime: Runtime) -> None:
    for change, match in (({"grid": 40}, "grid is 40"), ({"precision": "int4"}, "int4")):
        with pytest.raises(TeachError, match=match):
            ReferenceSettings(**change)
    manifest = json.loads((bundle / MANIFEST).read_text())
    settings = manifest["features"]["settings"]
    assert ReferenceSettings.from_map(settings) == SETTINGS.reference
    with pytest.raises(BundleError, match="damaged"):
        ReferenceSettings.from_map(settings | {"points": {"dim": 7, "heads": 2}})
    with pytest.raises(BundleError, match="damaged"):
        ReferenceSettings.from_map("none")

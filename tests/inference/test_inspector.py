"""The promises of the one door: invariance, absent sensors, errors that never read as good."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.datasets.synthetic import SyntheticDataset
from inference.errors import BadSample, NoReading, NotFinite, WrongSize
from inference.inspection import Inspection
from inference.inspector import Inspector
from inference.sample import Sample
from schemas.verdict import Mode


@pytest.fixture(scope="module")
def samples(parts: SyntheticDataset) -> list[Sample]:
    return [item.sample() for item in parts.test()[:7]]


def key(inspection: Inspection) -> tuple[Any, ...]:
    """Everything in an inspection but its timings."""
    heat = inspection.heatmap
    return (
        inspection.mode,
        inspection.score,
        inspection.threshold,
        inspection.coverage,
        dict(inspection.branches),
        inspection.regions,
        None if heat is None else (heat.values.tobytes(), heat.values.shape, heat.low, heat.high),
    )


def test_a_frame_gives_the_same_bits_alone_in_any_batch_in_any_order_and_again(
    inspector: Inspector, samples: list[Sample]
) -> None:
    alone = [key(inspector.inspect([sample])[0]) for sample in samples]
    rng = random.Random(0)
    for size in (1, 2, 3, 4, 5, 7):
        order = rng.sample(range(len(samples)), size)
        found = inspector.inspect([samples[i] for i in order])
        assert [key(one) for one in found] == [alone[i] for i in order]


def test_frames_scored_side_by_side_have_the_bits_they_have_alone(
    bundle: Path, inspector: Inspector, samples: list[Sample]
) -> None:
    alone = [key(inspector.inspect([sample])[0]) for sample in samples]
    together = Inspector.load(bundle, parallel=3)
    for _ in range(3):
        found = together.inspect(samples)
        assert [key(one) for one in found] == alone


def test_another_process_wide_instance_gives_the_same_bits(bundle: Path, samples: list[Sample]) -> None:
    first, second = Inspector.load(bundle), Inspector.load(bundle)
    second.warm()
    assert [key(a) for a in first.inspect(samples[:2])] == [key(b) for b in second.inspect(samples[:2])]


def test_two_threads_agree_with_one_within_tolerance(inspector: Inspector, samples: list[Sample]) -> None:
    one = inspector.inspect(samples[:4])
    torch.set_num_threads(2)
    try:
        two = inspector.inspect(samples[:4])
    finally:
        torch.set_num_threads(1)
    for a, b in zip(one, two, strict=True):
        assert a.score is not None
        assert b.score == pytest.approx(a.score, abs=2e-3)


def test_without_depth_the_answer_is_that_of_colour_alone(
    inspector: Inspector, samples: list[Sample]
) -> None:
    sample = samples[0]
    assert sample.depth is not None
    nothing = np.zeros_like(sample.depth)
    constant = np.full_like(sample.depth, 1200)
    sparse = nothing.copy()
    sparse[:4] = sample.depth[:4]
    views = [
        (None, "absent"),
        (nothing, "invalid"),
        (constant, "constant"),
        (sparse, "invalid"),
    ]
    expected = key(inspector.inspect([Sample(sample.rgb, None)])[0])
    assert expected[0] is Mode.RGB
    for depth, why in views:
        found = inspector.inspect([Sample(sample.rgb, depth)])[0]
        assert key(found) == expected
        assert found.degraded == (f"depth:{why}",)
        assert not found.degraded_pass
        assert found.coverage == 1.0


def test_depth_that_carries_no_plane_leaves_the_colour_alone(
    inspector: Inspector, samples: list[Sample]
) -> None:
    sample = samples[1]
    assert sample.depth is not None
    inspector_all = replace(inspector.preparation, least_coverage=0.0)
    column = np.zeros_like(sample.depth)
    column[:, sample.depth.shape[1] // 2] = np.arange(1, 1 + len(column), dtype=np.uint16)
    kept, inspector.preparation = inspector.preparation, inspector_all
    try:
        found = inspector.inspect([Sample(sample.rgb, column)])[0]
    finally:
        inspector.preparation = kept
    assert found.degraded == ("depth:invalid",)
    assert key(found) == key(inspector.inspect([Sample(sample.rgb, None)])[0])


def test_without_colour_the_depth_stands_alone(inspector: Inspector, samples: list[Sample]) -> None:
    sample = samples[0]
    assert sample.rgb is not None
    found = inspector.inspect([Sample(None, sample.depth), Sample(np.zeros_like(sample.rgb), sample.depth)])
    assert [one.mode for one in found] == [Mode.DEPTH, Mode.DEPTH]
    assert [one.degraded for one in found] == [("rgb:absent",), ("rgb:constant",)]
    assert key(found[0]) == key(found[1])
    assert set(found[0].branches) == {"shape", "dents"}
    assert 0.5 < found[0].coverage <= 1.0


def test_bad_samples_get_their_error_and_their_neighbours_a_score(
    inspector: Inspector, samples: list[Sample]
) -> None:
    good = samples[0]
    assert good.rgb is not None
    small = Sample(good.rgb[:-1], good.depth)
    found = inspector.inspect([Sample(None, None), good, small, good])
    assert isinstance(found[0].error, NoReading)
    assert isinstance(found[2].error, WrongSize)
    assert "192 x 191" in str(found[2].error)
    assert "192 x 192" in str(found[2].error)
    for bad in (found[0], found[2]):
        assert (bad.mode, bad.score, bad.threshold, bad.degraded_pass) == (None, None, None, False)
    assert key(found[1]) == key(found[3])
    assert found[1].error is None


def test_a_value_that_is_not_finite_is_an_error_never_a_score(
    bundle: Path, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector = Inspector.load(bundle)
    for name, branch in inspector._branches.items():
        clean = branch.score
        for poison in (math.nan, math.inf, -math.inf):

            def spoiled(evidence: Any, clean: Any = clean, poison: float = poison) -> Any:
                out = clean(evidence).copy()
                out[3, 4] = poison
                return out

            with monkeypatch.context() as patch:
                patch.setattr(branch, "score", spoiled)
                found = inspector.inspect([samples[0]])[0]
            assert isinstance(found.error, NotFinite), name
            assert found.score is None


def test_an_unforeseen_failure_of_a_library_stays_with_its_frame(
    bundle: Path, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector = Inspector.load(bundle)
    calls = iter((True, False))
    clean = inspector._features.evidence

    def fails_once(*args: Any, **named: Any) -> Any:
        if next(calls):
            raise RuntimeError("out of memory")
        return clean(*args, **named)

    monkeypatch.setattr(inspector._features, "evidence", fails_once)
    first, second = inspector.inspect(samples[:2])
    assert first.error is not None
    assert "out of memory" in str(first.error)
    assert second.error is None


def test_samples_of_other_types_are_refused() -> None:
    with pytest.raises(BadSample, match="uint8"):
        Sample(np.zeros((4, 4, 3), np.float32), None)
    with pytest.raises(BadSample, match="uint16"):
        Sample(None, np.zeros((4, 4, 1), np.uint16))


def test_planted_defects_score_above_every_normal(inspector: Inspector, parts: SyntheticDataset) -> None:
    good = [inspector.study(item.sample()) for item in parts.test() if item.is_good]
    dents = [inspector.study(item.sample()) for item in parts.test() if item.label == "shape"]
    assert min(one.branches["dents"] for one in dents) > max(one.branches["dents"] for one in good)
    assert min(one.score for one in dents) > max(one.score for one in good)


def test_a_blot_of_colour_scores_above_every_normal(inspector: Inspector, parts: SyntheticDataset) -> None:
    good = [item.sample() for item in parts.test() if item.is_good]
    marked = []
    for sample in good:
        assert sample.rgb is not None
        rgb = sample.rgb.copy()
        rgb[84:108, 84:108] = (rgb[84:108, 84:108] * 0.4 + (20, 90, 20)).astype(np.uint8)
        marked.append(Sample(rgb, sample.depth))
    for mode in (Mode.FUSED, Mode.RGB):
        normal = max(inspector.study(sample, mode=mode).score for sample in good)
        assert min(inspector.study(sample, mode=mode).score for sample in marked) > normal


def test_the_region_and_the_map_point_at_the_defect(inspector: Inspector, parts: SyntheticDataset) -> None:
    for item in parts.test():
        if item.label != "shape":
            continue
        mask = item.mask()
        assert mask is not None
        found = inspector.inspect([item.sample()])[0]
        assert found.score is not None
        assert found.threshold is not None
        assert found.score > found.threshold
        box = found.regions[0]
        grown = np.zeros_like(mask)
        grown[max(0, box.y - 8) : box.y + box.height + 8, max(0, box.x - 8) : box.x + box.width + 8] = True
        assert (grown & mask).any()
        assert found.heatmap is not None
        assert found.heatmap.values.shape == mask.shape
        heat = found.heatmap.values.astype(float)
        assert heat[mask].mean() > heat[~mask].mean()


def test_a_good_frame_has_no_regions_and_says_where_its_time_went(
    inspector: Inspector, samples: list[Sample]
) -> None:
    found = inspector.inspect(samples[:1])[0]
    assert found.score is not None
    assert found.threshold is not None
    assert found.score <= found.threshold
    assert found.regions == ()
    stages = {"prepare", "foreground", "rgb_features", "depth_features", "branches", "fuse"}
    assert set(found.timings) == stages


def test_the_inspection_and_the_study_agree(inspector: Inspector, samples: list[Sample]) -> None:
    inspection = inspector.inspect(samples[:1])[0]
    study = inspector.study(samples[0], branch_maps=True)
    assert (study.mode, study.score, study.coverage) == (
        inspection.mode,
        inspection.score,
        inspection.coverage,
    )
    assert study.branches == inspection.branches
    assert set(study.branch_maps) == set(study.branches)
    assert study.map.shape == (192, 192)
    assert inspection.heatmap is not None
    # The fused map is a soft maximum of the calibrated ones.
    highest = np.maximum.reduce(list(study.branch_maps.values()))
    inside = study.map > study.low
    assert (study.map[inside] >= highest[inside] - 1e-3).all()
    assert (study.map[inside] <= highest[inside] + math.log(len(study.branches)) + 1e-2).all()


def test_one_pass_over_a_batch_gives_the_numbers_of_frames_one_by_one(
    inspector: Inspector, samples: list[Sample]
) -> None:
    wrong = Sample(np.zeros((10, 10, 3), np.uint8), None)
    mixed = [samples[0], wrong, Sample(samples[1].rgb, None), Sample(None, samples[2].depth), samples[3]]
    alone = [inspector.inspect([one])[0] for one in mixed]
    together = inspector._inspect_together(mixed)
    assert [one.score for one in together] == [one.score for one in alone]
    assert [one.mode for one in together] == [one.mode for one in alone]
    assert [type(one.error) for one in together] == [type(one.error) for one in alone]
    assert inspector._inspect_together([]) == []

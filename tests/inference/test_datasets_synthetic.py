"""Rendered parts: the same seeds give the same bytes, and a defect shows to its sensors alone."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.datasets.base import Dataset
from inference.datasets.defects import Defect, DefectKind
from inference.datasets.synthetic import Rendered, SyntheticDataset, SyntheticPart
from inference.errors import DatasetError

PART = SyntheticPart(0, 128)


def images(rendered: Rendered) -> tuple[np.ndarray, np.ndarray]:
    rgb, depth = rendered.sample.rgb, rendered.sample.depth
    assert rgb is not None
    assert depth is not None
    return rgb, depth


def test_the_same_seeds_give_the_same_bytes_whatever_was_rendered_before() -> None:
    defect = Defect("both", 20, 1.0, 3)
    first = images(PART.render(5, defect=defect, lot=2))
    PART.render(6)
    SyntheticPart(1, 128).render(5)
    again = images(SyntheticPart(0, 128).render(5, defect=defect, lot=2))
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()


def test_another_part_lot_or_product_is_another_picture() -> None:
    base = images(PART.render(5))[0]
    others = (PART.render(6), PART.render(5, lot=1), SyntheticPart(1, 128).render(5))
    for other in others:
        assert (images(other)[0] != base).mean() > 0.2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(6, 40), st.floats(0.2, 3))
def test_a_colour_defect_leaves_depth_exactly_alone(seed: int, size: float, contrast: float) -> None:
    good, bad = PART.render(seed), PART.render(seed, defect=Defect("colour", size, contrast, seed))
    assert (images(good)[1] == images(bad)[1]).all()
    assert bad.mask.any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(6, 40), st.floats(0.2, 3))
def test_a_shape_defect_leaves_colour_exactly_alone(seed: int, size: float, contrast: float) -> None:
    good, bad = PART.render(seed), PART.render(seed, defect=Defect("shape", size, contrast, seed))
    assert (images(good)[0] == images(bad)[0]).all()
    assert bad.mask.any()


@pytest.mark.parametrize(
    ("kind", "seen"), [("colour", (True, False)), ("shape", (False, True)), ("both", (True, True))]
)
def test_a_defect_changes_its_mask_and_hardly_anything_else(kind: str, seen: tuple[bool, bool]) -> None:
    for seed in range(12):
        good = images(PART.render(seed))
        bad = PART.render(seed, defect=Defect(kind, 22, 1.5, seed))
        change = [np.abs(a.astype(float) - b) for a, b in zip(good, images(bad), strict=True)]
        change[0] = change[0].max(2)
        # A reading lost or won is no measure of height.
        change[1][(good[1] == 0) | (images(bad)[1] == 0)] = 0
        for picture, visible in zip(change, seen, strict=True):
            inside, outside = picture[bad.mask].mean(), picture[~bad.mask].mean()
            assert (inside > 8 * outside and inside > 4) if visible else inside == 0


@pytest.mark.parametrize("kind", list(DefectKind))
def test_a_larger_size_marks_more_and_a_higher_contrast_changes_more(kind: str) -> None:
    channel = 1 if kind == "shape" else 0
    areas, changes = [], []
    for size in (10, 20, 40):
        areas.append(
            np.mean([PART.render(s, defect=Defect(kind, size, 1.0, s)).mask.sum() for s in range(8)])
        )
    for contrast in (0.3, 1.0, 2.0):
        total = 0.0
        for seed in range(8):
            bad = PART.render(seed, defect=Defect(kind, 20, contrast, seed))
            good = images(PART.render(seed))[channel].astype(float)
            found = images(bad)[channel]
            known = (good > 0) & (found > 0)
            total += np.abs(good - found)[known].mean()
        changes.append(total)
    assert areas[0] < areas[1] < areas[2]
    assert changes[0] < changes[1] < changes[2]


def test_a_dent_of_one_millimetre_is_a_hundred_counts_deep() -> None:
    for seed in range(200):
        bad = PART.render(3, defect=Defect("shape", 30, 1.0, seed))
        if bad.form == "dent":
            break
    else:
        pytest.fail("no dent among 200 shape defects")
    good, dented = images(PART.render(3))[1].astype(float), images(bad)[1].astype(float)
    known = (good > 0) & (dented > 0) & bad.mask
    assert bad.sample.depth_scale == 1e-5
    assert 80 <= np.quantile((dented - good)[known], 0.99) <= 104  # farther away, in counts of 10 micrometres


def test_depth_looks_like_a_sensor_s_and_colour_is_well_exposed() -> None:
    rgb, depth = images(SyntheticPart(0, 256).render(1))
    missing = (depth == 0).mean()
    assert 0.005 < missing < 0.05
    assert (depth[depth > 0] * 1e-5 > 0.38).all()
    assert (depth[depth > 0] * 1e-5 < 0.405).all()
    assert (rgb == 255).mean() < 0.02
    assert rgb.std() > 25
    belt = depth[:16].astype(float)
    assert 2 < belt[belt > 0].std() < 30  # noise of some hundredths of a millimetre


@pytest.mark.parametrize("size", [64, (96, 160), (200, 120), 300])
def test_any_size_and_shape_of_picture_can_be_rendered(size: int | tuple[int, int]) -> None:
    expected = (size, size) if isinstance(size, int) else size
    rendered = PART.render(0, defect=Defect("both", 12, 1, 0), size=size)
    rgb, depth = images(rendered)
    assert rgb.shape == (*expected, 3)
    assert depth.shape == rendered.mask.shape == expected


@pytest.mark.parametrize(
    ("kind", "size", "contrast", "message"),
    [("dirt", 20, 1, "use one of"), ("colour", 1, 1, "at least 2"), ("colour", 20, 0, "above 0")],
)
def test_impossible_defects_are_refused(kind: str, size: float, contrast: float, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Defect(kind, size, contrast)


def test_a_picture_too_small_for_the_part_is_refused() -> None:
    with pytest.raises(DatasetError, match="at least 32"):
        SyntheticPart(0, 16)


def test_the_dataset_has_the_splits_lots_and_labels_it_was_asked_for() -> None:
    data: Dataset = SyntheticDataset(
        train=12, validation=5, test_good=4, defects_per_kind=3, size=64, lot_size=4
    )
    train, validation, test = data.train(), data.validation(), data.test()
    assert (len(train), len(validation), len(test)) == (12, 5, 13)
    assert sorted({item.label for item in test}) == ["both", "colour", "good", "shape"]
    assert len({item.group for item in train}) == 3
    groups = [{item.group for item in split} for split in (train, validation, test)]
    assert len(set.union(*groups)) == sum(map(len, groups))
    assert all(item.mask() is None for item in (*train, *test) if item.is_good)
    assert all((mask := item.mask()) is not None and mask.any() for item in test if not item.is_good)
    pictures = {item.sample().rgb.tobytes() for item in (*train, *validation, *test)}  # type: ignore[union-attr]
    assert len(pictures) == 30


def test_defect_sizes_and_contrasts_stay_in_the_range_asked_for() -> None:
    data = SyntheticDataset(size=64, defect_size=(5, 20), contrast=(0.5, 1.5))
    for number in range(50):
        defect = data.defect("shape", number)
        assert 5 <= defect.size <= 20
        assert 0.5 <= defect.contrast <= 1.5


def test_rendering_is_fast_enough_for_a_demonstration() -> None:
    part = SyntheticPart(0, 256)
    part.render(0)
    start = time.process_time()
    for seed in range(5):
        part.render(seed)
    # About 11 ms on one core; ten times that would make the demo wait for its pictures.
    assert (time.process_time() - start) / 5 < 0.11

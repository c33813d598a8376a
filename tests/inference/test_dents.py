"""The dent detector on generated webs and rendered parts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.branches.base import Branch, Evidence, FitSettings, Needs
from inference.branches.dents import Dents
from inference.branches.dents_normals import levels_by_coverage
from inference.contrast import SIDES, SIGMAS, responses
from inference.datasets.defects import Defect
from inference.datasets.synthetic import SyntheticPart
from inference.errors import BundleError, DepthUnusable, InferenceError, NotFinite, TeachError
from inference.features.heights import HeightStandard
from inference.features.shared_shape import Normals, Reading
from inference.register import Pose, Reference
from inference.relief import GRID, relief, settle

Image = NDArray[np.float32]
NOISE = 20.0  # counts, of the generated web
SIZE = 192


def web(seed: int, *, group: str = "") -> Evidence:
    """A rough surface on a slope with holes: no two frames have anything in common."""
    rng = np.random.default_rng([seed, 77])
    rough = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)), (0, 0), 3)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    height = NOISE * (rough / rough.std() + 0.5 * rng.normal(0, 1, rough.shape))
    valid = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)), (0, 0), 2) < 0.32
    depth = np.rint(30_000 + 4.0 * columns - 2.0 * rows + height)
    return evidence(depth, valid, group or f"lot{seed // 4}")


def evidence(depth: NDArray[np.float64], valid: NDArray[np.bool_], group: str = "") -> Evidence:
    return Evidence(depth=np.where(valid, depth, 0).astype(np.float32), valid=valid, group=group)


def dented(one: Evidence, deep: float, *, at: tuple[int, int] = (110, 70), radius: float = 14) -> Evidence:
    assert one.depth is not None
    assert one.valid is not None
    rows, columns = np.mgrid[:SIZE, :SIZE]
    away = np.minimum(np.hypot(rows - at[0], columns - at[1]) / radius, 1)
    return evidence(one.depth - deep * 0.5 * (1 + np.cos(np.pi * away)), one.valid, one.group)


@dataclass(frozen=True)
class Detector:
    """Depth to a map of dents: the standard of heights and the branch behind it."""

    standard: HeightStandard
    branch: Dents

    @classmethod
    def fit(cls, frames: Sequence[Evidence], *, shared: bool | None = None) -> Detector:
        standard = HeightStandard.fit(readings(frames), shared=shared)
        return cls(standard, Dents.fit([seen(standard, one) for one in frames], FitSettings()))

    def score(self, frame: Evidence) -> Image:
        assert frame.depth is not None
        assert frame.valid is not None
        heights = self.standard.see(frame.depth, frame.valid, tile=frame.tile)
        return self.branch.score(replace(frame, heights=heights))

    def tensors(self) -> dict[str, torch.Tensor]:
        return {**self.branch.tensors(), **self.standard.tensors()}


def readings(frames: Sequence[Evidence]) -> list[Reading]:
    return [
        Reading(one.depth, one.valid, one.tile, one.group)
        for one in frames
        if one.depth is not None and one.valid is not None
    ]


def seen(standard: HeightStandard, frame: Evidence) -> Evidence:
    """As teaching sees it: none of its lot in the shape that is taken off."""
    assert frame.depth is not None
    assert frame.valid is not None
    try:
        heights = standard.see(frame.depth, frame.valid, tile=frame.tile, group=frame.group)
    except DepthUnusable:
        return frame
    return replace(frame, heights=heights)


@cache
def on_web() -> Detector:
    return Detector.fit([web(seed) for seed in range(32)])


@cache
def on_parts() -> tuple[Detector, SyntheticPart]:
    line = SyntheticPart(0, 128)
    return Detector.fit([part(line, seed) for seed in range(24)]), line


def part(line: SyntheticPart, seed: int, defect: Defect | None = None) -> Evidence:
    depth = line.render(seed, lot=seed // 6, defect=defect).sample.depth
    assert depth is not None
    return Evidence(depth=depth.astype(np.float32), valid=depth > 0, group=f"lot{seed // 6}")


def test_it_is_a_branch_that_needs_depth_alone() -> None:
    branch: Branch = on_web().branch
    assert branch.needs == {Needs.DEPTH}


def test_a_deeper_dent_scores_higher_and_is_highest_where_it_is() -> None:
    scores = []
    for deep in (0, 4, 8, 16, 32):
        found = on_web().score(dented(web(100), deep * NOISE))
        scores.append(float(found.max()))
        if deep >= 8:
            row, column = np.unravel_index(int(found.argmax()), found.shape)
            assert abs(row * SIZE / GRID - 110) < 14
            assert abs(column * SIZE / GRID - 70) < 14
    assert scores[1:] == sorted(scores[1:])
    assert scores[3] > scores[0] + 3


def test_bumps_count_as_much_as_dents() -> None:
    deep, high = (float(on_web().score(dented(web(100), sign * 12 * NOISE)).max()) for sign in (1, -1))
    assert high == pytest.approx(deep, rel=0.35)


def test_new_normal_frames_stay_below_every_real_dent() -> None:
    normal = [float(on_web().score(web(seed)).max()) for seed in range(200, 220)]
    dents = [float(on_web().score(dented(web(seed), 16 * NOISE)).max()) for seed in range(200, 220)]
    assert max(normal) < min(dents)


def test_new_holes_and_spikes_do_not_fire() -> None:
    plain = [float(on_web().score(web(seed)).max()) for seed in range(300, 310)]
    spoilt = []
    for seed in range(300, 310):
        rng = np.random.default_rng(seed)
        one = web(seed)
        assert one.depth is not None
        assert one.valid is not None
        depth, valid = one.depth.astype(np.float64), one.valid.copy()
        for row, column in rng.integers(8, SIZE - 8, (12, 2)):
            depth[row : row + 2, column : column + 2] += rng.choice((-1, 1)) * 60 * NOISE
        row, column = rng.integers(20, SIZE - 60, 2)
        valid[row : row + 36, column : column + 30] = False
        spoilt.append(float(on_web().score(evidence(depth, valid)).max()))
    assert np.median(spoilt) < np.median(plain) + 1.5
    assert max(spoilt) < 5


def test_the_answer_does_not_depend_on_other_frames_or_on_the_call() -> None:
    alone = on_web().score(web(400))
    on_web().score(dented(web(401), 50 * NOISE))
    assert np.array_equal(on_web().score(web(400)), alone)
    assert alone.dtype == np.float32
    assert alone.shape == (GRID, GRID)


def test_tilt_and_distance_of_the_surface_do_not_matter() -> None:
    one = web(500)
    assert one.depth is not None
    assert one.valid is not None
    rows, columns = np.mgrid[:SIZE, :SIZE]
    moved = evidence(one.depth + 500.0 + 3.0 * rows - 5.0 * columns, one.valid)
    np.testing.assert_allclose(on_web().score(moved), on_web().score(one), atol=0.05)


def test_the_same_normals_give_the_same_state() -> None:
    again = Detector.fit([web(seed) for seed in range(32)]).tensors()
    for name, value in on_web().tensors().items():
        assert torch.equal(value, again[name])


@pytest.mark.parametrize("kind", ["web", "parts"])
def test_the_state_survives_its_tensors_bit_for_bit(kind: str) -> None:
    detector = on_web() if kind == "web" else on_parts()[0]
    frame = web(600) if kind == "web" else part(on_parts()[1], 600)
    again = Detector(
        HeightStandard.restore(detector.standard.tensors()),
        Dents.restore(detector.branch.tensors(), torch.device("cpu")),
    )
    assert np.array_equal(again.score(frame), detector.score(frame))


def test_damaged_state_is_refused() -> None:
    state = dict(on_parts()[0].branch.tensors())
    with pytest.raises(BundleError, match="levels"):
        Dents.restore({name: value for name, value in state.items() if name != "levels"}, torch.device("cpu"))
    with pytest.raises(BundleError, match="centre"):
        Dents.restore(state | {"centre": torch.zeros(4)}, torch.device("cpu"))
    with pytest.raises(BundleError, match="spread"):
        Dents.restore(state | {"spread": torch.full((5,), float("nan"))}, torch.device("cpu"))
    with pytest.raises(BundleError, match="positive"):
        Dents.restore(state | {"spread": torch.zeros(5)}, torch.device("cpu"))
    with pytest.raises(BundleError, match="places3"):
        Dents.restore(state | {"places3": torch.zeros(1, GRID, GRID)}, torch.device("cpu"))


def test_a_frame_without_usable_depth_is_refused() -> None:
    blank = np.zeros((SIZE, SIZE), np.bool_)
    with pytest.raises(DepthUnusable):
        on_web().branch.score(Evidence())
    with pytest.raises(DepthUnusable, match="valid readings"):
        on_web().score(evidence(np.zeros((SIZE, SIZE)), blank))
    scattered = blank.copy()
    scattered[::12, ::12] = True
    with pytest.raises(DepthUnusable, match="scattered"):
        on_web().score(evidence(np.full((SIZE, SIZE), 9.0), scattered))


def test_readings_that_are_not_numbers_are_refused() -> None:
    one = web(700)
    assert one.depth is not None
    assert one.valid is not None
    row, column = np.argwhere(one.valid)[1001]
    one.depth[row, column] = np.nan
    with pytest.raises(InferenceError):
        on_web().score(one)
    depth = np.full((128, 128), 100, np.float32)
    depth[33, 33] = np.inf  # between the points that the plane is fitted to
    with pytest.raises(NotFinite):
        relief(depth, np.ones((128, 128), np.bool_))


@pytest.mark.parametrize("shape", [(4, 4), (7, 30), (40, 25)])
def test_tiny_frames_are_scored_or_refused_but_never_nan(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    found = on_web().score(evidence(rng.normal(1000, 5, shape), np.ones(shape, np.bool_)))
    assert np.isfinite(found).all()


def test_a_perfectly_flat_surface_is_finite_and_shows_a_dent() -> None:
    everywhere = np.ones((SIZE, SIZE), np.bool_)
    flat = [evidence(np.full((SIZE, SIZE), 500.0), everywhere, f"lot{i}") for i in range(6)]
    branch = Detector.fit(flat)
    assert float(branch.score(dented(flat[0], 20)).max()) > float(branch.score(flat[0]).max()) + 3


def test_too_few_normals_with_depth_cannot_teach() -> None:
    useless = evidence(np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE), np.bool_))
    with pytest.raises(TeachError, match="2 of 5"):
        Detector.fit([web(0), web(1), useless, useless, useless])


def test_normals_without_depth_are_left_out() -> None:
    useless = evidence(np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE), np.bool_))
    frames = [web(seed) for seed in range(6)]
    with_gap = Detector.fit([*frames[:3], useless, *frames[3:]])
    for name, value in Detector.fit(frames).tensors().items():
        assert torch.equal(value, with_gap.tensors()[name])


def test_a_moving_web_has_no_shape_to_subtract() -> None:
    assert on_web().standard.shape is None


def test_parts_have_one_and_a_faint_dent_shows_in_spite_of_their_edges() -> None:
    branch, line = on_parts()
    assert branch.standard.shape is not None
    normal = [float(branch.score(part(line, seed)).max()) for seed in range(1000, 1012)]
    dent = Defect(kind="shape", size=14, contrast=1.0, seed=3)
    found = [float(branch.score(part(line, seed, dent)).max()) for seed in range(1000, 1012)]
    assert max(normal) < min(found)


def test_the_shape_can_be_asked_for_or_refused() -> None:
    frames = [web(seed) for seed in range(8)]
    assert HeightStandard.fit(readings(frames), shared=True).shape is not None
    line = on_parts()[1]
    parts = readings([part(line, seed) for seed in range(12)])
    assert HeightStandard.fit(parts, shared=False).shape is None


def test_one_lot_cannot_tell_whether_parts_have_a_shape_by_chance() -> None:
    few = Normals.of(readings([part(on_parts()[1], seed) for seed in range(4)]))
    assert not few.lies_still(few.bare())


def test_normals_with_a_small_patch_of_readings_still_teach_and_score_finite() -> None:
    frames = []
    for seed in range(4):
        one = web(seed)
        assert one.depth is not None
        patch = np.zeros((SIZE, SIZE), np.bool_)
        patch[60:72, 60:72] = True
        frames.append(evidence(one.depth.astype(np.float64), patch, one.group))
    branch = Detector.fit(frames)
    assert np.isfinite(branch.score(frames[0])).all()
    assert np.isfinite(branch.score(web(9))).all()


def test_a_tile_that_was_not_taught_is_refused() -> None:
    branch, line = on_parts()
    with pytest.raises(DepthUnusable, match="tile 3"):
        branch.score(replace(part(line, 0), tile=3))


def test_tiles_keep_their_own_shape() -> None:
    line = on_parts()[1]
    frames = [part(line, seed) for seed in range(12)]
    turned = [
        replace(
            one,
            tile=1,
            depth=np.ascontiguousarray(np.rot90(one.depth)),
            valid=np.ascontiguousarray(np.rot90(one.valid)),
        )
        for one in frames
        if one.depth is not None and one.valid is not None
    ]
    branch = Detector.fit([*frames, *turned])
    assert branch.standard.shape is not None
    assert branch.standard.shape.shape == (2, GRID, GRID)
    right = float(branch.score(turned[0]).max())
    wrong = float(branch.score(replace(turned[0], tile=0)).max())
    assert right < wrong


def naive_responses(height: Image, solid: NDArray[np.bool_]) -> list[Image]:
    """Normalised convolution by explicit sums, all on 128 cells."""
    blurred = []
    for sigma in SIGMAS:
        reach = np.arange(GRID)
        kernel = np.exp(-0.5 * np.square((reach[:, None] - reach[None]) / sigma))
        kernel /= sigma * np.sqrt(2 * np.pi)
        weight = kernel @ solid @ kernel.T
        blurred.append((kernel @ (height * solid) @ kernel.T / np.maximum(weight, 0.1), weight))
    return [
        np.where(near[1] >= 0.2, near[0] - far[0], 0).astype(np.float32) for near, far in pairwise(blurred)
    ]


def test_the_contrast_is_that_of_explicit_sums() -> None:
    one = web(800)
    assert one.depth is not None
    assert one.valid is not None
    seen = relief(one.depth, one.valid)
    height, solid = settle(seen.height, seen.read, limit=1e6, spike=None)
    assert not solid.all()
    pairs = zip(responses(height, solid), naive_responses(height, solid), strict=True)
    for k, (fast, naive) in enumerate(pairs):
        if SIDES[k] == GRID:
            np.testing.assert_allclose(fast.difference, naive, atol=0.05)
        else:  # the coarse grids round: compare away from where coverage decides between a value and none
            coarse = cv2.resize(naive, (SIDES[k], SIDES[k]), interpolation=cv2.INTER_AREA)
            assert np.corrcoef(fast.difference[fast.known], coarse[fast.known])[0, 1] > 0.98


def test_a_constant_height_has_no_contrast_whatever_was_read() -> None:
    solid = np.random.default_rng(0).random((GRID, GRID)) < 0.6
    for one in responses(np.full((GRID, GRID), 7, np.float32), solid):
        assert np.abs(one.difference[one.coverage > 0.15]).max() < 1e-3


def test_the_noise_never_rises_with_coverage() -> None:
    frames = []
    for seed in range(6):
        one = web(seed)
        assert one.depth is not None
        assert one.valid is not None
        seen = relief(one.depth, one.valid)
        frames.append(responses(*settle(seen.height, seen.read, limit=1e6, spike=None)))
    table = levels_by_coverage(frames)
    assert (table > 0).all()
    assert (np.diff(table, axis=1) <= 0).all()


@pytest.mark.parametrize(("dx", "dy", "degrees"), [(0, 0, 0), (3.4, -2.2, 2), (-5, 4, -3), (6, 6, 4)])
def test_the_pose_of_a_part_is_found(dx: float, dy: float, degrees: float) -> None:
    shape = np.zeros((GRID, GRID), np.float32)
    shape[30:100, 20:110] = 500
    shape[50:70, 60:90] = 900
    cv2.circle(shape, (40, 80), 10, 0.0, -1)
    shape = np.asarray(cv2.GaussianBlur(shape, (0, 0), 1), dtype=np.float32)
    turn = np.deg2rad(degrees)
    pose = Pose((dx, dy), (np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)))
    offset = np.arange(GRID) - (GRID - 1) / 2
    frame = pose.to_frame(shape) + 30 + 2 * offset[None] - offset[:, None]
    frame = (frame + np.random.default_rng(1).normal(0, 5, frame.shape)).astype(np.float32)
    found = Reference(shape).align(frame)
    assert found.shift == pytest.approx((dx, dy), abs=0.1)
    assert found.linear == pytest.approx(pose.linear, abs=0.005)
    assert found.plane == pytest.approx((2, -1, 30), abs=0.6)
    assert float(np.abs(found.less(frame, shape)).mean()) < 5.0  # the noise's own mean is 4


def test_a_part_that_is_not_there_gets_no_pose() -> None:
    shape = np.zeros((GRID, GRID), np.float32)
    shape[10:30, 10:30] = 500
    away = np.zeros((GRID, GRID), np.float32)
    away[90:110, 90:110] = 500
    found = Reference(shape).align(away)
    assert max(map(abs, found.shift)) < GRID / 6


SURFACE = os.environ.get("CROSSCHECK_SURFACE")


@pytest.mark.skipif(not SURFACE, reason="set CROSSCHECK_SURFACE to the folder of the road tiles")
def test_wide_dents_in_a_real_road_are_found_at_one_false_reject_in_a_hundred() -> None:
    frames = list(road(Path(SURFACE or "")))
    groups = sorted({one.group for one in frames})
    normal, dents = [], []
    for fold in range(5):
        held = set(groups[fold * len(groups) // 5 : (fold + 1) * len(groups) // 5])
        branch = Detector.fit([one for one in frames if one.group not in held])
        assert branch.standard.shape is None
        rows, columns = np.mgrid[:256, :256]
        for one in frames:
            if one.group in held:
                assert one.depth is not None
                assert one.valid is not None
                away = np.minimum(np.hypot(rows - 120, columns - 140) / 24, 1)
                deep = 16 * branch.standard.bare.unit * 0.5 * (1 + np.cos(np.pi * away))
                normal.append(float(branch.score(one).max()))
                dents.append(float(branch.score(evidence(one.depth - deep, one.valid)).max()))
    assert np.mean(np.array(dents) <= np.quantile(normal, 0.985)) <= 0.05


def road(folder: Path) -> Sequence[Evidence]:
    frames = []
    for split in ("train", "validation"):
        for path in sorted((folder / split / "good" / "depth").glob("*.png")):
            depth = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
            frames.append(Evidence(depth=depth.astype(np.float32), valid=depth > 0, group=path.name[:3]))
    assert frames, f"no depth tiles under {folder}"
    return frames

"""Evaluation with an inspector whose answers are known: what is measured, left out, and refused."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from inference.calibration import Limits
from inference.datasets.base import GOOD, Item
from inference.datasets.synthetic import SyntheticDataset
from inference.errors import BadSample, DatasetError, NoPart, NoReading, NotFinite
from inference.evaluate import Inspects, evaluate
from inference.exhibits import KEPT, SIDE
from inference.inspector import Inspector
from inference.report.words import caveats, of_masks
from inference.results import FIGURES
from inference.sample import Sample
from schemas.verdict import Mode

SIZE = 16


@dataclass(frozen=True)
class Other:
    score: float
    threshold: float
    map: NDArray[np.float32]

    @property
    def pass_limit(self) -> float:
        return self.threshold


@dataclass(frozen=True)
class Found:
    mode: Mode
    score: float
    threshold: float
    branches: Mapping[str, float]
    map: NDArray[np.float32]
    branch_maps: Mapping[str, NDArray[np.float32]]
    branch_limits: Mapping[str, Limits] = field(default_factory=dict)
    alternatives: Mapping[str, Other] = field(default_factory=dict)

    @property
    def pass_limit(self) -> float:
        return self.threshold


@dataclass
class Reader:
    """An inspector that reads the answer out of the images: the brightest value is the score."""

    bundle_id: str = "p/1"
    bundle_hash: str = "0" * 64
    modes: tuple[Mode, ...] = (Mode.FUSED, Mode.RGB, Mode.DEPTH)
    asked: list[Mode | None] = field(default_factory=list)
    spoil: Callable[[Found], Found] = lambda found: found

    def study(
        self,
        sample: Sample,
        *,
        mode: Mode | None = None,
        branch_maps: bool = False,
        alternatives: bool = False,
    ) -> Found:
        self.asked.append(mode)
        maps = {}
        if sample.rgb is not None and mode is not Mode.DEPTH:
            maps["colour"] = sample.rgb[..., 0].astype(np.float32)
        if sample.depth is not None and sample.depth.any() and mode is not Mode.RGB:
            maps["shape"] = sample.depth.astype(np.float32)
        if not maps:
            raise NoReading("nothing to see")
        seen = Mode.FUSED if len(maps) == 2 else Mode.RGB if "colour" in maps else Mode.DEPTH
        fused = np.maximum.reduce(list(maps.values()))
        scores = {name: float(values.max()) for name, values in maps.items()}
        # Another rule: the sum, on a scale of its own.
        total = np.asarray(np.sum(list(maps.values()), 0) / 1000, np.float32)
        found = Found(
            seen,
            float(fused.max()),
            100.0,
            scores,
            fused,
            maps if branch_maps else {},
            {"colour": Limits.single(90.0)},
            {"sum": Other(float(total.max()), 0.15, total)} if alternatives else {},
        )
        return self.spoil(found)


@dataclass
class Frames:
    items: Sequence[Item]
    name: str = "frames"

    def train(self) -> Sequence[Item]:
        return []

    def validation(self) -> Sequence[Item]:
        return []

    def test(self) -> Sequence[Item]:
        return self.items


def frame(number: int, label: str = GOOD, *, depth: bool = True, masked: bool = True) -> Item:
    """A frame whose defect is a bright square in colour, in depth, or in both; good ones vary below it."""
    rng = np.random.default_rng(number)
    images = [rng.integers(1, 60, (SIZE, SIZE)) for _ in range(2)]
    mask = np.zeros((SIZE, SIZE), bool)
    if label != GOOD:
        mask[3:7, 4:9] = True
        for index, kind in enumerate(("colour", "shape")):
            if label in (kind, "both"):
                images[index][mask] = 200
    sample = Sample(
        np.repeat(images[0].astype(np.uint8)[..., None], 3, 2), images[1].astype(np.uint16) if depth else None
    )
    truth = mask if label != GOOD and masked else None
    return Item(f"{label}{number}", f"lot{number // 3}", "test", label, lambda: sample, lambda: truth)


def test_set(**changes: bool) -> Frames:
    return Frames(
        [frame(i) for i in range(12)]
        + [frame(20 + i, kind, **changes) for i, kind in enumerate(["colour", "shape", "both"] * 4)]
    )


test_set.__test__ = False  # type: ignore[attr-defined]


def test_the_keys_of_the_report_are_these() -> None:
    report = evaluate(Reader(), test_set(), bootstrap=50).to_json()
    figures: tuple[str, ...] = ("i_auroc", "i_ap", "f1_max", "p_auroc", "p_ap")
    figures += ("aupro_30", "aupro_10", "aupro_05", "aupro_01")
    figures += ("false_reject_rate", "good_review_rate", "miss_rate", "defect_review_rate")
    assert figures == FIGURES
    assert list(report["modes"]) == ["FUSED", "RGB", "DEPTH"]
    assert list(report["branches"]) == ["colour", "shape"]
    assert list(report["fusions"]) == ["fused:sum"]
    for found in (x for rows in ("modes", "branches", "fusions") for x in report[rows].values()):
        for name in figures:
            assert name in found
            assert f"{name}_interval" in found
    assert set(report["kinds"]) == {"colour", "shape", "both"}
    assert set(report["kinds"]["shape"]) == {"FUSED", "RGB", "DEPTH", "branches", "fusions"}
    assert report["counts"] == {"good": 12, "colour": 4, "shape": 4, "both": 4}
    assert report["bundle"] == "p/1"
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_each_mode_sees_its_own_kind_of_defect() -> None:
    report = evaluate(Reader(), test_set(), bootstrap=0)
    assert report.modes[Mode.FUSED].i_auroc.value == 1.0
    assert report.modes[Mode.FUSED].aupro_30.value == pytest.approx(1.0)
    assert report.modes[Mode.FUSED].miss_rate.value == 0.0
    assert report.modes[Mode.FUSED].false_reject_rate.value == 0.0
    assert report.modes[Mode.FUSED].i_auroc.interval is None  # no bootstrap was asked for
    assert report.modes[Mode.RGB].miss_rate.value == pytest.approx(1 / 3)
    assert report.kinds["shape"][Mode.RGB].miss_rate.value == 1.0
    assert report.kinds["colour"][Mode.RGB].miss_rate.value == 0.0
    assert report.kinds["colour"][Mode.DEPTH].miss_rate.value == 1.0
    shape = report.kind_branches["shape"]
    assert shape["shape"].i_auroc.value == 1.0
    assert (shape["colour"].i_auroc.value or 0) < 0.9
    # A branch has rates where the bundle has a threshold for it.
    assert report.branches["colour"].miss_rate.value == pytest.approx(1 / 3)
    assert report.branches["colour"].threshold == 90.0
    assert report.branches["shape"].miss_rate.value is None
    assert report.branches["shape"].threshold is None


def test_the_interval_holds_the_value_and_depends_on_the_seed_alone() -> None:
    reports = [evaluate(Reader(), test_set(), bootstrap=200, seed=s) for s in (1, 1, 2)]
    found = [report.modes[Mode.RGB] for report in reports]
    for measure in (found[0].i_auroc, found[0].p_auroc, found[0].aupro_30, found[0].miss_rate):
        assert measure.value is not None
        assert measure.interval is not None
        assert measure.interval[0] <= measure.value <= measure.interval[1]
        assert measure.interval[0] < measure.interval[1]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_frames_without_a_sensor_are_left_out_of_its_modes_and_counted() -> None:
    data = Frames([*test_set().items, frame(60, "both", depth=False), frame(61, depth=False)])
    report = evaluate(Reader(), data, bootstrap=0)
    assert (report.modes[Mode.FUSED].inspected, report.modes[Mode.FUSED].left_out) == (24, 2)
    assert (report.modes[Mode.DEPTH].inspected, report.modes[Mode.DEPTH].left_out) == (24, 2)
    assert (report.modes[Mode.RGB].inspected, report.modes[Mode.RGB].left_out) == (26, 0)


def test_a_frame_without_a_part_is_left_out_and_ends_no_evaluation() -> None:
    @dataclass
    class Picky(Reader):
        def study(self, sample: Sample, **asked: Any) -> Found:
            if sample.rgb is not None and sample.rgb[0, 0, 0] == 255:
                raise NoPart("an empty belt")
            return super().study(sample, **asked)

    empty = frame(70, "shape")
    gone = np.full_like(empty.sample().rgb, 255)
    item = replace(empty, load=lambda: Sample(gone, empty.sample().depth))
    report = evaluate(Picky(), Frames([*test_set().items, item]), bootstrap=0)
    for mode in Mode:
        assert (report.modes[mode].inspected, report.modes[mode].left_out) == (24, 1)


def test_an_answer_on_another_mode_s_scale_is_not_mixed_in() -> None:
    blind = Item(
        "blind", "x", "test", GOOD,
        lambda: Sample(np.full((SIZE, SIZE, 3), 255, np.uint8), np.zeros((SIZE, SIZE), np.uint16)),
    )  # fmt: skip
    report = evaluate(Reader(), Frames([*test_set().items, blind]), bootstrap=0)
    assert report.modes[Mode.FUSED].left_out == 1
    assert report.modes[Mode.FUSED].i_auroc.value == 1.0
    assert report.modes[Mode.DEPTH].left_out == 1
    assert report.modes[Mode.RGB].left_out == 0


def test_a_mode_that_the_product_lacks_has_no_figures() -> None:
    reader = Reader(modes=(Mode.RGB,))
    report = evaluate(reader, test_set(), bootstrap=0)
    assert set(reader.asked) == {Mode.RGB}
    assert report.modes[Mode.FUSED].i_auroc.value is None
    assert report.modes[Mode.FUSED].left_out == 24
    assert report.modes[Mode.RGB].i_auroc.value is not None
    assert list(report.branches) == ["colour"]


def test_defects_without_an_outline_count_for_images_and_not_for_pixels() -> None:
    report = evaluate(Reader(), test_set(masked=False), bootstrap=0)
    assert report.modes[Mode.FUSED].i_auroc.value == 1.0
    assert report.modes[Mode.FUSED].p_auroc.value is None


def test_a_map_of_another_resolution_is_laid_over_the_frame() -> None:
    def shrink(found: Found) -> Found:
        small = found.map[::2, ::2]
        return Found(found.mode, found.score, found.threshold, found.branches, small, found.branch_maps)

    report = evaluate(Reader(spoil=shrink), test_set(), bootstrap=0)
    assert (report.modes[Mode.FUSED].aupro_30.value or 0) > 0.8


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_a_number_ends_the_evaluation(score: float) -> None:
    def spoil(found: Found) -> Found:
        return Found(found.mode, score, found.threshold, found.branches, found.map, found.branch_maps)

    with pytest.raises(NotFinite, match="test/good/good0"):
        evaluate(Reader(spoil=spoil), test_set(), bootstrap=0)


def test_an_error_of_the_inspector_names_the_frame() -> None:
    def spoil(found: Found) -> Found:
        raise BadSample("wrong size")

    with pytest.raises(BadSample, match="test/good/good0 in FUSED: wrong size"):
        evaluate(Reader(spoil=spoil), test_set(), bootstrap=0)


@pytest.mark.parametrize("items", [[frame(1), frame(2)], [frame(3, "both")], []])
def test_one_class_alone_cannot_be_evaluated(items: list[Item]) -> None:
    with pytest.raises(DatasetError, match="needs both"):
        evaluate(Reader(), Frames(items))


def test_progress_ends_at_the_total_of_each_stage() -> None:
    seen: list[tuple[str, int, int]] = []
    evaluate(Reader(), test_set(), bootstrap=0, progress=lambda *step: seen.append(step))
    for stage, total in (("inspect", 24), ("measure", 6)):
        steps = [(done, of) for name, done, of in seen if name == stage]
        assert steps == [(number, total) for number in range(1, total + 1)]


def test_another_rule_of_fusion_is_a_row_with_its_own_scale_and_threshold() -> None:
    report = evaluate(Reader(), test_set(), bootstrap=20)
    row = report.fusions["fused:sum"]
    assert row.threshold == 0.15
    assert row.i_auroc.value == 1.0
    assert row.aupro_30.value == pytest.approx(1.0, abs=0.01)
    # A defect in one sensor is 200 + at most 60, a good part at most 2 x 60.
    assert row.false_reject_rate.value == row.miss_rate.value == 0.0
    assert report.kind_fusions["shape"]["fused:sum"].i_auroc.value == 1.0
    assert list(report.rows()) == ["FUSED", "RGB", "DEPTH", "fused:sum", "colour", "shape"]
    assert list(report.rows_of("shape")) == list(report.rows())
    assert report.items[0]["fusions"]["fused:sum"] < 0.15


def test_the_figures_are_those_of_the_whole_set_at_once() -> None:
    data = test_set()
    report = evaluate(Reader(), data, bootstrap=0)
    scores, truth, maps, masks = [], [], [], []
    for item in data.items:
        found = Reader().study(item.sample(), mode=Mode.RGB)
        scores.append(found.score)
        truth.append(not item.is_good)
        maps.append(found.map)
        mask = item.mask()
        masks.append(np.zeros((SIZE, SIZE), bool) if mask is None else mask)
    rgb = report.modes[Mode.RGB]
    assert rgb.i_auroc.value == pytest.approx(roc_auc_score(truth, scores))
    assert rgb.i_ap.value == pytest.approx(average_precision_score(truth, scores))
    assert rgb.p_auroc.value == pytest.approx(roc_auc_score(np.ravel(masks), np.ravel(maps)), abs=1e-4)
    assert rgb.p_ap.value == pytest.approx(average_precision_score(np.ravel(masks), np.ravel(maps)), abs=1e-3)
    assert (rgb.good, rgb.defects) == (12, 12)
    assert rgb.binning is not None
    assert rgb.binning < 0.01


def test_the_interval_of_no_miss_says_how_few_defects_there_were() -> None:
    report = evaluate(Reader(), test_set(), bootstrap=200)
    missed = report.modes[Mode.FUSED].miss_rate
    assert missed.value == 0.0
    assert missed.interval == pytest.approx((0.0, 0.2425), abs=1e-3)  # Wilson, 0 of 12


def test_the_worst_of_either_sort_is_shown_first_and_few_are_kept() -> None:
    items = [frame(i) for i in range(20)] + [frame(40 + i, "shape") for i in range(20)]
    report = evaluate(Reader(), Frames(items), modes=(Mode.RGB,), bootstrap=0)
    assert report.fullest is Mode.RGB
    scores = {item["name"]: item["scores"]["RGB"] for item in report.items}
    weakest = sorted((score, name) for name, score in scores.items() if name.startswith("shape"))
    assert [shown.score for shown in report.worst_defects] == [score for score, _ in weakest[:KEPT]]
    assert len(report.worst_good) == KEPT
    assert report.worst_good[0].score == max(s for n, s in scores.items() if n.startswith("good"))
    first = report.worst_defects[0]
    assert first.name.startswith("test/shape/shape")
    assert not first.rejected  # RGB cannot see it
    assert first.mask is not None
    assert first.mask.sum() == 20
    assert first.branches == {"colour": first.score}


def test_hits_are_of_each_kind_with_colour_and_depth() -> None:
    report = evaluate(Reader(), test_set(), bootstrap=0)
    assert len(report.hits) == KEPT
    assert all(hit.rejected for hit in report.hits)
    assert {hit.label for hit in report.hits[:3]} == {"both", "colour", "shape"}
    assert all(hit.colour is not None and hit.depth is not None for hit in report.hits)
    assert not evaluate(
        Reader(spoil=lambda found: replace(found, threshold=1e6)), test_set(), bootstrap=0
    ).hits


def blank(number: int) -> Item:
    return replace(frame(number, "both"), load_mask=lambda: np.zeros((SIZE, SIZE), bool))


def test_all_defects_whose_masks_mark_nothing_are_named_at_once() -> None:
    dataset = Frames([*test_set().items, *(blank(60 + i) for i in range(12))])
    with pytest.raises(DatasetError, match="--leave-out-unmarked") as refused:
        evaluate(Reader(), dataset, bootstrap=0)
    said = str(refused.value)
    assert "test/both/both60, test/both/both61" in said
    assert "both69 and 2 more (12 frames): empty masks" in said
    with pytest.raises(DatasetError, match="test/both/both60: an empty mask, and the frame is labelled"):
        evaluate(Reader(), Frames([*test_set().items, blank(60)]), bootstrap=0)


def test_defects_whose_masks_mark_nothing_are_left_out_of_every_figure_where_asked() -> None:
    expected = evaluate(Reader(), test_set(), bootstrap=20)
    dataset = Frames([*test_set().items, blank(60), blank(61)])
    report = evaluate(Reader(), dataset, bootstrap=20, leave_out_unmarked=True)
    assert report.unmarked == ["test/both/both60", "test/both/both61"]
    assert report.modes == expected.modes
    assert report.kinds == expected.kinds
    assert report.counts == expected.counts
    assert of_masks(report) == [
        "2 frames left out: their masks mark nothing: test/both/both60, test/both/both61"
    ]
    assert of_masks(report)[0] in caveats(report)
    only = Frames([frame(0), blank(60)])
    with pytest.raises(DatasetError, match="0 defective"):
        evaluate(Reader(), only, bootstrap=0, leave_out_unmarked=True)


def test_a_mask_that_marks_nearly_all_of_the_frame_is_told_as_inverted() -> None:
    mask = np.ones((SIZE, SIZE), bool)
    mask[0, 0] = False
    dataset = Frames([*test_set().items, replace(frame(60, "both"), load_mask=lambda: mask)])
    report = evaluate(Reader(), dataset, bootstrap=0)
    assert report.mostly_marked == ["test/both/both60"]
    assert "both60: its mask marks more than 90 % of the frame; is it inverted?" in of_masks(report)[0]
    assert not of_masks(evaluate(Reader(), test_set(), bootstrap=0))


def test_what_is_shown_is_small_and_depth_alone_is_shown_in_grey() -> None:
    mask = np.zeros((50, 2 * SIDE), bool)
    mask[20, 100:600] = True  # a scratch of one pixel stays visible

    def deep(number: int, label: str) -> Item:
        depth = np.random.default_rng(number).integers(1, 60, mask.shape).astype(np.uint16)
        depth[mask & (label != GOOD)] = 200
        depth[:5] = 0
        truth = mask if label != GOOD else None
        return Item(
            f"{label}{number}", str(number), "test", label, lambda: Sample(None, depth), lambda: truth
        )

    items = [deep(number, label) for number, label in enumerate([GOOD, GOOD, "scratch"])]
    report = evaluate(Reader(modes=(Mode.DEPTH,)), Frames(items), bootstrap=0)
    shown = report.worst_defects[0]
    assert shown.colour is None
    assert shown.depth is not None
    assert shown.depth.shape == (25, SIDE, 3)
    assert shown.heat.shape == (25, SIDE)
    assert shown.mask is not None
    assert shown.mask.any()
    assert (shown.depth[..., 0] == shown.depth[..., 2]).all()
    assert not shown.depth[0].any()  # nothing was read there


def as_evaluated(inspector: Inspector) -> Inspects:
    """The type checker refuses this where the inspector is not what evaluation asks for."""
    return inspector


def test_a_taught_product_is_judged_in_every_row_at_its_own_threshold(
    inspector: Inspector, parts: SyntheticDataset
) -> None:
    some = [item for label in (GOOD, "shape") for item in parts.test() if item.label == label]
    report = evaluate(inspector, Frames([*some[:3], *some[-3:]]), bootstrap=10)
    assert report.fullest is Mode.FUSED
    assert {"colour", "shape"} < set(report.branches)
    assert report.fusions
    for name, found in report.rows().items():
        assert found.threshold is not None, name
        assert found.miss_rate.value is not None, name
        assert found.p_ap.value is not None, name
        assert found.inspected == 6, name
    assert report.modes[Mode.DEPTH].i_auroc.value == 1.0
    assert len(report.worst_defects) == len(report.worst_good) == 3


def test_the_inspector_takes_what_evaluation_asks_it() -> None:
    signature = inspect.signature(Inspector.study)
    signature.bind(None, Sample(None, None), mode=Mode.RGB, branch_maps=True, alternatives=True)

"""The contact sheet: every row says what it should, and no input that a line can give breaks it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.datasets.defects import Defect
from inference.datasets.synthetic import SyntheticPart
from inference.inspection import HeatmapArray
from schemas.verdict import Decision, Mode
from workers.sheet import SheetRow, contact_sheet, placed, write_sheet


def rejected(kind: str = "both") -> SheetRow:
    rendered = SyntheticPart(0, 96).render(1, defect=Defect(kind, 20, 1.0, 1))
    values = np.full((48, 48), 20, np.uint8)
    values[cv2.resize(rendered.mask.astype(np.uint8), (48, 48)) > 0] = 240
    return SheetRow(
        part="line-1/7/3",
        decision=Decision.REJECT,
        colour=rendered.sample.rgb,
        depth=rendered.sample.depth,
        heatmap=HeatmapArray(values, 0.0, 8.0),
        mode=Mode.FUSED,
        score=6.0,
        threshold=4.0,
        kind=kind,
        mask=rendered.mask,
        note="crack, 20 px",
    )


def panel(row: SheetRow, column: int) -> np.ndarray:
    """One panel of the only row of a sheet."""
    sheet = contact_sheet([row], title="t", footer="f")
    left = 28 + 14 + column * (206 + 14)
    top = 66 + 30 + 14
    width = 206 if column < 3 else 352
    return np.asarray(sheet[top : top + 206, left : left + width]).astype(int)


def test_a_row_more_makes_the_sheet_taller_and_no_wider() -> None:
    row = rejected()
    one, three = (contact_sheet([row] * n, title="t", footer="f") for n in (1, 3))
    assert one.dtype == np.uint8
    assert one.shape[1] == three.shape[1]
    assert three.shape[0] - one.shape[0] == 2 * (206 + 28 + 10)
    assert contact_sheet([], title="nothing", footer="").ndim == 3


def test_the_same_rows_give_the_same_sheet() -> None:
    first, second = (contact_sheet([rejected()], title="t", footer="f") for _ in range(2))
    assert (first == second).all()


def test_the_heatmap_panel_is_warm_where_the_map_is_above_the_threshold_and_grey_elsewhere() -> None:
    row = replace(rejected(), mask=None)
    assert row.heatmap is not None
    found = panel(row, 2)
    warmth = (found[..., 0] - found[..., 2]) > 40
    hot = cv2.resize((row.heatmap.values > 200).astype(np.uint8), (206, 206)) > 0
    assert warmth[hot].mean() > 0.6
    assert warmth[~cv2.dilate(hot.astype(np.uint8), np.ones((25, 25))).astype(bool)].mean() < 0.01


def test_the_true_outline_is_drawn_around_the_defect() -> None:
    row = rejected()
    changed = np.abs(panel(row, 0) - panel(replace(row, mask=None), 0)).sum(2) > 60
    assert row.mask is not None
    mask = cv2.resize(row.mask.astype(np.uint8), (206, 206))
    near = cv2.dilate(mask, np.ones((25, 25))).astype(bool)
    assert changed.any()
    assert not changed[~near].any()
    assert changed[mask.astype(bool)].mean() < 0.1  # the defect itself stays visible


def test_a_missing_sensor_is_shown_hatched_and_unlike_an_empty_picture() -> None:
    missing = panel(replace(rejected(), depth=None), 1)
    blind = panel(replace(rejected(), depth=np.zeros((96, 96), np.uint16), mask=None), 1)
    edge = missing[4:-4, 4:60]
    assert np.abs(np.diff(edge[:, :, 0], axis=1)).max() >= 8
    assert blind[4:-4, 4:60, 0].std() < 1


def test_places_without_a_reading_are_pale_in_the_depth_panel() -> None:
    row = replace(rejected(), mask=None)
    assert row.depth is not None
    depth = row.depth.copy()
    depth[30:60, 30:60] = 0
    found = panel(replace(row, depth=depth), 1)[70:120, 70:120]
    assert (found.min(2) > 225).mean() > 0.95


@pytest.mark.parametrize("decision", list(Decision))
def test_every_decision_has_a_badge_of_its_own_even_without_colour(decision: Decision) -> None:
    row = rejected()
    others = [other for other in Decision if other is not decision]
    own = panel(replace(row, decision=decision), 3)[:40, :134].mean(2)
    for other in others:
        grey = panel(replace(row, decision=other), 3)[:40, :134].mean(2)
        assert (np.abs(own - grey) > 60).mean() > 0.005


def test_only_a_pass_shows_the_gate_open() -> None:
    row = rejected()
    gates = {d: panel(replace(row, decision=d), 3)[:40, 160:] for d in Decision}
    closed = [gate for decision, gate in gates.items() if decision is not Decision.PASS]
    assert all((gate == closed[0]).all() for gate in closed)
    assert (gates[Decision.PASS] != closed[0]).any()


@pytest.mark.parametrize(
    ("kind", "decision", "words"),
    [
        ("good", Decision.PASS, "good part passed"),
        ("good", Decision.REJECT, "good part rejected"),
        ("good", Decision.REVIEW, "good part held back"),
        ("shape", Decision.PASS, "DEFECT PASSED"),
        ("shape", Decision.REVIEW, "defect stopped"),
        ("colour", Decision.MISSING, "defect stopped"),
    ],
)
def test_the_outcome_is_told_in_words(kind: str, decision: Decision, words: str) -> None:
    assert SheetRow(part="p", decision=decision, kind=kind).outcome == words


@pytest.mark.parametrize("threshold", [-2.0, 0.0, 1e9, None])
@pytest.mark.parametrize("size", [(40, 160), (160, 40), (300, 300)])
def test_odd_sizes_and_thresholds_are_drawn(size: tuple[int, int], threshold: float | None) -> None:
    rng = np.random.default_rng(0)
    row = SheetRow(
        part="a part whose name is far too long for the room that there is for it " * 3,
        decision=Decision.ERROR,
        colour=rng.integers(0, 255, (*size, 3), np.uint8),
        depth=rng.integers(0, 2**16, (size[0] // 2, size[1] // 2), np.uint16),
        heatmap=HeatmapArray(np.zeros(size, np.uint8), 1.0, 1.0),
        mode=Mode.DEPTH,
        score=3.0,
        threshold=threshold,
        kind="hole",
        mask=rng.random(size) > 0.9,
        disparity=True,
    )
    assert contact_sheet([row, SheetRow(part="p", decision=Decision.MISSING)], title="t", footer="f").any()


def test_the_written_file_is_the_sheet(tmp_path: Path) -> None:
    sheet = contact_sheet([rejected()], title="t", footer="f")
    path = write_sheet(tmp_path / "new" / "sheet.png", sheet)
    read = cv2.imread(str(path))
    assert read is not None
    assert (read[..., ::-1] == sheet).all()


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (3.9, "score 3.90: up to pass limit 3.90"),
        (4.1, "score 4.10: between pass limit 3.90 and reject limit 5.60"),
        (5.7, "score 5.70: above reject limit 5.60"),
    ],
)
def test_a_score_is_placed_among_both_limits_in_words(score: float, words: str) -> None:
    assert placed(score, 3.9, 5.6) == words


def test_where_both_limits_are_one_only_that_is_named() -> None:
    assert placed(4.0, 5.0, 5.0) == placed(4.0, None, 5.0) == "score 4.00 <= limit 5.00"

"""A folder in, verdicts out: every frame has its row, a bad one an ERROR, and the run goes on."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inference.datasets.conventions import Conventions
from inference.datasets.surface import SurfaceDataset, write_surface_layout
from inference.datasets.synthetic import SyntheticDataset
from inference.errors import WrongSize
from inference.inspection import HeatmapArray, Inspection
from inference.inspector import Inspector
from inference.sample import Sample
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.verdict import Decision, Mode, Region, SeenBy
from tests.e2e.inprocess import Call, assert_one_line, command_line
from workers.capture.sources import FolderSource
from workers.commands.inspect import COLUMNS
from workers.overlay import overlay
from workers.steps.deciding import decide

PARTS = SyntheticDataset(
    train=14, validation=6, test_good=2, defects_per_kind=1, size=96, lot_size=2, contrast=3.0, seed=5
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(bundle, folder of frames) of one small product."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("taught")
    data = write_surface_layout(PARTS, root / "data")
    settings = TeachSettings(bank_size=128, folds=3)
    return teach(SurfaceDataset(data), root, name="cap", settings=settings), data


@pytest.fixture(scope="module")
def bundle(taught: tuple[Path, Path]) -> Path:
    return taught[0]


@pytest.fixture
def data(taught: tuple[Path, Path], tmp_path: Path) -> Path:
    """Frames that a test may damage."""
    return Path(shutil.copytree(taught[1], tmp_path / "data"))


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Call]:
    with command_line(monkeypatch, capsys, tmp_path) as run:
        yield run


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_frame_has_a_row_in_both_files_and_the_decision_of_the_worker(
    call: Call, bundle: Path, data: Path
) -> None:
    done = call("inspect", "--bundle", str(bundle), "--data", str(data), "--jobs", "2")
    assert (done.code, "Traceback" in done.err) == (0, False)
    found = rows(Path("inspected/verdicts.jsonl"))
    with Path("inspected/verdicts.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    inspector = Inspector.load(bundle)
    expected = {item.name: item for item in PARTS.test()}
    assert len(found) == len(table) == len(expected) == 5
    for row, line in zip(found, table, strict=True):
        item = expected[row["name"].removeprefix("test_")]
        # The written colour is jpeg: it is that file that is judged.
        (own,) = inspector.inspect([_written(data, item.label, row["name"])])
        decision, reason = decide(own, 0.8)
        assert (row["decision"], row["reason"], row["score"]) == (decision.value, reason, own.score)
        assert (row["mode"], row["threshold"], row["label"]) == ("FUSED", own.threshold, item.label)
        assert row["regions"] == [region.to_map() for region in own.regions]
        assert (row["bundle"], row["bundle_hash"]) == (inspector.bundle_id, inspector.bundle_hash)
        assert (line["name"], line["decision"], line["label"]) == (row["name"], decision.value, item.label)
        assert float(line["score"]) == pytest.approx(row["score"], rel=1e-5)
        picture, bare = (cv2.imread(row["heatmap"][key], cv2.IMREAD_UNCHANGED) for key in ("picture", "map"))
        assert picture is not None
        assert own.heatmap is not None
        np.testing.assert_array_equal(bare, own.heatmap.values)
        assert (row["heatmap"]["low"], row["heatmap"]["high"]) == (own.heatmap.low, own.heatmap.high)
    assert "REJECT" in {row["decision"] for row in found}
    assert all(line and len(line) <= 80 for line in done.out.splitlines() if "│" in line)
    for words in ("highest scores", "REJECT", "median", "inspected/verdicts.csv"):
        assert words in done.out


def _written(data: Path, label: str, name: str) -> Sample:
    colour = cv2.imread(str(next((data / "test" / label / "rgb").glob(f"{name}.*"))))
    depth = cv2.imread(str(data / "test" / label / "depth" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
    assert colour is not None
    assert depth is not None
    return Sample(np.asarray(colour[..., ::-1], np.uint8), np.asarray(depth, np.uint16), 1e-5)


def test_bad_files_are_errors_with_their_reason_and_their_neighbours_are_scored_as_before(
    call: Call, bundle: Path, data: Path
) -> None:
    flags = ("--bundle", str(bundle), "--data", str(data), "--no-heatmaps")
    assert call("inspect", *flags, "--json", "before.jsonl").code == 0
    good = data / "test" / "good"
    template = sorted((good / "depth").iterdir())[0]
    (good / "rgb" / "a_cut.jpg").write_bytes(sorted((good / "rgb").iterdir())[0].read_bytes()[:500])
    shutil.copy(template, good / "depth" / "a_cut.png")
    (good / "rgb" / "b_empty.png").write_bytes(b"")
    cv2.imwrite(str(good / "rgb" / "c_small.png"), np.zeros((1, 1, 3), np.uint8))
    cv2.imwrite(str(good / "depth" / "d_8bit.png"), np.full((96, 96), 9, np.uint8))
    np.save(good / "depth" / "e_negative.npy", np.full((96, 96), -1.0, np.float32))
    (good / "depth" / "f_text.npy").write_text("no array")
    done = call("inspect", *flags, "--json", "after.jsonl")
    assert done.code == 1
    after = {row["name"]: row for row in rows(Path("after.jsonl"))}
    for name, reason in (
        ("a_cut", "dataset: "),
        ("b_empty", "dataset: "),
        ("c_small", "size: "),
        ("d_8bit", "dataset: "),
        ("e_negative", "distances are negative"),
        ("f_text", "numpy.save"),
    ):
        row = after.pop(name)
        assert (row["decision"], row["score"], row["mode"]) == ("ERROR", None, None), name
        assert reason in row["reason"], row["reason"]
        assert name in done.out or name == "f_text"
    kept = ("name", "decision", "score", "coverage", "branches", "regions")
    before = rows(Path("before.jsonl"))
    assert [[one[key] for key in kept] for one in before] == [
        [one[key] for key in kept] for one in after.values()
    ]


def test_layouts_without_splits_are_inspected_and_a_missing_sensor_is_review_at_best(
    call: Call, bundle: Path, data: Path, tmp_path: Path
) -> None:
    good = data / "test" / "good"
    side = tmp_path / "side"
    colours = tmp_path / "colours"
    for folder in (side, colours):
        folder.mkdir()
    for path in sorted((good / "rgb").iterdir()):
        shutil.copy(path, side / f"{path.stem}_rgb{path.suffix}")
        shutil.copy(path, colours)
        shutil.copy(good / "depth" / f"{path.stem}.png", side / f"{path.stem}_depth.png")
    next(iter(sorted(side.glob("*_rgb*")))).unlink()
    expected = {
        "test": (data / "test", 5, {"FUSED"}),
        "pairs": (good, 2, {"FUSED"}),
        "side": (side, 2, {"FUSED", "DEPTH"}),
        "colours": (colours, 2, {"RGB"}),
    }
    for name, (folder, count, modes) in expected.items():
        file = f"{name}.jsonl"
        done = call(
            "inspect", "--bundle", str(bundle), "--data", str(folder), "--json", file, "--no-heatmaps"
        )
        found = rows(Path(file))
        assert (done.code, len(found), {row["mode"] for row in found}) == (0, count, modes), done.err
        for row in found:
            if row["mode"] != "FUSED":
                assert row["decision"] != "PASS"
                assert row["degraded"] == [f"{'depth' if row['mode'] == 'RGB' else 'rgb'}:absent"]
        assert not Path("inspected").exists()


def test_a_mode_is_inspected_as_if_only_its_sensors_were_there(call: Call, bundle: Path, data: Path) -> None:
    flags = ("--bundle", str(bundle), "--data", str(data), "--no-heatmaps")
    for mode in (Mode.RGB, Mode.DEPTH):
        assert call("inspect", *flags, "--mode", mode.value.lower(), "--csv", f"{mode}.csv").code == 0
        with Path(f"{mode}.csv").open(newline="") as file:
            found = list(csv.DictReader(file))
        assert {row["mode"] for row in found} == {mode.value}
        assert "PASS" not in {row["decision"] for row in found}


def test_less_of_the_part_inspected_than_asked_for_is_review(call: Call, bundle: Path, data: Path) -> None:
    flags = ("--bundle", str(bundle), "--data", str(data), "--no-heatmaps", "--json", "out.jsonl")
    assert call("inspect", *flags, "--min-coverage", "1").code == 0
    found = rows(Path("out.jsonl"))
    low = [row for row in found if row["coverage"] < 1 and row["score"] <= row["threshold"]]
    assert low
    assert {(row["decision"], row["reason"]) for row in low} == {("REVIEW", "coverage")}


def test_mistakes_cost_one_line(call: Call, bundle: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "file").write_text("")
    flags = ("--bundle", str(bundle), "--data", str(data))
    for words, said in (
        (("--bundle", str(bundle), "--data", "nowhere"), ("nowhere", "no such folder")),
        (("--bundle", str(bundle), "--data", "nothing"), ("nothing", "rgb/")),
        (("--bundle", "no/such", "--data", str(data)), ("no/such", "NAME/VERSION")),
        ((*flags, "--csv", "file/x.csv"), ("--csv", "file")),
        ((*flags, "--out", "file"), ("file", "writable")),
        ((*flags, "--mode", "thermal"), ("thermal", "usage")),
        ((*flags, "--min-coverage", "2"), ("usage", "min-coverage")),
        ((*flags, "--kind", "mvtec"), ("mvtec", "surface")),
    ):
        assert_one_line(call("inspect", *words), 2, *said)


def test_a_model_that_falls_over_is_an_error_of_that_frame_alone(
    call: Call, bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = Inspector.inspect
    marked = _written(data, "good", sorted((data / "test/good/rgb").iterdir())[0].stem).depth
    assert marked is not None

    def falls(self: Inspector, batch: Any) -> list[Inspection]:
        if any(np.array_equal(sample.depth, marked) for sample in batch):
            raise KeyError("no such kernel")
        return clean(self, batch)

    monkeypatch.setattr(Inspector, "inspect", falls)
    done = call("inspect", "--bundle", str(bundle), "--data", str(data), "--json", "out.jsonl")
    found = rows(Path("out.jsonl"))
    assert done.code == 1
    assert [row["decision"] == "ERROR" for row in found].count(True) == 1
    assert "no such kernel" in next(row["reason"] for row in found if row["decision"] == "ERROR")


def evidence(mode: Mode | None, seen: str | None, size: tuple[int, int]) -> Inspection:
    error = WrongSize("too small") if mode is None else None
    heat = np.zeros(size, np.uint8)
    heat[: max(1, size[0] // 4), : max(1, size[1] // 4)] = 255
    return Inspection(
        mode=mode,
        score=None if error else 9.0,
        threshold=None if error else 4.0,
        pass_limit=None if error else 4.0,
        coverage=1.0,
        branches={},
        regions=() if error else (Region(0, 0, max(1, size[1] // 4), max(1, size[0] // 4), 9.0, seen),),
        heatmap=None if error else HeatmapArray(heat, 0.0, 8.0),
        degraded=(),
        degraded_pass=False,
        error=error,
        timings={},
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (64, 48), (3000, 4000)])
@pytest.mark.parametrize("mode", [*Mode, None])
def test_pictures_of_any_frame_are_of_a_size_that_fits_a_screen(
    size: tuple[int, int], mode: Mode | None
) -> None:
    sample = Sample(np.full((*size, 3), 90, np.uint8), np.full(size, 700, np.uint16))
    picture = overlay(
        sample, evidence(mode, SeenBy.BOTH, size), name="part " * 40, decision=Decision.REJECT, reason="r"
    )
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert max(picture.shape[:2]) <= 2100
    assert picture.shape[1] >= 560


def test_a_box_has_the_colour_of_the_sensors_that_show_it() -> None:
    sample = Sample(np.full((500, 500, 3), 90, np.uint8), None)
    plain, orange, blue = (
        overlay(sample, evidence(Mode.FUSED, seen, (500, 500)), name="p", decision=Decision.REJECT)
        for seen in (SeenBy.BOTH, SeenBy.COLOUR_ONLY, SeenBy.SHAPE_ONLY)
    )
    panel = (slice(62, 562), slice(0, 500))
    for picture, tone in ((plain, (255, 255, 255)), (orange, (230, 159, 0)), (blue, (86, 180, 233))):
        assert (picture[panel] == tone).all(-1).sum() > 300
    assert not (plain[panel] == (230, 159, 0)).all(-1).any()


def unread_as(data: Path, value: int) -> None:
    """Write the depth images anew, with ``value`` where nothing was read."""
    for path in data.glob("*/*/depth/*.png"):
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert depth is not None
        depth[:4] = 0
        cv2.imwrite(str(path), np.where(depth == 0, value, depth).astype(np.uint16))


@pytest.mark.parametrize("value", [65535, 64_000])
def test_every_command_that_reads_depth_takes_the_value_that_stands_for_no_reading(
    call: Call, bundle: Path, data: Path, tmp_path: Path, value: int
) -> None:
    unread_as(data, 0)
    expected = [item.sample().depth for item in SurfaceDataset(data).test()]
    flags = ("--bundle", str(bundle), "--data", str(data))
    assert call("inspect", *flags, "--json", "zero.jsonl").code in (0, 1)
    assert call("evaluate", *flags, "--bootstrap", "0", "--json", "zero.json").code == 0
    unread_as(data, value)
    said = ("--no-reading", str(value))
    done = call("inspect", *flags, *said, "--json", "said.jsonl")
    assert done.code in (0, 1)
    kept = ("name", "decision", "score", "coverage")
    zero, now = rows(Path("zero.jsonl")), rows(Path("said.jsonl"))
    assert [[row[key] for key in kept] for row in now] == [[row[key] for key in kept] for row in zero]
    assert call("evaluate", *flags, *said, "--bootstrap", "0", "--json", "said.json").code == 0
    before, after = (json.loads(Path(f"{name}.json").read_text()) for name in ("zero", "said"))
    assert before["modes"] == after["modes"]
    source = FolderSource(data, conventions=Conventions(no_reading=(float(value),)))
    for shot, depth in zip(source, expected, strict=True):
        np.testing.assert_array_equal(shot.depth, depth)
    frames = ("calibrate", "--station", "s", "--frames", str(data / "train/good/depth"))
    assert call(*frames, *said, "--out", "said.json.json").code == 0
    if value == 65535:
        told = ("65535", "--no-reading 65535")
        assert_one_line(call(*frames, "--out", "s.json"), 2, *told)
        assert_one_line(call("teach", "cap", "--data", str(data)), 2, *told)
        asked = call("inspect", *flags, "--json", "asked.jsonl")
        assert asked.code == 1
        assert all("--no-reading 65535" in row["reason"] for row in rows(Path("asked.jsonl")))
    first, *others = sorted((data / "train/good/rgb").iterdir())
    for path in others:
        shutil.copy(first, path)
    # Past the depth, the next mistake is said: without the option it would not have come so far.
    done = call("teach", "cap", "--data", str(data), *said)
    assert done.code == 2
    assert "colour images of train are one picture" in done.err


def test_a_jpeg_named_png_is_inspected_and_told(call: Call, bundle: Path, data: Path) -> None:
    for path in (data / "test/good/rgb").iterdir():
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert image is not None
        path.unlink()
        ok, coded = cv2.imencode(".jpg", image)
        assert ok
        path.with_suffix(".png").write_bytes(coded.tobytes() + bytes(4096))
    done = call("inspect", "--bundle", str(bundle), "--data", str(data), "--json", "rows.jsonl")
    assert done.code == 0
    assert "named .png, but holds JPEG" in " ".join(done.out.split())


def test_depth_is_shown_between_colour_and_heatmap() -> None:
    depth = np.full((64, 64), 700, np.uint16)
    depth[10:20, 10:20] = 600
    colour = np.full((64, 64, 3), 90, np.uint8)
    both = overlay(
        Sample(colour, depth),
        evidence(Mode.FUSED, SeenBy.BOTH, (64, 64)),
        name="p",
        decision=Decision.REJECT,
        reason=None,
    )
    alone = overlay(
        Sample(colour, None),
        evidence(Mode.RGB, SeenBy.BOTH, (64, 64)),
        name="p",
        decision=Decision.REJECT,
        reason=None,
    )
    assert both.shape[0] == alone.shape[0]
    assert both.shape[1] > 1.4 * alone.shape[1]

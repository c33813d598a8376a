"""Confirmed normals out of the review folder: which are taken, which are left, and what they do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from inference.datasets.base import Item
from inference.datasets.defects import Defect
from inference.datasets.surface import write_surface_layout
from inference.datasets.synthetic import SyntheticDataset
from inference.errors import TeachError
from inference.inspector import Inspector
from inference.sample import Sample
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.images import encode_colour, encode_depth
from schemas.label import Label, LabelKind
from schemas.part import PartKey
from schemas.payload import ColourEncoding
from schemas.verdict import Decision, Verdict
from workers.board.folder import RECORDS, ReviewFolder
from workers.board.normals import Normals, read_normals
from workers.board.pictures import Images
from workers.errors import SourceError

HOUR = 3600 * 10**9
START = 1_700_000_000 * 10**9
SMALL = TeachSettings(bank_size=100, folds=2)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def keep(
    folder: Path,
    trigger: int,
    *,
    label: LabelKind = LabelKind.FALSE_REJECT,
    station: str = "s1",
    product: str = "p",
    at: int = START,
    revision: int = 1,
    sample: Sample | None = None,
    rgb: bool = True,
    depth: bool = True,
    degraded: tuple[str, ...] = (),
) -> PartKey:
    """One labelled part in the folder, as the board writes it."""
    part = PartKey(station, 1, trigger)
    rng = np.random.default_rng(trigger)
    colour = rng.integers(0, 255, (8, 10, 3), dtype=np.uint8) if sample is None else sample.rgb
    counts = rng.integers(1, 999, (8, 10), dtype=np.uint16) if sample is None else sample.depth
    scale = 1e-5 if sample is None else sample.depth_scale
    assert colour is not None
    assert counts is not None
    verdict = Verdict(
        part=part,
        product=product,
        decision=Decision.REJECT,
        captured_at=at,
        decided_at=at,
        deadline=at,
        worker="w1",
        degraded=degraded,
    )
    said = Label(
        part=part,
        product=product,
        decision=Decision.REJECT,
        label=label,
        at=at,
        by="ada",
        revision=revision,
    )
    images = Images(
        encode_colour(colour, ColourEncoding.PNG) if rgb else None,
        encode_depth(counts) if depth else None,
        scale,
    )
    kept = ReviewFolder(folder).keep(said, verdict, images)
    assert (kept.rgb, kept.depth) == (rgb, depth)
    return part


def normals(folder: Path, **more: Any) -> Normals:
    asked: dict[str, Any] = {"rgb_size": (8, 10), "depth_size": (8, 10), "depth_scale": 1e-5}
    return read_normals(folder, "p", **(asked | more))


def test_false_rejects_are_taken_with_the_pixels_they_were_saved_with(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    keep(tmp_path, 2, label=LabelKind.TRUE_REJECT)
    keep(tmp_path, 3, product="another")
    found = normals(tmp_path)
    (item,) = found.items
    assert (item.name, item.split, item.label) == ("s1-1-1", "review", "good")
    sample = item.sample()
    rng = np.random.default_rng(1)
    assert sample.rgb is not None
    assert np.array_equal(sample.rgb, rng.integers(0, 255, (8, 10, 3), dtype=np.uint8))
    assert sample.depth is not None
    assert sample.depth.dtype == np.uint16
    assert sample.depth_scale == 1e-5
    assert found.left == {"true rejects": 1}


def test_a_label_that_was_replaced_counts_as_it_is_now(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    keep(tmp_path, 1, label=LabelKind.TRUE_REJECT, revision=2)
    keep(tmp_path, 2, label=LabelKind.TRUE_REJECT)
    keep(tmp_path, 2, revision=2)
    assert [item.name for item in normals(tmp_path).items] == ["s1-1-2"]


def test_a_label_that_was_taken_back_teaches_nothing(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    keep(tmp_path, 2)
    # As a foreign writer may do it, who leaves the pictures where they are.
    keep(tmp_path, 1, label=LabelKind.WITHDRAWN, revision=2)
    found = normals(tmp_path)
    assert [item.name for item in found.items] == ["s1-1-2"]
    assert found.left == {"labels that were taken back": 1}


@pytest.mark.parametrize("cut", [r'{"v":1,"part":"s1/1/1","product":"p","deci', r'{"v":2,"part":"s1/1/1"}'])
def test_a_part_with_a_line_that_cannot_be_read_is_left_out(tmp_path: Path, cut: str) -> None:
    keep(tmp_path, 1)
    keep(tmp_path, 2)
    with (tmp_path / "p" / RECORDS).open("a") as file:
        file.write(cut + "\n")
    found = normals(tmp_path)
    assert [item.name for item in found.items] == ["s1-1-2"]
    assert found.left["parts with a line that cannot be read"] == 1


def test_parts_of_a_run_within_an_hour_of_each_other_are_one_lot(tmp_path: Path) -> None:
    for trigger, hours in enumerate((0, 0.9, 1.8, 4, 4.1)):
        keep(tmp_path, trigger, at=START + int(hours * HOUR))
    keep(tmp_path, 9, station="s2")
    groups = [item.group for item in normals(tmp_path).items]
    assert [groups.index(group) for group in groups] == [0, 0, 0, 3, 3, 5]
    (tmp_path / "p" / "groups.csv").write_text("name,group\ns1-1-0,lot-7\n")
    assert normals(tmp_path).items[0].group == "lot-7"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"rgb": False}, "its rgb image was not saved"),
        ({"depth": False}, "its depth image was not saved"),
        ({"degraded": ("depth:frozen",)}, "a sensor was not to be trusted (depth)"),
    ],
)
def test_a_part_without_both_good_images_is_left(tmp_path: Path, how: dict[str, Any], why: str) -> None:
    keep(tmp_path, 1, **how)
    found = normals(tmp_path)
    assert (found.items, dict(found.left)) == ((), {why: 1})


def test_other_sizes_and_scales_are_left(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    assert "another size" in next(iter(normals(tmp_path, rgb_size=(8, 11)).left))
    assert "another size" in next(iter(normals(tmp_path, depth_size=(9, 10)).left))
    assert "another scale" in next(iter(normals(tmp_path, depth_scale=1e-4).left))
    assert normals(tmp_path, depth_scale=None).left == {}
    assert normals(tmp_path, depth_size=None).items


def test_a_file_that_was_changed_or_taken_away_is_left(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    keep(tmp_path, 2)
    (tmp_path / "p" / "s1-1-2-rgb.png").write_bytes((tmp_path / "p" / "s1-1-1-rgb.png").read_bytes())
    (tmp_path / "p" / "s1-1-1-depth.png").unlink()
    found = normals(tmp_path)
    assert found.items == ()
    assert sorted(found.left) == [
        "its depth file cannot be read",
        "its rgb file is not the one that was saved",
    ]


def test_a_part_that_is_labelled_both_ways_is_refused(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    keep(tmp_path, 1, label=LabelKind.TRUE_REJECT)
    with pytest.raises(SourceError, match=r"s1/1/1 is labelled false-reject and true-reject"):
        normals(tmp_path)


def test_a_folder_without_the_product_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds nothing of product 'p'"):
        normals(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b"null",
        b'{"v": 2}',
        b"\xff\xfe",
        b'{"v":1,"part":"../1/1"}',
        b"[" * 3000,
        b"x" * 70_000,
    ],
)
def test_lines_that_cannot_be_read_are_counted_and_stop_nothing(tmp_path: Path, line: bytes) -> None:
    keep(tmp_path, 1)
    path = tmp_path / "p" / RECORDS
    path.write_bytes(line + b"\n" + path.read_bytes())
    found = normals(tmp_path)
    assert len(found.items) == 1
    assert found.left.total() >= 1


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    path = tmp_path / "p" / RECORDS
    path.write_bytes(path.read_bytes()[:-40])
    keep(tmp_path, 2)
    assert [item.name for item in normals(tmp_path).items] == ["s1-1-2"]


@pytest.mark.parametrize("file", ["../../secret.png", "/etc/passwd", "s1-1-2-rgb.png"])
def test_a_record_that_names_another_file_is_not_followed(tmp_path: Path, file: str) -> None:
    keep(tmp_path, 1)
    keep(tmp_path, 2)
    path = tmp_path / "p" / RECORDS
    first, second = path.read_text().splitlines()
    raw = json.loads(first)
    raw["rgb"]["file"] = file
    path.write_text(json.dumps(raw) + "\n" + second + "\n")
    found = normals(tmp_path)
    assert [item.name for item in found.items] == ["s1-1-2"]
    assert found.left == {"its record names another part's file": 1}


PART = SyntheticDataset(train=15, validation=3, size=96, lot_size=3, seed=3)
ODD_LOT = 7


def odd(seed: int, *, bad: bool = False) -> Sample:
    """A part of a lot whose plastic is bluer than any that was taught."""
    defect = Defect(("colour", "shape", "both")[seed % 3], 12.0, 1.5, seed=seed) if bad else None
    sample = PART.part.render(seed, lot=ODD_LOT, defect=defect).sample
    assert sample.rgb is not None
    blue = np.clip(sample.rgb * np.array([0.9, 1.0, 1.1]), 0, 255).astype(np.uint8)
    return replace(sample, rgb=blue)


def rejected(inspector: Inspector, samples: Iterator[Sample]) -> int:
    found = [inspector.inspect([sample])[0] for sample in samples]
    return sum(
        one.score is not None and one.threshold is not None and one.score > one.threshold for one in found
    )


def test_a_lot_that_was_rejected_is_not_after_teaching_and_its_defects_still_are(tmp_path: Path) -> None:
    before = Inspector.load(teach(PART, tmp_path / "models", name="p", settings=SMALL))
    seeds = range(50_000, 50_005)
    assert rejected(before, (odd(seed) for seed in seeds)) == len(seeds)
    for trigger, seed in enumerate(seeds):
        keep(tmp_path / "review", trigger, sample=odd(seed))
    sample = odd(0)
    found = read_normals(
        tmp_path / "review",
        "p",
        rgb_size=sample.rgb_size,
        depth_size=sample.depth_size,
        depth_scale=sample.depth_scale,
    )
    assert len(found.items) == len(seeds)
    path = teach(PART, tmp_path / "models", name="p", settings=SMALL, confirmed=found.items)
    after = Inspector.load(path)
    fresh, spoilt = range(60_000, 60_004), range(70_000, 70_006)
    assert rejected(before, (odd(seed) for seed in fresh)) == len(fresh)
    assert rejected(after, (odd(seed) for seed in fresh)) == 0
    assert rejected(after, (odd(seed, bad=True) for seed in spoilt)) == len(spoilt)
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["teaching"]["confirmed"], manifest["teaching"]["confirmed_groups"]) == (5, 1)
    thresholds = manifest["point"]["thresholds"]["calibrated"]["FUSED"]
    # They are taught and not calibrated: thresholds rest on the frames they rested on before.
    assert (thresholds["frames"], thresholds["groups"]) == (18, 6)


def test_a_lot_of_the_validation_frames_is_refused(tmp_path: Path) -> None:
    held = PART.validation()[0]
    item = Item("s1-1-1", held.group, "review", "good", held.load)
    with pytest.raises(TeachError, match="must stay unseen"):
        teach(PART, tmp_path, name="p", settings=SMALL, confirmed=[item])


def test_the_command_says_how_many_it_took_and_why_it_left_the_others(tmp_path: Path) -> None:
    from workers.cli import app

    few = SyntheticDataset(train=8, validation=2, test_good=0, defects_per_kind=0, size=96, lot_size=2)
    write_surface_layout(few, tmp_path / "data")
    keep(tmp_path / "review", 1, sample=few.train()[0].sample())
    keep(tmp_path / "review", 2)
    keep(tmp_path / "review", 3, label=LabelKind.TRUE_REJECT)
    words = ["teach", "p", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "models")]
    words += ["--from-review", str(tmp_path / "review"), "--folds", "2"]
    answer = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert answer.exit_code == 0, answer.output
    assert "1 confirmed normals taken, of 1 lots; 2 left" in answer.output.replace("\n", " ")
    assert "left 1: true rejects" in answer.output
    assert "left 1: its rgb image has another size" in answer.output
    nothing = CliRunner().invoke(app, [*words[:-4], "--from-review", str(tmp_path / "none")])
    assert isinstance(nothing.exception, SourceError)
    keep(tmp_path / "bad", 3, label=LabelKind.TRUE_REJECT)
    only_bad = CliRunner().invoke(app, [*words[:-4], "--from-review", str(tmp_path / "bad")])
    assert "nothing in it can be taught" in str(only_bad.exception)
    assert not (tmp_path / "models" / "p" / "2").exists()

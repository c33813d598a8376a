"""Real-IAD D3's layout: splits from the json, units applied, and nothing guessed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inference.datasets.realiad_d3 import RealIadD3Dataset, category_names
from inference.errors import DatasetError
from tests.inference.tiff_files import cloud, write_tiff

HEIGHT, WIDTH = 8, 10


def entry(base: Path, number: int, label: str) -> dict[str, object]:
    """Write one sample in millimetres and say where it is."""
    names = {
        "image_path": f"{label}/S{number:04d}/rgb_{number}.jpg",
        "xyz_path": f"{label}/S{number:04d}/xyz_{number}.tiff",
        "ps_path": f"{label}/S{number:04d}/ps_{number}.jpg",
    }
    image = base / names["image_path"]
    image.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image), np.full((HEIGHT, WIDTH, 3), 100 + number, np.uint8))
    write_tiff(base / names["xyz_path"], cloud(HEIGHT, WIDTH, 0.3, seed=number) * np.float32(1000))
    found: dict[str, object] = {**names, "anomaly_class": label, "mask_path": None}
    if label != "OK":
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[1:3, 1:3] = 255
        found["mask_path"] = f"{label}/S{number:04d}/mask_{number}.png"
        cv2.imwrite(str(base / str(found["mask_path"])), mask)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "realiad_d3_raw" / "fuse_holder"
    values = {
        "meta": {"prefix": "fuse_holder/"},
        "train": [entry(base, number, "OK") for number in range(6)],
        "validation": [entry(base, 10, "OK"), entry(base, 11, "SCRATCH")],
        "test": [entry(base, 20, "PIT"), entry(base, 21, "OK")],
    }
    (tmp_path / "realiad_d3_jsons").mkdir()
    write(tmp_path, values)
    return tmp_path


def write(root: Path, values: object) -> None:
    (root / "realiad_d3_jsons" / "fuse_holder.json").write_text(json.dumps(values))


def read(root: Path) -> dict[str, Any]:
    values = json.loads((root / "realiad_d3_jsons" / "fuse_holder.json").read_text())
    assert isinstance(values, dict)
    return values


def test_splits_are_those_of_the_json_and_validation_has_no_defect(root: Path) -> None:
    data = RealIadD3Dataset(root, "fuse_holder")
    assert category_names(root) == ["fuse_holder"]
    assert len(data.train()) == 6
    assert [item.name for item in data.validation()] == ["OK_S0010_rgb_10"]
    good, pit = data.test()
    assert (good.label, pit.label) == ("good", "PIT")
    mask = pit.mask()
    assert good.mask() is None
    assert mask is not None
    assert mask.sum() == 4


def test_points_in_millimetres_become_metres(root: Path) -> None:
    data = RealIadD3Dataset(root, "fuse_holder")
    rays = data.rays()
    for number, item in enumerate(data.train()):
        sample = item.sample()
        assert sample.depth is not None
        assert sample.depth_scale == 1e-5
        rebuilt = rays * (sample.depth * sample.depth_scale)[..., None]
        np.testing.assert_allclose(rebuilt, cloud(HEIGHT, WIDTH, 0.3, seed=number), atol=6e-6)
    metres = RealIadD3Dataset(root, "fuse_holder", unit=1e-4).train()[0].sample().depth
    first = data.train()[0].sample().depth
    assert metres is not None
    assert first is not None
    np.testing.assert_allclose(metres, first / 10, atol=1)


def test_without_validation_every_fifth_training_image_is_held_out(root: Path) -> None:
    values = read(root)
    del values["validation"]
    write(root, values)
    data = RealIadD3Dataset(root, "fuse_holder")
    held = data.validation()
    assert [item.name for item in held] == ["OK_S0004_rgb_4"]
    assert [item.split for item in held] == ["validation"]
    assert len(data.train()) == 5


def test_another_size_needs_the_word_that_it_is_one_field(root: Path) -> None:
    for path in (root / "realiad_d3_raw").rglob("rgb_*.jpg"):
        cv2.imwrite(str(path), np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8))
    with pytest.raises(DatasetError, match="same_field"):
        RealIadD3Dataset(root, "fuse_holder").train()
    sample = RealIadD3Dataset(root, "fuse_holder", same_field=True).train()[0].sample()
    assert sample.rgb_size == (16, 20)
    assert sample.depth_size == (8, 10)


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        values = read(root)
        change(values)
        write(root, values)

    return apply


MISTAKES: list[tuple[str, Callable[[Path], object], list[str]]] = [
    ("raw", lambda r: (r / "realiad_d3_raw").rename(r / "raw"), ["fuse_holder", "unpack"]),
    ("json", lambda r: (r / "realiad_d3_jsons/fuse_holder.json").write_text("["), ["not readable as JSON"]),
    ("list", lambda r: write(r, [1]), ['"train" and "test"', "found: list"]),
    ("keys", lambda r: write(r, {"train": [], "val": []}), ["found: train, val"]),
    ("entry", edit(lambda v: v["train"].append({"image_path": "x"})), ["anomaly_class"]),
    ("no xyz", edit(lambda v: v["train"][1].pop("xyz_path")), ["without xyz_path", "found: anomaly_class"]),
    ("file", edit(lambda v: v["train"][1].update(xyz_path="OK/none.tiff")), ["OK/none.tiff", "missing"]),
    ("outside", edit(lambda v: v["train"][1].update(xyz_path="../../../x")), ["missing"]),
    ("empty", edit(lambda v: v.update(train=[])), ["no good images in 'train'"]),
]


@pytest.mark.parametrize(("mistake", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_what_is_not_as_described_is_refused_with_what_was_found(
    root: Path, mistake: Callable[[Path], object], words: list[str]
) -> None:
    mistake(root)
    with pytest.raises(DatasetError) as caught:
        RealIadD3Dataset(root, "fuse_holder").train()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_unknown_category_is_answered_with_those_that_are_there(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"knob\.json.*fuse_holder"):
        RealIadD3Dataset(root, "knob")

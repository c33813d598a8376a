"""The folder layout: what it reads, how it groups, and what it says of a folder that is not right."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.datasets.surface import SurfaceDataset, write_surface_layout
from inference.datasets.synthetic import SyntheticDataset
from inference.errors import DatasetError


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = SyntheticDataset(train=3, validation=2, test_good=2, defects_per_kind=1, size=64, lot_size=2)
    return write_surface_layout(data, tmp_path_factory.mktemp("layout") / "set", quality=100)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "set"))


def touch(folder: Path, names: list[str]) -> None:
    """A layout of one-colour images with these names in train/good, without groups.csv."""
    for kind, image in (("rgb", np.zeros((8, 8, 3), np.uint8)), ("depth", np.ones((8, 8), np.uint16))):
        target = folder / "train" / "good" / kind
        target.mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(target / f"{name}.png"), image)


def test_what_was_written_is_read_back_exactly(original: Path) -> None:
    data = SyntheticDataset(train=3, validation=2, test_good=2, defects_per_kind=1, size=64, lot_size=2)
    read = SurfaceDataset(original)
    assert read.name == "synthetic"
    for written, found in ((data.train(), read.train()), (data.validation(), read.validation())):
        assert [i.group for i in found] == [i.group for i in written]
        for a, b in zip(written, found, strict=True):
            x, y = a.sample(), b.sample()
            assert x.rgb is not None
            assert x.depth is not None
            np.testing.assert_array_equal(x.rgb, y.rgb)
            np.testing.assert_array_equal(x.depth, y.depth)
            assert x.depth_scale == y.depth_scale
    by_name = {f"test_{item.name}": item for item in data.test()}
    assert [item.label for item in read.test()] == ["good", "good", "both", "colour", "shape"]
    for item in read.test():
        mask, expected = item.mask(), by_name[item.name].mask()
        assert (mask is None) == (expected is None)
        if mask is not None:
            np.testing.assert_array_equal(mask, expected)


def test_jpg_is_read_in_rgb_order(tmp_path: Path) -> None:
    touch(tmp_path, ["a01"])
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 250  # OpenCV writes BGR
    (tmp_path / "train/good/rgb/a01.png").unlink()
    cv2.imwrite(str(tmp_path / "train/good/rgb/a01.jpg"), red)
    rgb = SurfaceDataset(tmp_path).train()[0].sample().rgb
    assert rgb is not None
    assert rgb[4, 4, 0] > 200 > 60 > rgb[4, 4, 2]


def groups_of(data: SurfaceDataset) -> dict[str, str]:
    return {item.name: item.group for item in (*data.train(), *data.validation())}


def test_neighbouring_frames_of_a_recording_share_a_group(tmp_path: Path) -> None:
    touch(tmp_path, ["a01_00", "a01_12", "a02_00", "a03_01", "a04_01", "c02_00", "c05_00", "odd"])
    groups = groups_of(SurfaceDataset(tmp_path))
    assert groups["a01_00"] == groups["a01_12"] == groups["a02_00"] == "a1-2"
    assert groups["a03_01"] == groups["a04_01"] == "a3-4"
    assert len({groups["c02_00"], groups["c05_00"], groups["a01_00"]}) == 3
    assert groups["odd"] == "odd"
    wider = groups_of(SurfaceDataset(tmp_path, frames_per_group=4))
    assert wider["a01_00"] == wider["a04_01"] == "a1-4"


def test_groups_csv_overrides_the_name(tmp_path: Path) -> None:
    touch(tmp_path, ["a01_00", "a09_00"])
    (tmp_path / "groups.csv").write_text("name,group\na01_00,lot7\na09_00,lot7\n")
    assert {item.group for item in SurfaceDataset(tmp_path).train()} == {"lot7"}


def test_one_sensor_alone_is_a_dataset_too(folder: Path) -> None:
    shutil.rmtree(folder / "train/good/depth")
    sample = SurfaceDataset(folder).train()[0].sample()
    assert sample.depth is None
    assert sample.rgb is not None
    shutil.rmtree(folder / "validation/good/rgb")
    sample = SurfaceDataset(folder).validation()[0].sample()
    assert sample.rgb is None
    assert sample.depth is not None


def first(folder: Path, kind: str, label: str = "good", split: str = "train") -> Path:
    return min((folder / split / label / kind).iterdir())


def halve(path: Path) -> None:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    cv2.imwrite(str(path), image[::2, ::2])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def empty(folder: Path) -> None:
    for kind in ("rgb", "depth"):
        shutil.rmtree(folder / "train/good" / kind)


Mistake = Callable[[Path], object]

MISTAKES: list[tuple[str, Mistake, str, list[str]]] = [
    (
        "validation called otherwise",
        lambda f: (f / "validation").rename(f / "val"),
        "train",
        ["val: is this the validation split?"],
    ),
    (
        "no good validation",
        lambda f: (f / "validation/good").rename(f / "validation/ok"),
        "validation",
        ["validation/good: missing", "held out"],
    ),
    ("no train", lambda f: shutil.rmtree(f / "train"), "train", ["train", "missing"]),
    ("no test", lambda f: shutil.rmtree(f / "test"), "test", ["test", "missing"]),
    (
        "empty split",
        empty,
        "train",
        ["train", "empty"],
    ),
    ("no partner", lambda f: first(f, "depth").unlink(), "train", ["0000.png", "no partner", "depth"]),
    ("no colour", lambda f: first(f, "rgb").unlink(), "train", ["0000.png", "no partner", "rgb"]),
    (
        "two sizes",
        lambda f: halve(first(f, "depth")),
        "train",
        ["64 x 64", "32 x 32", "same_field", "rgb", "depth"],
    ),
    (
        "8-bit depth",
        lambda f: cv2.imwrite(str(first(f, "depth")), np.ones((64, 64), np.uint8)),
        "train",
        ["16-bit", "0000.png"],
    ),
    ("not an image", lambda f: first(f, "rgb").write_text("hello"), "train", ["not an image", "0000.png"]),
    ("mask size", lambda f: halve(first(f, "gt", "both", "test")), "test", ["mask of 32 x 32", "64 x 64"]),
    ("no mask", lambda f: first(f, "gt", "both", "test").write_bytes(b""), "test", ["not an image", "gt"]),
    ("bad json", lambda f: (f / "dataset.json").write_text("{"), "train", ["dataset.json", "JSON"]),
    ("bad csv", lambda f: (f / "groups.csv").write_text("a;b\n"), "train", ["groups.csv", "name,group"]),
    (
        "bad scale",
        lambda f: (f / "dataset.json").write_text('{"depth_scale": -1}'),
        "train",
        ["dataset.json", "depth_scale"],
    ),
]


@pytest.mark.parametrize(
    ("mistake", "split", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_mistake_is_told_in_one_line_that_names_the_file(
    folder: Path, mistake: Mistake, split: str, words: list[str]
) -> None:
    mistake(folder)
    with pytest.raises(DatasetError) as caught:
        getattr(SurfaceDataset(folder), split)()
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_missing_folder_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        SurfaceDataset(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["rgb", "depth"])
def test_an_image_that_was_cut_off_is_refused_when_it_is_loaded(folder: Path, kind: str) -> None:
    cut(first(folder, kind))
    with pytest.raises(DatasetError, match="damaged or cut off"):
        SurfaceDataset(folder).train()[0].sample()


def test_a_cut_jpg_is_refused_rather_than_filled_with_grey(tmp_path: Path) -> None:
    touch(tmp_path, ["a01"])
    (tmp_path / "train/good/rgb/a01.png").unlink()
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    path = tmp_path / "train/good/rgb/a01.jpg"
    cv2.imwrite(str(path), noise)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match="damaged or cut off"):
        SurfaceDataset(tmp_path).train()[0].sample()


def test_another_depth_resolution_is_read_where_it_is_declared(folder: Path) -> None:
    for path in (folder / "train/good/depth").iterdir():
        halve(path)
    sample = SurfaceDataset(folder, same_field=True).train()[0].sample()
    assert sample.rgb_size == (64, 64)
    assert sample.depth_size == (32, 32)


@pytest.mark.skipif(
    "CROSSCHECK_SURFACE" not in os.environ, reason="CROSSCHECK_SURFACE names no folder of real tiles"
)
def test_the_real_tiles_are_read() -> None:
    data = SurfaceDataset(os.environ["CROSSCHECK_SURFACE"])
    train, validation = data.train(), data.validation()
    assert (len(train), len(validation)) == (57, 15)
    assert not {item.group for item in train} & {item.group for item in validation}
    sample = train[0].sample()
    assert sample.rgb_size == sample.depth_size == (256, 256)

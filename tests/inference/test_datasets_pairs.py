"""A plain folder of pairs: every way to store depth, splits by whole groups, and a wrong file named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.datasets.pairs import PairsDataset
from inference.errors import DatasetError
from tests.inference.tiff_files import write_tiff

SIDE = 6
NAMES = [f"a{number:02d}" for number in range(12)]


def colour(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), value, np.uint8))


def counts(path: Path, value: int = 900) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((SIDE, SIDE), value, np.uint16))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        colour(tmp_path / "set/rgb" / f"{name}.png", number)
        counts(tmp_path / "set/depth" / f"{name}.png", 900 + number)
    return tmp_path / "set"


def test_pairs_are_split_into_whole_groups_the_same_every_time(folder: Path) -> None:
    data = PairsDataset(folder)
    train, validation = data.train(), data.validation()
    assert [item.name for item in data.all()] == NAMES
    assert [item.name for item in validation] == ["a08", "a09"]
    assert {item.split for item in validation} == {"validation"}
    assert not {item.group for item in train} & {item.group for item in validation}
    assert len(train) + len(validation) == len(NAMES)
    assert [item.name for item in PairsDataset(folder).validation()] == ["a08", "a09"]
    sample = train[3].sample()
    assert sample.rgb is not None
    assert sample.depth is not None
    assert (sample.rgb[0, 0, 0], sample.depth[0, 0]) == (3, 903)


def test_too_few_lots_to_hold_one_out_are_divided_by_frame_and_the_risk_is_told(folder: Path) -> None:
    for lots in (1, 3):
        rows = "".join(f"{name},lot{index % lots}\n" for index, name in enumerate(NAMES))
        (folder / "groups.csv").write_text("name,group\n" + rows)
        data = PairsDataset(folder)
        assert [item.name for item in data.validation()] == ["a04", "a09"]
        assert len(data.train()) == 10
        (note,) = data.notes
        assert "too few to hold one out: 2 of 12 good frames" in note
        assert "rejected too often" in note


def test_pairs_side_by_side_are_found_by_their_endings(tmp_path: Path) -> None:
    for name in ("x1", "x2"):
        colour(tmp_path / f"{name}_rgb.jpg")
        counts(tmp_path / f"{name}_depth.png")
    items = PairsDataset(tmp_path).all()
    assert [item.name for item in items] == ["x1", "x2"]
    sample = items[0].sample()
    assert sample.rgb_size == sample.depth_size == (SIDE, SIDE)


@pytest.mark.parametrize("sensor", ["rgb", "depth"])
def test_one_sensor_alone_is_a_set_too(folder: Path, sensor: str) -> None:
    (folder / sensor).rename(folder.parent / sensor)
    sample = PairsDataset(folder).train()[0].sample()
    assert (sample.rgb is None) == (sensor == "rgb")
    assert (sample.depth is None) == (sensor == "depth")


METRES = np.array([[0.5, 0.0], [np.nan, 1.0]], np.float32)


def npy(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


@pytest.mark.parametrize("suffix", [".npy", ".tiff"])
def test_metres_become_counts_and_missing_readings_zero(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "depth" / f"a{suffix}"
    if suffix == ".npy":
        npy(path, METRES)
    else:
        write_tiff(path, METRES)
    for scale, expected in ((None, [[25000, 0], [0, 50000]]), (1e-4, [[5000, 0], [0, 10000]])):
        sample = PairsDataset(tmp_path, depth_scale=scale).all()[0].sample()
        assert sample.depth is not None
        assert sample.depth.tolist() == expected
        assert sample.depth_scale == (scale or 2e-5)


def test_an_array_of_counts_is_taken_as_it_is(tmp_path: Path) -> None:
    npy(tmp_path / "depth/a.npy", np.array([[7, 0]], np.uint16))
    sample = PairsDataset(tmp_path).all()[0].sample()
    assert sample.depth is not None
    assert sample.depth.tolist() == [[7, 0]]
    assert sample.depth_scale is None


def test_labelled_frames_to_be_judged_may_lie_beside(folder: Path) -> None:
    with pytest.raises(DatasetError, match="test"):
        PairsDataset(folder).test()
    for label in ("good", "dent"):
        colour(folder / "test" / label / "rgb/t1.png")
        counts(folder / "test" / label / "depth/t1.png")
    assert [item.label for item in PairsDataset(folder).test()] == ["good", "dent"]


LISTED: list[tuple[str, Callable[[Path], object], list[str]]] = [
    ("no depth", lambda f: (f / "depth/a03.png").unlink(), ["a03.png", "no partner", "depth"]),
    ("no colour", lambda f: (f / "rgb/a03.png").unlink(), ["a03.png", "no partner", "rgb"]),
    ("8 bit", lambda f: colour(f / "depth/a03.png"), ["a03.png", "16-bit"]),
    ("twice", lambda f: npy(f / "depth/a03.npy", METRES), ["a03", "same name"]),
    ("not a tiff", lambda f: swap(f, b"hello"), ["a03.tiff", "not a TIFF"]),
    (
        "size",
        lambda f: cv2.imwrite(str(f / "depth/a03.png"), np.ones((3, 3), np.uint16)),
        ["6 x 6", "3 x 3", "same_field"],
    ),
]


def swap(folder: Path, data: bytes, suffix: str = ".tiff") -> None:
    (folder / "depth/a03.png").unlink()
    (folder / f"depth/a03{suffix}").write_bytes(data)


@pytest.mark.parametrize(("mistake", "words"), [m[1:] for m in LISTED], ids=[m[0] for m in LISTED])
def test_a_wrong_folder_is_told_before_anything_is_loaded(
    folder: Path, mistake: Callable[[Path], object], words: list[str]
) -> None:
    mistake(folder)
    with pytest.raises(DatasetError) as caught:
        PairsDataset(folder).all()
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((2, 2), -1, np.float64), "4 distances are negative.*--no-reading -1"),
        (np.full((2, 2), 3.0, np.float32), "depth_scale of at least"),
        (np.ones((2, 2, 4), np.float32), "4-channel 32-bit float image"),
        (np.ones((2, 2), np.uint8), "8-bit integer image; depth must be 16-bit"),
        (np.full((2, 2), 70_000, np.int32), "counts from 70000 to 70000"),
    ],
)
def test_a_wrong_array_is_named_when_it_is_loaded(tmp_path: Path, values: np.ndarray, words: str) -> None:
    npy(tmp_path / "depth/a.npy", values)
    with pytest.raises(DatasetError, match=words) as caught:
        PairsDataset(tmp_path).all()[0].sample()
    assert "a.npy" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_a_file_that_is_no_array_is_named(folder: Path, data: bytes) -> None:
    swap(folder, data, ".npy")
    with pytest.raises(DatasetError, match=r"a03\.npy"):
        PairsDataset(folder).all()[3].sample()


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "depth/a.npy"
    path.parent.mkdir()
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(DatasetError, match="not an array"):
        PairsDataset(tmp_path).all()[0].sample()

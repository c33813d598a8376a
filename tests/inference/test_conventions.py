"""What files cannot say themselves: no reading, units, bits of a camera; said once, or asked for in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference.datasets.conventions import Conventions, parse_no_reading, parse_unit
from inference.datasets.found import find_frames
from inference.datasets.mvtec3d import MVTec3DDataset
from inference.datasets.pairs import PairsDataset
from inference.errors import DatasetError
from inference.sample import Sample
from tests.inference.tiff_files import write_tiff

SHAPE = (20, 25)
COUNTS = np.random.default_rng(0).integers(15_000, 25_000, SHAPE).astype(np.uint16)
HOLES = np.zeros(SHAPE, bool)
HOLES[3:9, 4:12] = True


def with_holes(value: float, base: NDArray[Any] = COUNTS) -> NDArray[Any]:
    out = base.copy()
    out[HOLES] = value
    return out


def depth(folder: Path, values: NDArray[Any], suffix: str = ".npy") -> Path:
    path = folder / f"depth/a0{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".npy":
        np.save(path, values)
    else:
        assert cv2.imwrite(str(path), values)
    return folder


def said(folder: Path, **facts: Any) -> None:
    (folder / "dataset.json").write_text(json.dumps(facts))


def read(folder: Path, conventions: Conventions | None = None) -> Sample:
    """By the reader that teaches, and by the one that inspects: both see the same."""
    taught = PairsDataset(folder, conventions=conventions).all()[0].sample()
    inspected = find_frames(folder, conventions=conventions).items[0].sample()
    for one, other in ((taught.rgb, inspected.rgb), (taught.depth, inspected.depth)):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_array_equal(one, other)
    assert taught.depth_scale == inspected.depth_scale
    return taught


@pytest.mark.parametrize("value", [65535, 60_000, 1])
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".npy"])
def test_a_value_that_stands_for_no_reading_is_none(tmp_path: Path, value: int, suffix: str) -> None:
    depth(tmp_path, with_holes(value), suffix)
    by_option = read(tmp_path, Conventions(no_reading=(value,))).depth
    np.testing.assert_array_equal(by_option, with_holes(0))
    said(tmp_path, no_reading=value)
    np.testing.assert_array_equal(read(tmp_path).depth, with_holes(0))
    said(tmp_path, no_reading=[7, value])
    np.testing.assert_array_equal(read(tmp_path).depth, with_holes(0))


def test_depth_with_a_share_of_65535_is_asked_about_and_may_be_a_distance(tmp_path: Path) -> None:
    depth(tmp_path, with_holes(65535), ".png")
    with pytest.raises(DatasetError, match=r"9\.6% of it is 65535.*--no-reading 65535.*--no-reading none"):
        PairsDataset(tmp_path).all()[0].sample()
    with pytest.raises(DatasetError, match="--no-reading 65535"):
        find_frames(tmp_path).items[0].sample()
    kept = read(tmp_path, Conventions(no_reading=())).depth
    np.testing.assert_array_equal(kept, with_holes(65535))
    single = COUNTS.copy()
    single[0, 0] = 65535  # one flying pixel is no convention
    np.testing.assert_array_equal(read(depth(tmp_path, single, ".png")).depth, single)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
@pytest.mark.parametrize("kind", ["<f4", ">f4", ">f8"])
def test_floats_that_are_no_number_are_no_reading(tmp_path: Path, value: float, kind: str) -> None:
    metres = with_holes(value, COUNTS.astype(kind) * 2e-5).astype(kind)
    found = read(depth(tmp_path, metres)).depth
    np.testing.assert_array_equal(found, with_holes(0))


@pytest.mark.parametrize("value", [-1.0, -9999.0, 1e6])
def test_floats_of_another_value_are_named_with_the_option(tmp_path: Path, value: float) -> None:
    depth(tmp_path, with_holes(value, (COUNTS * 2e-5).astype(np.float32)))
    with pytest.raises(DatasetError, match="--no-reading"):
        PairsDataset(tmp_path).all()[0].sample()
    found = read(tmp_path, Conventions(no_reading=(value,))).depth
    np.testing.assert_array_equal(found, with_holes(0))


@pytest.mark.parametrize("unit", ["mm", 0.001])
def test_float_millimetres_are_asked_about_and_read_once_it_is_said(tmp_path: Path, unit: object) -> None:
    depth(tmp_path, (COUNTS * 2e-2).astype(np.float32))
    with pytest.raises(DatasetError, match=r"is this in millimetres.*--depth-unit mm"):
        PairsDataset(tmp_path).all()[0].sample()
    said(tmp_path, depth_unit=unit)
    sample = read(tmp_path)
    np.testing.assert_array_equal(sample.depth, COUNTS)
    assert sample.depth_scale == 2e-5


def test_points_in_millimetres_are_asked_about_in_the_published_layout(tmp_path: Path) -> None:
    root = tmp_path / "bagel"
    points = np.stack([COUNTS * 0.01, COUNTS * 0.01, COUNTS * 0.02], axis=-1).astype(np.float32)
    points[HOLES] = np.nan
    for split in ("train", "validation"):
        (root / split / "good/rgb").mkdir(parents=True)
        assert cv2.imwrite(str(root / split / "good/rgb/000.png"), np.zeros((*SHAPE, 3), np.uint8))
        write_tiff(root / split / "good/xyz/000.tiff", points)
    with pytest.raises(DatasetError, match="is this in millimetres"):
        MVTec3DDataset(root).train()[0].sample()
    found = MVTec3DDataset(root, conventions=Conventions(depth_unit=0.001)).train()[0].sample().depth
    np.testing.assert_array_equal(found, with_holes(0))


def colour(folder: Path, values: NDArray[Any]) -> Path:
    (folder / "rgb").mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / "rgb/a0.png"), values)
    return folder


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 3)])
def test_colour_of_a_camera_with_fewer_bits_is_asked_about_and_scaled_once_it_is_said(
    tmp_path: Path, bits: int, shape: tuple[int, ...]
) -> None:
    eight = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    eight[0, 0] = 255
    colour(tmp_path, eight.astype(np.uint16) << (bits - 8))
    with pytest.raises(DatasetError, match=rf"Mono{bits}.*--colour-bits {bits}"):
        PairsDataset(tmp_path).all()[0].sample()
    expected = np.repeat(eight[..., None], 3, axis=2) if eight.ndim == 2 else eight[..., ::-1]
    np.testing.assert_array_equal(read(tmp_path, Conventions(colour_bits=bits)).rgb, expected)
    said(tmp_path, colour_bits=bits)
    np.testing.assert_array_equal(read(tmp_path).rgb, expected)


def test_more_bits_than_were_said_are_named_and_dark_pictures_of_16_bits_are_read(tmp_path: Path) -> None:
    colour(tmp_path, np.full(SHAPE, 4096, np.uint16))
    with pytest.raises(DatasetError, match="highest value is 4096, more than 12 bits hold"):
        PairsDataset(tmp_path, conventions=Conventions(colour_bits=12)).all()[0].sample()
    dark = read(tmp_path, Conventions(colour_bits=16)).rgb
    assert dark is not None
    assert (dark == 16).all()


def test_an_option_wins_over_dataset_json(tmp_path: Path) -> None:
    depth(tmp_path, with_holes(60_000), ".png")
    said(tmp_path, no_reading=7, depth_scale=1e-5)
    sample = read(tmp_path, Conventions(no_reading=(60_000,)))
    np.testing.assert_array_equal(sample.depth, with_holes(0))
    assert sample.depth_scale == 1e-5


WRONG: list[tuple[dict[str, object], str]] = [
    ({"no_reading": "many"}, "no_reading"),
    ({"no_reading": [True]}, "no_reading"),
    ({"depth_unit": "inch"}, "depth_unit"),
    ({"depth_unit": -1}, "depth_unit"),
    ({"depth_scale": True}, "depth_scale"),
    ({"colour_bits": 20}, "colour_bits"),
    ({"colour_bits": "twelve"}, "colour_bits"),
]


@pytest.mark.parametrize(("facts", "words"), WRONG)
def test_a_convention_that_cannot_be_one_is_named_with_its_file(
    tmp_path: Path, facts: dict[str, object], words: str
) -> None:
    depth(tmp_path, COUNTS)
    said(tmp_path, **facts)
    with pytest.raises(DatasetError, match=rf"dataset\.json: {words}"):
        PairsDataset(tmp_path)


OPTIONS: list[tuple[Callable[[], object], object]] = [
    (lambda: parse_no_reading(None, "--no-reading"), None),
    (lambda: parse_no_reading(["none"], "--no-reading"), ()),
    (lambda: parse_no_reading(["65535", "-1"], "--no-reading"), (65535.0, -1.0)),
    (lambda: parse_unit("MM", "--depth-unit"), 1e-3),
    (lambda: parse_unit("0.0254", "--depth-unit"), 0.0254),
]


@pytest.mark.parametrize(("parse", "expected"), OPTIONS)
def test_options_are_understood(parse: Callable[[], object], expected: object) -> None:
    assert parse() == expected


def test_options_that_are_not_understood_are_named() -> None:
    with pytest.raises(DatasetError, match="--no-reading lots: expected a number"):
        parse_no_reading(["lots"], "--no-reading")
    with pytest.raises(DatasetError, match="--depth-unit 'inch': use m, cm, mm, um"):
        parse_unit("inch", "--depth-unit")

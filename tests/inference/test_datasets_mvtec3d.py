"""MVTec 3D-AD's layout: the points come back where they were, and a wrong file is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

from inference.datasets.depth import read_points
from inference.datasets.mvtec3d import MVTec3DDataset
from inference.datasets.points import square_pad
from inference.datasets.tiff import read_tiff
from inference.errors import DatasetError
from tests.inference.tiff_files import cloud, write_tiff

HEIGHT, WIDTH = 10, 14


def write(root: Path, name: str, *, seed: int = 0, mask: bool | None = None) -> None:
    """One frame as the data set has it: colour and points of one size, and a mask where there is a defect."""
    for folder in ("rgb", "xyz", "gt"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    cv2.imwrite(str(root / "rgb" / f"{name}.png"), image[..., ::-1])
    points = cloud(HEIGHT, WIDTH, 0.5, seed=seed)
    points[0, seed % WIDTH] = 0
    write_tiff(root / "xyz" / f"{name}.tiff", points)
    if mask is not None:
        truth = np.zeros((HEIGHT, WIDTH), np.uint8)
        truth[2:5, 3:7] = 255 if mask else 0
        cv2.imwrite(str(root / "gt" / f"{name}.png"), truth)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "bagel"
    for seed, name in enumerate(("000", "001", "002")):
        write(root / "train/good", name, seed=seed)
    write(root / "validation/good", "000", seed=5)
    write(root / "test/good", "000", seed=6, mask=False)
    write(root / "test/hole", "000", seed=7, mask=True)
    (root / "calibration").mkdir()
    (root / "calibration" / "camera_parameters.json").write_text("{}")
    return root


def test_splits_labels_and_masks_are_those_of_the_folders(folder: Path) -> None:
    data = MVTec3DDataset(folder)
    assert data.name == "bagel"
    assert [item.name for item in data.train()] == ["000", "001", "002"]
    assert [item.split for item in data.validation()] == ["validation"]
    good, hole = data.test()
    assert (good.label, hole.label) == ("good", "hole")
    assert good.mask() is None
    mask = hole.mask()
    assert mask is not None
    assert mask.sum() == 12
    assert mask[2:5, 3:7].all()
    groups = [item.group for items in (data.train(), data.validation(), data.test()) for item in items]
    assert len(set(groups)) == 6


def test_the_cloud_is_rebuilt_from_counts_and_rays(folder: Path) -> None:
    data = MVTec3DDataset(folder)
    rays = data.rays()
    for seed, item in enumerate(data.train()):
        sample = item.sample()
        assert sample.depth is not None
        assert sample.depth_scale == 2e-5
        expected = cloud(HEIGHT, WIDTH, 0.5, seed=seed)
        expected[0, seed % WIDTH] = 0
        rebuilt = rays * (sample.depth * sample.depth_scale)[..., None]
        np.testing.assert_allclose(rebuilt, expected, atol=1.1e-5)
        assert sample.depth[0, seed % WIDTH] == 0


def test_colour_is_read_in_rgb_order(folder: Path) -> None:
    rgb = MVTec3DDataset(folder).train()[1].sample().rgb
    expected = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    np.testing.assert_array_equal(rgb, expected)


def test_a_pixel_that_no_cloud_has_gets_the_ray_of_the_pinhole(folder: Path) -> None:
    for path in (folder / "train/good/xyz").iterdir():
        points = read_points(path)
        points[4:6] = 0
        write_tiff(path, points)
    expected = cloud(HEIGHT, WIDTH, 1.0)
    np.testing.assert_allclose(
        MVTec3DDataset(folder).rays()[..., :2], expected[..., :2] / expected[..., 2:], atol=1e-5
    )


def test_points_that_no_camera_could_have_seen_have_no_rays(folder: Path) -> None:
    rng = np.random.default_rng(3)
    for path in (folder / "train/good/xyz").iterdir():
        points = read_points(path)
        points[..., :2] = rng.normal(0, 0.2, (*points.shape[:2], 2))
        points[0] = 0
        write_tiff(path, points)
    with pytest.raises(DatasetError, match="no camera-frame coordinates"):
        MVTec3DDataset(folder).rays()


@pytest.mark.parametrize("side", [14, 100])
def test_points_padded_to_a_square_get_colour_and_mask_padded_alike(folder: Path, side: int) -> None:
    top, left = (side - HEIGHT) // 2, (side - WIDTH) // 2
    for path in folder.glob("*/*/xyz/*.tiff"):
        square = np.zeros((side, side, 3), np.float32)
        square[top : top + HEIGHT, left : left + WIDTH] = read_points(path)
        write_tiff(path, square)
    item = MVTec3DDataset(folder).test()[1]
    sample, mask = item.sample(), item.mask()
    assert sample.rgb is not None
    assert sample.depth is not None
    assert mask is not None
    assert sample.rgb_size == sample.depth_size == mask.shape == (side, side)
    inner = np.s_[top : top + HEIGHT, left : left + WIDTH]
    original = np.random.default_rng(7).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    np.testing.assert_array_equal(sample.rgb[inner], original)
    np.testing.assert_array_equal(sample.rgb[0, left : left + WIDTH], original[0])
    assert (sample.depth[inner] > 0).sum() == HEIGHT * WIDTH - 1 == (sample.depth > 0).sum()
    assert mask[inner].sum() == mask.sum() == 12


@pytest.mark.parametrize(
    ("colour", "points", "fits"),
    [
        ((900, 700), (900, 900), True),
        ((850, 700), (900, 900), True),
        ((850, 700), (850, 850), True),
        ((850, 700), (800, 800), False),
        ((850, 700), (900, 800), False),
        ((850, 700), (1000, 1000), False),
    ],
)
def test_only_the_published_square_is_taken_for_padding(
    colour: tuple[int, int], points: tuple[int, int], fits: bool
) -> None:
    pad = square_pad(colour, points)
    assert (pad is not None) == fits
    if pad is not None:
        assert colour[0] + pad.left + pad.right == points[0]
        assert colour[1] + pad.top + pad.bottom == points[1]
        assert 0 <= pad.bottom - pad.top <= 1


def nan(path: Path) -> None:
    points = read_points(path)
    points[3, 4, 1] = np.nan
    write_tiff(path, points)


def infinite(path: Path) -> None:
    points = read_points(path)
    points[3, 4] = np.inf, -np.inf, 1
    write_tiff(path, points)


def behind(path: Path) -> None:
    points = read_points(path)
    points[3, 4, 2] = -0.1
    write_tiff(path, points)


def far(path: Path) -> None:
    points = read_points(path)
    points[3, 4] *= 4
    write_tiff(path, points)


def cut(path: Path) -> None:
    points = read_points(path)
    write_tiff(path, points, tags_first=True)
    path.write_bytes(path.read_bytes()[:-40])


LOADED: list[tuple[str, Callable[[Path], None], str]] = [
    ("behind", behind, "1 points are not in front of the sensor"),
    ("far", far, "depth_scale of at least 3.1e-05"),
    ("cut", cut, "damaged or cut off"),
]


@pytest.mark.parametrize("unread", [nan, infinite])
def test_a_point_that_is_not_finite_is_no_reading(folder: Path, unread: Callable[[Path], None]) -> None:
    items = MVTec3DDataset(folder).train()
    before = items[1].sample().depth
    unread(folder / "train/good/xyz/001.tiff")
    after = items[1].sample().depth
    assert before is not None
    assert after is not None
    assert (before[3, 4] > 0, after[3, 4]) == (True, 0)
    after[3, 4] = before[3, 4]
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("mistake", "words"), [m[1:] for m in LOADED], ids=[m[0] for m in LOADED])
def test_a_wrong_point_image_is_named_when_it_is_loaded(
    folder: Path, mistake: Callable[[Path], None], words: str
) -> None:
    path = folder / "train/good/xyz/001.tiff"
    mistake(path)
    items = MVTec3DDataset(folder).train()
    items[0].sample()
    with pytest.raises(DatasetError, match=words) as caught:
        items[1].sample()
    assert str(path) in str(caught.value)


def half(path: Path) -> None:
    write_tiff(path, read_points(path)[:, : WIDTH // 2])


FOUND: list[tuple[str, str, Callable[[Path], object], list[str]]] = [
    ("no xyz", "train", lambda f: (f / "train/good/xyz/001.tiff").unlink(), ["001.png", "no partner", "xyz"]),
    ("no rgb", "train", lambda f: (f / "train/good/rgb/001.png").unlink(), ["001.tiff", "no partner", "rgb"]),
    ("no mask", "test", lambda f: (f / "test/hole/gt/000.png").unlink(), ["000.png", "mask"]),
    ("text", "train", lambda f: (f / "train/good/xyz/001.tiff").write_text("x"), ["001.tiff", "not a TIFF"]),
    ("empty", "train", lambda f: (f / "train/good/xyz/001.tiff").write_text(""), ["001.tiff", "empty"]),
    ("size", "train", lambda f: half(f / "train/good/xyz/001.tiff"), ["14 x 10", "7 x 10", "001.tiff"]),
    (
        "one channel",
        "train",
        lambda f: write_tiff(f / "train/good/xyz/001.tiff", np.ones((HEIGHT, WIDTH), np.float32)),
        ["1-channel", "001.tiff"],
    ),
    (
        "validation called otherwise",
        "validation",
        lambda f: (f / "validation").rename(f / "val"),
        ["val: is this the validation split?"],
    ),
]


@pytest.mark.parametrize(("split", "mistake", "words"), [m[1:] for m in FOUND], ids=[m[0] for m in FOUND])
def test_a_wrong_folder_is_told_before_anything_is_loaded(
    folder: Path, split: str, mistake: Callable[[Path], object], words: list[str]
) -> None:
    mistake(folder)
    with pytest.raises(DatasetError) as caught:
        getattr(MVTec3DDataset(folder), split)()
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tags_first", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiff_channels_keep_the_order_of_the_file(
    tmp_path: Path, order: Literal["<", ">"], big: bool, tags_first: bool, dtype: type[np.floating]
) -> None:
    points = cloud(3, 5, 0.4).astype(dtype)
    path = tmp_path / "a.tiff"
    write_tiff(path, points, order=order, big=big, tags_first=tags_first)
    np.testing.assert_array_equal(read_points(path), points.astype(np.float32))
    header = read_tiff(path)
    assert (header.size, header.channels, header.bits) == ((5, 3), 3, points.dtype.itemsize * 8)


def test_a_tiff_of_another_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    write_tiff(path, np.ones((4, 4, 3), np.uint16))
    with pytest.raises(DatasetError, match="3-channel 16-bit integer"):
        read_points(path)
    write_tiff(path, np.ones((4, 4, 3), np.float32), planar=2)
    with pytest.raises(DatasetError, match="separate planes"):
        read_points(path)

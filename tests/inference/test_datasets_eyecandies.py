"""Eyecandies' layout: distances from each image's own range, labels from the masks, a wrong file named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.datasets.eyecandies import EyecandiesDataset, read_range
from inference.errors import DatasetError

SIDE = 16


def write(
    root: Path, name: str, *, nearest: float, farthest: float, seed: int, masks: str | None = None
) -> None:
    """One sample with the files that the reader looks at; ``masks`` names the kinds with a mask."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for light in range(6):
        image = np.full((SIDE, SIDE, 3), (10 * light, 20 + seed, 200), np.uint8)
        cv2.imwrite(str(root / f"{name}_image_{light}.png"), image[..., ::-1])
    depth = rng.integers(0, 65536, (SIDE, SIDE)).astype(np.uint16)
    depth[0, :2] = 0, 65535
    cv2.imwrite(str(root / f"{name}_depth.png"), depth)
    (root / f"{name}_info_depth.yaml").write_text(f"normalization:\n  max: {farthest}\n  min: {nearest}\n")
    (root / f"{name}_pose.txt").write_text("1 0 0 0\n")
    if masks is not None:
        union = np.zeros((SIDE, SIDE), np.uint8)
        for index, kind in enumerate(("bumps", "dents", "colors", "normals")):
            mask = np.zeros((SIDE, SIDE), np.uint8)
            if kind in masks:
                mask[index : index + 3, 4:9] = 255
            union |= mask
            cv2.imwrite(str(root / f"{name}_{kind}_mask.png"), mask)
        cv2.imwrite(str(root / f"{name}_mask.png"), union)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "CandyCane"
    for seed in range(3):
        write(root / "train/data", f"{seed:03d}", nearest=3.5 + seed, farthest=5.25, seed=seed)
    write(root / "val/data", "000", nearest=4.0, farthest=5.0, seed=4)
    write(root / "test_public/data", "00", nearest=4.0, farthest=5.0, seed=5, masks="dents colors")
    write(root / "test_public/data", "01", nearest=4.0, farthest=5.0, seed=6, masks="")
    write(root / "test_public/data", "02", nearest=4.0, farthest=5.0, seed=7, masks="bumps")
    write(root / "test_private/data", "000", nearest=4.0, farthest=5.0, seed=8)
    return root


def test_distances_are_those_of_the_published_formula(folder: Path) -> None:
    for seed, item in enumerate(EyecandiesDataset(folder).train()[:2]):
        sample = item.sample()
        stored = cv2.imread(str(folder / f"train/data/{seed:03d}_depth.png"), cv2.IMREAD_UNCHANGED)
        assert stored is not None
        expected = stored / 65535 * (5.25 - (3.5 + seed)) + 3.5 + seed
        assert sample.depth is not None
        assert sample.depth_scale == 2e-4
        np.testing.assert_allclose(sample.depth * sample.depth_scale, expected, atol=1.01e-4)
        assert (sample.depth > 0).all()


def test_rays_are_those_of_the_published_camera(folder: Path) -> None:
    rays = EyecandiesDataset(folder).rays()
    camera = np.array([[711.11 * SIDE / 512, 0, SIDE / 2], [0, 711.11 * SIDE / 512, SIDE / 2], [0, 0, 1]])
    for row, column in ((0, 0), (5, 11), (SIDE - 1, 3)):
        expected = np.linalg.inv(camera) @ (column, row, 1)
        np.testing.assert_allclose(rays[row, column], expected, rtol=1e-5)


def test_the_light_is_chosen(folder: Path) -> None:
    for light in (0, 4):
        rgb = EyecandiesDataset(folder, light=light).train()[1].sample().rgb
        assert rgb is not None
        assert rgb[3, 3].tolist() == [10 * light, 21, 200]
    with pytest.raises(DatasetError, match="image_0 to image_5"):
        EyecandiesDataset(folder, light=6)


def test_labels_come_from_the_masks_that_are_not_empty(folder: Path) -> None:
    items = EyecandiesDataset(folder).test()
    assert [(i.name, i.label) for i in items] == [("01", "good"), ("02", "bumps"), ("00", "colors+dents")]
    assert items[0].mask() is None
    mask = items[2].mask()
    assert mask is not None
    expected = np.zeros((SIDE, SIDE), bool)
    expected[1:5, 4:9] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    "text",
    [
        "normalization:\n  max: 5.5\n  min: 3.25\n",
        "normalization:\n  min: 3.25\n  max: 5.5",
        "normalization: {max: 5.5, min: 3.25}\n",
        "normalization:\r\n    max: 5.5e0\r\n    min: 3.25\r\n",
    ],
)
def test_the_range_is_read_in_every_form_that_yaml_writes_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "info.yaml"
    path.write_text(text)
    assert read_range(path) == (3.25, 5.5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "max: 5.5\nmin: 3.25\n",
        "normalization:\n  max: 5.5\n",
        "normalization:\n  max: 5.5\n  min: 3.25\n  gamma: 2\n",
        "normalization:\n  max: 5.5\n  max: 6\n  min: 3.25\n",
        "normalization:\n  max: .inf\n  min: 3.25\n",
        "normalization:\n  max: 3\n  min: 5\n",
        "normalization:\n  max: 3\n  min: -1\n",
        "normalization:\n  max: 5.5m\n  min: 3.25\n",
    ],
)
def test_any_other_range_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "info.yaml"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"info\.yaml"):
        read_range(path)


MISTAKES: list[tuple[str, str, Callable[[Path], object], list[str]]] = [
    ("light", "train", lambda f: (f / "train/data/001_image_4.png").unlink(), ["001_image_4.png", "missing"]),
    ("yaml", "train", lambda f: (f / "train/data/001_info_depth.yaml").unlink(), ["001_info_depth.yaml"]),
    (
        "depth",
        "train",
        lambda f: (f / "train/data/001_depth.png").unlink(),
        ["001_image_4.png", "no partner"],
    ),
    ("mask", "test", lambda f: (f / "test_public/data/01_mask.png").unlink(), ["01_mask.png", "missing"]),
    ("val", "validation", lambda f: (f / "val").rename(f / "validation"), ["val/data", "missing"]),
    (
        "size",
        "train",
        lambda f: cv2.imwrite(str(f / "train/data/001_depth.png"), np.ones((4, 4), np.uint16)),
        ["001_depth.png", "16 x 16"],
    ),
]


@pytest.mark.parametrize(
    ("split", "mistake", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_wrong_folder_is_told_before_anything_is_loaded(
    folder: Path, split: str, mistake: Callable[[Path], object], words: list[str]
) -> None:
    mistake(folder)
    with pytest.raises(DatasetError) as caught:
        getattr(EyecandiesDataset(folder), split)()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_scene_beyond_the_last_count_is_named_with_the_scale_it_needs(folder: Path) -> None:
    path = folder / "train/data/001_info_depth.yaml"
    path.write_text("normalization:\n  max: 26.3\n  min: 4\n")
    with pytest.raises(DatasetError, match=r"001_depth\.png.*depth_scale of at least 0\.0004"):
        EyecandiesDataset(folder).train()[1].sample()
    sample = EyecandiesDataset(folder, depth_scale=5e-4).train()[1].sample()
    assert sample.depth is not None
    assert sample.depth.max() == 52600

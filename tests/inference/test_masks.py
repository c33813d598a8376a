"""A mask means the same however it is encoded and wherever it lies; one that means nothing is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inference.calibration import Limits
from inference.datasets.masks import read_defect, read_mask
from inference.datasets.surface import SurfaceDataset
from inference.errors import DatasetError
from inference.evaluate import Finding, evaluate
from inference.results import Report
from inference.sample import Sample
from schemas.verdict import Mode

SIDE = 48
TRUTH = np.zeros((SIDE, SIDE), bool)
TRUTH[8:20, 10:31] = True
TRUTH[30:33, 5:40] = True

Write = Callable[[Path, NDArray[np.bool_]], Path]


def grey(value: int, kind: type[np.uint8] | type[np.uint16] = np.uint8, suffix: str = ".png") -> Write:
    def write(path: Path, truth: NDArray[np.bool_]) -> Path:
        path = path.with_suffix(suffix)
        assert cv2.imwrite(str(path), np.where(truth, value, 0).astype(kind))
        return path

    return write


def palette(colours: list[int]) -> Write:
    def write(path: Path, truth: NDArray[np.bool_]) -> Path:
        image = Image.fromarray(truth.astype(np.uint8), "L").convert("P")
        image.putdata(truth.astype(np.uint8).ravel().tolist())
        image.putpalette(colours)
        image.save(path.with_suffix(".png"))
        return path.with_suffix(".png")

    return write


def pillow(mode: str, background: tuple[int, ...], defect: tuple[int, ...]) -> Write:
    def write(path: Path, truth: NDArray[np.bool_]) -> Path:
        pixels = np.where(truth[..., None], np.array(defect, np.uint8), np.array(background, np.uint8))
        Image.fromarray(pixels.astype(np.uint8), mode).save(path.with_suffix(".png"))
        return path.with_suffix(".png")

    return write


def one_bit(path: Path, truth: NDArray[np.bool_]) -> Path:
    Image.fromarray(truth).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def classes(path: Path, truth: NDArray[np.bool_]) -> Path:
    numbered = truth.astype(np.uint8)
    numbered[25:] *= 3
    cv2.imwrite(str(path.with_suffix(".png")), numbered)
    return path.with_suffix(".png")


ENCODINGS: Mapping[str, Write] = {
    "0 and 255": grey(255),
    "0 and 1": grey(1),
    "one bit": one_bit,
    "16 bits, 0 and 1": grey(1, np.uint16),
    "16 bits, 0 and 65535": grey(65535, np.uint16),
    "16 bits, only low byte empty": grey(256, np.uint16),
    "classes by number": classes,
    "palette, black first": palette([0, 0, 0, 220, 20, 60]),
    "palette, dark red": palette([0, 0, 0, 1, 0, 0]),
    "palette without black": palette([200, 200, 200, 220, 20, 60]),
    "colour": pillow("RGB", (0, 0, 0), (0, 0, 200)),
    "red on transparent": pillow("RGBA", (255, 255, 255, 0), (255, 0, 0, 255)),
    "black on transparent": pillow("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)),
    "half transparent": pillow("RGBA", (0, 0, 0, 0), (255, 0, 0, 96)),
    "opaque with alpha": pillow("RGBA", (0, 0, 0, 255), (255, 255, 255, 255)),
    "grey with alpha": pillow("LA", (0, 0), (255, 255)),
    "jpg": grey(255, suffix=".jpg"),
    "dim jpg": grey(128, suffix=".jpg"),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_mask_is_what_is_not_background_however_it_is_encoded(tmp_path: Path, name: str) -> None:
    found = read_mask(ENCODINGS[name](tmp_path / "mask", TRUTH))
    if "jpg" in name:  # an edge may move by a pixel; noise must not count
        assert np.mean(found != TRUTH) < 0.01
    else:
        np.testing.assert_array_equal(found, TRUTH)


def test_a_palette_sorted_the_other_way_round_still_has_black_for_its_background(tmp_path: Path) -> None:
    swapped = palette([255, 255, 255, 0, 0, 0])(tmp_path / "mask", ~TRUTH)
    np.testing.assert_array_equal(read_mask(swapped), TRUTH)


def levels(path: Path) -> Path:
    image = np.zeros((64, 64), np.uint8)
    image[:, 20:40], image[:, 40:] = 100, 200
    cv2.imwrite(str(path.with_suffix(".jpg")), image)
    return path.with_suffix(".jpg")


REFUSED: Mapping[str, tuple[Callable[[Path], Path], str]] = {
    "nothing marked": (lambda p: grey(255)(p, np.zeros_like(TRUTH)), "an empty mask"),
    "nothing marked, transparent": (
        lambda p: pillow("RGBA", (0, 0, 0, 0), (0, 0, 0, 0))(p, TRUTH),
        "an empty mask",
    ),
    "background 1, defect 2": (
        lambda p: _one_two(p),
        r"every pixel is marked \(values 1 and 2\)",
    ),
    "jpg of 0 and 1": (lambda p: grey(9, suffix=".jpg")(p, TRUTH), "save the mask as png"),
    "jpg of several levels": (levels, "save the mask as png"),
    "cut off": (lambda p: _cut(grey(255)(p, TRUTH)), "damaged or cut off"),
}


def _one_two(path: Path) -> Path:
    cv2.imwrite(str(path.with_suffix(".png")), TRUTH.astype(np.uint8) + np.uint8(1))
    return path.with_suffix(".png")


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-30])
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_a_mask_that_marks_nothing_or_cannot_be_told_is_refused_by_its_name(
    tmp_path: Path, name: str
) -> None:
    write, words = REFUSED[name]
    path = write(tmp_path / "m7")
    with pytest.raises(DatasetError, match=words) as caught:
        read_defect(path)
    assert str(path) in str(caught.value)


# In a folder.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good frames and two with a hole, without masks."""
    rng = np.random.default_rng(3)
    for label in ("good", "hole"):
        root = tmp_path / "set/test" / label / "rgb"
        root.mkdir(parents=True)
        for number in range(2):
            image = rng.integers(60, 90, (SIDE, SIDE, 3), np.uint8)
            if label == "hole":
                image[TRUTH] += np.uint8(100)
            cv2.imwrite(str(root / f"{label}{number}.png"), image)
    return tmp_path / "set"


PLACES = {
    "gt/NAME": "test/hole/gt/hole{}",
    "masks/NAME_mask": "test/hole/masks/hole{}_mask",
    "MVTec": "ground_truth/hole/hole{}_mask",
    "ground_truth/KIND/NAME": "ground_truth/hole/hole{}",
}


@pytest.mark.parametrize("place", PLACES)
def test_masks_are_found_where_people_keep_them(folder: Path, place: str) -> None:
    for number in range(2):
        path = folder / PLACES[place].format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        grey(1)(path, TRUTH)
    items = [item for item in SurfaceDataset(folder).test() if not item.is_good]
    for item in items:
        mask = item.mask()
        assert mask is not None
        np.testing.assert_array_equal(mask, TRUTH)


def mask_at(folder: Path, name: str, write: Write | None = None) -> None:
    path = folder / "test/hole/gt" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (write or grey(255))(path, TRUTH)


MISTAKES: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "of no frame": (lambda f: mask_at(f, "hole9"), r"hole9.png: a mask that belongs to no frame"),
    "of another ending": (lambda f: mask_at(f, "hole0-annotated"), r"hole0-annotated.png: a mask that"),
    "one is missing": (lambda f: (f / "test/hole/gt/hole1.png").unlink(), "hole1.png: missing"),
    "two of a frame": (lambda f: mask_at(f, "hole0_mask"), "is a mask of hole0 too"),
    "in two places": (
        lambda f: shutil.copytree(f / "test/hole/gt", f / "ground_truth/hole"),
        "masks in two places",
    ),
    "a kind of file that is not read": (
        lambda f: (f / "test/hole/gt/hole1.json").write_text("{}"),
        "hole1.json: not read as a mask",
    ),
    "a folder": (lambda f: (f / "test/hole/gt/hole1").mkdir(), "hole1: not read as a mask"),
    "another size": (
        lambda f: grey(1)(f / "test/hole/gt/hole0", TRUTH[::2]),
        "hole0.png: mask of 48 x 24, image of 48 x 48",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mask_that_is_not_understood_is_named_before_anything_is_loaded(folder: Path, name: str) -> None:
    mistake, words = MISTAKES[name]
    for number in range(2):
        mask_at(folder, f"hole{number}")
    SurfaceDataset(folder).test()
    mistake(folder)
    with pytest.raises(DatasetError, match=words):
        SurfaceDataset(folder).test()


def test_a_kind_without_masks_is_told(folder: Path) -> None:
    data = SurfaceDataset(folder)
    data.test()
    assert any("test/hole: no masks" in note for note in data.notes)


class Brightness:
    """An inspector whose map is how bright the colour image is."""

    bundle_id, bundle_hash, modes = "bright/1", "0" * 64, (Mode.RGB,)

    def study(
        self,
        sample: Sample,
        *,
        mode: Mode | None = None,
        branch_maps: bool = False,
        alternatives: bool = False,
    ) -> Finding:
        assert sample.rgb is not None
        return Bright(np.asarray(sample.rgb.mean(axis=2), np.float32))


class Bright:
    """What it finds."""

    mode, threshold, pass_limit = Mode.RGB, 100.0, 100.0
    branches: Mapping[str, float] = {}
    branch_maps: Mapping[str, NDArray[np.float32]] = {}
    branch_limits: Mapping[str, Limits] = {}
    alternatives: Mapping[str, Finding] = {}

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.map = values
        self.score = float(values.max())


def judged(folder: Path, *writers: Write) -> Report:
    for number in range(2):
        mask_at(folder, f"hole{number}", writers[number % len(writers)])
    return evaluate(Brightness(), SurfaceDataset(folder), modes=[Mode.RGB], bootstrap=0)


def test_figures_are_the_same_however_masks_are_encoded_even_mixed(folder: Path) -> None:
    expected = judged(folder, grey(255)).modes[Mode.RGB]
    assert expected.aupro_30.value is not None
    lossless = [write for name, write in ENCODINGS.items() if "jpg" not in name]
    for one, other in zip(lossless, lossless[1:] + lossless[:1], strict=True):
        shutil.rmtree(folder / "test/hole/gt")
        assert judged(folder, one, other).modes[Mode.RGB] == expected


def test_a_defect_with_an_empty_mask_is_refused_before_anything_is_inspected(folder: Path) -> None:
    with pytest.raises(DatasetError, match="test/hole/hole1: an empty mask"):
        judged(folder, grey(255), lambda path, truth: grey(255)(path, np.zeros_like(truth)))

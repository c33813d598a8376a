"""Good parts are looked over before they are taught: copies, one picture throughout, sensors turned."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.alignment import disagreement
from inference.copies import Print, check_copies
from inference.datasets.base import Item
from inference.datasets.synthetic import SyntheticDataset
from inference.errors import TeachError
from inference.sample import Sample
from inference.teach import teach
from inference.teach_settings import TeachSettings

SMALL = TeachSettings(bank_size=60, folds=2)
LEAST = 8


@pytest.fixture(scope="module")
def frames() -> list[Sample]:
    made = SyntheticDataset(train=12, validation=4, test_good=0, defects_per_kind=0, size=128, lot_size=2)
    return [item.sample() for item in (*made.train(), *made.validation())]


def saved_again(sample: Sample, quality: int = 75, gain: float = 1.0) -> Sample:
    assert sample.rgb is not None
    brighter = np.clip(sample.rgb * gain, 0, 255).astype(np.uint8)
    data = cv2.imencode(".jpg", brighter, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    back = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert back is not None
    return replace(sample, rgb=np.asarray(back, np.uint8))


def told(train: Sequence[Sample], validation: Sequence[Sample]) -> list[str]:
    prints = [
        Print.of(f"{split}/{split[0]}{number}", split, sample)
        for split, samples in (("train", train), ("validation", validation))
        for number, sample in enumerate(samples)
    ]
    return check_copies(prints, LEAST)


def test_good_parts_that_differ_are_told_nothing_of(frames: list[Sample]) -> None:
    assert told(frames[:12], frames[12:]) == []


@pytest.mark.parametrize("sensor", ["both", "colour", "depth"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_sensor_whose_images_are_all_one_picture_is_refused(
    frames: list[Sample], sensor: str, split: str
) -> None:
    first = frames[0] if split == "train" else frames[12]

    def same(sample: Sample) -> Sample:
        return Sample(
            sample.rgb if sensor == "depth" else first.rgb,
            sample.depth if sensor == "colour" else first.depth,
        )

    train, held = frames[:12], frames[12:]
    if split == "train":
        train = [same(one) for one in train]
    else:
        held = [same(one) for one in held]
    what = "depth" if sensor == "depth" else "colour"
    with pytest.raises(TeachError, match=rf"{what} images of {split} are one picture.*{split}/{split[0]}0"):
        told(train, held)


def test_too_few_different_pictures_are_refused_with_their_names(frames: list[Sample]) -> None:
    with pytest.raises(TeachError, match=r"12 frames and 3 different pictures.*train/t0 = train/t3"):
        told(frames[:3] * 4, frames[12:])


def test_the_same_photo_in_train_and_validation_is_refused_with_both_names(frames: list[Sample]) -> None:
    with pytest.raises(TeachError, match=r"1 of 5 validation frames.*train/t7 = validation/v4"):
        told(frames[:12], [*frames[12:], frames[7]])


def test_copies_within_train_are_told_with_their_names(frames: list[Sample]) -> None:
    (note,) = told([*frames[:12], frames[2], frames[5]], frames[12:])
    assert note.startswith("2 of 14 train frames are copies, pixel for pixel: ")
    assert "train/t2 = train/t12" in note
    assert "train/t5 = train/t13" in note


@pytest.mark.parametrize(("quality", "gain"), [(95, 1.0), (75, 1.0), (60, 1.0), (80, 0.97)])
def test_near_copies_are_told_with_their_names(frames: list[Sample], quality: int, gain: float) -> None:
    again = saved_again(frames[7], quality, gain)
    (across,) = told(frames[:12], [*frames[12:], again])
    assert "1 pairs of frames of train and validation are nearly the same picture" in across
    assert "train/t7 = validation/v4" in across
    (within,) = told([*frames[:12], again], frames[12:])
    assert "1 pairs of good frames are nearly the same picture: train/t7 = train/t12" in within


@dataclass
class Listed:
    """A dataset of given samples."""

    taught: Sequence[Sample]
    held: Sequence[Sample]
    name: str = "listed"

    def train(self) -> Sequence[Item]:
        return self._items("train", self.taught)

    def validation(self) -> Sequence[Item]:
        return self._items("validation", self.held)

    def test(self) -> Sequence[Item]:
        raise AssertionError("teaching must never ask for the test split")

    def _items(self, split: str, samples: Sequence[Sample]) -> list[Item]:
        return [
            Item(f"a{number}", f"{split}{number // 2}", split, "good", lambda one=one: one)  # type: ignore[misc]
            for number, one in enumerate(samples)
        ]


def test_teaching_refuses_copies_before_it_begins(frames: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(TeachError, match=r"all 12 colour images of train are one picture"):
        teach(Listed([frames[0]] * 12, frames[12:]), tmp_path, name="one", settings=SMALL)
    with pytest.raises(TeachError, match=r"validation frames are in train too.*train/a3 = validation/a0"):
        teach(Listed(frames[:12], [frames[3], *frames[12:]]), tmp_path, name="both", settings=SMALL)
    assert list(tmp_path.iterdir()) == []


TURNS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "left to right": (lambda d: d[:, ::-1], "mirrored left to right"),
    "top to bottom": (lambda d: d[::-1], "mirrored top to bottom"),
    "half a turn": (lambda d: d[::-1, ::-1], "turned by half a turn"),
    "right": (lambda d: np.roll(d, 10, axis=1), r"shifted .* pixels to the right"),
    "left": (lambda d: np.roll(d, -10, axis=1), r"shifted .* pixels to the left"),
    "down": (lambda d: np.roll(d, 8, axis=0), r"shifted .* pixels down"),
    "up": (lambda d: np.roll(d, -8, axis=0), r"shifted .* pixels up"),
}


def drawn(number: int, *, lies: bool, symmetric: bool = False) -> Sample:
    """A grey part on a dark belt, in depth too: an L, or a disk, at a place that varies where it ``lies``."""
    rng = np.random.default_rng(number)
    x, y = (int(v) for v in rng.integers(-6, 7, 2)) if lies else (0, 0)
    mask = np.zeros((128, 160), np.uint8)
    if symmetric:
        cv2.circle(mask, (80 + x, 64 + y), 34, 1, -1)
    else:
        cv2.rectangle(mask, (45 + x, 34 + y), (62 + x, 96 + y), 1, -1)
        cv2.rectangle(mask, (45 + x, 76 + y), (115 + x, 96 + y), 1, -1)
    rgb = np.where(mask[..., None] > 0, 170, 60) + rng.normal(0, 3, (128, 160, 3))
    depth = 20_000 - 600 * mask.astype(float) + rng.normal(0, 8, mask.shape)
    return Sample(rgb.clip(0, 255).astype(np.uint8), depth.astype(np.uint16))


def turned(samples: Sequence[Sample], turn: Callable[[np.ndarray], np.ndarray]) -> list[Sample]:
    return [
        Sample(one.rgb, np.ascontiguousarray(turn(one.depth))) for one in samples if one.depth is not None
    ]


@pytest.mark.parametrize("way", TURNS)
@pytest.mark.parametrize("lies", [True, False])
def test_depth_that_is_mirrored_or_shifted_against_colour_is_told(way: str, lies: bool) -> None:
    turn, said = TURNS[way]
    samples = [drawn(number, lies=lies) for number in range(12)]
    assert disagreement(samples) is None
    found = disagreement(turned(samples, turn))
    assert found is not None
    assert re.search(said, found), found


@pytest.mark.parametrize("way", ["left to right", "top to bottom", "half a turn"])
def test_a_part_that_is_its_own_mirror_image_shows_it_by_where_it_lies(way: str) -> None:
    samples = [drawn(number, lies=True, symmetric=True) for number in range(12)]
    assert disagreement(samples) is None
    found = disagreement(turned(samples, TURNS[way][0]))
    assert found is not None
    assert TURNS[way][1] in found


def test_nothing_is_said_where_nothing_can_be_seen(frames: list[Sample]) -> None:
    still = [drawn(number, lies=False, symmetric=True) for number in range(12)]
    assert disagreement(turned(still, TURNS["left to right"][0])) is None
    rng = np.random.default_rng(0)
    web = [
        Sample(
            rng.integers(0, 255, (64, 64, 3)).astype(np.uint8),
            rng.integers(20_000, 20_100, (64, 64)).astype(np.uint16),
        )
        for _ in range(12)
    ]
    assert disagreement(web) is None
    assert disagreement([Sample(one.rgb, None) for one in frames]) is None
    assert disagreement([]) is None
    assert disagreement(frames) is None

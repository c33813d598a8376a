"""Data sets of colour images as they are downloaded, and folders of which the message says what is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.datasets.base import Dataset
from inference.datasets.found import find_frames
from inference.datasets.open import categories, open_dataset, recognise
from inference.datasets.photos import PhotosDataset, VisaDataset
from inference.errors import DatasetError

SIDE = 12


def photo(path: Path, value: int = 80) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), value, np.uint8))


def mask(path: Path, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[3:6, 3:6] = value
    assert cv2.imwrite(str(path), image)


def mvtec(root: Path) -> Path:
    for number in range(10):
        photo(root / f"train/good/{number:03}.png", number)
    for number in range(2):
        photo(root / f"test/good/{number:03}.png")
        photo(root / f"test/scratch/{number:03}.png")
        mask(root / f"ground_truth/scratch/{number:03}_mask.png")
    return root


def btad(root: Path) -> Path:
    for number in range(10):
        photo(root / f"train/ok/{number:04}.png", number)
    for number in range(2):
        photo(root / f"test/ok/{number:04}.png")
        photo(root / f"test/ko/{number:04}.png")
        mask(root / f"ground_truth/ko/{number:04}.png")
    return root


def visa_split_by_its_script(root: Path) -> Path:
    for number in range(10):
        photo(root / f"train/good/{number:04}.JPG", number)
    for number in range(2):
        photo(root / f"test/good/{90 + number:04}.JPG")
        photo(root / f"test/bad/{number:03}.JPG")
        mask(root / f"ground_truth/bad/{number:03}.png", 1)
    return root


def visa(root: Path) -> Path:
    rows = ["object,split,label,image,mask"]
    for number in range(12):
        photo(root / f"Data/Images/Normal/{number:04}.JPG", number)
        image = f"{root.name}/Data/Images/Normal/{number:04}.JPG"
        rows.append(f"{root.name},{'train' if number < 10 else 'test'},normal,{image},")
    for number in range(2):
        photo(root / f"Data/Images/Anomaly/{number:03}.JPG")
        mask(root / f"Data/Masks/Anomaly/{number:03}.png", 2)
        image = f"{root.name}/Data/Images/Anomaly/{number:03}.JPG"
        rows.append(f"{root.name},test,anomaly,{image},x")
    (root.parent / "split_csv").mkdir(exist_ok=True)
    (root.parent / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")
    return root


LAYOUTS = {
    "MVTec AD": (mvtec, "mvtec_ad", "scratch"),
    "BTAD": (btad, "mvtec_ad", "ko"),
    "VisA, split": (visa_split_by_its_script, "mvtec_ad", "bad"),
    "VisA": (visa, "visa", "anomaly"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_product_is_taught_and_judged_as_it_was_downloaded(tmp_path: Path, layout: str) -> None:
    write, kind, defect = LAYOUTS[layout]
    product = write(tmp_path / "set/bottle")
    assert recognise(product) == (kind, [])
    assert categories(tmp_path / "set") == ["bottle"]
    for data in (open_dataset(product), open_dataset(tmp_path / "set", category="bottle")):
        check(data, defect)


def check(data: Dataset, defect: str) -> None:
    train, validation, test = data.train(), data.validation(), data.test()
    assert (len(train), len(validation)) == (8, 2)
    assert not {item.name for item in train} & {item.name for item in validation}
    assert [item.label for item in test] == ["good", "good", defect, defect]
    assert all(item.is_good for item in (*train, *validation))
    sample = train[0].sample()
    assert sample.rgb_size == (SIDE, SIDE)
    assert sample.depth is None
    for item in test:
        truth = item.mask()
        assert (truth is None) == item.is_good
        assert truth is None or truth.sum() == 9


def test_a_validation_split_of_its_own_is_used(tmp_path: Path) -> None:
    mvtec(tmp_path)
    photo(tmp_path / "validation/good/000.png")
    data = PhotosDataset(tmp_path)
    assert (len(data.train()), len(data.validation())) == (10, 1)
    assert data.train()[0].group != data.validation()[0].group


def test_lots_are_named_with_their_folder_where_the_name_alone_could_be_several(tmp_path: Path) -> None:
    mvtec(tmp_path)
    (tmp_path / "groups.csv").write_text("name,group\n000.png,A\n")
    with pytest.raises(DatasetError, match=r"000.png could be test/good/000, "):
        PhotosDataset(tmp_path).train()
    (tmp_path / "groups.csv").write_text("name,group\ntrain/good/000.png,A\ntrain\\good\\001.png,A\n")
    data = PhotosDataset(tmp_path)
    assert [item.group for item in data.train()[:2]] == ["A", "A"]
    assert any("12 of 14 images are not named" in note for note in data.notes)


def test_that_each_image_is_a_lot_is_told(tmp_path: Path) -> None:
    data = PhotosDataset(mvtec(tmp_path))
    data.train()
    assert any("each image counts as a lot of its own" in note for note in data.notes)


def test_visa_without_its_table_holds_good_images_back_for_the_test_and_says_so(tmp_path: Path) -> None:
    product = visa(tmp_path / "candle")
    (tmp_path / "split_csv/1cls.csv").unlink()
    data = VisaDataset(product)
    assert [item.name for item in data.test() if item.is_good] == ["0004", "0009"]
    assert len(data.train()) + len(data.validation()) == 10
    assert any("1cls.csv: missing, so every fifth good image is for the test" in note for note in data.notes)


def test_an_image_that_visas_table_does_not_name_is_refused(tmp_path: Path) -> None:
    product = visa(tmp_path / "candle")
    photo(product / "Data/Images/Normal/0999.JPG")
    with pytest.raises(DatasetError, match=r"0999.JPG: in no split"):
        VisaDataset(product).train()


def test_a_mask_of_no_image_is_refused(tmp_path: Path) -> None:
    mvtec(tmp_path)
    mask(tmp_path / "ground_truth/scratch/777_mask.png")
    with pytest.raises(DatasetError, match=r"777_mask.png: a mask that belongs to no frame"):
        PhotosDataset(tmp_path).test()


def test_two_folders_of_good_parts_are_refused(tmp_path: Path) -> None:
    mvtec(tmp_path)
    photo(tmp_path / "train/OK/1.png")
    with pytest.raises(DatasetError, match="both mean good parts"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(("place", "labels"), [(".", {"good", "scratch"}), ("test", {"good", "scratch"})])
def test_images_by_label_are_inspected_from_the_product_or_its_test_folder(
    tmp_path: Path, place: str, labels: set[str]
) -> None:
    mvtec(tmp_path)
    found = find_frames(tmp_path / place)
    assert {item.label for item in found.items} == labels
    assert len(found.items) == 4
    (tmp_path / "test/good/000.png").write_bytes(b"no image")
    assert len(find_frames(tmp_path / place).items) == 4  # it fails alone, when it is loaded


# Folders that are no layout.

UNKNOWN: Mapping[str, tuple[dict[str, int], list[str]]] = {
    "YOLO": (
        {"train/images/{}.jpg": 3, "train/labels/{}.txt": 3, "data.yaml": 1},
        ["train/images/ 3 .jpg", "train/labels/ 3 .txt", "1 .yaml", "nearest is mvtec_ad", "train/images"],
    ),
    "photos by day": (
        {"monday/IMG_{}.JPG": 4, "tuesday/IMG_{}.JPG": 2},
        [
            "monday/ 4 .jpg",
            "tuesday/ 2 .jpg",
            "images (monday) straight into train/good",
        ],
    ),
    "photos alone": ({"IMG_{}.JPG": 5}, ["Found: 5 .jpg", "nearest is mvtec_ad"]),
    "clouds": ({"scans/{}.ply": 2, "photos/{}.png": 2}, ["scans/ 2 .ply", "nearest is mvtec3d"]),
    "depth elsewhere": (
        {"left_camera/{}.png": 2, "depth_camera/{}.png": 2},
        ["depth_camera/ 2 .png", "nearest is surface", "the same names in both"],
    ),
    "a film": ({"belt.mp4": 1}, ["1 .mp4", "put good parts' images into train/good/rgb/"]),
    "nothing": ({}, ["Found: nothing"]),
    "MVTec AD 2": (
        {"test_public/bad/{}.png": 2, "test_public/good/{}.png": 1},
        ["test_public/bad/ 2 .png", "nearest is mvtec_ad"],
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_folder_that_is_no_layout_is_answered_with_what_is_in_it_and_what_to_do(
    tmp_path: Path, name: str
) -> None:
    files, words = UNKNOWN[name]
    for pattern, number in files.items():
        for index in range(number):
            path = tmp_path / "set" / pattern.format(index)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    (tmp_path / "set").mkdir(exist_ok=True)
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path / "set").train()
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_large_tree_is_told_in_short(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"day{number:02}").mkdir()
        (tmp_path / f"day{number:02}/a.bin").write_bytes(b"")
    with pytest.raises(DatasetError, match="and 22 more folders") as caught:
        open_dataset(tmp_path)
    assert len(str(caught.value)) < 1500

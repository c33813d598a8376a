"""Lots as people hand them over: spreadsheets' files are read, what matches nothing is told, guesses too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.datasets.groups import read_groups
from inference.datasets.surface import SurfaceDataset
from inference.errors import DatasetError

WANTED = {"a01": "Früh 1", "a02": "Früh 1", "a03": "Spät"}
PLAIN = "name,group\r\na01,Früh 1\r\na02,Früh 1\r\na03,Spät\r\n"
SEMICOLON = PLAIN.replace(",", ";")
TABS = PLAIN.replace(",", "\t")

WRITTEN: Mapping[str, bytes] = {
    "plain": PLAIN.encode(),
    "byte order mark": PLAIN.encode("utf-8-sig"),
    "semicolon, code page": SEMICOLON.encode("cp1252"),
    "semicolon with mark": SEMICOLON.encode("utf-8-sig"),
    "tab, UTF-16": TABS.encode("utf-16"),
    "UTF-16, big": b"\xfe\xff" + TABS.encode("utf-16-be"),
    "UTF-16 without mark": TABS.encode("utf-16-le"),
    "heading in another case": PLAIN.replace("name,group", " Name , GROUP ").encode(),
    "columns the other way, one more": (
        "Group;Remark;Name\n" + "".join(f"{g};x;{n}\n" for n, g in WANTED.items())
    ).encode(),
    "quoted": ('"name","group"\n' + "".join(f'"{n}","{g}"\n' for n, g in WANTED.items())).encode(),
    "blank lines": ("\n\n" + PLAIN.replace("\r\n", "\r\n\r\n") + ";;\n,,\n").encode(),
    "old Mac's lines": PLAIN.replace("\r\n", "\r").encode(),
    "sep line": ("sep=;\r\n" + SEMICOLON).encode("cp1252"),
    "no last line end": PLAIN.rstrip().encode(),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_lots_are_read_as_spreadsheets_write_them(tmp_path: Path, how: str) -> None:
    (tmp_path / "groups.csv").write_bytes(WRITTEN[how])
    assert read_groups(tmp_path / "groups.csv") == WANTED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty; the first line must be name,group"),
        ("a01,lot1\na02,lot1\n", r"must be name,group .*; it is 'a01,lot1'"),
        ("file,batch\na01,1\n", r"it is 'file,batch'"),
        ("name,group\na01,\n", "line 2: no group"),
        ("name,group\n\n,lot1\n", "line 3: no name"),
        ("name,group\na01\n", "line 2: no group"),
        ("name,group\na01,x\na01,y\n", "line 3: a01 is in 'x' and in 'y'"),
    ],
)
def test_lots_that_cannot_be_meant_are_refused_with_the_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DatasetError, match=words):
        read_groups(tmp_path / "groups.csv")


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "groups.csv")
    with pytest.raises(DatasetError, match="it is a named pipe"):
        read_groups(tmp_path / "groups.csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatasetError, match="it is a folder"):
        read_groups(tmp_path / "folder")
    assert read_groups(tmp_path / "none") == {}


def taught(tmp_path: Path, names: list[str], csv: str | None = None) -> SurfaceDataset:
    """Frames of these names in train/good, and two in validation/good, v1 and v2."""
    for split, stems in (("train", names), ("validation", ["v1", "v2"])):
        root = tmp_path / split / "good/rgb"
        root.mkdir(parents=True)
        for stem in stems:
            cv2.imwrite(str(root / f"{stem}.png"), np.zeros((8, 8, 3), np.uint8))
    if csv is not None:
        (tmp_path / "groups.csv").write_text("name,group\n" + csv)
    return SurfaceDataset(tmp_path)


@pytest.mark.parametrize(
    "form", ["{}", "{}.png", "{}.PNG", "train/good/rgb/{}.png", "train\\good\\rgb\\{}.jpg"]
)
def test_a_name_may_carry_its_suffix_and_folders(tmp_path: Path, form: str) -> None:
    rows = "".join(f"{form.format(name)},{lot}\n" for name, lot in (("x.1", "A"), ("x.2", "B"), ("v1", "C")))
    data = taught(tmp_path, ["x.1", "x.2"], rows)
    assert [item.group for item in data.train()] == ["A", "B"]
    assert data.validation()[0].group == "C"
    assert any("1 of 4 images are not named in it: v2" in note for note in data.notes)


def test_names_that_match_no_image_and_images_without_a_name_are_told(tmp_path: Path) -> None:
    data = taught(tmp_path, ["a1", "a2", "a3"], "a1,A\na2,A\nb7,B\nb8,B\n")
    data.train()
    told = "\n".join(data.notes)
    assert "2 of 4 names match no image: b7, b8" in told
    assert "3 of 5 images are not named in it: a3, v1, v2" in told


def test_lots_of_which_no_name_matches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none of its 2 names \(p1, p2\) is an image here \(a1, a2, v1"):
        taught(tmp_path, ["a1", "a2"], "p1,A\np2,A\n").train()


def test_zeros_that_a_spreadsheet_took_away_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="a spreadsheet has taken leading zeros away"):
        taught(tmp_path, ["007", "008"], "7,A\n8,A\n").train()


def test_guessed_lots_are_told_with_how(tmp_path: Path) -> None:
    data = taught(tmp_path, ["a01_00", "a02_00", "a03_00", "a04_00"])
    data.train()
    (told,) = data.notes
    assert "3 lots of 6 images were guessed from the number in the name, 2 in a row to a lot" in told
    assert "a01_00 is recording 'a', number 1, lot a1-2" in told
    assert "groups.csv" in told
    data.validation()
    assert len(data.notes) == 1  # once


def test_named_lots_are_not_told_of(tmp_path: Path) -> None:
    data = taught(tmp_path, ["a1", "a2"], "a1,A\na2,B\nv1,C\nv2,D\n")
    data.train()
    assert not data.notes


def frames(tmp_path: Path, lots: list[str]) -> SurfaceDataset:
    """train/good alone: a frame for each lot named."""
    root = tmp_path / "train/good/rgb"
    root.mkdir(parents=True)
    rows = []
    for number, lot in enumerate(lots):
        cv2.imwrite(str(root / f"f{number:02}.png"), np.full((8, 8, 3), number, np.uint8))
        rows.append(f"f{number:02},{lot}\n")
    (tmp_path / "groups.csv").write_text("name,group\n" + "".join(rows))
    return SurfaceDataset(tmp_path)


def test_a_missing_validation_split_is_whole_lots_of_train_and_said(tmp_path: Path) -> None:
    data = frames(tmp_path, [lot for lot in "ABCDEFGHIJ" for _ in range(3)])
    train, validation = data.train(), data.validation()
    assert {item.group for item in validation} == {"E", "J"}
    assert {item.split for item in validation} == {"validation"}
    assert len(train) == 24
    assert not {item.name for item in train} & {item.name for item in validation}
    assert [item.name for item in SurfaceDataset(tmp_path).validation()] == [i.name for i in validation]
    (note,) = data.notes
    assert "6 of 30 good frames, 2 of 10 lots, were held out" in note
    assert "in validation/good" in note


@pytest.mark.parametrize("lots", ["A", "AB", "ABC"])
def test_too_few_lots_are_divided_by_frame_and_the_risk_is_told(tmp_path: Path, lots: str) -> None:
    data = frames(tmp_path, [lots[number % len(lots)] for number in range(15)])
    assert (len(data.train()), len(data.validation())) == (12, 3)
    assert {item.group for item in data.train()} == set(lots)
    (note,) = data.notes
    assert "too few to hold one out: 3 of 15 good frames" in note
    assert "may be rejected too often" in note

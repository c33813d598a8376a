"""Sources: a folder replayed, and a rendered line with its script."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.datasets.defects import Defect
from inference.datasets.surface import write_surface_layout
from inference.datasets.synthetic import SyntheticDataset, SyntheticPart
from inference.errors import DatasetError
from workers.capture import FolderSource, SyntheticLine
from workers.errors import SourceError

PART = SyntheticPart(0, 64)
SMALL = SyntheticDataset(train=2, validation=1, test_good=1, defects_per_kind=1, size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_surface_layout(SMALL, tmp_path_factory.mktemp("surface"))


def test_a_folder_is_replayed_in_its_order_with_what_is_true_of_each(folder: Path) -> None:
    source = FolderSource(folder, split="test")
    shots = list(source)
    assert len(source) == len(shots) == 4
    assert [shot.truth for shot in shots] == ["good", "both", "colour", "shape"]
    assert shots[0].is_good
    assert not shots[1].is_good
    assert source.expects == ("rgb", "depth")
    for shot in shots:
        assert shot.rgb is not None
        assert shot.depth is not None
        assert (shot.rgb.shape, shot.depth.shape) == ((64, 64, 3), (64, 64))
    assert len({shot.name for shot in shots}) == 4


def test_a_loop_begins_again_and_a_limit_ends_it() -> None:
    names = [shot.name for shot in islice(FolderSource(SMALL, split="train", loop=True), 5)]
    assert names[:2] == names[2:4]
    assert names[4] == names[0]
    assert len(list(FolderSource(SMALL, split="train", loop=True, limit=3))) == 3
    assert len(list(FolderSource(SMALL, split="train", limit=1))) == 1


def test_what_cannot_be_replayed_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="use one of train, validation, test"):
        FolderSource(SMALL, split="tset")
    with pytest.raises(SourceError, match="no frames to replay"):
        FolderSource(SyntheticDataset(train=0, size=64), split="train")
    with pytest.raises(DatasetError, match="no such folder"):
        FolderSource(tmp_path / "none")
    with pytest.raises(SourceError, match="limit -1"):
        FolderSource(SMALL, limit=-1)


def test_depth_of_another_size_is_replayed_where_it_is_said_to_show_the_same(
    folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for file in (copy / "train").rglob("depth/*.png"):
        depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert depth is not None
        cv2.imwrite(str(file), depth[::2, ::2])
    with pytest.raises(DatasetError):
        FolderSource(copy, split="train")
    (shot, *_) = FolderSource(copy, split="train", same_field=True)
    assert shot.rgb is not None
    assert shot.depth is not None
    assert (shot.rgb.shape[:2], shot.depth.shape) == ((64, 64), (32, 32))


def test_a_line_plants_what_its_script_says_and_nothing_else() -> None:
    script = {1: Defect("shape", 12.0, 0.8), 3: Defect("colour", 10.0, 1.0)}
    shots = list(SyntheticLine(PART, count=5, script=script))
    assert [shot.truth for shot in shots] == ["good", "shape", "good", "colour", "good"]
    assert [shot.defect for shot in shots] == [None, script[1], None, script[3], None]
    clean = list(SyntheticLine(PART, count=5))
    for shot, good in zip(shots, clean, strict=True):
        assert shot.rgb is not None
        assert shot.depth is not None
        assert good.rgb is not None
        assert good.depth is not None
        assert np.array_equal(shot.rgb, good.rgb) is (shot.truth != "colour")
        assert np.array_equal(shot.depth, good.depth) is (shot.truth != "shape")


def test_a_sensor_is_out_for_the_triggers_that_were_said() -> None:
    line = SyntheticLine(PART, count=6, depth_out=(2, 4), rgb_out=(5, 6))
    shots = list(line)
    assert [shot.depth is None for shot in shots] == [False, False, True, True, False, False]
    assert [shot.rgb is None for shot in shots] == [False] * 5 + [True]
    assert [line.is_out("depth", i) for i in range(6)] == [False, False, True, True, False, False]


def test_the_same_line_gives_the_same_parts_and_another_seed_others() -> None:
    first, again, other = (next(iter(SyntheticLine(PART, count=1, seed=s))) for s in (4, 4, 5))
    assert first.rgb is not None
    assert again.rgb is not None
    assert other.rgb is not None
    assert np.array_equal(first.rgb, again.rgb)
    assert not np.array_equal(first.rgb, other.rgb)


def test_a_script_for_a_trigger_that_never_comes_is_refused() -> None:
    with pytest.raises(SourceError, match="trigger 5 never comes"):
        SyntheticLine(PART, count=5, script={5: Defect("shape")})
    with pytest.raises(SourceError, match="depth_out"):
        SyntheticLine(PART, count=5, depth_out=(3, 6))
    with pytest.raises(SourceError, match="out of range"):
        SyntheticLine(PART, count=-1)

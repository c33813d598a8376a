"""A folder's layout is recognised by what is in it, and a doubt is told instead of settled."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.datasets.eyecandies import EyecandiesDataset
from inference.datasets.mvtec3d import MVTec3DDataset
from inference.datasets.open import KINDS, categories, open_dataset, recognise
from inference.datasets.pairs import PairsDataset
from inference.datasets.photos import PhotosDataset, VisaDataset
from inference.datasets.realiad_d3 import RealIadD3Dataset
from inference.datasets.surface import SurfaceDataset, write_surface_layout
from inference.datasets.synthetic import SyntheticDataset
from inference.errors import DatasetError
from tests.inference import test_datasets_eyecandies as eyecandies
from tests.inference import test_datasets_mvtec3d as mvtec3d
from tests.inference import test_datasets_pairs as pairs
from tests.inference import test_datasets_photos as photos
from tests.inference import test_datasets_realiad_d3 as d3


@pytest.fixture
def products(tmp_path: Path) -> dict[str, Path]:
    """One product of every layout, as small as it can be."""
    root = tmp_path / "all"
    small = SyntheticDataset(train=1, validation=1, test_good=1, defects_per_kind=1, size=64, lot_size=1)
    write_surface_layout(small, root / "surface")
    mvtec3d.write(root / "mvtec3d" / "train/good", "000")
    eyecandies.write(root / "eyecandies" / "train/data", "000", nearest=4, farthest=5, seed=0)
    pairs.colour(root / "pairs" / "rgb/a.png")
    pairs.counts(root / "pairs" / "depth/a.png")
    base = root / "realiad_d3" / "realiad_d3_raw" / "fuse_holder"
    (root / "realiad_d3" / "realiad_d3_jsons").mkdir(parents=True)
    d3.write(root / "realiad_d3", {"train": [d3.entry(base, 0, "OK")], "test": []})
    photos.mvtec(root / "mvtec_ad")
    photos.visa(root / "visa")
    return {kind: root / kind for kind in KINDS}


READERS = {
    "surface": SurfaceDataset,
    "mvtec3d": MVTec3DDataset,
    "eyecandies": EyecandiesDataset,
    "realiad_d3": RealIadD3Dataset,
    "mvtec_ad": PhotosDataset,
    "visa": VisaDataset,
    "pairs": PairsDataset,
}


def test_every_layout_is_recognised_and_opened(products: dict[str, Path]) -> None:
    for kind, path in products.items():
        assert recognise(path)[0] == kind
        for given in (None, kind):
            data = open_dataset(path, kind=given)
            assert type(data) is READERS[kind]
        if kind not in ("pairs", "mvtec_ad", "visa"):
            assert data.train()[0].sample().depth is not None


@pytest.mark.parametrize("kind", ["surface", "mvtec3d", "eyecandies"])
def test_a_whole_data_set_is_opened_by_category(products: dict[str, Path], tmp_path: Path, kind: str) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    products[kind].rename(whole / "b_part")
    assert categories(whole) == ["b_part"]
    assert type(open_dataset(whole)) is READERS[kind]
    assert type(open_dataset(whole, kind=kind, category="b_part")) is READERS[kind]
    with pytest.raises(DatasetError, match=r"no category 'c'.*b_part"):
        open_dataset(whole, category="c")
    products["pairs"].rename(whole / "extra")
    with pytest.raises(DatasetError, match=r"could be .*pairs"):
        recognise(whole)
    assert categories(whole, kind=kind) == ["b_part"]


def test_several_categories_need_one_to_be_named(products: dict[str, Path], tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    for name in ("bagel", "rope"):
        mvtec3d.write(whole / name / "train/good", "000")
    assert recognise(whole) == ("mvtec3d", ["bagel", "rope"])
    with pytest.raises(DatasetError, match=r"several categories of mvtec3d \(bagel, rope\)"):
        open_dataset(whole)
    assert open_dataset(whole, category="rope").name == "rope"
    assert open_dataset(whole / "rope", category="rope").name == "rope"


def test_two_layouts_in_one_folder_are_named(products: dict[str, Path]) -> None:
    (products["mvtec3d"] / "train/good/depth").mkdir()
    with pytest.raises(DatasetError, match="could be mvtec3d or surface; name the kind"):
        open_dataset(products["mvtec3d"])
    assert type(open_dataset(products["mvtec3d"], kind="mvtec3d")) is MVTec3DDataset


def test_an_unknown_folder_is_answered_with_what_was_looked_for_and_found(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path)
    assert all(kind in str(caught.value) for kind in KINDS)
    assert "Found: photos" in str(caught.value)
    with pytest.raises(DatasetError, match="no such folder"):
        open_dataset(tmp_path / "none")
    with pytest.raises(DatasetError, match=r"'tar'.*surface, mvtec3d"):
        open_dataset(tmp_path, kind="tar")


def test_a_broken_folder_is_left_to_the_reader_that_can_say_what_is_missing(
    products: dict[str, Path],
) -> None:
    (products["surface"] / "train/good/rgb").rename(products["surface"] / "rgb_of_train")
    (products["surface"] / "train/good/depth").rename(products["surface"] / "depth_of_train")
    (products["surface"] / "validation").rename(products["surface"] / "val")
    (products["surface"] / "test").rename(products["surface"] / "tests")
    with pytest.raises(DatasetError, match="empty; put colour images"):
        open_dataset(products["surface"]).train()


def test_frames_to_be_judged_alone_are_a_data_set(products: dict[str, Path]) -> None:
    (products["surface"] / "train").rename(products["surface"].parent / "elsewhere")
    (products["surface"] / "validation").rename(products["surface"].parent / "there")
    assert open_dataset(products["surface"]).test()


def test_the_same_field_and_the_scale_reach_the_reader(products: dict[str, Path]) -> None:
    for kind, path in products.items():
        data = open_dataset(path, depth_scale=1e-3, same_field=True)
        assert getattr(data, "depth_scale", 1e-3) == 1e-3
        assert getattr(data, "same_field", True), kind

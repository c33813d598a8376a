"""Which bundle judges which product: the highest version, never another product's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inference.datasets.synthetic import SyntheticDataset
from inference.errors import BundleError
from inference.teach import teach
from inference.teach_settings import TeachSettings
from workers.errors import SettingsError
from workers.model_folder import ModelFolder
from workers.models import UnknownProduct


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    normals = SyntheticDataset(train=16, validation=8, size=96, lot_size=4)
    for _ in range(2):
        teach(normals, root, name="cap", settings=TeachSettings(bank_size=64, folds=2))
    return root


def test_the_highest_version_of_a_product_judges_it(taught: Path) -> None:
    models = ModelFolder(taught)
    assert models.products == ("cap",)
    assert models.of("cap").bundle_id == "cap/2"
    with pytest.raises(UnknownProduct, match=r"'lid'.*only for cap"):
        models.of("lid")


def test_a_bundle_copied_under_another_products_name_is_refused(taught: Path, tmp_path: Path) -> None:
    shutil.copytree(taught / "cap" / "1", tmp_path / "lid" / "3")
    with pytest.raises(BundleError, match=r"its manifest says cap/1.*or teach lid"):
        ModelFolder(tmp_path)


def test_a_folder_without_bundles_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"PRODUCT/VERSION/manifest\.json"):
        ModelFolder(tmp_path)

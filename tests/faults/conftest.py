"""A bundle that judges the lines of these tests, taught once."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.datasets.synthetic import SyntheticDataset
from inference.teach import teach
from inference.teach_settings import TeachSettings
from tests.faults.line import PRODUCT, SEED, SIZE


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one small product."""
    folder = tmp_path_factory.mktemp("models")
    normals = SyntheticDataset(
        train=18,
        validation=6,
        test_good=0,
        defects_per_kind=0,
        size=SIZE,
        lot_size=3,
        seed=SEED,
        product=SEED,
    )
    teach(normals, folder, name=PRODUCT, settings=TeachSettings(bank_size=300, folds=3))
    return folder

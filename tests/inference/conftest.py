"""One small product, taught once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.datasets.synthetic import SyntheticDataset
from inference.inspector import Inspector
from inference.teach import teach
from inference.teach_settings import TeachSettings

SETTINGS = TeachSettings(bank_size=300, folds=3)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Results are promised per device and thread count; one thread also keeps the tests off other cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def parts() -> SyntheticDataset:
    """Normals and defects of one rendered product."""
    return SyntheticDataset(
        train=18, validation=6, test_good=6, defects_per_kind=3, size=192, lot_size=3, contrast=2.0, seed=3
    )


@pytest.fixture(scope="session")
def bundle(parts: SyntheticDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of that product. Tests must not change it."""
    return teach(parts, tmp_path_factory.mktemp("bundles"), name="part", settings=SETTINGS)


@pytest.fixture(scope="session")
def inspector(bundle: Path) -> Inspector:
    """The bundle, loaded."""
    return Inspector.load(bundle)

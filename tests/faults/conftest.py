"""A bundle that judges the lines of these tests, taught once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import taught


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one small product."""
    return taught(tmp_path_factory.mktemp("models"))

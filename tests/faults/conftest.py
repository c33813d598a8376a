"""A bundle that judges the lines of these tests, taught once, and servers that they may kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.services import Services
from tests.faults.soak import taught


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one small product."""
    return taught(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A broker and a Redis for tests that kill them; whoever does brings them back with ``up``."""
    running = Services(tmp_path_factory.mktemp("mortal"))
    try:
        yield running
    finally:
        running.down()

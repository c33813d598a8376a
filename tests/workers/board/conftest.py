"""A board over a line in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.board.setting import BoardLine


@pytest.fixture
def line(tmp_path: Path) -> Iterator[BoardLine]:
    """One that may be acted on with the token."""
    with BoardLine(tmp_path) as made:
        yield made

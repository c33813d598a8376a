"""Workers in memory end with the test that made them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.workers.line import made


@pytest.fixture(autouse=True)
def _workers_end() -> Iterator[None]:
    """A worker that nobody ran, or that a test had die, still has its threads."""
    yield
    while made:
        made.pop().close()

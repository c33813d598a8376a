"""Node for the foreign clients: without it those tests are skipped loudly, and fail in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.foreign.node import MISSING, modules

_skipped: list[str] = []


@pytest.fixture(scope="session")
def node_modules() -> Path:
    found = modules()
    if found is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"CI runs the foreign clients: {MISSING}", pytrace=False)
        _skipped.append(MISSING)
        pytest.skip(MISSING)
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tested."""
    for words in set(_skipped):
        terminalreporter.write_line(f"NOT TESTED: {words}", red=True, bold=True)

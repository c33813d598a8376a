"""One browser and one line for all tests of the page."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser, Page

from tests.board.browsing import MISSING, Watched, browsing, chromium, watched
from tests.board.rig import BoardLine, small_parts, taught

STATIONS = ("press-1", "press-2", "weld-1", "weld-2", "paint-1", "paint-2")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium. Where there is none the tests are skipped, in CI they fail."""
    path = chromium()
    if path is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"CI runs the board's tests: {MISSING}", pytrace=False)
        pytest.skip(MISSING)
    with browsing(path) as running:
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly that the page was not looked at."""
    if chromium() is None:
        terminalreporter.write_line(f"NOT TESTED: {MISSING}", red=True, bold=True)


@pytest.fixture(scope="session")
def line(
    browser: Browser, kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BoardLine]:
    """Stations, worker and board, running. Each test has stations of its own where that matters."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    parts = small_parts()
    models = taught(parts, tmp_path_factory.mktemp("models"))
    folder = tmp_path_factory.mktemp("board")
    try:
        with BoardLine(
            kafka=kafka_bootstrap,
            redis_url=redis_url,
            folder=folder,
            models=models,
            parts=parts,
            stations=STATIONS,
        ) as running:
            yield running
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def watch(browser: Browser, line: BoardLine) -> Iterator[Watched]:
    """A page on a 1080p wall, at the overview; afterwards nothing may have gone wrong on it."""
    with watched(browser, line.board.url) as found:
        found.page.goto(line.board.url)
        yield found
        found.check()


@pytest.fixture
def page(watch: Watched) -> Page:
    """The page of ``watch``."""
    return watch.page

"""A headless Chromium, and a page that is watched: what it logs, and whom it asks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

WALL = (1920, 1080)
PHONE = (390, 844)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "Chromium is not installed, so nobody has looked at the board's page:"
    " `apt-get install chromium` (or any Chrome on the PATH) runs these tests"
)


def chromium() -> str | None:
    """Where Chromium is, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def browsing(path: str) -> Iterator[Browser]:
    """A browser; gone at the end."""
    # Chromium refuses its own sandbox to root, as containers and CI run.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True)
class Watched:
    """A page, and what went wrong on it.

    Attributes:
        allowed: parts of console messages that the test itself provokes, as a refused token.
        said: errors and warnings of the console, and scripts' failures.
        asked: every address that was requested.
    """

    page: Page
    host: str
    allowed: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raises AssertionError for an error on the console or a request to another host."""
        foreign = [url for url in self.asked if not url.startswith(self.host)]
        assert not foreign, f"asked of another host: {foreign}"
        wrong = [text for text in self.said if not any(word in text for word in self.allowed)]
        assert not wrong, f"said on the console: {wrong}"


@contextmanager
def watched(
    browser: Browser,
    host: str,
    *,
    size: tuple[int, int] = WALL,
    touch: bool = False,
    scheme: Literal["dark", "light"] = "dark",
    scale: float = 1.0,
) -> Iterator[Watched]:
    """A fresh page in a context of its own: no cookie, no setting of another test."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        has_touch=touch,
        is_mobile=touch,
        device_scale_factor=scale,
        reduced_motion="reduce",
    )
    context.set_default_timeout(15_000)
    page = context.new_page()
    found = Watched(page, host)

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.said.append(f"{message.text} {message.location}")

    page.on("console", heard)
    page.on("pageerror", lambda error: found.said.append(str(error)))
    page.on("request", lambda request: found.asked.append(request.url))
    try:
        yield found
    finally:
        context.close()

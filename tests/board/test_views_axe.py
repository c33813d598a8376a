"""What a machine can tell of accessibility is in order on every view, in both schemes, on wall and phone."""

from __future__ import annotations

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.board.browsing import PHONE, WALL, watched
from tests.board.rig import BoardLine
from tests.board.test_review import sign_in


@pytest.mark.parametrize("size", [WALL, PHONE], ids=["wall", "phone"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_on_any_view(
    browser: Browser, line: BoardLine, scheme: Literal["dark", "light"], size: tuple[int, int]
) -> None:
    part = line.inspect("press-1", "shape", 0).part
    line.inspect("paint-2", "good", 0, depth=False)
    with watched(browser, line.board.url, scheme=scheme, size=size, touch=size == PHONE) as found:
        page = found.page
        page.goto(line.board.url)
        sign_in(page)
        for view in ("", "verdicts", "figures", "review", "workers", "station/press-1", f"part/{part}"):
            page.goto(f"{line.board.url}#/{view}")
            expect(page.locator("#link-word")).to_have_text("live")
            if view.startswith("part"):
                expect(page.locator(".verdict-word")).to_be_visible()
            violations = Axe().run(page).response["violations"]
            told = [(v["id"], v["help"], [node["html"][:160] for node in v["nodes"]]) for v in violations]
            assert told == [], view
        page.keyboard.press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        assert [v["id"] for v in Axe().run(page).response["violations"]] == []
        found.check()

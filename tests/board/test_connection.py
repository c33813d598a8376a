"""What was true once must never look as if it were true now."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Route, expect

from tests.board.browsing import watched
from tests.board.rig import BoardLine
from tests.board.test_overview import tile
from tests.faults.proxy import Cut, Proxy

REFUSED = [
    "ERR_CONNECTION_REFUSED",
    "ERR_INCOMPLETE_CHUNKED_ENCODING",
    "ERR_EMPTY_RESPONSE",
    "ERR_ABORTED",
    "ERR_CONNECTION_RESET",
]


def test_a_board_that_ends_leaves_no_pass_that_looks_live(browser: Browser, line: BoardLine) -> None:
    board = line.another_board()
    board.start()
    try:
        with watched(browser, board.url) as found:
            found.allowed.extend(REFUSED)
            page = found.page
            page.goto(board.url)
            line.inspect("press-1", "good", 9)
            expect(tile(page, "press-1").locator(".word")).to_have_text("PASS")
            expect(page.locator("#banner")).to_be_hidden()
            board.stop()
            expect(page.locator("#banner")).to_contain_text("Not live.")
            expect(page.locator("#banner")).to_contain_text(
                re.compile(r"What you see is from \d\d:\d\d:\d\d")
            )
            expect(page.locator("#link-word")).to_have_text("OLD DATA")
            expect(tile(page, "press-1").locator(".word")).to_have_text("was PASS")
            sign = tile(page, "press-1").locator(".tile-verdict .shape .dashed")
            expect(sign).to_have_count(1)
            expect(page.locator(".tile-rate").first).to_have_text("–/s")
            again = line.another_board(board=f"127.0.0.1:{board.port}")
            again.start()
            try:
                expect(page.locator("#link-word")).to_have_text("live", timeout=15_000)
                expect(page.locator("#banner")).to_be_hidden()
                line.inspect("press-1", "good", 10)
                expect(tile(page, "press-1").locator(".word")).to_have_text("PASS")
            finally:
                again.stop()
            found.check()
    finally:
        board.stop()


def test_a_station_that_was_followed_is_old_in_the_title_too(browser: Browser, line: BoardLine) -> None:
    board = line.another_board()
    board.start()
    try:
        with watched(browser, board.url) as found:
            found.allowed.extend(REFUSED)
            page = found.page
            page.goto(f"{board.url}#/station/weld-1")
            line.inspect("weld-1", "good", 3)
            expect(page).to_have_title("PASS weld-1 – Crosscheck")
            board.stop()
            expect(page).to_have_title("was PASS weld-1 – Crosscheck")
            expect(page.locator(".old-note")).to_contain_text("Not live: this is the last part")
    finally:
        board.stop()


def test_a_pass_is_old_while_the_next_part_is_still_being_fetched(browser: Browser, line: BoardLine) -> None:
    with watched(browser, line.board.url) as found:
        page = found.page
        page.goto(f"{line.board.url}#/station/press-2")
        line.inspect("press-2", "good", 4)
        word = page.locator(".panel .verdict-word")
        expect(word).to_have_text("PASS")

        def hold(route: Route) -> None:
            """It goes on when the page is unrouted."""

        page.route("**/api/part/**", hold)
        line.inspect("press-2", "shape", 1)
        expect(page.locator(".old-note")).to_contain_text("a newer part is on its way", timeout=15_000)
        expect(word).to_have_text("was PASS")
        page.unroute("**/api/part/**", hold)
        expect(word).to_have_text("REJECT")
        expect(page.locator(".old-note")).to_be_hidden()


def test_redis_away_is_told_and_no_sensor_is_shown_as_well(browser: Browser, line: BoardLine) -> None:
    host = line.settings.redis.removeprefix("redis://").partition("/")[0]
    with Proxy() as proxy:
        proxy.to(host)
        board = line.another_board(redis=line.settings.redis.replace(host, proxy.address))
        board.start()
        try:
            with watched(browser, board.url) as found:
                page = found.page
                page.goto(board.url)
                line.inspect("press-2", "good", 6)
                expect(tile(page, "press-2").locator(".lamp-word")).to_have_text("Fused")
                proxy.cut(Cut.REFUSED)
                expect(page.locator("#banner")).to_contain_text("Redis is away", timeout=15_000)
                expect(tile(page, "press-2").locator(".lamp-word")).to_have_text("Sensors not known")
                expect(tile(page, "press-2").locator('.lamp[data-state="up"]')).to_have_count(0)
                expect(tile(page, "press-2").locator(".word")).to_have_text("was PASS")
                proxy.restore()
                expect(page.locator("#link-word")).to_have_text("live", timeout=15_000)
                expect(tile(page, "press-2").locator(".lamp-word")).to_have_text("Fused")
        finally:
            board.stop()

"""What a person sees on the wall."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Locator, Page, expect

from schemas.verdict import Decision, Mode
from tests.board.browsing import PHONE, watched
from tests.board.rig import BoardLine


def tile(page: Page, station: str) -> Locator:
    """The tile of a station."""
    return page.locator(".tile").filter(has=page.get_by_role("link", name=station, exact=True))


def test_a_station_shows_the_verdict_of_its_part_in_a_word_with_its_score(
    page: Page, line: BoardLine
) -> None:
    verdict = line.inspect("press-1", "good", 0)
    assert verdict.decision is Decision.PASS
    assert verdict.score is not None
    assert verdict.threshold is not None
    mine = tile(page, "press-1")
    expect(mine.locator(".word")).to_have_text("PASS")
    expect(mine.locator(".bar-figures")).to_have_text(f"{verdict.score:.2f} of {verdict.threshold:.2f}")
    expect(mine.locator(".lamp-word")).to_have_text("Fused")
    expect(mine.locator(".thumb-box")).to_have_attribute("data-empty", "no")
    expect(page.locator("#link-word")).to_have_text("live")


def test_a_planted_defect_turns_the_tile_and_the_ticker_to_reject(page: Page, line: BoardLine) -> None:
    expect(tile(page, "press-1").locator(".word")).to_have_text(re.compile("PASS|no part"))
    verdict = line.inspect("press-1", "both", 0)
    assert verdict.decision is Decision.REJECT
    mine = tile(page, "press-1")
    expect(mine.locator(".word")).to_have_text("REJECT")
    expect(mine.locator(".why")).to_have_text("seen by both sensors")
    expect(mine).to_have_attribute("data-decision", "REJECT")
    chip = page.locator(f'.chip[href="#/part/{verdict.part}"]')
    expect(chip).to_have_text("REJECTpress-1")


def test_a_sensor_that_drops_is_told_in_words_with_the_time_since(page: Page, line: BoardLine) -> None:
    for number in range(3):
        verdict = line.inspect("paint-1", "good", number, depth=False)
    assert verdict.mode is Mode.RGB
    mine = tile(page, "paint-1")
    expect(mine.locator(".lamp-word")).to_have_text(re.compile(r"^RGB only since \d\d:\d\d$"))
    expect(mine.locator('.lamp[data-state="down"]')).to_have_count(1)
    why = re.compile("depth down since .*gave no picture")
    expect(mine.locator(".tile-lamps")).to_have_attribute("title", why)
    expect(mine.locator(".word")).to_have_text("REVIEW")
    expect(page.locator(".facts [data-some]")).to_contain_text("with trouble")


def test_a_station_without_parts_says_so_and_shows_no_old_pass(page: Page, line: BoardLine) -> None:
    expect(tile(page, "weld-2").locator(".word")).to_have_text("no part yet")
    line.inspect("weld-2", "good", 1)
    expect(tile(page, "weld-2").locator(".word")).to_have_text("PASS")
    # Its own clock goes on while nothing comes.
    page.evaluate("const real = Date.now; Date.now = () => real() + 190_000")
    expect(tile(page, "weld-2").locator(".word")).to_have_text("no part for 3 min")
    expect(tile(page, "weld-2").locator(".why")).to_have_text("last: PASS")


def test_a_product_named_to_do_harm_is_shown_as_text(page: Page, line: BoardLine) -> None:
    name = '<img src=x onerror="document.title=1"><b>cap</b>'
    part = line.send("weld-1", product=name)
    assert line.verdict(part).decision is Decision.ERROR
    expect(tile(page, "weld-1").locator(".tile-product")).to_have_text(name)
    expect(tile(page, "weld-1").locator(".word")).to_have_text("ERROR")
    assert page.locator(".tile img, .tile b").count() == 0
    page.goto(f"{line.board.url}#/part/{part}")
    expect(page.locator(".facts-list")).to_contain_text(name)
    assert page.locator("#view img, #view b").count() == 0


def test_trouble_comes_first_when_asked_for_and_is_remembered(page: Page, line: BoardLine) -> None:
    line.inspect("weld-2", "good", 2)
    for number in range(3):
        line.inspect("paint-1", "good", number + 3, depth=False)
    names = page.locator(".tile-name")
    expect(names).to_have_text(["paint-1", "paint-2", "press-1", "press-2", "weld-1", "weld-2"])
    page.keyboard.press("t")
    expect(page.get_by_label("Trouble first")).to_be_checked()
    expect(names.last).to_have_text("weld-2")
    page.reload()
    expect(page.get_by_label("Trouble first")).to_be_checked()
    expect(names.last).to_have_text("weld-2")


def test_forty_stations_fit_a_wall_and_a_phone_never_scrolls_sideways(
    browser: Browser, line: BoardLine
) -> None:
    line.inspect("press-2", "shape", 0)
    with watched(browser, line.board.url, size=PHONE, touch=True) as phone:
        for view in ("", "verdicts", "figures", "review", "workers", "station/press-2"):
            phone.page.goto(f"{line.board.url}#/{view}")
            expect(phone.page.locator("#link-word")).to_have_text("live")
            sizes = phone.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert sizes[0] <= sizes[1], view
        phone.page.goto(f"{line.board.url}#/")
        word = tile(phone.page, "press-2").locator(".word")
        expect(word).to_have_text("REJECT")
        # The longest word too is read to its end.
        over = "(word, said) => (word.textContent = said, word.scrollWidth - word.parentElement.clientWidth)"
        assert [word.evaluate(over, said) for said in ("REJECT", "MISSING")] == [0, 0]
        phone.check()

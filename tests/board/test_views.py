"""What persists is trouble, what is drawn is to scale, and all of it fits the screen.

Last of all by its name: what it sends again and again leaves sensors of the shared line frozen.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.board.browsing import PHONE, watched
from tests.board.rig import BoardLine
from tests.board.test_overview import tile
from tests.board.test_review import open_review, sign_in


def asked(page: Page, module: str, expression: str) -> Any:
    """What a module of the page answers."""
    return page.evaluate(f"import('./static/{module}.js').then((m) => {expression})")


def test_a_station_that_answers_error_to_every_part_is_in_trouble_and_says_why_in_words(
    page: Page, line: BoardLine
) -> None:
    for _ in range(12):
        line.verdict(line.send("weld-2", product="no-such-product"))
    mine = tile(page, "weld-2")
    expect(mine.locator(".why")).to_have_text("No model is in service for this product.")
    expect(mine.locator(".tile-foot")).to_contain_text("▲ 12 of 12 not passed")
    assert int(page.locator(".facts [data-some] strong").inner_text()) >= 1
    trouble = asked(page, "model", "m.trouble(m.model.stations.get('weld-2'))")
    assert trouble >= 300


@pytest.mark.parametrize(
    ("decisions", "troubled"),
    [
        (["ERROR"] * 12, True),
        (["STALE"] * 12, True),
        (["MISSING"] * 12, True),
        (["REJECT"] * 12, True),
        (["PASS"] * 6 + ["REJECT", "PASS"] * 3, False),
        (["PASS", "ERROR"] * 6, True),
        (["ERROR"] * 3, True),
        (["REJECT"] * 2, False),
        (["ERROR"] * 20 + ["PASS"] * 12, False),
    ],
)
def test_what_persists_is_trouble_whichever_decision_it_is(
    page: Page, decisions: list[str], troubled: bool
) -> None:
    rows = [{"decision": decision} for decision in decisions]
    found = page.evaluate(
        "(rows) => import('./static/model.js').then((m) => m.persistent({ rows }) !== null)", rows
    )
    assert found is troubled


@pytest.mark.parametrize(
    ("values", "most", "least_top", "highest_top"),
    [
        ([0.0] * 50 + [100.0], 100, 100, 100),
        ([90.0] * 30 + [99.0], 100, 99, 100),
        ([20.0] * 80 + [4000.0], None, 20, 40),
        ([20.0 + n % 5 for n in range(80)] + [4000.0, 5000.0], None, 24, 50),
        ([1.0, 2.0, 300.0], None, 300, 500),
        ([10.0, 12.0, 14.0] * 10, None, 14, 20),
        ([], 100, 1, 1),
    ],
)
def test_an_axis_fits_what_is_usual_and_a_share_never_passes_a_hundred(
    page: Page, values: list[float], most: int | None, least_top: float, highest_top: float
) -> None:
    top = page.evaluate(
        "([values, most]) => import('./static/charts.js').then((m) => m.topOf(values, most ?? Infinity))",
        [values, most],
    )
    assert least_top <= top <= highest_top


def test_what_is_cut_by_the_axis_is_marked_with_its_own_value(page: Page) -> None:
    found = asked(page, "charts", "m.peaks([[1, 50, 70, 1, null, 60], [2, 3, 2, 2, 2, 2]], 10)")
    assert found == [{"at": 2, "value": 70}, {"at": 5, "value": 60}]


def test_the_product_that_runs_is_the_one_whose_scores_are_shown(page: Page, line: BoardLine) -> None:
    line.verdict(line.send("weld-1", product="a-product-of-before"))
    for number in range(2):
        line.inspect("weld-1", "good", number)
        line.inspect("press-1", "good", number)
    page.goto(f"{line.board.url}#/figures")
    expect(page.get_by_label("Product", exact=True)).to_have_value("cap")


@pytest.mark.parametrize(("count", "share"), [(1, 0.7), (2, 0.8), (4, 0.8), (12, 0.75)])
def test_few_stations_fill_the_wall_and_no_word_is_cut(
    page: Page, line: BoardLine, count: int, share: float
) -> None:
    line.inspect("press-1", "good", 4)
    expect(tile(page, "press-1").locator(".word")).not_to_have_text("no part yet")
    # In one step: the board's next state would bring the line's own stations back.
    found = page.evaluate(
        """async (count) => {
          const { model } = await import('./static/model.js');
          const { stations } = await import('./static/stations.js');
          const row = model.stations.get('press-1').latest;
          model.stations.clear();
          for (let n = 1; n <= count; n += 1) {
            const of = { ...row, station: `s${n}`, part: `s${n}/1/1`, decision: 'MISSING' };
            model.stations.set(`s${n}`, { name: `s${n}`, info: null, rows: [of], latest: of,
              heard: performance.now() });
          }
          stations.paint();
          const grid = document.querySelector('.tiles').getBoundingClientRect();
          const tiles = [...document.querySelectorAll('.tile')].map((t) => t.getBoundingClientRect());
          const word = document.querySelector('.tile .word');
          const room = word.closest('.tile-verdict').getBoundingClientRect();
          return [tiles.length, Math.max(...tiles.map((t) => t.right)) - grid.left, grid.width,
            Math.max(...tiles.map((t) => t.bottom)) - grid.top, innerHeight - grid.top - 48,
            word.getBoundingClientRect().left + word.scrollWidth - room.right]; }""",
        count,
    )
    tiles, across, width, down, height, over = found
    assert tiles == count
    assert across / width > share
    assert down / height > share
    assert over <= 0


def test_depth_of_all_parts_of_a_product_is_drawn_on_one_scale_in_millimetres(
    page: Page, line: BoardLine
) -> None:
    scales = []
    for number in (0, 1):
        part = line.inspect("press-1", "shape", number).part
        page.goto(f"{line.board.url}#/part/{part}")
        expect(page.locator(".base[aria-pressed=true]")).to_have_count(1)
        expect(page.locator(".which")).to_contain_text(f"#{part.trigger} of")
        page.get_by_role("button", name="Depth").click()
        legend = page.locator(".reach")
        expect(legend).to_be_visible()
        expect(legend).to_contain_text(re.compile(r"near [\d.]+ mm.*far [\d.]+ mm"))
        near, far = (float(text) for text in re.findall(r"[\d.]+", legend.inner_text()))
        assert near < far
        scales.append((near, far))
        page.get_by_role("button", name="Colour").click()
        expect(legend).to_be_hidden()
    assert scales[0] == pytest.approx(scales[1], rel=0.05)


def test_a_run_is_a_date_and_a_time_and_the_key_is_one_click_away(page: Page, line: BoardLine) -> None:
    part = line.inspect("press-1", "colour", 0).part
    page.goto(f"{line.board.url}#/part/{part}")
    expect(page.locator(".facts-list")).to_contain_text(re.compile(r"\d{1,2} \w+ \d{4}, \d\d:\d\d:\d\d"))
    expect(page.get_by_text(str(part))).to_be_hidden()
    assert str(part.run) not in page.locator("body").inner_text()
    page.get_by_text("Its key, for commands and logs").click()
    expect(page.get_by_text(str(part))).to_be_visible()


def test_a_phone_shows_every_tab_every_verdict_and_the_label_buttons_whole(
    browser: Browser, line: BoardLine
) -> None:
    part = line.inspect("press-2", "shape", 1).part
    beyond = """(which) => [...document.querySelectorAll(which)].filter((n) => n.checkVisibility())
      .map((n) => [n.textContent, n.getBoundingClientRect(), n.scrollWidth - n.clientWidth])
      .filter(([, box, over]) => box.left < 0 || box.right > innerWidth || over > 1)
      .map(([text, box]) => `${text} ${box.left} to ${box.right}`)"""
    with watched(browser, line.board.url, size=PHONE, touch=True) as found:
        page = found.page
        page.goto(f"{line.board.url}#/verdicts")
        expect(page.locator(f'a[href="#/part/{part}"]')).to_be_visible()
        assert page.evaluate(beyond, ".tab, .view-verdicts td, .view-verdicts .scroll") == []
        page.evaluate("document.getElementById('review-count').textContent = '999+'")
        assert page.evaluate(beyond, ".tab, .tabs") == []
        sign_in(page)
        open_review(page, line, part)
        buttons = page.locator(".acts .act")
        expect(buttons).to_have_count(3)
        assert page.evaluate(beyond, ".acts .act") == []
        # In reach without scrolling, wherever the page stands.
        for place in (0, 300, 10_000):
            page.evaluate("(y) => window.scrollTo(0, y)", place)
            boxes = [each.bounding_box() for each in buttons.all()]
            assert all(box and box["y"] >= 0 and box["y"] + box["height"] <= PHONE[1] for box in boxes), place
        found.check()

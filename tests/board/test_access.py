"""Everybody can use it: without a mouse, without colour vision, in light and in the dark."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.board.browsing import PHONE, watched
from tests.board.rig import BoardLine
from tests.board.test_overview import tile

# Text of every visible element against the ground it lies on, as WCAG 2 computes it.
CONTRASTS = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (c) => { const f = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
  const ground = (node) => { for (; node; node = node.parentElement) {
    const style = getComputedStyle(node), c = rgb(style.backgroundColor);
    if (style.backgroundImage !== "none") return null;
    if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].map((n) => (n.nodeType === 3 ? n.data.trim() : "")).join(" ").trim();
    const box = node.getBoundingClientRect();
    if (!text || !box.width || !box.height) continue;
    if (node.closest(":disabled, [hidden], .skip, .unseen, svg, option")) continue;
    const back = ground(node); if (!back) continue;
    const style = getComputedStyle(node), a = light(rgb(style.color)), b = light(back);
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
    const large = size >= 24 || (size >= 18.66 && bold);
    found.push({ text: text.slice(0, 40), name: node.className || node.tagName,
      ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), need: large ? 3 : 4.5 });
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_text_stands_out_from_its_ground(
    browser: Browser, line: BoardLine, scheme: Literal["dark", "light"]
) -> None:
    part = line.inspect("press-1", "shape", 0).part
    line.inspect("paint-2", "good", 0, depth=False)
    with watched(browser, line.board.url, scheme=scheme) as found:
        for view in ("", "verdicts", "figures", "review", "workers", f"part/{part}"):
            found.page.goto(f"{line.board.url}#/{view}")
            expect(found.page.locator("#link-word")).to_have_text("live")
            if view.startswith("part"):
                expect(found.page.locator(".verdict-word")).to_be_visible()
            texts: list[dict[str, Any]] = found.page.evaluate(CONTRASTS)
            assert len(texts) > 8, view
            assert [t for t in texts if t["ratio"] < t["need"]] == [], view
        found.check()


def test_decisions_are_told_apart_in_grey(page: Page, line: BoardLine) -> None:
    line.inspect("press-1", "good", 11)
    line.inspect("press-2", "both", 0)
    expect(tile(page, "press-1").locator(".word")).to_have_text("PASS")
    expect(tile(page, "press-2").locator(".word")).to_have_text("REJECT")
    page.locator("html").evaluate("node => { node.style.filter = 'grayscale(1)'; }")
    shapes = [
        tile(page, name).locator(".tile-verdict .shape").inner_html() for name in ("press-1", "press-2")
    ]
    assert shapes[0] != shapes[1]
    grounds = []
    for name in ("press-1", "press-2"):
        image = cv2.imdecode(
            np.frombuffer(tile(page, name).locator(".tile-verdict").screenshot(), np.uint8), cv2.IMREAD_COLOR
        )
        assert image is not None
        assert np.ptp(image.astype(int), axis=2).max() <= 2, "the page is grey"
        grounds.append(float(np.median(image)))
    # What is good is quiet, what is not is filled: also the lightness differs.
    assert abs(grounds[0] - grounds[1]) > 25


def test_everything_is_reached_by_keyboard_and_the_keys_are_on_a_sheet(page: Page, line: BoardLine) -> None:
    line.inspect("press-1", "good", 12)
    expect(tile(page, "press-1").locator(".word")).to_have_text("PASS")
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id")
        )
        outline = page.evaluate(
            "(() => { const n = document.activeElement, t = n.closest('.tile') ?? n;"
            " return getComputedStyle(t).outlineStyle; })()"
        )
        assert outline == "solid", reached[-1]
    assert reached[:4] == ["Skip to the content", "Crosscheck", "Stations", "Verdicts"]
    assert "trouble-first" in reached
    assert {"paint-1", "paint-2"} <= set(reached)
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keys")
    expect(sheet).to_be_visible()
    expect(sheet).to_contain_text("Trouble first, on or off")
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    for key, name in (("2", "Verdicts"), ("3", "Figures"), ("4", "Review"), ("5", "Workers")):
        page.keyboard.press(key)
        expect(page.get_by_role("heading", name=name, exact=True).first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="paint-1", exact=True)).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("link", name="paint-1", exact=True)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("link", name="paint-2", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{line.board.url}#/station/paint-2")


def test_on_a_phone_what_is_touched_is_large_enough(browser: Browser, line: BoardLine) -> None:
    part = line.inspect("press-1", "colour", 1).part
    with watched(browser, line.board.url, size=PHONE, touch=True) as found:
        found.page.goto(f"{line.board.url}#/part/{part}")
        expect(found.page.locator(".verdict-word")).to_have_text("REJECT")
        expect(found.page.locator(".base[aria-pressed=true]")).to_have_count(1)
        small = found.page.evaluate(
            """() => [...document.querySelectorAll("button, a, input, summary, label.check")]
              .filter((n) => n.checkVisibility() && !n.matches(".skip, .check input, dialog *"))
              .map((n) => [n.textContent || n.id, n.getBoundingClientRect()])
              .filter(([, b]) => b.height < 28 || b.width < 24)
              .map(([t, b]) => `${t} ${b.width} x ${b.height}`)"""
        )
        assert small == []
        box = found.page.locator(".picture").bounding_box()
        assert box is not None
        found.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        expect(found.page.locator(".readout")).to_contain_text("the threshold")
        found.check()

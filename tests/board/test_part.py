"""What a person sees of one part: pictures, heat, scores under the pointer, why."""

from __future__ import annotations

import base64
import re

import cv2
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

from schemas.verdict import Decision, Verdict
from schemas.wire import decode_heatmap
from tests.board.browsing import Watched
from tests.board.rig import SIZE, BoardLine
from tests.e2e.processes import wait_until


def open_part(page: Page, line: BoardLine, verdict: Verdict) -> None:
    """The page of a part, with its pictures drawn."""
    page.goto(f"{line.board.url}#/part/{verdict.part}")
    expect(page.locator(".verdict-word")).to_have_text(verdict.decision.value)
    expect(page.locator(".base[aria-pressed=true]")).to_have_count(1)


def pixels(page: Page) -> NDArray[np.uint8]:
    """What is painted on the picture's canvas, (rows, columns, 3)."""
    url: str = page.locator(".picture").evaluate("canvas => canvas.toDataURL('image/png')")
    data = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image[..., ::-1], np.uint8)


def warmth(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """How much redder than blue a canvas is where the mask, of the part's own size, says."""
    rows, columns = image.shape[:2]
    y, x = np.nonzero(mask)
    at = image[(y * rows) // mask.shape[0], (x * columns) // mask.shape[1]].astype(np.float32)
    return float((at[:, 0] - at[:, 2]).mean())


def test_heat_is_painted_where_the_defect_was_planted_and_its_boxes_say_who_sees_it(
    page: Page, line: BoardLine
) -> None:
    item = line.shelf.items("colour")[0]
    mask = item.mask()
    assert mask is not None
    verdict = line.inspect("press-1", "colour", 0)
    assert verdict.decision is Decision.REJECT
    open_part(page, line, verdict)
    expect(page.get_by_role("slider", name="Heat")).to_be_enabled()
    page.get_by_label("Boxes of defects").uncheck()
    hot = pixels(page)
    page.keyboard.press("h")
    expect(page.get_by_role("slider", name="Heat")).to_have_value("0")
    cold = pixels(page)
    elsewhere = np.zeros_like(mask)
    elsewhere[: SIZE // 12] = True
    # Inferno is warm where it is high, and nothing of it is seen on the belt.
    assert warmth(hot, mask) > warmth(cold, mask) + 30
    assert abs(warmth(hot, elsewhere) - warmth(cold, elsewhere)) < 10
    page.get_by_label("Boxes of defects").check()
    assert (pixels(page) != cold).any()
    expect(page.locator(".panel .why-list")).to_contain_text("seen by colour only")


def test_the_score_under_the_pointer_is_that_of_the_heatmap(page: Page, line: BoardLine) -> None:
    verdict = line.inspect("press-1", "shape", 0)
    # Stored behind its verdict, and best effort.
    wait_until(lambda: line.store.get_heatmap(verdict.part) is not None, 10.0, "the heatmap")
    heatmap = decode_heatmap(line.store.get_heatmap(verdict.part) or b"")
    assert verdict.threshold is not None
    open_part(page, line, verdict)
    expect(page.get_by_role("slider", name="Heat")).to_be_enabled()
    canvas = page.locator(".picture")
    box = canvas.bounding_box()
    assert box is not None
    region = verdict.regions[0]
    x = (region.x + region.width / 2) / SIZE
    y = (region.y + region.height / 2) / SIZE
    canvas.hover(position={"x": x * box["width"], "y": y * box["height"]})
    expect(page.locator(".readout")).to_have_text(re.compile(rf"over the threshold {verdict.threshold:.2f}$"))
    canvas.hover(position={"x": 3, "y": 3})
    expect(page.locator(".readout")).to_have_text(re.compile("under the threshold"))
    said = page.locator(".readout").inner_text()
    assert float(said.split()[0]) >= round(heatmap.low, 2)
    # By keyboard the probe begins at the hottest place.
    canvas.focus()
    page.mouse.move(1, 1)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".readout")).to_have_text(re.compile("over the threshold"))


def test_why_scores_times_and_bundle_are_told_in_words(page: Page, line: BoardLine) -> None:
    verdict = line.inspect("press-1", "both", 1)
    assert verdict.score is not None
    assert verdict.threshold is not None
    open_part(page, line, verdict)
    panel = page.locator(".panel")
    expect(panel).to_contain_text(
        f"Its score {verdict.score:.2f} is above the threshold {verdict.threshold:.2f}"
    )
    expect(panel).to_contain_text("defect: the gate stays closed")
    expect(panel.locator(".facts-list")).to_contain_text(f"{verdict.bundle}")
    expect(panel.locator(".facts-list")).to_contain_text(verdict.worker)
    expect(panel.locator(".bar-row")).to_have_count(1 + len(verdict.branches) + len(verdict.timings))


def test_a_degraded_part_says_which_sensor_and_why(page: Page, line: BoardLine) -> None:
    verdict = line.inspect("paint-2", "good", 4, depth=False)
    assert verdict.decision is Decision.REVIEW
    open_part(page, line, verdict)
    expect(page.locator(".why-list")).to_contain_text("this mode may not pass a part by itself")
    expect(page.locator(".why-list")).to_contain_text("Depth gave no picture")
    expect(page.get_by_role("button", name="Depth")).to_be_disabled()


def test_colour_and_depth_are_chosen_by_key_and_arrows_walk_the_parts(page: Page, line: BoardLine) -> None:
    first = line.inspect("press-2", "good", 0)
    second = line.inspect("press-2", "good", 1)
    open_part(page, line, first)
    colour = pixels(page)
    page.keyboard.press("d")
    expect(page.get_by_role("button", name="Depth")).to_have_attribute("aria-pressed", "true")
    assert (pixels(page) != colour).any()
    page.keyboard.press("c")
    expect(page.get_by_role("button", name="Colour")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(f'.parts-strip a[href="#/part/{second.part}"]')).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(f"{line.board.url}#/part/{second.part}")
    expect(page.locator(".which")).to_have_text(re.compile(f"^#{second.part.trigger} of "))
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".which")).to_have_text(re.compile(f"^#{first.part.trigger} of "))


def test_following_shows_each_new_part_and_staying_keeps_the_one(page: Page, line: BoardLine) -> None:
    first = line.inspect("press-2", "good", 2)
    page.goto(f"{line.board.url}#/station/press-2")
    expect(page.locator(".which")).to_have_text(re.compile(f"^#{first.part.trigger} of "))
    second = line.inspect("press-2", "shape", 1)
    expect(page.locator(".verdict-word")).to_have_text("REJECT")
    expect(page.locator(".which")).to_have_text(re.compile(f"^#{second.part.trigger} of "))
    page.get_by_role("button", name="Stay with this part").click()
    third = line.inspect("press-2", "good", 3)
    expect(page.locator(f'.parts-strip a[href="#/part/{third.part}"]')).to_be_visible()
    expect(page.locator(".which")).to_have_text(re.compile(f"^#{second.part.trigger} of "))
    page.get_by_role("button", name="Follow the newest").click()
    expect(page.locator(".verdict-word")).to_have_text("PASS")


def test_a_part_that_nobody_knows_is_told_in_words(page: Page, watch: Watched, line: BoardLine) -> None:
    watch.allowed.append("404")
    page.goto(f"{line.board.url}#/part/press-1/1/1")
    expect(page.locator(".panel")).to_have_text("Nothing is known of part press-1 #1, run of 1.")


def test_nothing_of_one_station_is_shown_under_the_name_of_another(page: Page, line: BoardLine) -> None:
    verdict = line.inspect("press-1", "good", 2)
    page.goto(f"{line.board.url}#/station/press-1")
    expect(page.locator(".verdict-word")).to_have_text(verdict.decision.value)
    preview = "canvas => canvas.toDataURL('image/png').length"
    drawn = page.locator(".base-small").first.evaluate(preview)
    page.goto(f"{line.board.url}#/station/nobody")
    expect(page.locator(".panel")).to_have_text("No part of nobody is known here.")
    expect(page.locator(".verdict-word")).to_have_count(0)
    expect(page.locator(".which")).to_have_text("")
    assert page.locator(".base-small").first.evaluate(preview) < drawn / 10

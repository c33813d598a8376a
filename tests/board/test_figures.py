"""The figures: what another threshold would have done, compared with the recorded scores themselves."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from typing import Any

from playwright.sync_api import Page, expect

from schemas.verdict import Decision
from tests.board.rig import PRODUCT, BoardLine
from workers.shadow.keeping import Keeping
from workers.shadow.tally import Tally


def recorded(line: BoardLine, station: str = "") -> dict[str, Any]:
    """The scores that the board keeps."""
    where = f"&station={station}" if station else ""
    with urllib.request.urlopen(f"{line.board.url}api/scores?product={PRODUCT}&mode=FUSED{where}") as reply:
        return dict(json.load(reply))


def said(scores: list[float], threshold: float) -> str:
    """The share above a threshold, as the page writes it."""
    above = sum(score > threshold for score in scores)
    share = 100 * above / len(scores)
    return f"{share:.0f} %" if share in (0.0, 100.0) else f"{share:.1f} %"


def test_the_slider_says_what_share_of_the_recorded_parts_a_threshold_rejects(
    page: Page, line: BoardLine
) -> None:
    for number in range(4):
        line.inspect("press-1", "good", number)
    last = line.inspect("press-1", "colour", 2)
    page.goto(f"{line.board.url}#/figures")
    page.get_by_label("Station", exact=True).select_option("press-1")
    expect(page.get_by_label("Product", exact=True)).to_have_value(PRODUCT)
    sentence = page.locator(".what-if-says")
    found = recorded(line, "press-1")
    scores, threshold = found["scores"], found["threshold"]
    assert threshold == last.threshold
    assert len(scores) >= 5
    share = said(scores, threshold)
    expect(sentence).to_contain_text(f"in service, {threshold:.2f}: {share} of")
    # Between the highest good score and the next one everything above is rejected, nothing below.
    tried = (sorted(scores)[1] + sorted(scores)[2]) / 2
    page.get_by_label("Threshold to try").fill(f"{tried:.4f}")
    page.keyboard.press("Enter")
    expect(sentence).to_contain_text(
        f"At threshold {tried:.2f}: {said(scores, tried)} of the last {len(scores)}"
    )
    slider = page.get_by_label("What if the threshold were")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    shown = re.match(r"At threshold (\d+\.\d+): (\S+ %) of", sentence.inner_text())
    assert shown is not None
    assert shown[2] == said(scores, float(page.get_by_label("Threshold to try").input_value()))
    page.keyboard.press("End")
    expect(sentence).to_contain_text("At threshold")
    page.get_by_role("button", name="Back to the threshold in service").click()
    expect(sentence).to_contain_text("At the threshold in service")


def test_decisions_and_false_rejects_of_each_station_are_counted(page: Page, line: BoardLine) -> None:
    line.inspect("press-2", "good", 5)
    line.inspect("press-2", "both", 2)
    page.goto(f"{line.board.url}#/figures")
    row = page.locator(".decisions tbody tr").filter(has_text="press-2")
    expect(row.locator("td").nth(2)).not_to_have_text("0")
    with urllib.request.urlopen(f"{line.board.url}api/state") as reply:
        state = json.load(reply)
    station = next(s for s in state["stations"] if s["name"] == "press-2")
    counts = station["counts"]
    expect(row.locator("td").nth(1)).to_have_text(str(counts["PASS"]))
    expect(row.locator("td").nth(2)).to_have_text(str(counts["REJECT"]))
    # Written out here: of the scored parts, whatever else there was.
    share = 100 * station["rates"]["rejected"]
    expect(row.locator("td").nth(-2)).to_have_text(f"{share:.1f} %")
    expect(row.locator("td").last).to_have_text("not reviewed")


def test_curves_say_their_newest_values_in_words(page: Page, line: BoardLine) -> None:
    line.inspect("press-1", "good", 6)
    page.goto(f"{line.board.url}#/figures")
    expect(page.locator(".chart-newest").first).to_have_text(
        re.compile(r"^rejected [\d.]+, not rejected [\d.]+$")
    )
    latency = page.get_by_role("img", name=re.compile("^Latency; newest: p50 .*, p95 "))
    expect(latency).to_be_visible()
    latency.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".chart-readout:visible")).to_contain_text("p95")


def test_the_worker_is_listed_with_its_partitions_and_what_it_answered(page: Page, line: BoardLine) -> None:
    line.inspect("press-1", "good", 7)
    page.goto(f"{line.board.url}#/workers")
    row = page.locator("tbody tr").filter(has_text=line.settings.worker)
    expect(row).to_contain_text("working")
    expect(row.locator("td").nth(2)).to_have_text("0, 1")


def test_a_shadow_run_that_was_killed_is_not_shown_as_one_that_goes_on(page: Page, line: BoardLine) -> None:
    run = page.locator(".shadow dd").first
    keeping, now = Keeping(line.store, PRODUCT), time.time_ns() // 10**6
    verdict = line.inspect("press-1", "good", 9)
    try:
        for at, words in ((now, "goes on"), (now - 60_000, "has ended")):
            tally = Tally(PRODUCT, "cap/2", at - 1000, active="cap/1")
            tally.compared(verdict, Decision.REJECT, 1.25, 80.0, at)
            keeping.write(tally, at)
            page.goto(f"{line.board.url}#/")
            page.goto(f"{line.board.url}#/workers")
            expect(run).to_contain_text(words, timeout=10_000)
            part = page.locator(".shadow .why-list li").first
            expect(part).to_contain_text(f"{verdict.part.station} #{verdict.part.trigger}, run of ")
            expect(part).to_contain_text("PASS at ")
            expect(part).to_contain_text("REJECT at 1.25 of its threshold")
    finally:
        keeping.begin()


def test_the_ticker_lists_verdicts_by_decision(page: Page, line: BoardLine) -> None:
    page.goto(f"{line.board.url}#/verdicts")
    good = line.inspect("press-1", "good", 8).part
    bad = line.inspect("press-1", "shape", 2).part
    expect(page.locator(f'a[href="#/part/{good}"]')).to_be_visible()
    page.get_by_label("Show").select_option("held")
    expect(page.locator(f'a[href="#/part/{bad}"]')).to_be_visible()
    expect(page.locator(f'a[href="#/part/{good}"]')).to_have_count(0)
    page.get_by_label("Station", exact=True).fill("nowhere")
    expect(page.locator("tbody tr")).to_have_count(0)

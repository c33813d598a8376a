"""The page of an evaluation: what stands in it, that it needs nothing else, and what is said in words."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inference.errors import ReportError
from inference.report import render, write_report
from inference.report.pictures import draw
from inference.report.svg import Chart, even_ticks
from inference.report.words import caveats, counted, headline, hundred
from inference.results import FIGURES, Exhibit, Measure, Metrics, Report, combine, combine_reports
from schemas.verdict import Mode

VOID = {"meta", "img", "br", "link", "input", "hr"}
ALL = ("fates", "misses", "rejects", "hits", "charts", "table", "kinds", "identity")
SECTIONS = ALL


class Page(HTMLParser):
    """Reads the page, and notes every element, address and balance of tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.tags if attrs.get("id")]  # type: ignore[misc]


def metrics(**changes: Any) -> Metrics:
    values: dict[str, Any] = {name: Measure(0.9, (0.85, 0.95)) for name in FIGURES}
    values |= {
        "false_reject_rate": Measure(0.004, (0.001, 0.021)),
        "miss_rate": Measure(0.03, (0.01, 0.07)),
        "threshold": 4.0,
        "binning": 1e-4,
        "good": 250,
        "defects": 120,
        "inspected": 370,
    }
    return Metrics(**(values | changes))


def exhibit(name: str = "test/dent/dent_1", *, score: float = 3.0, label: str = "dent") -> Exhibit:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 15:30] = label != "good"
    heat = np.where(mask, 8.0, 0.0).astype(np.float32)
    return Exhibit(
        name=name,
        label=label,
        score=score,
        pass_limit=3.0,
        threshold=4.0,
        branches={"colour": 1.25, "shape": 2.5},
        colour=np.full((40, 60, 3), 90, np.uint8),
        depth=np.full((40, 60, 3), 70, np.uint8),
        heat=heat,
        mask=mask,
    )


def report(**changes: Any) -> Report:
    rng = np.random.default_rng(0)
    items = [
        {
            "name": f"f{i}",
            "label": "good" if i < 30 else "dent",
            "group": str(i),
            "scores": {mode.value: float(rng.normal(2 + 5 * (i >= 30))) for mode in Mode},
        }
        for i in range(60)
    ]
    curve = np.stack([np.geomspace(1e-4, 1, 50), np.linspace(0.2, 1, 50)], 1)
    modes = {mode: metrics() for mode in (Mode.FUSED, Mode.RGB, Mode.DEPTH)}
    values: dict[str, Any] = {
        "bundle": "cap/1",
        "bundle_hash": "ab" * 32,
        "dataset": "line two",
        "modes": modes,
        "branches": {"colour": metrics(), "shape": metrics(miss_rate=Measure(), threshold=None)},
        "fusions": {"fused:cmdr": metrics()},
        "kinds": {"dent": modes},
        "kind_branches": {"dent": {"colour": metrics()}},
        "kind_fusions": {"dent": {"fused:cmdr": metrics()}},
        "counts": {"good": 30, "dent": 30},
        "groups": 60,
        "bootstrap": 100,
        "seed": 0,
        "fullest": Mode.FUSED,
        "items": items,
        "curves": {mode.value: curve for mode in Mode},
        "hits": [exhibit("test/dent/dent_2", score=9.0)],
        "worst_defects": [exhibit(), exhibit("test/dent/dent_2", score=9.0)],
        "worst_good": [exhibit("test/good/good_7", score=5.0, label="good")],
    }
    return Report(**(values | changes))


def test_every_section_is_there_and_the_headline_comes_first() -> None:
    text = render([report()], full=True)
    page = Page(text)
    assert [name for name in page.ids() if name in SECTIONS] == list(SECTIONS)
    assert {"headline", "published", "words"} <= set(page.ids())
    said = "Of 100 good parts 0.4 would be rejected (likely 0.1 to 2.1); of 100 defects 3 would be passed"
    assert said in page.text
    assert page.text.index(said) < page.text.index("image AUROC")
    for words in (
        "cap/1",
        "line two",
        "ab" * 32,
        "fused:cmdr",
        "shape",
        "0.900",
        "0.850–0.950",
        "threshold 4",
    ):
        assert words in page.text
    charts = [attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg" and "role" in attrs]
    assert len(charts) == 3


def test_the_page_is_short_and_leaves_research_to_the_full_one() -> None:
    page = Page(render([report()]))
    assert [name for name in page.ids() if name in ALL] == [
        "fates", "misses", "rejects", "hits", "charts", "kinds", "identity",
    ]  # fmt: skip
    for words in ("fused:cmdr", "AUPRO", "ROC:", "PRO curve", "colour 1.25"):
        assert words not in page.text
    assert "crosscheck evaluate --full" in page.text


def test_what_became_of_the_parts_is_said_in_numbers_with_those_that_are_held() -> None:
    row = metrics(
        good=58, defects=14, miss_rate=Measure(1 / 14), defect_review_rate=Measure(1 / 14),
        false_reject_rate=Measure(0.0), good_review_rate=Measure(0.0), pass_limit=3.0,
    )  # fmt: skip
    said = (
        "Of 14 defects 1 passes, 1 is held for review, 12 are rejected; "
        "of 58 good parts 58 pass, 0 are held for review, 0 are rejected."
    )
    assert counted(row) == said
    assert counted(Metrics()) is None
    page = Page(render([report(modes={Mode.FUSED: row})]))
    assert said in page.text
    assert page.text.index(said) < page.text.index("Of 100 good parts")
    assert "passes to 3" in page.text
    assert "rejected above 4" in page.text
    assert "FUSED 1 1 12 58 0 0" in page.text


def test_a_part_between_the_limits_is_shown_as_held() -> None:
    between = exhibit(score=3.5)
    assert not between.passed
    assert not between.rejected
    text = Page(render([report(worst_defects=[between], hits=[])])).text
    assert "held for review: score 3.50 (passes to 3.00, rejected above 4.00)" in text.replace("  ", " ")


def test_the_page_needs_nothing_from_elsewhere() -> None:
    text = render([report(), report(dataset="line three")], categories=True)
    page = Page(text)
    for tag, attrs in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base", "form"}
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "data", "srcset", "action"}:
                assert value is not None
                assert value.startswith(("data:image/jpeg;base64,", "#report-"))
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.parametrize("nasty", ["<script>alert(1)</script>", 'a" onload="x', "it's & <b>", "</style><p>"])
def test_names_are_text_and_never_markup(nasty: str) -> None:
    bad = exhibit(f"test/{nasty}/1", label=nasty)
    named = report(
        dataset=nasty,
        bundle=nasty,
        branches={nasty: metrics()},
        fusions={nasty + "2": metrics()},
        kinds={nasty: {Mode.FUSED: metrics()}},
        kind_branches={},
        kind_fusions={},
        counts={nasty: 3},
        worst_defects=[replace(bad, branches={nasty: 1.0})],
    )
    for text in (render([named]), render([named, named])):
        page = Page(text)
        assert "script" not in {tag for tag, _ in page.tags}
        assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
        assert nasty in page.text.replace("  ", " ")


def test_pictures_hold_the_part_the_map_and_the_outline() -> None:
    pictures = draw(exhibit())
    assert list(pictures) == ["colour", "depth", "heat map"]
    assert {picture.shape for picture in pictures.values()} == {(240, 360, 3)}
    left, right = pictures["colour"], pictures["heat map"]
    assert (left[5, 5] == 90).all()
    assert (pictures["depth"][5, 5] == 70).all()
    assert right[100, 150].max() > 150  # the map is far above its threshold inside the defect
    assert right[5, 5].max() < 90  # and clear outside
    cyan = np.abs(left.astype(int) - np.array([0, 229, 255])).sum(-1) < 30
    rows, columns = np.nonzero(cyan)
    assert 48 < rows.min() < 60  # just outside of the defect, which begins at row 60
    assert 117 < rows.max() < 127
    assert 80 < columns.min() < 91
    none = draw(replace(exhibit(), mask=None, threshold=-1.0, colour=None))
    assert list(none) == ["depth", "heat map"]
    assert not (np.abs(none["depth"].astype(int) - np.array([0, 229, 255])).sum(-1) < 30).any()


def test_images_of_the_page_can_be_decoded() -> None:
    sources = [attrs["src"] for tag, attrs in Page(render([report()])).tags if tag == "img"]
    assert len(sources) == 9  # colour, depth and map of the miss, the false reject and the hit
    for source in sources:
        assert source is not None
        data = np.frombuffer(base64.b64decode(source.split(",")[1]), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (240, 360, 3)


def test_without_a_miss_the_nearest_are_shown_and_said_to_be_found() -> None:
    found = report(worst_defects=[exhibit(score=9.0)], worst_good=[exhibit(score=1.0, label="good")])
    text = Page(render([found])).text
    assert "No defect passed: those nearest to it" in text
    assert "No good part was rejected: those nearest to it" in text
    assert "rejected: score 9.00" in text.replace("  ", " ")


def test_what_cannot_be_had_is_a_dash_and_not_a_zero() -> None:
    empty = report(
        modes={Mode.FUSED: Metrics()}, branches={}, fusions={}, kinds={}, curves={},
        worst_defects=[], worst_good=[], fullest=None, items=[], kind_branches={}, kind_fusions={},
    )  # fmt: skip
    text = Page(render([empty])).text
    assert "Nothing could be inspected" in text
    assert "0.000" not in text
    assert "–" in text


def test_several_categories_have_rows_a_mean_with_interval_and_a_part_each() -> None:
    text = render([report(dataset="bagel"), report(dataset="tire")], categories=True)
    page = Page(text)
    assert {"each", "mean", "report-0", "report-1", "0-charts", "1-charts"} <= set(page.ids())
    assert len(set(page.ids())) == len(page.ids())
    assert "Mean of 2 categories" in page.text
    assert "95 % intervals of the mean" in page.text
    # Beside what others published; one report is no mean to be set beside theirs.
    assert "this run, FUSED 90.0 90.0 90.0 90.0 mean of 2 categories" in page.text
    assert "this run, fused:cmdr" in page.text
    assert "this run" not in Page(render([report()])).text


def test_several_bundles_have_a_mean_and_its_spread() -> None:
    other = report(bundle="cap/2", modes={Mode.FUSED: metrics(i_auroc=Measure(0.8, (0.7, 0.9)))})
    text = Page(render([report(), other])).text
    assert "2 bundles on line two" in text
    assert "± 0.071" in text


def test_the_mean_is_plain_and_its_interval_shrinks_with_the_number_of_categories() -> None:
    measures = [Measure(0.9, (0.8, 0.95)), Measure(0.7, (0.6, 0.75)), Measure(), Measure(0.8, (0.7, 0.85))]
    found = combine(measures, independent=True)
    assert found is not None
    assert found.mean == pytest.approx(0.8)
    assert found.interval == pytest.approx((0.8 - 0.1 / 3**0.5, 0.8 + 0.05 / 3**0.5))
    assert (found.low, found.high, found.reports) == (0.7, 0.9, 3)
    assert found.deviation == pytest.approx(0.1)
    alone = combine(measures, independent=False)
    assert alone is not None
    assert alone.interval is None
    assert combine([Measure()], independent=True) is None
    table = combine_reports([report(), report(fusions={})], independent=True)
    assert list(table) == ["FUSED", "RGB", "DEPTH", "fused:cmdr", "colour", "shape"]
    only = table["fused:cmdr"]["i_auroc"]
    assert only is not None
    assert only.reports == 1
    assert table["shape"]["miss_rate"] is None


def test_words_give_no_more_digits_than_matter() -> None:
    assert [hundred(x) for x in (0, 0.004, 0.03, 0.0349, 0.126, 1)] == ["0", "0.4", "3", "3.5", "13", "100"]
    assert headline([report(modes={Mode.FUSED: metrics(miss_rate=Measure())})], independent=False).startswith(
        "There is no threshold"
    )


def test_what_a_reader_must_know_is_said() -> None:
    few = report(
        modes={
            Mode.FUSED: metrics(good=30, defects=10, left_out=4),
            Mode.RGB: metrics(miss_rate=Measure(0.7, (0.5, 0.9))),
        },
        kinds={"dent": {Mode.FUSED: metrics(i_auroc=Measure(0.7))}, "stain": {Mode.FUSED: metrics()}},
        groups=6,
    )
    said = " ".join(caveats(few))
    for words in (
        "Only 30 good",
        "Only 10 defects",
        "4 frames",
        "6 independent",
        "RGB alone misses",
        "0.80): dent.",
    ):
        assert words in said
    assert caveats(report()) == []


def test_the_file_is_written_whole_or_said_not_to_be(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, [report()])
    assert path.read_text(encoding="utf-8") == render([report()])
    assert [one.name for one in path.parent.iterdir()] == ["report.html"]
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ReportError, match="cannot be written"):
        write_report(blocked / "report.html", [report()])
    with pytest.raises(ReportError, match="cannot be written"):
        write_report(path.parent, [report()])
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
    with pytest.raises(ValueError, match="nothing"):
        render([])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 900), (1e-6, 2e-6), (-5, -4.5)])
def test_ticks_are_round_inside_and_a_handful(low: float, high: float) -> None:
    ticks = even_ticks(low, high)
    assert 2 <= len(ticks) <= 12
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in ticks)


def test_a_chart_keeps_its_marks_inside_its_axes() -> None:
    chart = Chart(x=(1, 100), y=(0, 1), label_x="x", label_y="y", title="t", log_x=True)
    chart.line([(0.001, -5), (10, 0.5), (1e9, 7)], "line-a")
    found = re.search(r'points="([^"]+)"', chart.render([], []))
    assert found is not None
    points = [tuple(map(float, pair.split(","))) for pair in found[1].split()]
    assert [point[0] for point in points] == [54.0, 207.0, 360.0]
    assert [point[1] for point in points] == [226.0, 120.0, 14.0]
    with pytest.raises(ValueError, match="no extent"):
        Chart(x=(1, 1), y=(0, 1), label_x="", label_y="", title="")

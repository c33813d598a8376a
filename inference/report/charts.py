"""The charts of a report: scores, ROC, coverage of defect regions, misses by kind."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from inference.report.svg import Chart, even_ticks, legend, short
from inference.results import Report
from schemas.verdict import Mode

BINS = 44
STYLES = ("line-a", "line-b", "line-c", "line-d", "line-e", "line-f")


def scores_of(report: Report, mode: Mode) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(scores, defective) of the frames that have the mode."""
    kept = [
        (item["scores"][mode.value], item["label"] != "good")
        for item in report.items
        if item["scores"].get(mode.value) is not None
    ]
    return np.array([score for score, _ in kept], float), np.array([bad for _, bad in kept], bool)


def histogram(report: Report, mode: Mode) -> str:
    """Scores of good parts and of defects, and the limits between them."""
    scores, bad = scores_of(report, mode)
    threshold = report.modes[mode].threshold
    if not bad.any() or bad.all():
        return ""
    # Defects may score a hundred times the threshold: the axis is even up to about the threshold and
    # logarithmic beyond it.
    unit = threshold if threshold is not None and threshold > 0 else max(float(np.abs(scores).max()), 1e-6)
    places = np.arcsinh(2 * scores / unit)
    low, high = float(places.min()), float(places.max())
    high = max(high, np.arcsinh(2.0) if threshold is not None else low + 1e-6) + 0.02 * (high - low + 1e-6)
    edges = np.linspace(low, high, BINS + 1)
    shares = [100 * np.histogram(places[sort], edges)[0] / sort.sum() for sort in (~bad, bad)]
    top = 1.08 * float(max(share.max() for share in shares))
    chart = Chart(
        x=(low, high),
        y=(0, top),
        label_x=f"score in {mode.value} (logarithmic beyond the threshold)",
        label_y="% of its parts",
        title=f"Scores of good parts and defects in {mode.value}",
    )
    back = unit * np.sinh(edges) / 2
    for style, name, share in (("bar-good", "good", shares[0]), ("bar-bad", "defects", shares[1])):
        for index in np.flatnonzero(share):
            tip = f"{share[index]:.1f} % of {name}: {short(back[index])} to {short(back[index + 1])}"
            chart.bar(float(edges[index]), float(edges[index + 1]), float(share[index]), style, tip)
    passes = report.modes[mode].pass_limit
    two = threshold is not None and passes is not None and passes < threshold
    if two and passes is not None:
        chart.upright(
            float(np.arcsinh(2 * passes / unit)), "passes", f"passes to {short(passes)}", right=False
        )
    if threshold is not None:
        words = f"rejected above {short(threshold)}" if two else f"threshold {short(threshold)}"
        chart.upright(
            float(np.arcsinh(2 * threshold / unit)), "threshold", words, right=True if two else None
        )
    key = legend(
        [("bar-good-key", f"good ({int((~bad).sum())})"), ("bar-bad-key", f"defects ({int(bad.sum())})")]
    )
    return chart.render(_ticks(back[0], back[-1], unit), even_ticks(0, top, 4)) + key


def _ticks(low: float, high: float, unit: float) -> list[tuple[float, str]]:
    """Round scores that are far enough apart on the axis of ``histogram``."""
    steps = [sign * k * 10.0**e for sign in (-1, 1) for e in range(-6, 13) for k in (1, 2, 5)]
    # Near 0 the axis is even, so that small steps would crowd: from the largest down, each must have room.
    room = 0.09 * (np.arcsinh(2 * high / unit) - np.arcsinh(2 * low / unit))
    kept: list[tuple[float, float]] = []
    for value in sorted([0.0, *steps], key=lambda one: (one != 0, -abs(one))):
        place = float(np.arcsinh(2 * value / unit))
        if low <= value <= high and all(abs(place - other) > room for other, _ in kept):
            kept.append((place, value))
    return [(place, short(value)) for place, value in sorted(kept)]


def roc(report: Report) -> str:
    """Defects found over good parts rejected, one line a mode, and where the threshold stands."""
    chart = Chart(
        x=(0, 1),
        y=(0, 1),
        label_x="good parts rejected",
        label_y="defects found",
        title="ROC: defects found over good parts rejected",
    )
    chart.line([(0, 0), (1, 1)], "chance")
    entries = []
    for style, (mode, found) in zip(STYLES, report.modes.items(), strict=False):
        scores, bad = scores_of(report, mode)
        if found.i_auroc.value is None:
            continue
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.diff(scores[order]) != 0, True)
        x = np.cumsum(~bad[order])[ends] / (~bad).sum()
        y = np.cumsum(bad[order])[ends] / bad.sum()
        points = [(0.0, 0.0), *zip(x.tolist(), y.tolist(), strict=True)]
        chart.line(points, style)
        entries.append((style, f"{mode.value}, area {found.i_auroc.value:.3f}"))
    return chart.render(_PERCENT, _PERCENT) + legend(entries)


def coverage(report: Report) -> str:
    """Mean coverage of defect regions over false positives, the curve under which AUPRO is the area."""
    chart = Chart(
        x=(1e-4, 0.3),
        y=(0, 1),
        label_x="good pixels that light up (logarithmic)",
        label_y="defect covered, mean",
        title="PRO curve: coverage of defect regions over false-positive pixels",
        log_x=True,
    )
    entries = []
    for style, mode in zip(STYLES, report.modes, strict=False):
        curve = report.curves.get(mode.value)
        area = report.modes[mode].aupro_30.value
        if curve is None or area is None:
            continue
        inside = curve[(curve[:, 0] >= 1e-4) & (curve[:, 0] <= 0.3)]
        chart.line([(float(x), float(y)) for x, y in inside], style)
        entries.append((style, f"{mode.value}, AUPRO@30 {area:.3f}"))
    if not entries:
        return ""
    ticks = [(1e-4, "0.01 %"), (1e-3, "0.1 %"), (1e-2, "1 %"), (0.1, "10 %"), (0.3, "30 %")]
    return chart.render(ticks, _PERCENT) + legend(entries)


def kinds(report: Report, rows: Sequence[str]) -> str:
    """Per kind of defect, one bar a row: AUROC from chance to certain, and the share that is missed."""
    out = ['<table class="kinds"><thead><tr><th>kind of defect</th><th></th>']
    out.append(
        '<th>image AUROC against all good parts</th><th class="n">missed</th><th class="n">95 %</th></tr>'
    )
    out.append("</thead><tbody>")
    for kind in report.kinds:
        table = report.rows_of(kind)
        shown = [name for name in rows if name in table and table[name].i_auroc.value is not None]
        for index, name in enumerate(shown):
            found = table[name]
            area = found.i_auroc.value
            assert area is not None
            style = "weak" if area < 0.8 else "strong"
            width = 100 * max(0.02, (area - 0.5) / 0.5)
            first = (
                f'<th rowspan="{len(shown)}">{escape(kind)}<br><small>{found.defects} parts</small></th>'
                if index == 0
                else ""
            )
            edge = ' class="first"' if index == 0 else ""
            out.append(
                f"<tr{edge}>{first}<td>{escape(name)}</td>"
                f'<td><span class="track"><span class="{style}" style="width:{width:.1f}%"></span></span> '
                f'{area:.3f}</td><td class="n">{percent(found.miss_rate.value)}</td>'
                f'<td class="n">{percents(found.miss_rate.interval)}</td></tr>'
            )
    out.append("</tbody></table>")
    return "".join(out)


def percent(value: float | None) -> str:
    """A share in percent; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def percents(interval: tuple[float, float] | None) -> str:
    """An interval of a share."""
    return "–" if interval is None else f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}"


_PERCENT = [(0.0, "0"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")]

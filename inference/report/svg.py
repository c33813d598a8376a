"""A small chart in SVG: two axes, lines, steps, bars and words. Nothing is loaded, nothing runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 380.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 20.0, 14.0, 44.0

Points = Sequence[tuple[float, float]]


def short(value: float) -> str:
    """A number for an axis: no more digits than it has."""
    return f"{value:.4g}"


class Chart:
    """One plot area. Data outside the axes is cut at them.

    Args:
        x, y: (low, high) of the axes. log_x: whether x is logarithmic; its low end is then above 0.
        label_x, label_y: what the axes show. title: what the whole shows, for readers that see no picture.
    """

    def __init__(
        self,
        *,
        x: tuple[float, float],
        y: tuple[float, float],
        label_x: str,
        label_y: str,
        title: str,
        log_x: bool = False,
        height: float = HEIGHT,
    ) -> None:
        if not x[0] < x[1] or not y[0] < y[1] or (log_x and x[0] <= 0):
            raise ValueError(f"axes {x} and {y} have no extent")
        self._x, self._y, self._log, self._height = x, y, log_x, height
        self._title, self._labels = title, (label_x, label_y)
        self._marks: list[str] = []

    def _at(self, x: float, y: float) -> tuple[float, float]:
        low, high = self._x
        x = min(max(x, low), high)
        across = math.log(x / low) / math.log(high / low) if self._log else (x - low) / (high - low)
        up = (min(max(y, self._y[0]), self._y[1]) - self._y[0]) / (self._y[1] - self._y[0])
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            TOP + (1 - up) * (self._height - TOP - BOTTOM),
        )

    def line(self, points: Points, style: str) -> None:
        """A line through points, drawn in CSS class ``style``."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self._at(*point) for point in points))
        self._marks.append(f'<polyline class="{escape(style)}" points="{path}"/>')

    def bar(self, left: float, right: float, height: float, style: str, tip: str = "") -> None:
        """A bar from the foot of the chart, with what it says when pointed at."""
        x0, y0 = self._at(left, height)
        x1, y1 = self._at(right, self._y[0])
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        self._marks.append(
            f'<rect class="{escape(style)}" x="{x0:.1f}" y="{y0:.1f}" width="{max(0.0, x1 - x0):.1f}" '
            f'height="{max(0.0, y1 - y0):.1f}">{inside}</rect>'
        )

    def upright(self, x: float, style: str, words: str, *, right: bool | None = None) -> None:
        """A line over the whole height, named at its top, on its right, its left, or where there is room."""
        across, top = self._at(x, self._y[1])
        _, foot = self._at(x, self._y[0])
        self._marks.append(
            f'<line class="{escape(style)}" x1="{across:.1f}" x2="{across:.1f}" '
            f'y1="{top:.1f}" y2="{foot:.1f}"/>'
        )
        if right is None:
            right = across < (WIDTH + LEFT) / 2
        self._marks.append(
            f'<text class="note" x="{across + (5 if right else -5):.1f}" y="{top + 11:.1f}" '
            f'text-anchor="{"start" if right else "end"}">{escape(words)}</text>'
        )

    def render(self, ticks_x: Sequence[tuple[float, str]], ticks_y: Sequence[tuple[float, str]]) -> str:
        """The SVG element, with ticks (value, words) on both axes."""
        height = self._height
        foot = height - BOTTOM
        out = [
            f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(self._title)}">',
            f"<title>{escape(self._title)}</title>",
        ]
        for value, words in ticks_y:
            _, y = self._at(self._x[0], value)
            out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            out.append(
                f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(words)}</text>'
            )
        for value, words in ticks_x:
            x, _ = self._at(value, self._y[0])
            out.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{foot}" y2="{foot + 4}"/>')
            out.append(
                f'<text class="tick" x="{x:.1f}" y="{foot + 17}" text-anchor="middle">{escape(words)}</text>'
            )
        out += self._marks
        out.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{foot}" y2="{foot}"/>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        out.append(
            f'<text class="label" x="{middle}" y="{height - 8}" text-anchor="middle">'
            f"{escape(self._labels[0])}</text>"
        )
        half = (TOP + foot) / 2
        out.append(
            f'<text class="label" transform="translate(13 {half}) rotate(-90)" text-anchor="middle">'
            f"{escape(self._labels[1])}</text>"
        )
        out.append("</svg>")
        return "".join(out)


def even_ticks(low: float, high: float, about: int = 5) -> list[tuple[float, str]]:
    """Round values from ``low`` to ``high``, ``about`` so many."""
    raw = (high - low) / max(about, 1)
    unit = 10 ** math.floor(math.log10(raw))
    step = min((unit * k for k in (1, 2, 2.5, 5, 10)), key=lambda one: abs(one - raw))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [(k * step, short(k * step)) for k in range(first, last + 1)]


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Names beside samples of their CSS classes, as (class, name)."""
    rows = "".join(
        f'<span><svg class="key" viewBox="0 0 18 10"><line class="{escape(style)}" '
        f'x1="0" x2="18" y1="5" y2="5"/></svg>{escape(name)}</span>'
        for style, name in entries
    )
    return f'<p class="legend">{rows}</p>'

"""The contact sheet: one row a part: what each sensor saw, where the model looked, what the gate did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from inference.inspection import HeatmapArray
from schemas.verdict import Decision, Mode

Picture = NDArray[np.uint8]
Tone = tuple[int, int, int]

GOOD = "good"

_KINDS = {
    GOOD: "good",
    "colour": "defect that only the camera can see",
    "shape": "defect that only the depth sensor can see",
    "both": "defect that both sensors can see",
}

# Drawn at twice the size and brought down at the end: Pillow's shapes have no smooth edges of their own.
_S = 2
_PANEL, _GAP, _EDGE, _TEXT = 206, 14, 28, 352
_HEAD, _COLUMNS, _FOOT = 66, 30, 64

_PAGE: Tone = (244, 245, 247)
_CARD: Tone = (255, 255, 255)
_INK: Tone = (28, 32, 38)
_SOFT: Tone = (104, 112, 122)
_LINE: Tone = (222, 225, 230)
_TRUTH: Tone = (0, 214, 255)
_NO_READING: Tone = (236, 238, 241)

# Okabe and Ito's palette, told apart with every kind of colour vision; the badge's sign says it again.
TONES: dict[Decision, Tone] = {
    Decision.PASS: (0, 138, 100),
    Decision.REJECT: (200, 66, 20),
    Decision.REVIEW: (190, 128, 0),
}
OTHER_TONE: Tone = (90, 96, 106)


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """One part on the sheet.

    Attributes:
        part: what the part is called. decision: what the gate was told.
        colour: (H, W, 3) uint8 RGB, or None. depth: (h, w) uint16 counts, 0 = no reading, or None.
        heatmap: the fused map over the frame, or None.
        mode, score: what the decision rests on, where the model ran.
        pass_limit, threshold: up to the first a part may pass, above the second it is rejected; without a
            pass limit the threshold is both.
        kind: what is really wrong with the part; "good" where nothing is.
        mask: (H, W) bool outline of the real defect, or None.
        note: one line, such as size and contrast, or why a sensor is missing.
        disparity: whether larger depth counts are nearer.
    """

    part: str
    decision: Decision
    colour: Picture | None = None
    depth: NDArray[np.uint16] | None = None
    heatmap: HeatmapArray | None = None
    mode: Mode | None = None
    score: float | None = None
    threshold: float | None = None
    pass_limit: float | None = None
    kind: str = GOOD
    mask: NDArray[np.bool_] | None = None
    note: str = ""
    disparity: bool = False

    @property
    def outcome(self) -> str:
        """What the decision was worth, in words."""
        passed = self.decision is Decision.PASS
        if self.kind == GOOD:
            if passed:
                return "good part passed"
            return "good part rejected" if self.decision is Decision.REJECT else "good part held back"
        return "DEFECT PASSED" if passed else "defect stopped"


def contact_sheet(rows: Sequence[SheetRow], *, title: str, footer: str) -> Picture:
    """The sheet as (height, width, 3) uint8 RGB; one row a part, in the order given."""
    width = 2 * _EDGE + 3 * (_PANEL + _GAP) + _TEXT + 2 * _GAP
    step = _PANEL + 2 * _GAP + 10
    height = _HEAD + _COLUMNS + step * len(rows) + _FOOT
    page = Image.new("RGB", (width * _S, height * _S), _PAGE)
    pen = _Pen(page)
    pen.text(_EDGE, 20, title, 24, _INK)
    lefts = [_EDGE + _GAP + i * (_PANEL + _GAP) for i in range(4)]
    for left, name in zip(lefts, ("colour", "depth", "heatmap", "verdict"), strict=True):
        pen.text(left, _HEAD + 4, name, 15, _SOFT)
    for number, row in enumerate(rows):
        top = _HEAD + _COLUMNS + number * step
        pen.box(_EDGE, top, width - 2 * _EDGE, step - 10, _CARD, outline=_LINE, radius=10)
        top += _GAP
        pen.picture(lefts[0], top, _colour_panel(row))
        pen.picture(lefts[1], top, _depth_panel(row))
        pen.picture(lefts[2], top, _heat_panel(row))
        _verdict_panel(pen, lefts[3] + 4, top, row)
    _legend(pen, height - _FOOT + 12, width, footer)
    small = page.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, np.uint8)


def write_sheet(path: Path, sheet: Picture) -> Path:
    """Write a sheet as png. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path, optimize=True)
    return path


class _Pen:
    """Draws on a page in the sheet's own pixels."""

    def __init__(self, page: Image.Image) -> None:
        self._page = page
        self._draw = ImageDraw.Draw(page)

    def text(self, x: float, y: float, words: str, size: int, tone: Tone, anchor: str = "la") -> float:
        """Write; returns how wide it came out."""
        font = ImageFont.load_default(size * _S)
        self._draw.text((x * _S, y * _S), words, tone, font, anchor=anchor)
        return float(self._draw.textlength(words, font)) / _S

    def fitted(self, x: float, y: float, words: str, size: int, tone: Tone, room: float) -> None:
        """Write, cut off with an ellipsis where there is no room."""
        font = ImageFont.load_default(size * _S)
        if self._draw.textlength(words, font) > room * _S:
            while words and self._draw.textlength(words + "...", font) > room * _S:
                words = words[:-1]
            words = words.rstrip() + "..."
        self._draw.text((x * _S, y * _S), words, tone, font)

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        fill: Tone | None,
        outline: Tone | None = None,
        radius: float = 0,
        line: float = 1,
    ) -> None:
        corners = (x * _S, y * _S, (x + w) * _S - 1, (y + h) * _S - 1)
        self._draw.rounded_rectangle(corners, radius * _S, fill, outline, round(line * _S))

    def line(self, points: Sequence[tuple[float, float]], tone: Tone, width: float) -> None:
        scaled = [(x * _S, y * _S) for x, y in points]
        self._draw.line(scaled, tone, round(width * _S), joint="curve")

    def dot(self, x: float, y: float, radius: float, tone: Tone) -> None:
        self._draw.ellipse([(c + d * radius) * _S for d in (-1, 1) for c in (x, y)], tone)

    def picture(self, x: float, y: float, picture: Picture) -> None:
        """Paste a panel made by ``_frame``, with rounded corners."""
        corners = Image.new("L", (_PANEL * _S, _PANEL * _S), 0)
        ImageDraw.Draw(corners).rounded_rectangle((0, 0, _PANEL * _S - 1, _PANEL * _S - 1), 6 * _S, 255)
        self._page.paste(Image.fromarray(picture), (round(x * _S), round(y * _S)), corners)


def _frame(picture: Picture, smooth: bool = True) -> Picture:
    """A picture of any size on a square panel, its sides in proportion."""
    side = _PANEL * _S
    scale = side / max(picture.shape[:2])
    width, height = (max(1, round(n * scale)) for n in (picture.shape[1], picture.shape[0]))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    out = np.full((side, side, 3), _PAGE, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = cv2.resize(picture, (width, height), interpolation=kind)
    return out


def _absent(words: str) -> Picture:
    """A hatched panel that says what is not there."""
    side = _PANEL * _S
    y, x = np.mgrid[0:side, 0:side]
    bars = ((x + y) // (7 * _S)) % 2 == 0
    out = np.where(bars[..., None], np.uint8(232), np.uint8(244)).astype(np.uint8)
    panel = np.ascontiguousarray(np.broadcast_to(out, (side, side, 3)))
    image = Image.fromarray(panel)
    pen = _Pen(image)
    width = 9 * len(words) + 28
    pen.box((_PANEL - width) / 2, _PANEL / 2 - 17, width, 34, _CARD, _LINE, radius=17)
    pen.text(_PANEL / 2, _PANEL / 2, words, 16, _SOFT, anchor="mm")
    return np.asarray(image, np.uint8)


def _outline(panel: Picture, mask: NDArray[np.bool_] | None, tone: Tone, width: float, away: int) -> Picture:
    """Draw the outline of a mask, ``away`` pixels outside of it, over a panel made by ``_frame``."""
    if mask is None or not mask.any():
        return panel
    flat = np.where(mask, np.uint8(255), np.uint8(0))
    big = _frame(np.repeat(flat[..., None], 3, 2))[..., 0]
    # The border of the panel is light in every channel, and is no part of the mask.
    scale = _PANEL * _S / max(mask.shape)
    margin = [round((_PANEL * _S - n * scale) / 2) for n in mask.shape]
    inner = np.zeros_like(big)
    rows, columns = slice(margin[0], len(big) - margin[0]), slice(margin[1], len(big) - margin[1])
    inner[rows, columns] = big[rows, columns] > 127
    reach = 2 * away * _S + 1
    grown = cv2.dilate(inner, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    lines, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    out = panel.copy()
    cv2.drawContours(out, lines, -1, (0, 0, 0), round((width + 1) * _S), cv2.LINE_AA)
    cv2.drawContours(out, lines, -1, tone, round(width * _S), cv2.LINE_AA)
    return out


def _colour_panel(row: SheetRow) -> Picture:
    if row.colour is None:
        return _absent("no colour")
    return _outline(_frame(row.colour), row.mask, _TRUTH, 1.0, 6)


def depth_picture(depth: NDArray[np.uint16], disparity: bool) -> Picture:
    """Depth in colour, bright = near, lit from one side so that dents show; no reading = pale grey."""
    known = depth > 0
    if not known.any():
        return np.full((*depth.shape, 3), _NO_READING, np.uint8)
    low, high = np.percentile(depth[known], [1, 99.5])
    near = (depth.astype(np.float32) - low) / max(float(high - low), 1.0)
    near = np.where(known, np.clip(near if disparity else 1 - near, 0, 1), 0).astype(np.float32)
    weight = cv2.GaussianBlur(known.astype(np.float32), (0, 0), 1.2)
    soft = cv2.GaussianBlur(near, (0, 0), 1.2) / np.maximum(weight, 0.05)
    slope = cv2.Scharr(soft, cv2.CV_32F, 1, 0) + cv2.Scharr(soft, cv2.CV_32F, 0, 1)
    light = np.clip(1.0 + 0.16 * np.tanh(slope / 0.8) * 2.2, 0.6, 1.35)
    tinted = cv2.applyColorMap((near * 235 + 10).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
    out: Picture = np.clip(tinted * light[..., None], 0, 255).astype(np.uint8)
    out[~known] = _NO_READING
    return np.asarray(out, np.uint8)


def _depth_panel(row: SheetRow) -> Picture:
    if row.depth is None:
        return _absent("no depth")
    return _outline(_frame(depth_picture(row.depth, row.disparity), smooth=False), row.mask, _TRUTH, 1.0, 6)


def _heat_panel(row: SheetRow) -> Picture:
    if row.heatmap is None or row.threshold is None:
        return _absent("no heatmap")
    if row.colour is not None:
        under = cv2.cvtColor(row.colour, cv2.COLOR_RGB2GRAY)
    elif row.depth is not None:
        under = cv2.cvtColor(depth_picture(row.depth, row.disparity), cv2.COLOR_RGB2GRAY)
    else:
        under = np.full(row.heatmap.values.shape, 128, np.uint8)
    rows, columns = under.shape[:2]
    span = (row.heatmap.high - row.heatmap.low) / 255
    value = row.heatmap.low + span * row.heatmap.values.astype(np.float32)
    value = np.asarray(cv2.resize(value, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
    # 0 at the map's own middle, 1 at the reject limit: the same colour means the same in every row.
    base = float(np.median(value))
    level = (value - base) / max(row.threshold - base, 1e-6)
    tint = cv2.applyColorMap((np.clip(level / 2.0, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    share = 0.85 * np.clip((level - 0.35) / 0.65, 0, 1)[..., None]
    grey = np.repeat((60 + 0.6 * under.astype(np.float32))[..., None], 3, 2)
    out = (grey + (tint[..., ::-1].astype(np.float32) - grey) * share).astype(np.uint8)
    panel = _outline(_frame(out), level > 1, (255, 255, 255), 1.0, 0)
    return _outline(panel, row.mask, _TRUTH, 1.0, 6)


def _badge(pen: _Pen, x: float, y: float, decision: Decision) -> None:
    """The decision on its colour, with a sign of its own: tick, cross, bars or exclamation mark."""
    tone = TONES.get(decision, OTHER_TONE)
    pen.box(x, y, 132, 38, tone, radius=8)
    cx, cy = x + 22, y + 19
    white: Tone = (255, 255, 255)
    if decision is Decision.PASS:
        pen.line([(cx - 8, cy), (cx - 2, cy + 6), (cx + 8, cy - 7)], white, 3)
    elif decision is Decision.REJECT:
        pen.line([(cx - 7, cy - 7), (cx + 7, cy + 7)], white, 3)
        pen.line([(cx - 7, cy + 7), (cx + 7, cy - 7)], white, 3)
    elif decision is Decision.REVIEW:
        pen.text(cx, cy, "?", 25, white, anchor="mm")
    else:
        pen.text(cx, cy, "!", 25, white, anchor="mm")
    pen.text(x + 42, y + 19, decision.value, 20, white, anchor="lm")


def _gate(pen: _Pen, x: float, y: float, is_open: bool) -> None:
    """A barrier seen from the side: raised, or across the way."""
    tone = TONES[Decision.PASS] if is_open else _INK
    pen.box(x, y + 6, 6, 24, tone, radius=1)
    if is_open:
        pen.line([(x + 3, y + 9), (x + 17, y - 10)], tone, 4)
    else:
        pen.line([(x + 3, y + 9), (x + 36, y + 9)], tone, 4)
        pen.box(x + 32, y + 9, 5, 21, tone, radius=1)
    pen.text(x + 48, y + 12, "gate open" if is_open else "gate closed", 16, tone, anchor="lm")


def _verdict_panel(pen: _Pen, x: float, y: float, row: SheetRow) -> None:
    _badge(pen, x, y, row.decision)
    _gate(pen, x + 156, y + 6, row.decision is Decision.PASS)

    bad = row.kind != GOOD
    wrong = (row.decision is Decision.PASS) == bad and (bad or row.decision is Decision.REJECT)
    pen.text(x, y + 52, row.outcome, 19, TONES[Decision.REJECT] if wrong else _INK)
    pen.fitted(x, y + 78, f"truth: {_KINDS.get(row.kind, row.kind + ' defect')}", 15, _SOFT, _TEXT - 8)
    if row.mode is None:
        seen = "no model run"
    elif row.mode is Mode.FUSED:
        seen = "judged on colour + depth (FUSED)"
    else:
        seen = f"judged on {'colour' if row.mode is Mode.RGB else 'depth'} alone ({row.mode.value})"
    pen.text(x, y + 99, seen, 15, _INK if row.mode in (Mode.RGB, Mode.DEPTH) else _SOFT)
    if row.score is not None and row.threshold is not None:
        _score_bar(pen, x, y + 122, row.score, row.pass_limit, row.threshold)
    pen.fitted(x, y + 161, row.note, 14, _SOFT, _TEXT - 8)
    pen.fitted(x, y + 182, row.part, 13, (150, 156, 164), _TEXT - 8)


def placed(score: float, pass_limit: float | None, threshold: float) -> str:
    """Where a score lies among the two limits, in words; one limit where both are the same."""
    low = threshold if pass_limit is None else min(pass_limit, threshold)
    if low == threshold:
        return f"score {score:.2f} {'>' if score > threshold else '<='} limit {threshold:.2f}"
    if score > threshold:
        return f"score {score:.2f}: above reject limit {threshold:.2f}"
    if score > low:
        return f"score {score:.2f}: between pass limit {low:.2f} and reject limit {threshold:.2f}"
    return f"score {score:.2f}: up to pass limit {low:.2f}"


def _score_bar(
    pen: _Pen, x: float, y: float, score: float, pass_limit: float | None, threshold: float
) -> None:
    """The score on a bar with a mark at each limit; the reject limit is its middle, and it never runs off."""
    width = 190
    low = threshold if pass_limit is None else min(pass_limit, threshold)
    scale = max(abs(threshold), 1e-6)

    def place(value: float) -> float:
        return float(np.clip(0.5 + 0.5 * np.tanh((value - threshold) / scale), 0.02, 0.98)) * width

    kind = Decision.REJECT if score > threshold else Decision.REVIEW if score > low else Decision.PASS
    pen.box(x, y + 4, width, 8, _LINE, radius=4)
    pen.box(x, y + 4, place(score), 8, TONES[kind], radius=4)
    for limit in {low, threshold}:
        pen.line([(x + place(limit), y - 1), (x + place(limit), y + 17)], _INK, 2)
    pen.fitted(x, y + 18, placed(score, pass_limit, threshold), 13, _INK, _TEXT - 4)


def _legend(pen: _Pen, y: float, width: float, footer: str) -> None:
    x: float = _EDGE
    for tone, words in (
        (_TRUTH, "outline of the real defect"),
        ((255, 255, 255), "above the reject limit"),
    ):
        pen.box(x, y, 18, 12, (120, 124, 130), tone, radius=3, line=2)
        x += 26 + pen.text(x + 26, y + 6, words, 13, _SOFT, "lm") + 22
    pen.box(x, y, 18, 12, _NO_READING, _LINE, radius=3)
    x += 26 + pen.text(x + 26, y + 6, "no depth reading", 13, _SOFT, "lm") + 22
    ramp = cv2.applyColorMap(np.arange(40, 256, dtype=np.uint8)[None], cv2.COLORMAP_INFERNO)[0, ::8, ::-1]
    for number, tone in enumerate(ramp.tolist()):
        pen.box(x + 3 * number, y, 3, 12, (tone[0], tone[1], tone[2]))
    pen.text(
        x + 3 * len(ramp) + 8, y + 6, "heat: dark = usual, bright = far above the limit", 13, _SOFT, "lm"
    )
    pen.fitted(_EDGE, y + 22, footer, 14, _INK, width - 2 * _EDGE)

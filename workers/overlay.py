"""One inspected part as a picture: what was seen, where the model looked, what was decided, by how much."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from inference.inspection import HeatmapArray, Inspection
from inference.sample import Sample
from schemas.verdict import Decision, Mode, Region, SeenBy
from workers.sheet import OTHER_TONE, TONES, depth_picture, placed

Picture = NDArray[np.uint8]
Tone = tuple[int, int, int]

_LEAST, _MOST = 448, 1024
"""Longest side of each of the two panels: small frames are enlarged, large ones brought down."""
_HEAD, _FOOT, _GAP = 62, 58, 8
_PAGE: Tone = (24, 26, 30)
_INK: Tone = (238, 240, 242)
_SOFT: Tone = (160, 166, 174)

# Okabe and Ito: told apart with every kind of colour vision. The words beside each box say it again.
_SEEN: dict[str | None, Tone] = {
    SeenBy.COLOUR_ONLY: (230, 159, 0),
    SeenBy.SHAPE_ONLY: (86, 180, 233),
    SeenBy.BOTH: (255, 255, 255),
    None: (204, 190, 200),
}
_KNEE = 0.35
"""Share of the way to the reject limit at which heat begins to show."""


def overlay(
    sample: Sample, found: Inspection, *, name: str, decision: Decision, reason: str | None = None
) -> Picture:
    """The picture, (height, width, 3) uint8 RGB.

    On the left what the sensor saw, then depth beside colour where both are there, each with every defect
    region boxed and labelled by the sensors that show it; on the right the first in grey under the heatmap,
    both limits drawn as lines: thin above the pass limit, bold above the reject limit. Above, the decision
    and the score; below, the scale of the heat with both limits marked.

    Args:
        sample: the frame.
        found: the evidence on it; one without a heatmap gives the left side alone.
        name: of the part.
        decision: on the part.
        reason: of the decision.
    """
    small, scale = _seen(sample, found.mode)
    size = (small.shape[1], small.shape[0])
    panels = [small]
    other = _other(sample, found.mode, size)
    if other is not None:
        panels.append(other)
    if found.heatmap is not None and found.threshold is not None:
        panels.append(_heated(small, found.heatmap, found.threshold, found.pass_limit))
    width = max(sum(panel.shape[1] for panel in panels) + _GAP * (len(panels) - 1), 560)
    page = Image.new("RGB", (width, _HEAD + size[1] + _FOOT), _PAGE)
    left = 0
    for panel in panels:
        image = Image.fromarray(panel)
        _boxes(ImageDraw.Draw(image), found.regions, scale, size)
        page.paste(image, (left, _HEAD))
        left += panel.shape[1] + _GAP
    pen = ImageDraw.Draw(page)
    _header(pen, width, found, name, decision, reason)
    _footer(pen, width, _HEAD + size[1], found)
    return np.asarray(page, np.uint8)


def _seen(sample: Sample, mode: Mode | None) -> tuple[Picture, float]:
    """What the sensor saw that regions refer to, at the panel's size, and the scale from the frame to it."""
    use_depth = sample.depth is not None and (sample.rgb is None or mode is Mode.DEPTH)
    image = sample.depth if use_depth else sample.rgb
    if image is None:
        return np.full((_LEAST, _LEAST, 3), _SOFT, np.uint8), 1.0
    rows, columns = image.shape[:2]
    longest = max(rows, columns)
    # Three panels share the width that two have otherwise.
    most = _MOST if sample.rgb is None or sample.depth is None else 2 * _MOST // 3
    scale = min(most / longest, max(1.0, min(_LEAST, most) / longest))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    if use_depth:
        # Nearest, and before it is drawn: a mean of depth and of no reading would be a height nowhere there.
        counts = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint16)
        return depth_picture(counts, disparity=False), scale
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8), scale


def _other(sample: Sample, mode: Mode | None, size: tuple[int, int]) -> Picture | None:
    """Depth beside colour, in its own grey, at the same size; None where there is only one of them."""
    if sample.rgb is None or sample.depth is None or mode is Mode.DEPTH:
        return None
    counts = np.asarray(cv2.resize(sample.depth, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint16)
    return depth_picture(counts, disparity=False)


def _heated(picture: Picture, heatmap: HeatmapArray, threshold: float, pass_limit: float | None) -> Picture:
    """The picture in grey under the map: nothing at its middle, full at the reject limit, white beyond."""
    rows, columns = picture.shape[:2]
    span = (heatmap.high - heatmap.low) / 255.0
    value = heatmap.low + span * heatmap.values.astype(np.float32)
    value = np.asarray(cv2.resize(value, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
    level = value / max(threshold, 1e-6)
    grey = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, 2).astype(np.float32)
    grey = 40.0 + 0.6 * grey
    share = 0.9 * np.clip((level - _KNEE) / (1.0 - _KNEE), 0.0, 1.0)[..., None]
    out = np.asarray(grey + (_heat(level).astype(np.float32) - grey) * share, np.uint8)
    for limit, bold in ((pass_limit, 0), (threshold, 1)):
        if limit is None or (limit == threshold and not bold):
            continue
        above = (value > limit).astype(np.uint8)
        lines, _ = cv2.findContours(above, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if bold:
            cv2.drawContours(out, lines, -1, (0, 0, 0), 4, cv2.LINE_AA)
        cv2.drawContours(out, lines, -1, (255, 255, 255), 1 + bold, cv2.LINE_AA)
    return out


def _heat(level: NDArray[np.float32]) -> Picture:
    """Colour of a level, 1 being the reject limit: the same colour means the same on every picture."""
    byte = np.asarray(np.clip(level / 2.0, 0.0, 1.0) * 255.0, np.uint8)
    return np.asarray(cv2.applyColorMap(byte, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


def _boxes(pen: ImageDraw.ImageDraw, regions: Sequence[Region], scale: float, size: tuple[int, int]) -> None:
    font = ImageFont.load_default(14)
    for region in reversed(regions):  # the strongest comes first and is drawn last
        tone = _SEEN.get(region.seen_by, _SEEN[None])
        x0, y0 = region.x * scale - 3, region.y * scale - 3
        x1, y1 = (region.x + region.width) * scale + 3, (region.y + region.height) * scale + 3
        box = (max(0.0, x0), max(0.0, y0), min(size[0] - 1.0, x1), min(size[1] - 1.0, y1))
        pen.rectangle(box, outline=(0, 0, 0), width=4)
        pen.rectangle(box, outline=tone, width=2)
        words = f"{region.seen_by or 'defect'} {region.score:.1f}"
        room = pen.textlength(words, font) + 8
        left = max(0.0, min(box[0], size[0] - room))
        top = box[1] - 18 if box[1] >= 18 else min(box[3], size[1] - 18.0)
        pen.rectangle((left, top, left + room, top + 17), (0, 0, 0))
        pen.text((left + 4, top + 8), words, tone, font, anchor="lm")


def _header(
    pen: ImageDraw.ImageDraw,
    width: int,
    found: Inspection,
    name: str,
    decision: Decision,
    reason: str | None,
) -> None:
    large, middle, small = (ImageFont.load_default(size) for size in (20, 16, 14))
    badge = pen.textlength(decision.value, large) + 24
    pen.rounded_rectangle((10, 12, 10 + badge, 50), 7, TONES.get(decision, OTHER_TONE))
    pen.text((10 + badge / 2, 31), decision.value, (255, 255, 255), large, anchor="mm")
    left = badge + 24
    _fitted(pen, (left, 21), name, middle, _INK, width - left - 10)
    if found.score is None or found.threshold is None or found.mode is None:
        words = reason or ""
    else:
        words = f"{found.mode.value}  {placed(found.score, found.pass_limit, found.threshold)}"
        words += f"  coverage {100 * found.coverage:.0f} %"
        words += "".join(f"  {code}" for code in found.degraded)
        words += f"  foreground: {found.foreground}" if found.foreground else ""
        words += f"  ({reason})" if reason else ""
    _fitted(pen, (left, 43), words, small, _SOFT, width - left - 10)


def _footer(pen: ImageDraw.ImageDraw, width: int, top: int, found: Inspection) -> None:
    font = ImageFont.load_default(13)
    if found.threshold is None or found.heatmap is None:
        return
    length, y = 200, top + 10
    colours = _heat(np.linspace(0.0, 2.0, length, dtype=np.float32)[None])[0]
    for x, colour in enumerate(colours.tolist()):
        pen.line((12 + x, y, 12 + x, y + 12), (colour[0], colour[1], colour[2]))
    low = found.threshold if found.pass_limit is None else found.pass_limit
    marks = [(12 + length / 2, "reject above", found.threshold, 2)]
    if low != found.threshold and found.threshold > 0:
        share = min(1.0, max(0.0, low / (2 * found.threshold)))
        marks.insert(0, (12 + length * share, "pass up to", low, 1))
    for at, _, _, bold in marks:
        pen.line((at, y - 3, at, y + 15), (255, 255, 255), bold)
    words = ", ".join(f"{what} {limit:.1f}" for _, what, limit, _ in marks)
    pen.text((12, y + 18), words, _SOFT, font, anchor="la")
    left = length + 40.0
    for label in (SeenBy.COLOUR_ONLY, SeenBy.SHAPE_ONLY, SeenBy.BOTH):
        pen.rectangle((left, y, left + 14, y + 12), outline=_SEEN[label], width=2)
        pen.text((left + 20, y + 6), label.value, _SOFT, font, anchor="lm")
        left += pen.textlength(label.value, font) + 36
    words = "box: which sensors show it; line: above the pass limit, bold: above the reject limit"
    pen.text((length + 40, y + 18), words, _SOFT, font)


def _fitted(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    words: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    tone: Tone,
    room: float,
) -> None:
    if pen.textlength(words, font) > room:
        while words and pen.textlength(words + "...", font) > room:
            words = words[:-1]
        words += "..."
    pen.text(place, words, tone, font, anchor="lm")

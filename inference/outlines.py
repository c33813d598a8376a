"""The outline that the parts of good frames share, as one sensor shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.belt_colour import BeltColour
from inference.silhouette import SIDE, Image, Mask, View, bridged, over_belt, pieces, place, shifted

_SIGMAS = 6.0  # spreads of the belt about its plane
_PRESENT = 0.8  # share of the normals that must show a part
_ALIKE = 0.75  # mean overlap (intersection over union) of the normals' outlines, laid over each other
_LEAST, _MOST = 0.01, 0.85  # share of the box: less is lint, more is a surface


@dataclass(frozen=True, slots=True)
class InDepth:
    """How a part is seen in depth: ``sign`` times (count - plane) above ``reach`` counts."""

    sign: float
    reach: float


@dataclass(frozen=True, slots=True)
class Outlines:
    """The normals' outlines and how well one sensor shows them."""

    masks: list[Mask]
    shifts: list[tuple[int, int]]
    shape: Image
    alike: float


def depth_masks(views: Sequence[View], around: Mask) -> tuple[list[Mask], InDepth] | None:
    """What stands out of the belt's plane in each normal; None where depth does not show a part."""
    found = [over_belt(one, around) for one in views]
    planes = [(one, over) for one, over in zip(views, found, strict=True) if over is not None]
    if not views or len(planes) < _PRESENT * len(views):
        return None
    # One count of floor: quantisation, where the belt is flat to the sensor.
    reach = _SIGMAS * max(float(np.median([over[1] for _, over in planes])), 1.0)
    inside = ~around
    beyond = np.concatenate([over[0][inside & one.read] for one, over in planes])
    beyond = beyond[np.abs(beyond) > reach]
    if not beyond.size:
        return None
    sign = 1.0 if float(np.median(beyond)) > 0 else -1.0
    masks = [pieces(bridged(one.read & (sign * over[0] > reach), one.read)) for one, over in planes]
    return masks, InDepth(sign, reach)


def colour_masks(labs: Sequence[Image], around: Mask) -> list[Mask]:
    """What does not have the colour of the surroundings, in each normal."""
    belt = BeltColour.fit(labs, [around] * len(labs))
    return [] if belt is None else [pieces(belt.stands_out(lab, around)) for lab in labs]


def outlines_of(masks: Sequence[Mask]) -> Outlines | None:
    """The outline that the masks share; None where they do not share one, or fill the box."""
    present = [one for one in masks if _LEAST < one.mean() < _MOST]
    if not present or len(present) < _PRESENT * len(masks):
        return None
    known = np.ones((SIDE, SIDE), np.bool_)
    shape = present[0].astype(np.float32)
    shifts: list[tuple[int, int]] = []
    # The first round lays all over one part, the second over their mean, whose place is the middle one.
    for _ in range(2):
        shifts = [place(one, known, shape, SIDE // 2) for one in present]
        middle = np.median(np.array(shifts), axis=0).round().astype(int)
        shifts = [(dx - int(middle[0]), dy - int(middle[1])) for dx, dy in shifts]
        laid = [
            shifted(m.astype(np.float32), (-dx, -dy)) for m, (dx, dy) in zip(present, shifts, strict=True)
        ]
        shape = np.mean(laid, axis=0, dtype=np.float32)
    outline = shape > 0.5
    overlaps = [float((outline & (m > 0)).sum() / max((outline | (m > 0)).sum(), 1)) for m in laid]
    alike = float(np.mean(overlaps))
    if alike < _ALIKE or not outline.any():
        return None
    return Outlines(list(present), shifts, np.asarray(shape, np.float32), alike)


def agrees(belt: BeltColour, labs: Sequence[Image], cells: Mask, masks: Sequence[Mask]) -> bool:
    """Whether the belt's colour shows the same parts as the masks do."""
    overlaps = []
    for lab, mask in zip(labs, masks, strict=True):
        own = pieces(belt.stands_out(lab, cells))
        overlaps.append(float((own & mask).sum() / max((own | mask).sum(), 1)))
    return float(np.mean(overlaps)) >= _ALIKE

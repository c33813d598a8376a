"""Whether colour and depth of the good parts lie over each other: their outlines must be one outline.

Each sensor shows what stands out of the belt around it, by colour and by depth. Where both show parts, and
the depth images' outlines fit the colour images' better once they are mirrored, turned or moved, the two were
stored that way. So they were where parts lie to the left in one whenever they lie to the right in the other.
A surface that fills the frame has no outline, and a part that is its own mirror image and always lies in one
place cannot show that it was mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference.outlines import colour_masks, depth_masks
from inference.roi import Roi
from inference.sample import Sample
from inference.silhouette import SIDE, Image, Mask, View, shifted, view

FRAMES = 24
"""So many are looked at: the two sensors are fixed to each other, so that a few show it."""
_RING = 6  # cells at the frame's edge that are taken for belt
_LEAST, _MOST = 0.01, 0.85  # share of the frame: less is lint, more is a surface
_PRESENT = 0.8  # share of the frames that must show both outlines
_ALIKE = 0.8  # mean overlap (intersection over union) of outlines that are one
_BETTER = 0.04  # what a turned or moved outline must overlap more than as it is
_WANDER = 0.3  # cells, standard deviation: parts that lie more alike say nothing about mirrors by their place
_AGAINST = (
    -0.65
)  # correlation of places in colour and depth: those of a mirrored image run against each other
_FEWEST = 8  # frames, for such a correlation
_MOVED = 2.0  # cells; a shift of less is within what shadows and flying pixels do to an outline
_STEADY = 2.0  # cells; a shift that is the cameras' is the same in every frame

_TURNS = {
    "mirrored left to right": (slice(None), slice(None, None, -1)),
    "mirrored top to bottom": (slice(None, None, -1), slice(None)),
    "turned by half a turn": (slice(None, None, -1), slice(None, None, -1)),
}


def disagreement(samples: Sequence[Sample]) -> str | None:
    """One sentence about how depth lies wrong against colour; None where it does not, or nobody can tell."""
    samples = [one for one in samples if one.rgb is not None and one.depth is not None]
    pairs = _outlines([view(one, Roi()) for one in samples])
    if not pairs:
        return None
    plain = float(np.mean([_overlap(c, d) for c, d in pairs]))
    where = f"the outlines of {len(pairs)} good parts overlap by {plain:.0%}"
    turned = {way: float(np.mean([_overlap(c, d[turn]) for c, d in pairs])) for way, turn in _TURNS.items()}
    shifts = np.array([_shift(c, d) for c, d in pairs])
    dx, dy = (float(value) for value in np.median(shifts, axis=0))
    steady = bool((np.abs(shifts - (dx, dy)).max(axis=1) <= _STEADY).mean() >= _PRESENT)
    back = (-round(dx), -round(dy))
    moved = float(np.mean([_overlap(c, shifted(d.astype(np.float32), back) > 0.5) for c, d in pairs]))
    best = max(turned, key=lambda way: turned[way])
    wandering = _wandering(pairs)
    if wandering is not None:
        return (
            f"depth looks {wandering} against colour: where parts lie in one runs against where they lie in "
            f"the other ({where}); store both the same way round"
        )
    if turned[best] >= max(plain + _BETTER, moved, _ALIKE):
        return (
            f"depth looks {best} against colour: {where}, and by {turned[best]:.0%} once depth is {best}; "
            "store both the same way round"
        )
    if steady and max(abs(dx), abs(dy)) >= _MOVED and moved >= max(plain + _BETTER, _ALIKE):
        first = samples[0].rgb
        assert first is not None
        height, width = first.shape[:2]
        across, down = round(dx * width / SIDE), round(dy * height / SIDE)
        ways = [
            f"{abs(n)} pixels {way}"
            for n, way in (
                (across, "to the right" if across > 0 else "to the left"),
                (down, "down" if down > 0 else "up"),
            )
            if n
        ]
        return (
            f"depth looks shifted against colour by {' and '.join(ways)}: {where}, and by {moved:.0%} once "
            "depth is moved back; register depth to the colour camera"
        )
    return None


def _wandering(pairs: Sequence[tuple[Mask, Mask]]) -> str | None:
    """Which way depth is turned, by the places of parts that do not always lie in the same one; else None."""
    if len(pairs) < _FEWEST:
        return None
    places = np.array([(_middle(c), _middle(d)) for c, d in pairs])  # (frames, sensors, axes)
    against = []
    for axis in (0, 1):
        one, other = places[:, 0, axis], places[:, 1, axis]
        wander = min(float(one.std()), float(other.std())) >= _WANDER
        against.append(wander and float(np.corrcoef(one, other)[0, 1]) <= _AGAINST)
    return {
        (True, False): "mirrored left to right",
        (False, True): "mirrored top to bottom",
        (True, True): "turned by half a turn",
    }.get((against[0], against[1]))


def _middle(mask: Mask) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def _outlines(views: Sequence[View]) -> list[tuple[Mask, Mask]]:
    """(in colour, in depth) of the frames that show both; none where too few do."""
    around = np.ones((SIDE, SIDE), np.bool_)
    around[_RING:-_RING, _RING:-_RING] = False
    by_depth = depth_masks(views, around)
    colours = colour_masks([one.lab for one in views if one.lab is not None], around)
    if by_depth is None or len(by_depth[0]) != len(views) or len(colours) != len(views):
        return []
    pairs = [(c, d) for c, d in zip(colours, by_depth[0], strict=True) if _is_part(c) and _is_part(d)]
    return pairs if len(pairs) >= max(3, _PRESENT * len(views)) else []


def _is_part(mask: Mask) -> bool:
    return _LEAST < float(mask.mean()) < _MOST


def _overlap(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def _shift(colour: Mask, depth: Mask) -> tuple[int, int]:
    """(columns, rows) by which the depth outline lies off the colour outline, where they fit best."""
    spectrum = np.fft.rfft2(_padded(depth)) * np.conj(np.fft.rfft2(_padded(colour)))
    fit = np.fft.irfft2(spectrum, s=(2 * SIDE, 2 * SIDE))
    row, column = np.unravel_index(int(np.argmax(fit)), fit.shape)
    return _signed(int(column)), _signed(int(row))


def _signed(at: int) -> int:
    return at - 2 * SIDE if at > SIDE else at


def _padded(mask: Mask) -> Image:
    return np.pad(mask.astype(np.float32), ((0, SIDE), (0, SIDE)))

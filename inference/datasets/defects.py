"""Defects of the synthetic part, each with its mask: seen by the camera, by the depth sensor, or by both.

``colour`` changes reflectance and leaves the surface alone: stain, discoloration, scratch, lost print.
``shape`` changes the surface and leaves the colour image exactly alone. That is the limit of a shallow
deformation under diffuse light, where the change of shading falls below the camera's noise; it is rendered as
exactly nothing so that a detector cannot be credited for light that a real camera would not have seen.
``both`` breaks the material: crack, gouge, chip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import DatasetError

Floats = NDArray[np.float32]

SHAPE_MM = 1.0
"""Height change of a ``shape`` or ``both`` defect of contrast 1, at its strongest point."""
COLOUR_SHARE = 0.85
"""How far reflectance goes towards the stain's at contrast 1."""


class DefectKind(StrEnum):
    """Which sensor can see it."""

    COLOUR = "colour"
    SHAPE = "shape"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect to plant.

    Attributes:
        kind: which sensors see it: "colour", "shape" or "both".
        size: its diameter (a crack's or scratch's length) in pixels of the picture.
        contrast: its strength; 1 is plain to see: 1 mm of height, 85 % of the way to the stain's colour.
        seed: picks form and place.

    Raises:
        DatasetError: an unknown kind, a size under 2 pixels or a contrast that is not positive.
    """

    kind: str
    size: float = 24.0
    contrast: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in set(DefectKind):
            raise DatasetError(f"defect kind {self.kind!r}: use one of {', '.join(DefectKind)}")
        if not (self.size >= 2 and math.isfinite(self.size)):
            raise DatasetError(f"defect size {self.size}: use at least 2 pixels")
        if not (self.contrast > 0 and math.isfinite(self.contrast)):
            raise DatasetError(f"defect contrast {self.contrast}: use a number above 0")


@dataclass(frozen=True, slots=True)
class Damage:
    """What a defect does to the picture.

    Attributes:
        form: which one of its kind, such as "stain" or "dent".
        mask: (H, W) bool, the pixels it changes visibly.
        albedo: (H, W, 3) reflectance with the defect.
        height: (H, W) millimetres with the defect.
        shaded: the height that the camera's shading is computed from: without the defect for ``shape``.
    """

    form: str
    mask: NDArray[np.bool_]
    albedo: Floats
    height: Floats
    shaded: Floats


_FORMS = {
    DefectKind.COLOUR: ("stain", "discoloration", "scratch", "faded"),
    DefectKind.SHAPE: ("dent", "bump", "flattened", "tilt"),
    DefectKind.BOTH: ("crack", "gouge", "chip"),
}


def _place(
    rng: np.random.Generator, cover: Floats, height: Floats, size: float, near_edge: bool
) -> tuple[int, int]:
    """A point on the part: well inside it and not in a hole, or (for a chip) on its outline."""
    solid = ((cover > 0.99) & (height > 2.0)).astype(np.uint8)
    distance = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    if near_edge:
        outline = (cover > 0.99).astype(np.uint8)
        far = cv2.distanceTransform(outline, cv2.DIST_L2, 3)
        rows, columns = np.nonzero((far > 0.12 * size) & (far < 0.3 * size + 1.5))
    else:
        rows, columns = np.nonzero(distance > min(0.5 * size, 0.6 * float(distance.max())))
    if rows.size == 0:
        rows, columns = np.nonzero(distance >= distance.max())
    pick = int(rng.integers(rows.size))
    return int(columns[pick]), int(rows[pick])


def _blob(rng: np.random.Generator, x: Floats, y: Floats, size: float, raggedness: float) -> Floats:
    """1 in the middle, 0 from radius size / 2 on, with an outline of a few random harmonics."""
    angle = np.arctan2(y, x)
    radius = np.full_like(x, size / 2)
    for k in (2, 3, 5):
        radius *= 1 + raggedness / k * np.sin(k * angle + rng.uniform(0, 6.283)) * rng.uniform(0.4, 1)
    return np.clip(1 - np.hypot(x, y) / np.maximum(radius, 1), 0, 1).astype(np.float32)


def _line(
    rng: np.random.Generator, shape: tuple[int, ...], cx: int, cy: int, size: float, wide: float
) -> Floats:
    """A line that wanders a little, about ``size`` long and ``wide`` pixels across, 0 to 1."""
    angle = rng.uniform(0, math.pi)
    along = np.linspace(-0.5, 0.5, 9) * size
    across = np.cumsum(rng.normal(0, 0.045 * size, 9))
    across -= across.mean()
    points = np.stack(
        [
            cx + along * math.cos(angle) - across * math.sin(angle),
            cy + along * math.sin(angle) + across * math.cos(angle),
        ],
        axis=1,
    )
    image = np.zeros(shape, np.uint8)
    # OpenCV draws with 4 fractional bits, so that a thin line does not snap to whole pixels.
    fixed = np.round(points * 16).astype(np.int32)[:, None]
    cv2.polylines(image, [fixed], False, 255, max(1, round(wide)), cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.5 + 0.15 * wide), np.float32) / np.float32(255)


def damage(defect: Defect, *, albedo: Floats, height: Floats, cover: Floats) -> Damage:
    """Plant ``defect`` on a part given as albedo (H, W, 3), height (H, W) and cover (H, W)."""
    kind = DefectKind(defect.kind)
    rng = np.random.default_rng([defect.seed, list(DefectKind).index(kind)])
    form = _FORMS[kind][int(rng.integers(len(_FORMS[kind])))]
    size, contrast = defect.size, defect.contrast
    cx, cy = _place(rng, cover, height, size, form == "chip")
    y, x = np.mgrid[0 : height.shape[0], 0 : height.shape[1]].astype(np.float32)
    x -= cx
    y -= cy
    on_part = cover > 0.5
    new_albedo, new_height = albedo.copy(), height.copy()

    if kind is DefectKind.COLOUR:
        if form == "scratch":
            share = _line(rng, height.shape, cx, cy, size, max(1.5, 0.07 * size))
            goal = np.array([0.72, 0.71, 0.68], np.float32)
        elif form == "faded":
            # Print or colour that did not take: everything goes to one pale tone.
            share = np.minimum(1, 2.2 * _blob(rng, x, y, size, 0.25))
            goal = albedo[max(0, cy - 2) : cy + 3, max(0, cx - 2) : cx + 3].mean((0, 1)) * 0.5 + 0.30
        elif form == "stain":
            share = np.minimum(1, 2.5 * _blob(rng, x, y, size, 0.5))
            rim = np.clip(1 - np.abs(share - 0.35) / 0.3, 0, 1)  # a dried drop is darkest along its rim
            share = np.clip(0.75 * share + 0.4 * rim * (share > 0), 0, 1)
            goal = np.array([0.050, 0.032, 0.014], np.float32)
        else:
            share = np.minimum(1, 1.8 * _blob(rng, x, y, size, 0.3))
            goal = np.array([0.42, 0.22, 0.055], np.float32)  # rust, or overheated resin
        share = (share * on_part).astype(np.float32)
        new_albedo += np.minimum(1, COLOUR_SHARE * contrast * share)[..., None] * (goal - albedo)
        return Damage(form, share > 0.25, new_albedo, height, height)

    if kind is DefectKind.SHAPE:
        blob = _blob(rng, x, y, size, 0.15)
        if form in ("dent", "bump"):
            smooth = blob * blob * (3 - 2 * blob)
            change = SHAPE_MM * contrast * smooth * (1 if form == "bump" else -1)
            mask = smooth > 0.15
        elif form == "flattened":
            # A structure that was not filled: the surface sinks by the same amount over the whole blob.
            smooth = np.minimum(1, 4 * blob)
            change = -SHAPE_MM * contrast * smooth
            mask = smooth > 0.15
        else:
            angle = rng.uniform(0, 2 * math.pi)
            slope = (x * math.cos(angle) + y * math.sin(angle)) / (size / 2)
            smooth = np.minimum(1, 4 * blob)
            change = SHAPE_MM * contrast * 1.3 * slope * smooth
            mask = np.abs(change) > 0.15 * SHAPE_MM * contrast
        new_height += (change * on_part).astype(np.float32)
        return Damage(form, mask & on_part, albedo, np.maximum(new_height, 0), height)

    if form == "crack":
        share = _line(rng, height.shape, cx, cy, size, max(1.6, 0.05 * size))
        goal, deep = np.array([0.012, 0.012, 0.014], np.float32), 1.8
    elif form == "gouge":
        share = _line(rng, height.shape, cx, cy, size, max(3.0, 0.2 * size))
        goal, deep = np.array([0.50, 0.49, 0.46], np.float32), 1.2
    else:
        share = np.minimum(1, 3 * _blob(rng, x, y, size, 0.6))
        goal, deep = albedo[cy, cx] * 0.5 + 0.16, 1.8
    share = (share * on_part).astype(np.float32)
    new_albedo += np.minimum(1, COLOUR_SHARE * contrast * share)[..., None] * (goal - albedo)
    rough = 1 + 0.25 * rng.standard_normal(height.shape, dtype=np.float32)
    new_height = np.maximum(new_height - SHAPE_MM * deep * contrast * share * rough, 0)
    return Damage(form, share > 0.25, new_albedo, new_height, new_height)

"""The product that the synthetic line makes: a moulded housing cover, as height, colour and material.

Everything is drawn in the part's own frame, in millimetres, by signed distances; ``SyntheticPart`` moves it
into each picture. Heights are millimetres above the belt.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

FIELD_MM = 120.0
"""The shorter side of the camera's field on the belt."""
PART_MM = (96.0, 70.0)
"""Width and height of the part's outline."""


@dataclass(frozen=True, slots=True)
class Layers:
    """The part as images of one size.

    Attributes:
        height: (H, W) millimetres above the belt, 0 beside the part.
        albedo: (H, W, 3) linear reflectance, RGB.
        cover: (H, W) share of the pixel that the part covers, 0 to 1.
        brushed: (H, W) how much of the surface is brushed metal rather than moulded plastic, 0 to 1.
    """

    height: Floats
    albedo: Floats
    cover: Floats
    brushed: Floats


def _box(x: Floats, y: Floats, cx: float, cy: float, w: float, h: float, radius: float) -> Floats:
    """Signed distance to a rounded box of size w x h: negative inside."""
    qx = np.abs(x - cx) - (w / 2 - radius)
    qy = np.abs(y - cy) - (h / 2 - radius)
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    return np.asarray(outside + np.minimum(np.maximum(qx, qy), 0) - radius, np.float32)


def _disk(x: Floats, y: Floats, cx: float, cy: float, radius: float) -> Floats:
    return np.asarray(np.hypot(x - cx, y - cy) - radius, np.float32)


def _ramp(distance: Floats, width: float) -> Floats:
    """1 inside, 0 outside, falling linearly over ``width`` millimetres inwards of the outline: a chamfer."""
    return np.asarray(np.clip(-distance / width, 0.0, 1.0), np.float32)


def _paint(albedo: Floats, share: Floats, colour: tuple[float, float, float]) -> None:
    albedo += share[..., None] * (np.asarray(colour, np.float32) - albedo)


def _print(pixels: int, seed: int) -> Floats:
    """The printed label, (pixels, 2 * pixels), 1 = ink: product mark, serial line and a data-matrix code."""
    rng = np.random.default_rng([seed, 77])
    label = np.zeros((256, 512), np.float32)
    cv2.putText(label, "XC-40", (14, 96), cv2.FONT_HERSHEY_DUPLEX, 3.0, 1.0, 9, cv2.LINE_AA)
    number = int(rng.integers(1000, 9999))
    cv2.putText(label, f"{number}-B", (16, 166), cv2.FONT_HERSHEY_SIMPLEX, 1.7, 1.0, 6, cv2.LINE_AA)
    cv2.rectangle(label, (16, 196), (330, 214), 1.0, -1)
    cells = rng.integers(0, 2, (12, 12)).astype(np.float32)
    cells[:, 0] = cells[-1] = 1.0
    cells[0] = np.arange(12) % 2
    cells[:, -1] = np.arange(12) % 2
    label[58:214, 344:500] = cv2.resize(cells, (156, 156), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(label, (2 * pixels, pixels), interpolation=cv2.INTER_AREA), np.float32)


def draw_part(pixels_per_mm: float, seed: int) -> Layers:
    """The part without any defect, centred, on a canvas a little larger than its outline.

    ``seed`` picks the product: colour of the moulding, number of ribs, place of the hub and the printed code.
    """
    rng = np.random.default_rng([seed, 1])
    width, height = (round((side + 8.0) * pixels_per_mm) for side in PART_MM)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x = (x - (width - 1) / 2) / np.float32(pixels_per_mm)
    y = (y - (height - 1) / 2) / np.float32(pixels_per_mm)
    edge = 0.6 / pixels_per_mm  # outlines are anti-aliased over about a pixel

    def inside(distance: Floats) -> Floats:
        return np.asarray(np.clip(0.5 - distance / (2 * edge), 0.0, 1.0), np.float32)

    w, h = PART_MM
    body = _box(x, y, 0, 0, w, h, 9)
    cover = inside(body)
    # Chamfered plate with a raised rim around a floor.
    z = 4.0 * cover + 2.6 * _ramp(body, 1.8)
    floor = _box(x, y, 0, 0, w - 13, h - 13, 5)
    z -= 2.2 * _ramp(floor, 1.6)

    hue = np.asarray(
        [(0.055, 0.135, 0.235), (0.045, 0.150, 0.110), (0.150, 0.155, 0.165)][int(rng.integers(3))],
        np.float32,
    )
    albedo = np.empty((*x.shape, 3), np.float32)
    albedo[:] = hue
    brushed = np.zeros_like(x)

    # Hub: a brushed metal insert with a bore, proud of the floor.
    hub_x, hub_y = -w / 4 + float(rng.uniform(-2, 2)), float(rng.uniform(-2, 2))
    collar = _disk(x, y, hub_x, hub_y, 17.5)
    z += 1.2 * _ramp(collar, 1.0)
    insert = _disk(x, y, hub_x, hub_y, 13.5)
    z += 2.0 * _ramp(insert, 0.9)
    groove = np.abs(_disk(x, y, hub_x, hub_y, 10.2)) - np.float32(0.7)
    z -= 0.7 * _ramp(groove, 0.5)
    bore = _disk(x, y, hub_x, hub_y, 5.2)
    metal = inside(insert)
    _paint(albedo, metal, (0.46, 0.455, 0.44))
    brushed = np.maximum(brushed, metal)

    # Label plate, raised and flat, right of the hub and above the ribs.
    plate = _box(x, y, 19.5, -12.5, 40, 21.5, 2)
    z += 1.0 * _ramp(plate, 0.8)
    _paint(albedo, inside(plate + 0.8), (0.62, 0.62, 0.58))
    mark = _print(round(18.0 * pixels_per_mm), seed)
    top = round((height - 1) / 2 + (-12.5 - 9.0) * pixels_per_mm)
    left = round((width - 1) / 2 + (19.5 - 18.0) * pixels_per_mm)
    ink = np.zeros_like(x)
    ink[top : top + mark.shape[0], left : left + mark.shape[1]] = mark
    _paint(albedo, 0.94 * ink, (0.025, 0.028, 0.035))

    # Ribs.
    ribs = int(rng.integers(5, 8))
    for at in np.linspace(2.5, 35.5, ribs):
        z += 2.4 * _ramp(_box(x, y, float(at), 15.5, 2.6, 19.0, 1.3), 0.7)

    # Four screw bosses with steel bushings.
    holes = bore
    for sx in (-1, 1):
        for sy in (-1, 1):
            cx, cy = sx * (w / 2 - 8.2), sy * (h / 2 - 8.2)
            boss = _disk(x, y, cx, cy, 6.0)
            # A boss stands on rim and floor alike: its top is one plane.
            share = _ramp(boss, 0.8)
            z += share * (7.4 - z)
            bushing = inside(_disk(x, y, cx, cy, 4.2))
            _paint(albedo, bushing, (0.50, 0.50, 0.49))
            brushed = np.maximum(brushed, bushing)
            holes = np.minimum(holes, _disk(x, y, cx, cy, 2.3))

    depth_of_hole = inside(holes)
    z *= 1 - depth_of_hole
    _paint(albedo, depth_of_hole, (0.018, 0.018, 0.020))
    brushed *= 1 - depth_of_hole
    return Layers(z.astype(np.float32), albedo, cover, brushed.astype(np.float32))

"""The line's light, its colour camera and its depth sensor, as far as their pictures need them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

DEPTH_SCALE = 1e-5
"""Metres per depth count: 10 micrometres."""
CAMERA_MM = 400.0
"""From the depth sensor to the belt."""


@dataclass(frozen=True, slots=True)
class Light:
    """A key light over a diffuse dome.

    Attributes:
        azimuth: where it comes from, radians in the picture (0 = right, pi / 2 = down).
        gain: exposure of all of it.
        tint: (3,) gain of each channel.
    """

    azimuth: float
    gain: float
    tint: Floats


def shade(
    height: Floats, albedo: Floats, brushed: Floats, grain: Floats, light: Light, pixels_per_mm: float
) -> tuple[Floats, Floats]:
    """Linear colour (H, W, 3) and the specular part of it (H, W).

    Diffuse dome light weighted by how open the place is (the height against its surroundings), a directional
    key with Lambert and Blinn-Phong terms, and shadows by marching towards the light over the height map.

    Args:
        height: (H, W) millimetres. albedo: (H, W, 3). brushed: (H, W) share of metal.
        grain: (H, W) brushed or moulded texture, about unit variance.
    """
    tall = height * np.float32(pixels_per_mm)  # in pixels, so that slopes are true
    smooth = cv2.GaussianBlur(tall, (0, 0), 0.6)
    gx = cv2.Scharr(smooth, cv2.CV_32F, 1, 0) / 32
    gy = cv2.Scharr(smooth, cv2.CV_32F, 0, 1) / 32
    gx += grain * (0.02 + 0.05 * brushed)
    inverse = 1 / np.sqrt(gx * gx + gy * gy + 1)
    elevation = 0.80
    lx, ly, lz = (
        math.cos(light.azimuth) * math.cos(elevation),
        math.sin(light.azimuth) * math.cos(elevation),
        math.sin(elevation),
    )
    lambert = np.maximum((lz - gx * lx - gy * ly) * inverse, 0)

    # Half vector between the light and a camera straight above.
    norm = math.sqrt(lx * lx + ly * ly + (lz + 1) ** 2)
    half = np.maximum((lz + 1 - gx * lx - gy * ly) * inverse / norm, 0)
    glossy = half**24
    specular = (0.05 + 0.30 * brushed) * glossy

    reach = float(tall.max())
    shadow = np.zeros_like(tall)
    rows, columns = tall.shape
    steps = 7
    for step in range(1, steps + 1):
        along = reach * math.cos(elevation) / math.sin(elevation) * step / steps
        shift = np.array(
            [[1, 0, -along * lx / math.cos(elevation)], [0, 1, -along * ly / math.cos(elevation)]], np.float32
        )
        higher = cv2.warpAffine(tall, shift, (columns, rows), flags=cv2.INTER_NEAREST)
        np.maximum(shadow, higher - tall - reach * step / steps, out=shadow)
    shadow = np.minimum(shadow / np.float32(0.35 * pixels_per_mm), np.float32(1))
    penumbra = cv2.GaussianBlur(shadow, (0, 0), 0.55 * pixels_per_mm)

    around = 3.5 * pixels_per_mm
    closed = np.maximum(cv2.blur(tall, (2 * round(around) + 1,) * 2) - tall, 0) / around
    openness = 1 / (1 + 1.9 * closed)
    key = 1 - 0.82 * penumbra
    diffuse = 0.36 * openness * openness + 0.74 * lambert * key
    shiny = specular * key
    colour: Floats = np.asarray(albedo * diffuse[..., None], np.float32)
    colour += shiny[..., None]
    colour *= light.gain * light.tint
    return colour, np.asarray(shiny, np.float32)


def photograph(
    colour: Floats, rng: np.random.Generator, pixels_per_mm: float, noise: float
) -> NDArray[np.uint8]:
    """What the camera makes of linear light: lens blur, vignette, shot and read noise, tone curve, 8 bits."""
    rows, columns = colour.shape[:2]
    out = np.asarray(cv2.GaussianBlur(colour, (0, 0), min(max(0.45, 0.22 * pixels_per_mm), 1.0)), np.float32)
    y = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, columns, dtype=np.float32)[None]
    out *= (1 - 0.13 * (x * x + y * y))[..., None]
    spread = np.sqrt(np.maximum(out, 0) * np.float32(4.5e-4) + np.float32(1.2e-5))
    out += noise * spread * rng.standard_normal(out.shape, dtype=np.float32)
    # Shoulder above 0.8 as a camera's knee has it, then the usual 1 / 2.2, as a table over 4096 levels.
    levels = np.linspace(0, 1.6, 4096)
    knee = np.where(levels < 0.8, levels, 0.8 + 0.2 * np.tanh((levels - 0.8) / 0.2))
    table = np.round(255 * np.clip(knee, 0, 1) ** (1 / 2.2)).astype(np.uint8)
    index = np.clip(out * np.float32(4095 / 1.6), 0, 4095).astype(np.uint16)
    return np.asarray(table[index])


def measure(
    height: Floats, shiny: Floats, rng: np.random.Generator, pixels_per_mm: float, drift: Floats, noise: float
) -> NDArray[np.uint16]:
    """Distance counts (H, W) of a triangulating depth sensor; 0 = no reading.

    Holes where a step hides the surface from the projector, at steep edges and in mirror reflections; flying
    pixels along edges, between the two surfaces; white and correlated noise; steps of 20 micrometres.

    Args:
        height: (H, W) millimetres above the belt. shiny: (H, W) specular light.
        drift: (3,) millimetres: offset, and tilt over half the picture in x and in y.
        noise: factor on every noise of the sensor.
    """
    rows, columns = height.shape
    y = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, columns, dtype=np.float32)[None]
    distance = CAMERA_MM - height
    distance = distance + drift[0] + drift[1] * x + drift[2] * y

    low = cv2.erode(height, np.ones((3, 3), np.uint8))
    high = cv2.dilate(height, np.ones((3, 3), np.uint8))
    step = high - low
    chance = rng.random(height.shape, dtype=np.float32)
    edge = step > 1.6
    flying = edge & (chance < 0.16 * min(noise, 2.0))
    distance = np.where(
        flying, CAMERA_MM - (low + (high - low) * rng.random(height.shape, dtype=np.float32)), distance
    )

    # White noise, and the slower noise that a matching window leaves.
    fine = rng.standard_normal(height.shape, dtype=np.float32)
    coarse = rng.standard_normal(((rows + 3) // 4, (columns + 3) // 4), dtype=np.float32)
    ripple = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 0.8), (columns, rows))
    distance = distance + np.float32(noise) * (0.035 * fine + 0.06 * ripple)

    # The projector stands to the left: what lies right of a step is in its shadow.
    blind = np.zeros(height.shape, bool)
    for millimetres in (0.7, 1.4, 2.1):
        shift = max(1, round(millimetres * pixels_per_mm))
        blind[:, shift:] |= height[:, :-shift] - height[:, shift:] > 2.6 * millimetres
    ragged = cv2.blur(chance, (3, 3))
    hole = blind & (ragged > 0.38)
    hole |= edge & (chance > 1 - 0.10 * min(noise, 3.0))
    hole |= (shiny > 0.30) & (ragged > 0.42)
    hole |= cv2.dilate((chance > 1 - 4e-4 * noise).astype(np.uint8), np.ones((2, 2), np.uint8)) > 0
    counts = np.round(distance / 0.02) * (0.02e-3 / DEPTH_SCALE)
    counts = np.clip(counts, 1, 65535).astype(np.uint16)
    counts[hole] = 0
    return np.asarray(counts)

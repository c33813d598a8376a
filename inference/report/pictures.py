"""A kept frame as pictures for the page: the part's images with the truth's outline, and the map over it."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.results import Exhibit

Picture = NDArray[np.uint8]

QUALITY = 80
SIDE = 360
"""Longest side of a picture on the page: small ones are enlarged, so that the outline stays thin."""
_OUTLINE = (0, 229, 255)


def draw(exhibit: Exhibit) -> dict[str, Picture]:
    """(h, w, 3) uint8 RGB each: colour and depth, as far as there, and the part under its map; the truth is
    outlined in all.

    The map is clear up to half of the threshold and full at one and a half: what lights up is what decides.
    """
    images = {
        name: image
        for name, image in (("colour", exhibit.colour), ("depth", exhibit.depth))
        if image is not None
    }
    height, width = exhibit.heat.shape[:2]
    zoom = SIDE / max(height, width)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    shown = {
        name: np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8).copy()
        for name, image in images.items()
    }
    part = next(iter(shown.values()), np.zeros((size[1], size[0], 3), np.uint8))
    level = exhibit.threshold if exhibit.threshold > 0 else max(float(exhibit.heat.max()), 1e-6)
    values = cv2.resize(exhibit.heat, size, interpolation=cv2.INTER_LINEAR)
    strength = np.clip(values / np.float32(level) - np.float32(0.5), 0, 1)
    shade = cv2.applyColorMap((255 * (0.35 + 0.65 * strength)).astype(np.uint8), cv2.COLORMAP_INFERNO)
    weight = (0.8 * strength)[..., None]
    grey = cv2.cvtColor(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    heat = (1 - weight) * (0.8 * grey) + weight * cv2.cvtColor(shade, cv2.COLOR_BGR2RGB)
    shown["heat map"] = np.asarray(heat.clip(0, 255), np.uint8)
    if exhibit.mask is not None and exhibit.mask.any():
        mask = cv2.resize(exhibit.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        # Just outside, so that what is to be seen is not drawn over.
        around = cv2.dilate(mask, np.ones((7, 7), np.uint8))
        edges, _ = cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        for image in shown.values():
            cv2.drawContours(image, edges, -1, (0, 0, 0), 3)
            cv2.drawContours(image, edges, -1, _OUTLINE, 1)
    return shown


def data_uri(picture: Picture) -> str:
    """The picture as a JPEG inside an address, so that the page needs no file."""
    ok, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    assert ok
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")

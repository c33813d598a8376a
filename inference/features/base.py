"""Tiles to evidence: the extractors and the standards that teaching fitted for them."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Self

import numpy as np
import torch

from inference.branches.base import Evidence
from inference.errors import DepthUnusable
from inference.features import colour as colours
from inference.features import geometry, lite
from inference.features.colour import ColourStandard
from inference.features.geometry import GeometryStandard
from inference.features.lite import LiteExtractor
from inference.prepare import Tile

PROFILE = "compact/1"
"""Changes whenever the same tile would give other tokens."""


class Features:
    """Colour and geometry tokens of a tile, standardised by the normals.

    Args:
        colour: None for a product without colour.
        shape: None for a product without depth.
        device: where tokens go.
    """

    def __init__(
        self, colour: ColourStandard | None, shape: GeometryStandard | None, device: torch.device
    ) -> None:
        self.colour = colour
        self.shape = shape
        self._device = device
        self._lite = LiteExtractor(device)

    def evidence(self, tile: Tile, *, group: str = "", timings: dict[str, float] | None = None) -> Evidence:
        """What branches look at of a tile.

        A tile whose depth cannot carry a plane gives evidence without depth: nothing there was seen, and
        nothing may be made up. ``timings`` gains milliseconds under "rgb_features" and "depth_features".
        """
        rgb_tokens = fine = coarse = None
        start = perf_counter()
        if tile.rgb is not None and self.colour is not None:
            rgb_tokens = self.colour.apply(colours.raw_tokens(self._lite, tile.rgb))
        middle = perf_counter()
        depth, valid = tile.depth, tile.valid
        if self.shape is not None and tile.shape_depth is not None and tile.shape_valid is not None:
            try:
                fine, coarse = self.shape.tokens(tile.shape_depth, tile.shape_valid)
                fine, coarse = fine.to(self._device), coarse.to(self._device)
            except DepthUnusable:
                depth = valid = None
        if timings is not None:
            add(timings, "rgb_features", middle - start)
            add(timings, "depth_features", perf_counter() - middle)
        return Evidence(
            tile=tile.index,
            group=group,
            depth=depth,
            valid=valid,
            rgb_tokens=rgb_tokens,
            shape_tokens=coarse,
            fine_tokens=fine,
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state of the standards, for the bundle."""
        out: dict[str, torch.Tensor] = {}
        if self.colour is not None:
            out |= {f"colour.{name}": tensor for name, tensor in self.colour.tensors().items()}
        if self.shape is not None:
            out |= {f"shape.{name}": tensor for name, tensor in self.shape.tensors().items()}
        return out

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Self:
        """Back from :meth:`tensors`. Raises BundleError: a tensor is missing or misshapen."""
        colour = sub(tensors, "colour.")
        shape = sub(tensors, "shape.")
        return cls(
            ColourStandard.restore(colour, device) if colour else None,
            GeometryStandard.restore(shape) if shape else None,
            device,
        )


def profile() -> dict[str, object]:
    """What the tokens depend on beside the standards: kept in the manifest and checked on load."""
    return {
        "name": PROFILE,
        "colour": f"efficientnet-lite0@{lite.INPUT}, strides 8 and 16, and Lab contrast, grid {lite.GRID}",
        "colour_weights_sha256": lite.weights_digest(),
        "geometry": f"{geometry.CHANNELS} channels@{geometry.INPUT}",
        "geometry_grids": [geometry.FINE, geometry.COARSE],
    }


def sub(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names start with ``prefix``, without it."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def add(timings: dict[str, float], stage: str, seconds: float) -> None:
    """Add to a stage's milliseconds."""
    timings[stage] = timings.get(stage, 0.0) + 1e3 * seconds


def finite(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bool:
    """Whether every value is finite; one sum instead of a mask, since NaN and infinity survive addition."""
    return bool(np.isfinite(np.sum(array, dtype=np.float64)))

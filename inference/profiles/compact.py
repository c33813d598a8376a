"""The compact profile: EfficientNet-Lite0 tokens, geometry without learned weights, closed-form branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from inference.branches import with_sensors
from inference.branches.base import Branch, Evidence
from inference.branches.dents import Dents
from inference.branches.gaussian import ShapeGaussian
from inference.branches.mapping import ColourFromShape, ShapeFromColour
from inference.branches.nearest import Nearest
from inference.errors import DepthUnusable, TeachError
from inference.features import colour as colours
from inference.features import geometry, lite
from inference.features.base import add, sub
from inference.features.colour import ColourStandard
from inference.features.geometry import GeometryStandard, Standard
from inference.features.lite import LiteExtractor
from inference.plane import fit_plane
from inference.prepare import Tile
from inference.profiles.base import Frame, Progress, Raw
from schemas.verdict import Mode

Image = NDArray[np.float32]

VERSION = "compact/1"
"""Changes whenever the same tile would give other tokens."""

_EDGE_STEP = 61  # one pixel in 61: prime, so that no row or column pattern of the sensor is favoured


class CompactFeatures:
    """Colour and geometry tokens of a tile, standardised by the normals."""

    def __init__(
        self,
        colour: ColourStandard | None,
        shape: GeometryStandard | None,
        extractor: LiteExtractor,
        device: torch.device,
    ) -> None:
        """A standard is None for a product without that sensor."""
        self._colour = colour
        self._shape = shape
        self._lite = extractor
        self._device = device

    def evidence(
        self, tile: Tile, *, raw: Raw | None = None, group: str = "", timings: dict[str, float] | None = None
    ) -> Evidence:
        """See :class:`inference.profiles.base.Features`; ``raw`` is the tile's raw colour tokens."""
        rgb_tokens = fine = coarse = None
        start = perf_counter()
        if self._colour is not None:
            if raw is None and tile.rgb is not None:
                raw = colours.raw_tokens(self._lite, tile.rgb)
            if raw is not None:
                rgb_tokens = self._colour.apply(raw)
        middle = perf_counter()
        depth, valid = tile.depth, tile.valid
        if self._shape is not None and tile.shape_depth is not None and tile.shape_valid is not None:
            try:
                fine, coarse = self._shape.tokens(tile.shape_depth, tile.shape_valid)
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
        if self._colour is not None:
            out |= {f"colour.{name}": tensor for name, tensor in self._colour.tensors().items()}
        if self._shape is not None:
            out |= {f"shape.{name}": tensor for name, tensor in self._shape.tensors().items()}
        return out


class CompactProfile:
    """See the module's first line; needs no weights but those of an installed package."""

    name = "compact"
    kinds: ClassVar[tuple[type[Branch], ...]] = (
        Nearest,
        ShapeGaussian,
        ColourFromShape,
        ShapeFromColour,
        Dents,
    )

    def __init__(self, device: torch.device) -> None:
        """Loads the colour network."""
        self._device = device
        self._lite = LiteExtractor(device)

    @classmethod
    def on(cls, device: str) -> Self:
        """On a device by its name."""
        return cls(torch.device(device))

    def identity(self) -> dict[str, object]:
        """See :class:`inference.profiles.base.Profile`."""
        return {
            "name": self.name,
            "version": VERSION,
            "colour": f"efficientnet-lite0@{lite.INPUT}, strides 8, 16, Lab contrast, grid {lite.GRID}",
            "colour_weights_sha256": lite.weights_digest(),
            "geometry": f"{geometry.CHANNELS} channels@{geometry.INPUT}",
            "geometry_grids": [geometry.FINE, geometry.COARSE],
        }

    def branches(self, mode: Mode) -> tuple[type[Branch], ...]:
        """See :class:`inference.profiles.base.Profile`."""
        return with_sensors(self.kinds, mode)

    def read(self, tile: Tile) -> Raw:
        """Raw colour tokens (28, 28, C); None without colour."""
        return None if tile.rgb is None else colours.raw_tokens(self._lite, tile.rgb)

    def fit(self, frames: Sequence[Frame], report: Progress) -> CompactFeatures:
        """See :class:`inference.profiles.base.Profile`."""
        colour = shape = None
        raw = [tokens for frame in frames for tokens in frame.raw if tokens is not None]
        if raw:
            colour = ColourStandard.fit(raw)
            report("colour standard", 1, 1)
        if any(tile.shape_depth is not None for frame in frames for tile in frame.tiles):
            shape = _fit_shape(frames, report)
        return CompactFeatures(colour, shape, self._lite, self._device)

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> CompactFeatures:
        """See :class:`inference.profiles.base.Profile`."""
        colour, shape = sub(tensors, "colour."), sub(tensors, "shape.")
        return CompactFeatures(
            ColourStandard.restore(colour, self._device) if colour else None,
            GeometryStandard.restore(shape) if shape else None,
            self._lite,
            self._device,
        )


def _fit_shape(frames: Sequence[Frame], report: Progress) -> GeometryStandard:
    """Unit of height, then histogram edges, then the standards of both grids: each needs the one before."""
    usable: list[tuple[Image, NDArray[np.bool_]]] = []
    spreads: list[float] = []
    for frame in frames:
        for tile in frame.tiles:
            assert tile.shape_depth is not None
            assert tile.shape_valid is not None
            try:
                spreads.append(fit_plane(tile.shape_depth, tile.shape_valid).mad)
            except DepthUnusable:
                continue
            usable.append((tile.shape_depth, tile.shape_valid))
    if not usable:
        raise TeachError("no teaching frame has enough depth readings for a plane: check the depth sensor")
    # A surface without any noise in the counts still has a quantisation of one.
    unit = max(float(np.median(spreads)), 1.0)
    points = []
    for index, (depth, valid) in enumerate(usable):
        _, binned = geometry.quantities(*geometry.heights(depth, valid, unit))
        points.append(np.stack([one.ravel()[::_EDGE_STEP] for one in binned]))
        report("histogram edges", index + 1, len(usable))
    edges = np.quantile(np.concatenate(points, axis=1), geometry.EDGES, axis=1).T.astype(np.float32)
    edges = np.ascontiguousarray(edges)
    fine, coarse = [], []
    for index, (depth, valid) in enumerate(usable):
        one, other = geometry.raw_tokens(*geometry.heights(depth, valid, unit), edges)
        fine.append(one)
        coarse.append(other)
        report("geometry standard", index + 1, len(usable))
    return GeometryStandard(unit, edges, Standard.fit(fine), Standard.fit(coarse))

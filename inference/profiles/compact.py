"""The compact profile: EfficientNet-Lite0 tokens, geometry without learned weights, closed-form branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import ClassVar, cast

import torch

from inference.branches import with_sensors
from inference.branches.base import Branch, Evidence
from inference.branches.dents import Dents
from inference.branches.gaussian import ShapeGaussian
from inference.branches.mapping import ColourFromShape, ShapeFromColour
from inference.branches.nearest import Nearest
from inference.errors import DepthUnusable, InferenceError
from inference.features import colour as colours
from inference.features import lite, relief_tokens
from inference.features.base import add, sub
from inference.features.colour import ColourStandard
from inference.features.lite import LiteExtractor
from inference.features.relief_tokens import ShapeStandard
from inference.features.shared_shape import Reading
from inference.prepare import Tile
from inference.profiles.base import Frame, Progress, Raw
from inference.relief import GRID
from schemas.verdict import Mode

VERSION = "compact/2"
"""Changes whenever the same tile would give other tokens."""


class CompactFeatures:
    """Colour and geometry tokens of a tile, standardised by the normals."""

    def __init__(
        self,
        colour: ColourStandard | None,
        shape: ShapeStandard | None,
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
        heights = None
        if self._shape is not None and depth is not None and valid is not None:
            try:
                heights = self._shape.heights.see(depth, valid, tile=tile.index, group=group)
                fine, coarse = self._shape.tokens(heights)
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
            heights=heights,
            rgb_tokens=rgb_tokens,
            shape_tokens=coarse,
            fine_tokens=fine,
            foreground=tile.foreground,
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
    distances = False
    kinds: ClassVar[tuple[type[Branch], ...]] = (
        Nearest,
        ShapeGaussian,
        ColourFromShape,
        ShapeFromColour,
        Dents,
    )

    def __init__(self, device: torch.device, *, runtime: str = "torch", precision: str = "float32") -> None:
        """Loads the colour network.

        Args:
            device: where it runs.
            runtime: what runs it on a CPU, "torch" or "openvino"; tokens differ by rounding alone.
            precision: "float32" or "bfloat16"; taught and served in the same one.

        Raises:
            InferenceError: the runtime is not installed, or no such runtime or precision is known.
        """
        self._device = device
        self._precision = precision
        self._lite = LiteExtractor(device, runtime=_runtime(runtime), precision=_precision(precision))

    def identity(self) -> dict[str, object]:
        """See :class:`inference.profiles.base.Profile`."""
        return {
            "name": self.name,
            "version": VERSION,
            "precision": self._precision,
            "colour": f"efficientnet-lite0@{lite.INPUT}, strides 8, 16, Lab contrast, grid {lite.GRID}",
            "colour_weights_sha256": lite.weights_digest(),
            "geometry": f"{relief_tokens.CHANNELS} channels of heights@{GRID}",
            "geometry_grids": [relief_tokens.FINE, relief_tokens.COARSE],
        }

    def branches(self, mode: Mode) -> tuple[type[Branch], ...]:
        """See :class:`inference.profiles.base.Profile`."""
        return with_sensors(self.kinds, mode)

    def ready(self, branch: Branch) -> Branch:
        """See :class:`inference.profiles.base.Profile`: it scores as it was fitted."""
        return branch

    def read(self, tile: Tile) -> Raw:
        """Raw colour tokens (28, 28, C); None without colour."""
        return None if tile.rgb is None else colours.raw_tokens(self._lite, tile.rgb)

    def read_batch(self, tiles: Sequence[Tile]) -> list[Raw]:
        """See :class:`inference.profiles.base.Profile`."""
        given = [tile.rgb for tile in tiles if tile.rgb is not None]
        found = iter(colours.raw_tokens_batch(self._lite, given)) if given else iter(())
        return [None if tile.rgb is None else next(found) for tile in tiles]

    def fit(self, frames: Sequence[Frame], report: Progress) -> CompactFeatures:
        """See :class:`inference.profiles.base.Profile`."""
        colour = shape = None
        raw = [tokens for frame in frames for tokens in frame.raw if tokens is not None]
        if raw:
            colour = ColourStandard.fit(raw)
            report("colour standard", 1, 1)
        readings = [
            Reading(tile.depth, tile.valid, tile.index, frame.group)
            for frame in frames
            for tile in frame.tiles
            if tile.depth is not None and tile.valid is not None
        ]
        if readings:
            shape = ShapeStandard.fit(readings, report)
        return CompactFeatures(colour, shape, self._lite, self._device)

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> CompactFeatures:
        """See :class:`inference.profiles.base.Profile`."""
        colour, shape = sub(tensors, "colour."), sub(tensors, "shape.")
        return CompactFeatures(
            ColourStandard.restore(colour, self._device) if colour else None,
            ShapeStandard.restore(shape) if shape else None,
            self._lite,
            self._device,
        )


def _runtime(name: str) -> lite.Runtime:
    if name in ("torch", "openvino"):
        return cast(lite.Runtime, name)
    raise InferenceError(f"colour runtime {name!r}: expected torch or openvino")


def _precision(name: str) -> lite.Precision:
    if name in ("float32", "bfloat16"):
        return cast(lite.Precision, name)
    raise InferenceError(f"precision {name!r}: expected float32 or bfloat16")

"""The reference profile: DINO and Point-MAE tokens, four trained heads, on the features' own grid.

CMDR-IAD (arXiv 2603.03939) evaluates its heads on 224 x 224 copies of 28 x 28 tokens; here they run on
28 x 28 or 56 x 56 cells, and maps are enlarged at the end. The networks are frozen and never part of a
bundle: a bundle names them by digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, Literal, Self

import numpy as np
import torch
from torch.nn import functional

from inference.branches import with_sensors
from inference.branches.base import Branch, Evidence
from inference.branches.heads import HEADS, PUBLISHED_HEADS, Head
from inference.errors import BundleError, DepthUnusable, EncoderError, TeachError, WeightsError
from inference.features import cloud as clouds
from inference.features import spread
from inference.features.base import add
from inference.features.cloud import Cloud
from inference.features.dino import Dino, DinoConfig
from inference.features.point_mae import PointConfig, PointMae
from inference.prepare import Tile
from inference.profiles.base import Frame, Progress
from inference.profiles.runtime import Runtime
from schemas.verdict import Mode

VERSION = "reference/1"
GRIDS = (28, 56)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSettings:
    """What decides the tokens of the reference profile beside the weights.

    Attributes:
        grid: cells along a side that the heads see: 28 or 56.
        precision: of the networks' matrix products: "float32" or "bfloat16".
        frame: of the cloud, "belt" or "camera"; see cloud.py.
        centred: whether the part is moved to the middle of the cloud.
        published_heads: whether the colour decoder learns on the part alone, as published; see heads.py.
        dino, points: sizes of the networks.

    Raises:
        TeachError: a value out of range; the message names it.
    """

    grid: int = 28
    precision: str = "float32"
    frame: Literal["belt", "camera"] = "belt"
    centred: bool = False
    published_heads: bool = False
    dino: DinoConfig = field(default_factory=DinoConfig)
    points: PointConfig = field(default_factory=PointConfig)

    def __post_init__(self) -> None:
        if self.grid not in GRIDS:
            raise TeachError(f"reference setting grid is {self.grid}: expected 28 or 56")
        if self.precision not in PRECISIONS:
            raise TeachError(
                f"reference setting precision is {self.precision!r}: expected float32 or bfloat16"
            )
        if self.frame not in ("belt", "camera"):
            raise TeachError(f"reference setting frame is {self.frame!r}: expected belt or camera")

    def to_map(self) -> dict[str, object]:
        """Plain values for the manifest."""
        values = asdict(self)
        values["points"] = {
            name: list(one) if isinstance(one, tuple) else one for name, one in values["points"].items()
        }
        return values

    @classmethod
    def from_map(cls, values: object) -> Self:
        """Back from :meth:`to_map`. Raises BundleError."""
        try:
            if not isinstance(values, Mapping):
                raise TypeError("not a table")
            points: dict[str, Any] = {
                name: tuple(one) if isinstance(one, list) else one for name, one in values["points"].items()
            }
            rest = {name: one for name, one in values.items() if name not in ("dino", "points")}
            return cls(dino=DinoConfig(**values["dino"]), points=PointConfig(**points), **rest)
        except (KeyError, TypeError, AttributeError, EncoderError, TeachError) as error:
            message = f"the bundle's reference settings are damaged ({error}): teach again"
            raise BundleError(message) from error


@dataclass(frozen=True, slots=True)
class Read:
    """Tokens of one tile, as the networks give them.

    Attributes:
        colour: (28, 28, 768) float32, None without colour.
        shape: (g, g, 1152) float32, None without depth.
        valid: (g, g) bool, cells whose shape tokens rest on readings; None without depth.
    """

    colour: torch.Tensor | None
    shape: torch.Tensor | None
    valid: torch.Tensor | None


class ReferenceProfile:
    """Both networks on one device."""

    name = "reference"
    distances = True

    def __init__(
        self, dino: Dino, points: PointMae, settings: ReferenceSettings, device: torch.device
    ) -> None:
        """With loaded networks; see :meth:`load`."""
        self.settings = settings
        self._dino = dino
        self._points = points
        self._device = device

    @classmethod
    def load(cls, settings: ReferenceSettings, runtime: Runtime, device: torch.device) -> Self:
        """With the weights that ``runtime`` names. Raises WeightsError."""
        dtype = PRECISIONS[settings.precision]
        if runtime.point_mae is None:
            raise WeightsError(
                "no weights of Point-MAE: give the file of its pre-training by --point-mae FILE, or by "
                "point_mae in the settings of a worker"
            )
        dino = Dino.load(runtime.dino, runtime.dino_sha256, settings.dino, device, dtype)
        points = PointMae.load(runtime.point_mae, runtime.point_mae_sha256, settings.points, device, dtype)
        return cls(dino, points, settings, device)

    def identity(self) -> dict[str, object]:
        """See :class:`inference.profiles.base.Profile`. Files are known by digest, not by name."""
        return {
            "name": self.name,
            "version": VERSION,
            "settings": self.settings.to_map(),
            "dino": {key: one for key, one in self._dino.identity().items() if key != "file"},
            "point_mae": {key: one for key, one in self._points.identity().items() if key != "file"},
        }

    def branches(self, mode: Mode) -> tuple[type[Branch], ...]:
        """See :class:`inference.profiles.base.Profile`."""
        return with_sensors(PUBLISHED_HEADS if self.settings.published_heads else HEADS, mode)

    def ready(self, branch: Branch) -> Branch:
        """See :class:`inference.profiles.base.Profile`: heads score in the networks' precision."""
        dtype = PRECISIONS[self.settings.precision]
        if dtype is torch.float32 or not isinstance(branch, Head):
            return branch
        return branch.in_precision(dtype)

    def read(self, tile: Tile) -> Read:
        """What the networks say of a tile; shape is None where its depth makes no cloud."""
        colour = self.read_colour(tile)
        return Read(colour, *self.read_shape(tile))

    def read_colour(self, tile: Tile) -> torch.Tensor | None:
        """(28, 28, 768) on the CPU, None without colour."""
        return None if tile.rgb is None else self._dino.tokens(tile.rgb[None])[0].cpu()

    def read_shape(self, tile: Tile) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """(g, g, 1152) and (g, g) on the CPU, None where there is no cloud."""
        cloud = self._cloud(tile)
        if cloud is None:
            return None, None
        ((shape, cells),) = self._shapes([cloud])
        return shape.cpu(), cells.cpu()

    def _cloud(self, tile: Tile) -> Cloud | None:
        if tile.shape_depth is None or tile.shape_valid is None:
            return None
        try:
            return clouds.build(
                tile.shape_depth,
                tile.shape_valid,
                depth_scale=tile.depth_scale,
                rays=tile.rays,
                belt=tile.belt,
                frame=self.settings.frame,
                centred=self.settings.centred,
            )
        except DepthUnusable:
            return None

    def _shapes(self, built: Sequence[Cloud]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(g, g, 1152) and (g, g) of each cloud, on the device."""
        if not built:
            return []
        xyz = torch.from_numpy(np.stack([one.xyz for one in built])).to(self._device)
        valid = torch.from_numpy(np.stack([one.valid for one in built])).to(self._device)
        found = self._points(xyz, valid)
        shapes, cells = spread.native(found.tokens, found.groups, xyz, valid, self.settings.grid)
        return list(zip(shapes, cells, strict=True))

    def read_batch(self, tiles: Sequence[Tile]) -> list[Read]:
        """See :class:`inference.profiles.base.Profile`."""
        given = [tile.rgb for tile in tiles if tile.rgb is not None]
        colours = iter(self._dino.tokens(np.stack(given)) if given else ())
        built = [self._cloud(tile) for tile in tiles]
        shapes = iter(self._shapes([one for one in built if one is not None]))
        out = []
        for tile, cloud in zip(tiles, built, strict=True):
            colour = None if tile.rgb is None else next(colours)
            shape, valid = (None, None) if cloud is None else next(shapes)
            out.append(Read(colour, shape, valid))
        return out

    def fit(self, frames: Sequence[Frame], report: Progress) -> ReferenceFeatures:
        """Nothing to fit: heads compare directions of raw tokens."""
        return ReferenceFeatures(self, self._device)

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> ReferenceFeatures:
        """See :meth:`fit`."""
        return ReferenceFeatures(self, self._device)


class ReferenceFeatures:
    """See :class:`inference.profiles.base.Features`; it has no state of its own."""

    def __init__(self, profile: ReferenceProfile, device: torch.device) -> None:
        """With the networks of a profile."""
        self._profile = profile
        self._device = device

    def evidence(
        self,
        tile: Tile,
        *,
        raw: Read | None = None,
        group: str = "",
        timings: dict[str, float] | None = None,
    ) -> Evidence:
        """See :class:`inference.profiles.base.Features`; ``raw`` is what the networks said of the tile."""
        start = perf_counter()
        colour = self._profile.read_colour(tile) if raw is None else raw.colour
        middle = perf_counter()
        shape, valid = self._profile.read_shape(tile) if raw is None else (raw.shape, raw.valid)
        if timings is not None:
            add(timings, "rgb_features", middle - start)
            add(timings, "depth_features", perf_counter() - middle)
        if colour is not None and colour.shape[0] != self._profile.settings.grid:
            side = (self._profile.settings.grid,) * 2
            enlarged = functional.interpolate(
                colour.permute(2, 0, 1)[None], size=side, mode="bilinear", align_corners=False
            )
            colour = enlarged[0].permute(1, 2, 0).contiguous()
        seen = shape is not None
        return Evidence(
            tile=tile.index,
            group=group,
            depth=tile.depth if seen else None,
            valid=tile.valid if seen else None,
            rgb_tokens=None if colour is None else colour.to(self._device),
            shape_tokens=None if shape is None else shape.to(self._device),
            foreground=tile.foreground,
            token_valid=None if valid is None else valid.to(self._device),
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Empty."""
        return {}

"""Depth to settled heights: what every shape branch looks at, made once a tile.

Over the tile's own robust plane, in units of the normals' spread, without holes and spikes; and once more
less the shape that parts share, where they share one. Dents and geometry tokens both start from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inference.errors import BundleError, DepthUnusable
from inference.features.shared_shape import Bare, Normals, Read, Reading, highest, spikes
from inference.plane import fill_holes
from inference.register import Pose, Reference
from inference.relief import GRID, relief, settle

Image = NDArray[np.float32]

CLIP = 25.0
"""Units; absurd heights beyond it carry no more evidence."""
_SPIKE = 4.0  # robust deviations of the normals' own spikes
_SPREAD_SIGMA = 1.0  # cells
_LEAST_SPREAD = 0.1  # of a tile's rms: so quiet a place may have been quiet by chance
_LEAST_SPIKE = 0.01  # units; a surface without any noise must not be cut flat


@dataclass(frozen=True, slots=True)
class Heights:
    """The surface of one tile on 128 x 128 cells.

    Attributes:
        plain: (128, 128) float32, height over the plane in units of the normals' spread about theirs.
        bare: (128, 128) float32, the same less the shape that parts share, in units of the spread of what is
            left of normals; ``plain`` itself where they share none.
        even: (128, 128) float32, ``bare`` over the normals' own spread at each place of the shape: edges that
            never lie quite the same no longer stand out; ``plain`` itself where parts share no shape.
        solid: (128, 128) bool, cells that were read and touch no hole; the others are filled from them.
        pose: how the part lies against the shape; None where there is none.
    """

    plain: Image
    bare: Image
    even: Image
    solid: NDArray[np.bool_]
    pose: Pose | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """How heights are brought to units and kept in bounds.

    Attributes:
        unit: counts per unit: the median spread of the normals.
        limit: heights are clipped to +- this, units.
        spike: how far a cell may leave its neighbours' median, units.
    """

    unit: float
    limit: float
    spike: float

    @classmethod
    def of(cls, unit: float, heights: Read) -> Self:
        """From the heights of the normals in units."""
        # Normals that rise far above the plane must not be cut flat: what is cut cannot show a dent.
        limit = float(np.float32(max(CLIP, 1.5 * highest(heights))))
        spike = float(np.float32(max(_SPIKE * spikes(heights, limit), _LEAST_SPIKE)))
        return cls(float(np.float32(unit)), limit, spike)

    def settle(self, counts: Image, read: NDArray[np.bool_]) -> tuple[Image, NDArray[np.bool_]]:
        """Settled heights in units, and the solid cells. Raises DepthUnusable: there are none."""
        return settle(counts * np.float32(1 / self.unit), read, limit=self.limit, spike=self.spike)


class HeightStandard:
    """What the normals say of heights: their units, and the shape that they share, if they do.

    Attributes:
        plain: measure of heights over the plane.
        bare: measure of what is left less the shape; ``plain`` where there is none.
        shape: (tiles, 128, 128) float32, median relief of the normals in counts; None where they share none.
        spread: (tiles, 128, 128) float32 above 0, rms of the bare heights at each place of the shape, units.
    """

    def __init__(
        self, plain: Measure, bare: Measure, shape: Image | None = None, spread: Image | None = None
    ) -> None:
        """From fitted state; see :meth:`fit`. Shape and spread come together or not at all."""
        self.plain, self.bare, self.shape, self.spread = plain, bare, shape, spread
        self._references = [] if shape is None else [Reference(one) for one in shape]
        self._others: Mapping[tuple[int, int], Image] = {}
        self._fold_of: Mapping[str, int] = {}

    @classmethod
    def fit(cls, readings: Sequence[Reading], *, shared: bool | None = None) -> Self:
        """From the tiles of normal frames that can be used.

        Args:
            readings: their depth.
            shared: whether the normals' median relief is subtracted; None finds out (``Normals.lies_still``).

        Raises:
            TeachError: fewer than three tiles have enough depth.
        """
        normals = Normals.of(readings)
        plain = Measure.of(normals.unit, normals.plain())
        left = None if shared is False else normals.bare()
        if left is None or not (shared or normals.lies_still(left)):
            return cls(plain, plain)
        measure = Measure.of(left.unit, left.heights)
        out = cls(plain, measure, left.shape, _spread_by_place(normals.tiles, left, measure))
        out._others, out._fold_of = left.others, normals.fold_of
        return out

    def see(self, depth: Image, valid: NDArray[np.bool_], *, tile: int = 0, group: str = "") -> Heights:
        """The heights of one tile.

        Args:
            depth: (S, S) float32 counts.
            valid: (S, S) bool.
            tile: its place in the layout.
            group: lot of a normal, while teaching. A lot that helped to find the shape is compared with the
                median of the other lots, so that it looks like a new one.

        Raises:
            DepthUnusable: too few readings, or a tile that was not taught.
            NotFinite: a reading marked valid is not a number.
        """
        seen = relief(depth, valid)
        plain, solid = self.plain.settle(seen.height, seen.read)
        if self.shape is None or self.spread is None:
            return Heights(plain, plain, plain, solid)
        if not 0 <= tile < len(self.shape):
            raise DepthUnusable(
                f"tile {tile} was not taught: the bundle holds tiles 0 to {len(self.shape) - 1}"
            )
        pose = self._references[tile].align(fill_holes(seen.height, seen.read))
        shape = self._others.get((tile, self._fold_of.get(group, -1)), self.shape[tile])
        bare, _ = self.bare.settle(pose.less(seen.height, shape), seen.read)
        return Heights(plain, bare, bare / pose.to_frame(self.spread[tile]), solid, pose)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state, for the bundle."""
        measures = [(one.unit, one.limit, one.spike) for one in (self.plain, self.bare)]
        out = {"measures": torch.tensor(measures, dtype=torch.float64)}
        if self.shape is not None:
            out["shape"] = torch.from_numpy(self.shape)
        if self.spread is not None:
            out["spread"] = torch.from_numpy(self.spread)
        return out

    @classmethod
    def restore(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Back from ``tensors()``. Raises BundleError: a tensor is missing, misshapen or not finite."""
        found, shape = tensors.get("measures"), tensors.get("shape")
        whole = (
            found is not None and found.shape == (2, 3) and bool((found > 0).all() and found.isfinite().all())
        )
        if found is None or not whole:
            raise BundleError("the bundle's measures of height are incomplete: teach the product again")
        plain, bare = (Measure(*(float(value) for value in row)) for row in found)
        spread = tensors.get("spread")
        if shape is None and spread is None:
            return cls(plain, bare)
        images = [_image(one) for one in (shape, spread)]
        if images[0].shape != images[1].shape or not (images[1] > 0).all():
            raise BundleError("the bundle's shared shape is damaged: teach the product again")
        return cls(plain, bare, images[0], images[1])


def _image(tensor: torch.Tensor | None) -> Image:
    if tensor is None or tensor.shape[1:] != (GRID, GRID) or not bool(tensor.isfinite().all()):
        raise BundleError("the bundle's shared shape is damaged: teach the product again")
    return np.ascontiguousarray(tensor.float().numpy())


def _spread_by_place(tiles: Sequence[int], left: Bare, measure: Measure) -> Image:
    """(tiles, 128, 128) rms of the normals' bare heights at each place, none under a tenth of its tile's."""
    power = np.zeros(left.shape.shape, np.float32)
    count = np.zeros(len(left.shape), np.float32)
    for (height, read), pose, tile in zip(left.heights, left.poses, tiles, strict=True):
        settled, _ = settle(height, read, limit=measure.limit, spike=measure.spike)
        power[tile] += pose.to_reference(np.square(settled))
        count[tile] += 1
    out = np.empty_like(power)
    for tile, one in enumerate(power):
        mean = cv2.GaussianBlur(one / max(float(count[tile]), 1.0), (0, 0), _SPREAD_SIGMA)
        least = max(_LEAST_SPREAD * float(np.sqrt(mean.mean())), 1e-3)
        out[tile] = np.maximum(np.sqrt(np.maximum(mean, 0)), least)
    return out

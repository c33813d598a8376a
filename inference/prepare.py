"""A frame to tiles on the model's grids, each sensor checked first: absent is never zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import BundleError, NoReading, WrongSize
from inference.features import lite
from inference.features.cloud import Belt, Rays
from inference.foreground import Found
from inference.roi import Roi
from inference.sample import Sample
from inference.station import Station
from inference.tiles import TileLayout
from schemas.verdict import Mode

VERSION = "prepare/1"
"""Changes whenever the same frame would reach the features as other numbers."""

MODEL_SIDE = 256
"""Side of the depth grid of a tile."""

MAP_SIDE = 128
"""Side of a tile's map: no branch has a finer grid, and finer ones are made of it only to be looked at."""

SHAPE_SIDE = 224
"""Side of the depth grid that point networks see."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of one frame on the model's grids.

    Attributes:
        index: place in the layout.
        rgb: (224, 224, 3) uint8, area mean; None where the mode has no colour.
        depth, valid: (256, 256) float32 counts and bool, nearest; None where the mode has no depth.
        shape_depth, shape_valid: the same at (224, 224), for networks of points.
        box: the tile's place in the frame, in relative coordinates.
        depth_scale: metres per count, None where nobody knows it.
        foreground: (128, 128) bool, where the part is; None where all of the tile is.
        rays, belt: where pixels look and where the belt lies, of a calibrated station.
    """

    index: int
    rgb: NDArray[np.uint8] | None = None
    depth: NDArray[np.float32] | None = None
    valid: NDArray[np.bool_] | None = None
    shape_depth: NDArray[np.float32] | None = None
    shape_valid: NDArray[np.bool_] | None = None
    box: Roi = field(default_factory=Roi)
    depth_scale: float | None = None
    foreground: NDArray[np.bool_] | None = None
    rays: Rays | None = None
    belt: Belt | None = None


@dataclass(frozen=True, slots=True)
class Sensors:
    """Which sensors of a frame can be used.

    Attributes:
        mode: FUSED, RGB or DEPTH.
        coverage: share of valid readings in the worst tile of the region: of the depth sensor where it is
            used; where colour stands alone 1.0, or less of a part that lies mostly outside the region.
        degraded: codes of what is not used, as ``depth:absent``.
    """

    mode: Mode
    coverage: float
    degraded: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How the frames of one product become tiles: found by ``teach``, kept in the bundle.

    Attributes:
        rgb_size, depth_size: (height, width) that frames must have; None for a sensor the product lacks.
        layout: region of interest and tiles.
        least_coverage: depth with fewer valid readings than this share of the region counts as absent.
        station: the station's calibration; None where it has none.
    """

    rgb_size: tuple[int, int] | None
    depth_size: tuple[int, int] | None
    layout: TileLayout
    least_coverage: float
    station: Station | None = None
    _rays: list[Rays | None] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.station is not None:
            self._rays.extend(self.station.rays(box, SHAPE_SIDE) for box in self.layout.boxes())

    @property
    def full_mode(self) -> Mode:
        """The mode of a frame with every sensor that the product has."""
        if self.rgb_size is None:
            return Mode.DEPTH
        return Mode.RGB if self.depth_size is None else Mode.FUSED

    def sensors(self, sample: Sample) -> Sensors:
        """Which sensors can be used, and why the others cannot.

        Raises:
            WrongSize: an image is not of the size that the product was taught on.
            NoReading: no sensor gave anything to look at.
        """
        degraded: list[str] = []
        colour = self.rgb_size is not None
        if self.rgb_size is not None:
            why = self._colour_fault(sample, self.rgb_size)
            if why:
                colour = False
                degraded.append(f"rgb:{why}")
        depth, coverage = self.depth_size is not None, 0.0
        if self.depth_size is not None:
            why, coverage = self._depth_fault(sample, self.depth_size)
            if why:
                depth = False
                degraded.append(f"depth:{why}")
        if not colour and not depth:
            raise NoReading(
                f"no sensor gave a reading ({', '.join(degraded)}): check cables and covers of the station"
            )
        if colour and depth:
            return Sensors(Mode.FUSED, coverage, tuple(degraded))
        return Sensors(Mode.RGB if colour else Mode.DEPTH, 1.0 if colour else coverage, tuple(degraded))

    def _colour_fault(self, sample: Sample, expected: tuple[int, int]) -> str:
        if sample.rgb is None:
            return "absent"
        _check_size("colour", sample.rgb_size, expected)
        # One value over the whole frame: a covered lens or a dead sensor, never evidence of good.
        first = sample.rgb[0, 0]
        if (sample.rgb[0] == first).all() and (sample.rgb == first).all():
            return "constant"
        return ""

    def _depth_fault(self, sample: Sample, expected: tuple[int, int]) -> tuple[str, float]:
        if sample.depth is None:
            return "absent", 0.0
        _check_size("depth", sample.depth_size, expected)
        region = sample.depth[self.layout.roi.pixels(*expected)]
        coverage = float(np.count_nonzero(region)) / region.size
        if coverage < self.least_coverage or coverage == 0.0:
            return "invalid", coverage
        highest = region.max()
        # Lowest of the readings: zeros wrap to the top of the range and drop out.
        if highest == (region - np.uint16(1)).min() + 1:
            return "constant", coverage
        return "", self._worst_tile(sample.depth)

    def _worst_tile(self, depth: NDArray[np.uint16]) -> float:
        """Coverage of the tile that depth saw least of: a blind tile is not made good by the others."""
        tiles = (depth[box.pixels(*depth.shape)] for box in self.layout.boxes())
        return min(float(np.count_nonzero(tile)) / tile.size for tile in tiles)

    def tiles(self, sample: Sample, mode: Mode, found: Found | None = None) -> list[Tile]:
        """The tiles of the region, row by row, with the sensors that ``mode`` names.

        ``found`` is the frame's foreground; None where all of it is.
        """
        out = []
        for index, box in enumerate(self.layout.boxes()):
            rgb = depth = valid = shape_depth = shape_valid = None
            if mode is not Mode.DEPTH:
                assert sample.rgb is not None
                rgb = _area(sample.rgb[box.pixels(*sample.rgb.shape[:2])], lite.INPUT)
            if mode is not Mode.RGB:
                assert sample.depth is not None
                crop = sample.depth[box.pixels(*sample.depth.shape)]
                depth, valid = _nearest(crop, MODEL_SIDE)
                shape_depth, shape_valid = _nearest(crop, SHAPE_SIDE)
            out.append(
                Tile(
                    index,
                    rgb,
                    depth,
                    valid,
                    shape_depth,
                    shape_valid,
                    box,
                    sample.depth_scale,
                    None if found is None else found.tile(box, MAP_SIDE),
                    self._rays[index] if self._rays else None,
                    None if self.station is None else self.station.belt,
                )
            )
        return out

    def to_map(self) -> dict[str, object]:
        """Plain values for the manifest."""
        return {
            "version": VERSION,
            "rgb_size": None if self.rgb_size is None else list(self.rgb_size),
            "depth_size": None if self.depth_size is None else list(self.depth_size),
            "roi": self.layout.roi.to_map(),
            "tiles": self.layout.to_map(),
            "least_coverage": self.least_coverage,
        }

    @classmethod
    def from_map(cls, values: Mapping[str, object], station: Station | None = None) -> Preparation:
        """Back from :meth:`to_map`; the station is kept beside it.

        Raises:
            BundleError: another version, or a value missing or out of range.
            RoiError: the region of interest is none.
        """
        if values.get("version") != VERSION:
            raise BundleError(
                f"the bundle was made with {values.get('version')!r}, this version prepares frames with "
                f"{VERSION!r}: teach the product again"
            )
        roi, tiles, least = values.get("roi"), values.get("tiles"), values.get("least_coverage")
        if (
            not isinstance(roi, Mapping)
            or not isinstance(tiles, Mapping)
            or not isinstance(least, int | float)
        ):
            raise BundleError("the bundle's preparation lacks roi, tiles or least_coverage")
        rgb, depth = _size(values.get("rgb_size")), _size(values.get("depth_size"))
        if rgb is None and depth is None:
            raise BundleError("the bundle's preparation names neither a colour nor a depth size")
        return cls(
            rgb_size=rgb,
            depth_size=depth,
            layout=TileLayout.from_map(Roi.from_map(roi), tiles),
            least_coverage=float(least),
            station=station,
        )


def _size(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(v) is int and v > 0 for v in value):
        raise BundleError(f"the bundle's image size {value!r}: expected [height, width]")
    return value[0], value[1]


def _check_size(what: str, found: tuple[int, int] | None, expected: tuple[int, int]) -> None:
    if found is not None and found != expected:
        raise WrongSize(
            f"{what} image is {found[1]} x {found[0]} pixels, the product was taught on {expected[1]} x "
            f"{expected[0]}: set the camera back, or teach the product at this size"
        )


def _area(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (side, side):
        return np.ascontiguousarray(image)
    # Where the crop is smaller than the grid, OpenCV's area mean would be nearest.
    enlarges = image.shape[0] < side or image.shape[1] < side
    how = cv2.INTER_LINEAR if enlarges else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, (side, side), interpolation=how), np.uint8)


def _nearest(depth: NDArray[np.uint16], side: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    # Nearest: a mean over the edge of a hole or of a part would be a height that is nowhere.
    if depth.shape != (side, side):
        depth = np.asarray(cv2.resize(depth, (side, side), interpolation=cv2.INTER_NEAREST_EXACT), np.uint16)
    return depth.astype(np.float32), depth > 0

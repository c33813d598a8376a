"""A station: how its sensors look at the belt, found once by ``crosscheck calibrate``, kept with the bundle.

It holds what a frame alone does not tell: metres in a count, the direction of each pixel, where the belt is
when all is well, and the region of interest. ``drift`` compares a frame's belt with the one of the reference
frames: a sensor that was knocked, or a belt that sags, moves every height that the models see.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.belt import PlaneDrift, Tolerance, belt_shift, cell_pixels
from inference.errors import RoiError, StationError
from inference.features.cloud import Belt, Rays
from inference.plane import Plane
from inference.roi import Roi
from schemas import strict_json
from schemas.regular import open_regular, read_regular

VERSION = "station/1"
"""Changes whenever the same file would mean another station."""


@dataclass(frozen=True, slots=True)
class Pinhole:
    """A camera without distortion: focal lengths and the point that its axis meets, in depth pixels.

    Raises:
        StationError: a number is not finite, or a focal length is not positive.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(map(math.isfinite, values)) or self.fx <= 0 or self.fy <= 0:
            raise StationError(f"intrinsics {values}: expected finite fx > 0, fy > 0, cx and cy in pixels")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Station:
    """One station as it was calibrated.

    Attributes:
        name: of the station.
        depth_size, rgb_size: (height, width) of its images; None for a camera it does not have.
        depth_scale: metres in a depth count; None where the sensor is not metric.
        pinhole: the depth sensor's intrinsics, or None.
        ray_map: (H, W, 3) float32 at ``depth_size``: a point is its depth in metres times these; or None. A
            station with neither is taken as orthographic.
        pitch: metres from pixel to pixel on the belt, for an orthographic sensor; or None.
        plane: the belt in counts over depth pixels, fitted robustly to the median of the reference frames;
            its ``mad`` is the spread of that median about it.
        belt: the belt in metres in the camera's frame; None without directions or metres.
        cells: (n, m) float32, the belt's depth in counts at single pixels in a regular grid, from half a
            step inside the image; 0 where the reference frames show no belt.
        spread: of one frame's readings about its own belt, counts (1.4826 * median |residual|).
        tolerance: of ``drift``; None where too little belt is seen to watch it.
        coverage: median share of depth pixels with a reading in the reference frames.
        roi: region of interest, where the parts were in the reference frames.
        frames: how many reference frames there were.
        reference: sha256 of their depth images.
    """

    name: str
    depth_size: tuple[int, int]
    rgb_size: tuple[int, int] | None
    depth_scale: float | None
    pinhole: Pinhole | None = None
    ray_map: NDArray[np.float32] | None = None
    pitch: float | None = None
    plane: Plane
    belt: Belt | None = None
    cells: NDArray[np.float32]
    spread: float
    tolerance: Tolerance | None
    coverage: float
    roi: Roi
    frames: int
    reference: str

    def __post_init__(self) -> None:
        if self.ray_map is not None and self.ray_map.shape != (*self.depth_size, 3):
            raise StationError(
                f"ray map of {self.ray_map.shape}: expected {(*self.depth_size, 3)} for the depth image"
            )
        spans = zip(cell_pixels(self.depth_size), self.depth_size, strict=True)
        expected = tuple(len(range(*span.indices(size))) for span, size in spans)
        if self.cells.shape != expected:
            raise StationError(f"the belt is given at {self.cells.shape} pixels: expected {expected}")

    def rays(self, box: Roi, side: int) -> Rays | None:
        """The directions of the pixels that a tile has when ``box`` is sampled to ``side`` x ``side``.

        Sampled as depth is: the nearest pixel to each middle. None for an orthographic station.

        Raises:
            RoiError: the depth image has no pixels.
        """
        rows, columns = (_nearest(span, side) for span in box.pixels(*self.depth_size))
        found = self.directions(rows, columns)
        return None if found is None else Rays(found)

    def directions(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32] | None:
        """(n, m, 3) directions of the depth pixels in these n rows and m columns; None where orthographic."""
        if self.ray_map is not None:
            return np.ascontiguousarray(self.ray_map[np.ix_(rows, columns)], np.float32)
        if self.pinhole is None:
            return None
        found = np.ones((rows.size, columns.size, 3), np.float32)
        found[..., 0] = (columns - self.pinhole.cx) / self.pinhole.fx
        found[..., 1] = ((rows - self.pinhole.cy) / self.pinhole.fy)[:, None]
        return found

    def drift(self, depth: NDArray[np.uint16]) -> PlaneDrift | None:
        """How the belt of a frame lies to that of the reference frames; None where it cannot be watched.

        A robust plane (see ``inference.plane``) through the differences to ``cells``: parts that lie where
        mostly belt is seen do not bend it. A few hundred pixels are looked at, so that it costs well under a
        millisecond at any size.

        Raises:
            StationError: the image has another size than the station's.
        """
        if depth.shape != self.depth_size:
            raise StationError(
                f"station {self.name}: depth of {depth.shape[1]} x {depth.shape[0]}, calibrated for "
                f"{self.depth_size[1]} x {self.depth_size[0]}; set the sensor back or calibrate again"
            )
        if self.tolerance is None:
            return None
        offset, tilt, inliers, slopes = belt_shift(depth, self.cells, self.spread)
        allowed = self.tolerance
        within = abs(offset) <= allowed.offset and tilt <= allowed.tilt and inliers >= allowed.inliers
        scale = self.depth_scale
        if scale is None:
            return PlaneDrift(offset, tilt, inliers, within)
        width = self._pixel_width()
        degrees = None
        if width is not None:
            degrees = math.degrees(math.atan(math.hypot(slopes[0], slopes[1]) * scale / width))
        return PlaneDrift(offset, tilt, inliers, within, offset * scale, tilt * scale, degrees)

    def _pixel_width(self) -> float | None:
        """Metres from pixel to pixel on the belt, at the middle of the image."""
        if self.pitch is not None:
            return self.pitch
        if self.depth_scale is None:
            return None
        row, column = self.depth_size[0] // 2, self.depth_size[1] // 2
        away = (self.plane.a * column + self.plane.b * row + self.plane.c) * self.depth_scale
        if self.pinhole is not None:
            return abs(away) / self.pinhole.fx
        if self.ray_map is None or column == 0:
            return None
        line = self.ray_map[row, :, 0]
        return abs(away) * abs(float(line[-1] - line[0])) / (line.size - 1)

    def to_map(self) -> dict[str, object]:
        """Plain values for a manifest or a file; of the ray map its digest alone."""
        belt = None if self.belt is None else {"normal": list(self.belt.normal), "offset": self.belt.offset}
        return {
            "version": VERSION,
            "name": self.name,
            "depth_size": list(self.depth_size),
            "rgb_size": None if self.rgb_size is None else list(self.rgb_size),
            "depth_scale": self.depth_scale,
            "pinhole": None if self.pinhole is None else _plain(self.pinhole),
            "ray_map": None if self.ray_map is None else _digest(self.ray_map),
            "pitch": self.pitch,
            "plane": _plain(self.plane),
            "belt": belt,
            "cells": [[round(float(v), 3) for v in row] for row in self.cells],
            "spread": self.spread,
            "tolerance": None if self.tolerance is None else _plain(self.tolerance),
            "coverage": self.coverage,
            "roi": self.roi.to_map(),
            "frames": self.frames,
            "reference": self.reference,
        }

    @classmethod
    def from_map(cls, values: Mapping[str, object], ray_map: NDArray[np.float32] | None = None) -> Station:
        """Back from :meth:`to_map`, with the ray map where it says that there is one.

        Raises:
            StationError: another version, a value missing or out of range, or another ray map.
        """
        if values.get("version") != VERSION:
            raise StationError(
                f"the station was calibrated with {values.get('version')!r}, this version reads {VERSION!r}: "
                "calibrate it again"
            )
        try:
            return cls._parse(values, ray_map)
        except (KeyError, TypeError, ValueError, RoiError) as error:
            raise StationError(f"the station's data is damaged ({error}): calibrate it again") from None

    @classmethod
    def _parse(cls, values: Mapping[str, object], ray_map: NDArray[np.float32] | None) -> Station:
        expected = values["ray_map"]
        if expected is not None and (ray_map is None or _digest(ray_map) != expected):
            raise StationError("the station's ray map is missing or another one: calibrate the station again")
        belt, roi = values["belt"], values["roi"]
        if not isinstance(roi, Mapping):
            raise TypeError("roi is no map")
        return cls(
            name=str(values["name"]),
            depth_size=_size(values["depth_size"]),
            rgb_size=None if values["rgb_size"] is None else _size(values["rgb_size"]),
            depth_scale=_optional(values["depth_scale"]),
            pinhole=None if values["pinhole"] is None else Pinhole(*_numbers(Pinhole, values["pinhole"])),
            ray_map=None if expected is None else ray_map,
            pitch=_optional(values["pitch"]),
            plane=Plane(*_numbers(Plane, values["plane"])),
            belt=None if belt is None else _belt(belt),
            cells=np.array(values["cells"], np.float32),
            spread=_number(values["spread"]),
            tolerance=(
                None if values["tolerance"] is None else Tolerance(*_numbers(Tolerance, values["tolerance"]))
            ),
            coverage=_number(values["coverage"]),
            roi=Roi.from_map(roi),
            frames=int(_number(values["frames"])),
            reference=str(values["reference"]),
        )

    def save(self, path: Path) -> None:
        """Write the file, and a ray map beside it as NAME.rays.npy. Raises StationError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.ray_map is not None:
                np.save(_rays_file(path), self.ray_map, allow_pickle=False)
            path.write_text(json.dumps(self.to_map()) + "\n", encoding="utf-8")
        except OSError as error:
            raise StationError(f"{path}: cannot be written ({error.strerror}); name another file") from None

    @classmethod
    def load(cls, path: Path) -> Station:
        """The station of a file that ``save`` wrote. Raises StationError."""
        try:
            values = strict_json.loads(read_regular(path))
        except OSError as error:
            raise StationError(
                f"{path}: cannot be read ({error.strerror}); run crosscheck calibrate"
            ) from None
        except ValueError:
            raise StationError(f"{path}: not the JSON of a station; run crosscheck calibrate") from None
        if not isinstance(values, dict):
            raise StationError(f"{path}: not the JSON of a station; run crosscheck calibrate")
        ray_map = None
        if values.get("ray_map") is not None:
            try:
                with open_regular(_rays_file(path)) as file:
                    ray_map = np.load(file, allow_pickle=False)
            except (OSError, ValueError, EOFError):
                raise StationError(f"{_rays_file(path)}: missing or damaged; it belongs to {path}") from None
        try:
            return cls.from_map(values, ray_map)
        except StationError as error:
            raise StationError(f"{path}: {error}") from None


def _nearest(span: slice, side: int) -> NDArray[np.intp]:
    # By the function that samples the depth of a tile: it rounds a middle between two pixels its own way.
    line = np.arange(span.start, span.stop, dtype=np.float32)[None]
    if line.size != side:
        line = np.asarray(cv2.resize(line, (side, 1), interpolation=cv2.INTER_NEAREST_EXACT), np.float32)
    return np.asarray(line[0], np.intp)


def _rays_file(path: Path) -> Path:
    return path.with_suffix(".rays.npy")


def _digest(array: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, np.float32).tobytes()).hexdigest()


def _plain(value: Pinhole | Plane | Tolerance) -> dict[str, float]:
    return {field.name: float(getattr(value, field.name)) for field in fields(value)}


def _numbers(kind: type[Pinhole] | type[Plane] | type[Tolerance], values: object) -> list[float]:
    if not isinstance(values, Mapping):
        raise TypeError(f"{kind.__name__.lower()} is no map")
    return [_number(values[field.name]) for field in fields(kind)]


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _optional(value: object) -> float | None:
    return None if value is None else _number(value)


def _size(value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(type(v) is int and v > 0 for v in value):
        raise ValueError(f"image size {value!r}: expected [height, width]")
    return value[0], value[1]


def _belt(value: object) -> Belt:
    if not isinstance(value, Mapping) or not isinstance(value["normal"], list) or len(value["normal"]) != 3:
        raise TypeError("belt is no map of a normal with three numbers and an offset")
    x, y, z = (_number(v) for v in value["normal"])
    return Belt((x, y, z), _number(value["offset"]))

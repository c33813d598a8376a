"""Depth to an organised point cloud, in a frame that stays where it is when the camera does not.

The point encoder sees absolute coordinates in its position embedding, so the frame of the cloud decides what
is a change. ``camera`` keeps the camera's own (x right, y down, z away), as the method was published: a belt
that sags by a millimetre moves every token. ``belt`` takes the belt as z = 0 (x right, y up in the image, z
the height over the belt), so that neither tilt nor distance of the camera matters. ``centred`` also moves the
part to the middle, for parts that lie anywhere on the belt; where a part's place is itself inspected, leave
it off. Whatever is chosen, teaching and inspection must choose the same.

A pixel is valid where the sensor read it, never by what its coordinates are: a point with x = 0 is a point.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference.errors import DepthUnusable
from inference.plane import TUKEY, fit_plane, residual

CLEARANCE_M = 0.005
"""Height over the belt, in metres, from which a point belongs to a part."""


@dataclass(frozen=True, slots=True)
class Rays:
    """Where the pixels of a depth image look: a point is its depth times its ray.

    Attributes:
        map: (S, S, 3) float32. For depth along the optical axis the third component is 1; a sensor that
            measures distance has rays of unit length.

    Raises:
        DepthUnusable: not (S, S, 3), or not finite.
    """

    map: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = self.map.shape
        if len(shape) != 3 or shape[2] != 3 or shape[0] != shape[1]:
            raise DepthUnusable(f"a ray map is (S, S, 3), not {shape}: build it for the square of the tile")
        if not np.isfinite(self.map).all():
            raise DepthUnusable("a ray map with values that are not finite: calibrate the station again")


@dataclass(frozen=True, slots=True)
class Belt:
    """The plane of the belt in the camera's frame: normal . point = offset, in metres.

    ``normal`` has unit length and points to the camera, so that ``offset`` is negative and normal . point -
    offset is the height over the belt.
    """

    normal: tuple[float, float, float]
    offset: float


@dataclass(frozen=True, slots=True)
class Cloud:
    """xyz (S, S, 3) float32, 0 where invalid, and valid (S, S) bool with at least one point."""

    xyz: NDArray[np.float32]
    valid: NDArray[np.bool_]


def build(
    depth: NDArray[np.float32],
    valid: NDArray[np.bool_],
    *,
    depth_scale: float | None,
    rays: Rays | None = None,
    pitch: float | None = None,
    frame: Literal["belt", "camera"] = "belt",
    belt: Belt | None = None,
    above: float | None = None,
    centred: bool = False,
) -> Cloud:
    """The cloud of one tile.

    Args:
        depth: (S, S) counts, larger is farther.
        valid: (S, S), where the sensor read something. Counts that are not finite or not above 0 are not
            valid whatever it says.
        depth_scale: metres a count; negative where counts grow towards the camera (without rays only). None
            where nobody knows: then a count is taken to be as high as a pixel is wide.
        rays: None gives an orthographic cloud, with the middle of the image at x = y = 0.
        pitch: metres a pixel, without rays; None makes the image one unit wide.
        frame: see the top of the file.
        belt: a plane known from calibration, with rays; None fits one to this frame, robustly.
        above: keep only points higher than this over the belt, in metres; :data:`CLEARANCE_M` is usual.
        centred: move the centroid of the points above the belt to x = y = 0, and in the camera's frame
            to z = 0; heights over the belt stay.

    Raises:
        DepthUnusable: no valid point, too few of them for a plane, shapes that differ, nothing above the
            belt, or settings that need metres without ``depth_scale``.
    """
    if depth.ndim != 2 or depth.shape[0] != depth.shape[1] or valid.shape != depth.shape:
        raise DepthUnusable(f"depth {depth.shape} and validity {valid.shape}: both must be the same (S, S)")
    if rays is not None and rays.map.shape[:2] != depth.shape:
        raise DepthUnusable(f"a ray map of {rays.map.shape[:2]} pixels for a depth image of {depth.shape}")
    _check_scale(depth_scale, metres=rays is not None or above is not None, signed=rays is None)
    with np.errstate(invalid="ignore"):
        seen = valid & np.isfinite(depth) & (depth > 0)
    if not seen.any():
        raise DepthUnusable("the cloud is empty: depth has no valid reading")
    counts = np.where(seen, depth, np.float32(0)).astype(np.float32, copy=False)
    if rays is None:
        xyz = _orthographic(counts, seen, depth_scale, pitch, frame)
    else:
        assert depth_scale is not None
        xyz = (counts * np.float32(depth_scale))[..., None] * rays.map
        if frame == "belt":
            xyz = _over(xyz, belt or fit_belt(counts, seen, depth_scale, rays))
    part = seen
    if above is not None:
        if frame != "belt":
            raise DepthUnusable("points above the belt are known in the belt's frame only: set frame to belt")
        part = seen = seen & (xyz[..., 2] > above)
        if not seen.any():
            raise DepthUnusable(
                f"the cloud is empty: nothing lies more than {above * 1e3:g} mm above the belt"
            )
    elif frame == "belt" and depth_scale is not None:
        part = seen & (xyz[..., 2] > CLEARANCE_M)
    if centred and part.any():
        middle = xyz[part].mean(axis=0, dtype=np.float64).astype(np.float32)
        if frame == "belt":
            middle[2] = 0
        xyz = xyz - middle
    return Cloud(np.where(seen[..., None], xyz, np.float32(0)).astype(np.float32, copy=False), seen)


def fit_belt(depth: NDArray[np.float32], valid: NDArray[np.bool_], depth_scale: float, rays: Rays) -> Belt:
    """The belt in one frame: the plane that most of it lies on.

    Seen by a pinhole camera the inverse depth of a plane is linear in the pixel, however the plane is
    tilted: so the robust plane is fitted to inverse depth, and the points near it give the belt, by least
    squares along its normal.

    Args:
        depth: (S, S) counts; valid: (S, S); depth_scale: metres a count.

    Raises:
        DepthUnusable: too few points, or points on one line.
    """
    inverse = np.zeros(depth.shape, np.float32)
    np.divide(np.float32(1 / depth_scale), depth, out=inverse, where=valid)
    plane = fit_plane(inverse, valid)
    reach = max(TUKEY * plane.mad, 1e-5 * abs(plane.c))
    near = valid & (np.abs(residual(inverse, plane)) <= reach)
    points = (depth[near] * np.float64(depth_scale))[:, None] * rays.map[near]
    middle = points.mean(axis=0)
    moved = points - middle
    lengths, axes = np.linalg.eigh(moved.T @ moved)
    if not lengths[1] > 1e-9 * lengths[2]:
        raise DepthUnusable("the valid depth readings lie on one line: no belt goes through them")
    normal = axes[:, 0] if axes[:, 0] @ middle < 0 else -axes[:, 0]
    return Belt((float(normal[0]), float(normal[1]), float(normal[2])), float(normal @ middle))


def _check_scale(scale: float | None, *, metres: bool, signed: bool) -> None:
    if scale is None:
        if metres:
            raise DepthUnusable("a ray map and heights in metres need depth_scale: give metres per count")
    elif not np.isfinite(scale) or scale == 0 or (scale < 0 and not signed):
        raise DepthUnusable(f"depth_scale {scale!r} is no number of metres per count")


@lru_cache(maxsize=4)
def _steps(side: int) -> NDArray[np.float32]:
    return (np.arange(side) - (side - 1) / 2).astype(np.float32)


def _orthographic(
    counts: NDArray[np.float32],
    valid: NDArray[np.bool_],
    depth_scale: float | None,
    pitch: float | None,
    frame: Literal["belt", "camera"],
) -> NDArray[np.float32]:
    side = counts.shape[0]
    width = 1.0 / side if pitch is None else pitch
    if not (np.isfinite(width) and width > 0):
        raise DepthUnusable(f"a pixel pitch of {pitch!r} is no number of metres")
    scale = width if depth_scale is None else depth_scale
    steps = _steps(side) * np.float32(width)
    xyz = np.empty((side, side, 3), np.float32)
    xyz[..., 0] = steps
    if frame == "belt":
        xyz[..., 1] = -steps[:, None]
        np.multiply(residual(counts, fit_plane(counts, valid)), np.float32(-scale), out=xyz[..., 2])
    else:
        xyz[..., 1] = steps[:, None]
        np.multiply(counts, np.float32(scale), out=xyz[..., 2])
    return xyz


def _over(xyz: NDArray[np.float32], belt: Belt) -> NDArray[np.float32]:
    """Points in the belt's frame: origin below the camera, x the camera's along the belt, z the height."""
    normal = np.asarray(belt.normal, np.float64)
    along = np.array((1.0, 0.0, 0.0)) - normal[0] * normal
    if along @ along < 1e-6:
        raise DepthUnusable("the belt is seen edge on: its normal is the camera's x axis")
    along /= np.sqrt(along @ along)
    axes = np.stack((along, np.cross(normal, along), normal))
    # In float64: heights are small differences of distances.
    turned = xyz.reshape(-1, 3).astype(np.float64) @ axes.T
    turned[:, 2] -= belt.offset
    return np.asarray(turned.reshape(xyz.shape), np.float32)

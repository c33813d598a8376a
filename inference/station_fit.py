"""Calibration of a station from reference frames: an empty belt, or good parts with most of it in sight.

Frames are pooled pixel by pixel with the median, so that what lies on the belt in fewer than half of them is
gone before one robust plane is fitted; the plane's own robustness (see ``inference.plane``) bears parts that
lie in the same place in every frame, up to two fifths of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inference.belt import LEAST_CELLS, Tolerance, belt_shift, cell_pixels
from inference.errors import DepthUnusable, StationError
from inference.features.cloud import Belt, Rays, fit_belt
from inference.plane import SIGMA_PER_MAD, TUKEY, Plane, fit_plane, residual
from inference.roi import Roi, find_roi
from inference.sample import Sample
from inference.station import Pinhole, Station

POOLED = 256
"""The plane is fitted to no more than so many rows and columns of single pixels."""
FEW_FRAMES = 5
"""With fewer reference frames the tolerance knows little of how far the belt moves."""

_STEADY = 0.8  # share of the frames in which a watched pixel must show the belt
_STRAY = 8.0  # robust deviations from the others that make a reference frame a stray one
_MOVES = 0.02  # share of the belt's distance by which it must move to be no fixed belt


@dataclass(frozen=True, slots=True)
class Calibration:
    """A station and what a person should look at before trusting it.

    Attributes:
        station: as calibrated.
        height: (n, m) float32 counts, pooled depth minus the plane at every n-th pixel; NaN = never read.
        shifts: (frame's name, offset, tilt, inliers) of each reference frame, see ``PlaneDrift``.
        unusual: sentences; none where nothing is.
    """

    station: Station
    height: NDArray[np.float32]
    shifts: tuple[tuple[str, float, float, float], ...]
    unusual: tuple[str, ...]


def calibrate(
    frames: Sequence[tuple[str, Sample]],
    *,
    name: str,
    pinhole: Pinhole | None = None,
    ray_map: NDArray[np.float32] | None = None,
    pitch: float | None = None,
    depth_scale: float | None = None,
) -> Calibration:
    """A station from reference frames, each with its name.

    Args:
        frames: of one size, with depth; colour helps to find the region of interest.
        name: of the station.
        pinhole, ray_map, pitch: how the depth sensor looks; none of them for an orthographic sensor of
            unknown pitch.
        depth_scale: metres in a count; that of the frames where not given.

    Raises:
        StationError: no frames, one without depth or of another size, depth that is zero throughout, no
            plane in them, or camera data that contradict each other.
    """
    depths, scale = _checked(frames, depth_scale)
    if (pinhole is not None) + (ray_map is not None) + (pitch is not None) > 1:
        raise StationError("intrinsics, a ray map and a pitch exclude each other: give one of them")
    if pitch is not None and not (math.isfinite(pitch) and pitch > 0):
        raise StationError(f"pitch {pitch!r}: expected metres from pixel to pixel, above 0")
    if scale is None and (pinhole is not None or ray_map is not None):
        raise StationError("intrinsics and ray maps need metres: give depth_scale, metres in a depth count")
    size = depths[0].shape[0], depths[0].shape[1]
    if ray_map is not None and (ray_map.shape != (*size, 3) or not np.isfinite(ray_map).all()):
        raise StationError(
            f"ray map of shape {ray_map.shape}: expected finite numbers of shape {(*size, 3)}, x, y and z of "
            "the direction of each depth pixel"
        )
    steps = tuple(max(1, math.ceil(n / POOLED)) for n in size)
    spans = slice(steps[0] // 2, None, steps[0]), slice(steps[1] // 2, None, steps[1])
    pooled = _median(np.stack([depth[spans] for depth in depths]))
    plane, height = _plane(pooled, steps)
    cells, spread = _belt_cells(depths, plane)
    shifts = tuple(
        (label, *belt_shift(depth, cells, spread)[:3])
        for (label, _), depth in zip(frames, depths, strict=True)
    )
    stray = _strays(shifts, spread)
    tolerance = None
    if np.count_nonzero(cells) >= LEAST_CELLS:
        tolerance = _tolerance([shift for shift in shifts if shift[0] not in stray], spread)
    digest = hashlib.sha256()
    for depth in depths:
        digest.update(np.ascontiguousarray(depth).tobytes())
    samples = [sample for _, sample in frames]
    station = Station(
        name=name,
        depth_size=size,
        rgb_size=samples[0].rgb_size,
        depth_scale=scale,
        pinhole=pinhole,
        ray_map=None if ray_map is None else np.ascontiguousarray(ray_map, np.float32),
        pitch=pitch,
        plane=plane,
        cells=cells,
        spread=spread,
        tolerance=tolerance,
        coverage=float(np.median([np.count_nonzero(depth) / depth.size for depth in depths])),
        roi=find_roi([s.rgb for s in samples], [s.depth for s in samples]),
        frames=len(depths),
        reference=digest.hexdigest(),
    )
    station = replace(station, belt=_belt(station, pooled, spans))
    notes = _unusual(station, depths, pooled, shifts, stray)
    return Calibration(station, height, shifts, notes)


def _checked(
    frames: Sequence[tuple[str, Sample]], depth_scale: float | None
) -> tuple[list[NDArray[np.uint16]], float | None]:
    if not frames:
        raise StationError("no reference frames: give some of the empty belt, or of good parts on it")
    depths = []
    for name, sample in frames:
        if sample.depth is None:
            raise StationError(f"{name}: no depth image; a station is calibrated from depth")
        if not sample.depth.any():
            raise StationError(
                f"{name}: depth is zero throughout; look at the sensor, or leave this frame out"
            )
        depths.append(sample.depth)
    first = frames[0][1]
    for name, sample in frames:
        for what, size, expected in (
            ("depth", sample.depth_size, first.depth_size),
            ("colour", sample.rgb_size, first.rgb_size),
        ):
            if size != expected:
                raise StationError(
                    f"{name}: {what} is {_words(size)}, in {frames[0][0]} it is {_words(expected)}; "
                    "calibrate each setting of the station from its own frames"
                )
    if depth_scale is None:
        scales = {sample.depth_scale for _, sample in frames}
        if len(scales) > 1:
            raise StationError(f"the frames have different depth scales ({scales}): give depth_scale")
        depth_scale = scales.pop()
    elif not (math.isfinite(depth_scale) and depth_scale > 0):
        raise StationError(f"depth_scale {depth_scale!r}: expected metres in a count, above 0")
    return depths, depth_scale


def _words(size: tuple[int, int] | None) -> str:
    return "missing" if size is None else f"{size[1]} x {size[0]}"


def _median(stack: NDArray[np.uint16]) -> NDArray[np.float32]:
    """(n, m) median of the readings in (N, n, m); 0 where fewer than half of the frames have one."""
    ordered = np.sort(stack, axis=0)  # no reading goes first
    missing = np.count_nonzero(stack == 0, axis=0)
    last, count = len(stack) - 1, len(stack) - missing
    low = np.minimum(missing + np.maximum(count - 1, 0) // 2, last)
    high = np.minimum(missing + count // 2, last)
    both = [np.take_along_axis(ordered, at[None], axis=0)[0].astype(np.float32) for at in (low, high)]
    return np.where(2 * count >= len(stack), (both[0] + both[1]) / 2, np.float32(0)).astype(np.float32)


def _plane(pooled: NDArray[np.float32], steps: tuple[int, ...]) -> tuple[Plane, NDArray[np.float32]]:
    """The plane in pixels of the depth image, and the pooled depth over it, NaN = no reading."""
    try:
        fitted = fit_plane(pooled, pooled > 0, stride=1, rounds=12)
    except DepthUnusable as error:
        raise StationError(f"no belt plane in the reference frames: {error}") from None
    height = np.where(pooled > 0, residual(pooled, fitted), np.float32(np.nan)).astype(np.float32)
    a, b = fitted.a / steps[1], fitted.b / steps[0]
    # The pooled pixels begin half a step inside the image.
    c = fitted.c - a * (steps[1] // 2) - b * (steps[0] // 2)
    return Plane(a, b, c, fitted.mad), height


def _belt_cells(depths: Sequence[NDArray[np.uint16]], plane: Plane) -> tuple[NDArray[np.float32], float]:
    """(the belt's depth at the watched pixels, 0 = none; spread of one frame's readings about its belt)."""
    rows, columns = cell_pixels((depths[0].shape[0], depths[0].shape[1]))
    stack = np.stack([depth[rows, columns] for depth in depths])
    middle = _median(stack)
    at_row = np.arange(depths[0].shape[0])[rows].astype(np.float64)
    at_column = np.arange(depths[0].shape[1])[columns].astype(np.float64)
    flat = plane.b * at_row[:, None] + plane.a * at_column + plane.c
    near = (middle > 0) & (np.abs(middle - flat) <= TUKEY * max(plane.mad, 1.0))
    if np.count_nonzero(near) < LEAST_CELLS:
        return np.zeros(middle.shape, np.float32), plane.mad
    shifts, spreads = [], []
    for seen in stack.astype(np.float32):
        valid, shift = near & (seen > 0), seen - middle
        try:
            own = residual(shift, fit_plane(shift, valid, stride=1, rounds=6))
        except DepthUnusable:
            own = np.full(shift.shape, np.inf, np.float32)
        else:
            spreads.append(SIGMA_PER_MAD * float(np.median(np.abs(own[valid]))))
        shifts.append(np.where(valid, np.abs(own), np.inf))
    spread = float(np.median(spreads)) if spreads else plane.mad
    steady = (np.stack(shifts) <= TUKEY * max(spread, 1.0)).mean(axis=0) >= _STEADY
    return np.where(steady, middle, np.float32(0)).astype(np.float32), spread


def _strays(shifts: Sequence[tuple[str, float, float, float]], spread: float) -> set[str]:
    """Names of the frames whose belt lies far from where it lies in the others."""
    offsets = np.array([shift[1] for shift in shifts])
    middle = float(np.median(offsets))
    usual = max(SIGMA_PER_MAD * float(np.median(np.abs(offsets - middle))), 0.25 * spread, 0.5)
    return {s[0] for s, o in zip(shifts, offsets, strict=True) if abs(o - middle) > _STRAY * usual}


def _tolerance(shifts: Sequence[tuple[str, float, float, float]], spread: float) -> Tolerance:
    """Three times the farthest that the belt was in the reference frames, but never less than noise makes."""
    return Tolerance(
        offset=max(3 * max(abs(shift[1]) for shift in shifts), spread, 2.0),
        tilt=max(3 * max(shift[2] for shift in shifts), 2 * spread, 4.0),
        inliers=0.5 * min(shift[3] for shift in shifts),
    )


def _belt(station: Station, pooled: NDArray[np.float32], spans: tuple[slice, slice]) -> Belt | None:
    rows, columns = (np.arange(n)[span] for n, span in zip(station.depth_size, spans, strict=True))
    side = min(rows.size, columns.size)
    picks = [((np.arange(side) + 0.5) * axis.size / side).astype(np.intp) for axis in (rows, columns)]
    found = station.directions(rows[picks[0]], columns[picks[1]])
    if found is None or station.depth_scale is None:
        return None
    depth = pooled[np.ix_(*picks)]
    try:
        return fit_belt(depth, depth > 0, station.depth_scale, Rays(found))
    except DepthUnusable as error:
        raise StationError(f"no belt in the reference frames: {error}") from None


def _unusual(
    station: Station,
    depths: Sequence[NDArray[np.uint16]],
    pooled: NDArray[np.float32],
    shifts: Sequence[tuple[str, float, float, float]],
    stray: set[str],
) -> tuple[str, ...]:
    notes = []
    if len(depths) < FEW_FRAMES:
        notes.append(f"{len(depths)} reference frame(s): from {FEW_FRAMES} on the tolerance knows the belt")
    same: dict[bytes, str] = {}
    for shift, depth in zip(shifts, depths, strict=True):
        digest = hashlib.sha256(depth.tobytes()).digest()
        if digest in same:
            what = "a frozen sensor, or the same file twice"
            notes.append(f"{shift[0]} has the very depth of {same[digest]}: {what}")
            break
        same[digest] = shift[0]
    if station.coverage < 0.8:
        notes.append(f"depth reads {station.coverage:.0%} of the pixels: look at exposure and distance")
    blind = float(np.mean(pooled == 0))
    if blind > 0.05:
        notes.append(f"{blind:.0%} of the field has no reading in half of the frames or more")
    full = max(float(np.mean(depth == 65535)) for depth in depths)
    if full > 0.001:
        notes.append(f"{full:.1%} of a frame is at the largest count: the sensor is out of its range")
    watched = float(np.mean(station.cells > 0))
    if station.tolerance is None:
        notes.append("too little belt in sight to watch it: drift will not be seen")
    elif watched < 0.3:
        notes.append(f"belt in {watched:.0%} of the field only: is the plane the belt, or the part?")
    if station.plane.mad > 3 * max(station.spread, 1.0):
        notes.append(f"the belt is not flat: {station.plane.mad:.1f} counts about its plane")
    if stray:
        names = ", ".join(sorted(stray)[:5])
        notes.append(f"{len(stray)} frame(s) with the belt elsewhere, left out of the tolerance: {names}")
    moved = max(abs(shift[1]) for shift in shifts if shift[0] not in stray)
    if moved > max(_MOVES * abs(float(np.median(pooled[pooled > 0]))), 3 * max(station.spread, 1.0)):
        notes.append(f"the belt moves by {moved:.0f} counts between frames: only gross drift will be seen")
    if station.roi == Roi():
        notes.append("no region of interest found: no part in the frames, or it fills them")
    return tuple(notes)

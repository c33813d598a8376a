"""Depth files of every kind as what samples hold: counts, 0 where nothing was read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.datasets.conventions import Conventions
from inference.datasets.files import read_colour
from inference.datasets.formats import Facts, facts, facts_of, pixels
from inference.errors import DatasetError
from inference.sample import Sample

HIGHEST_COUNT = 65535
METRIC_SCALE = 2e-5
"""Metres in a count of depth that was stored as lengths, where nothing else is said; it reaches 1.31 m."""

_SATURATED = 0.005
"""Share of an image at 65535 from which on it is no distance by chance."""
_FAR_M = 10.0
"""No inspection station looks further, but many sensors speak of 400 millimetres."""


def check_pair(colour: Path | None, depth: Path | None, *, same_field: bool) -> tuple[int, int]:
    """(width, height) of a frame, from the headers alone, so that a mistake shows before long work begins.

    Raises:
        DatasetError: no image, a depth image of a type that is no depth, or two sizes.
    """
    size = None if colour is None else facts(colour, "rgb").size
    if depth is None:
        assert size is not None
        return size
    told = facts(depth, "depth")
    _check_type(depth, told)
    if size is not None and size != told.size and not same_field:
        raise DatasetError(
            f"{colour} is {size[0]} x {size[1]} and {depth} is {told.size[0]} x {told.size[1]}: "
            "align them to one size, or set same_field if both show exactly the same field"
        )
    return size or told.size


def load_pair(colour: Path | None, depth: Path | None, conventions: Conventions) -> Sample:
    """A sample of a colour and a depth image, either of which may be None. Raises DatasetError."""
    rgb = None if colour is None else read_colour(colour, conventions.colour_bits)
    if depth is None:
        return Sample(rgb, None)
    counts, scale = read_depth(depth, conventions)
    return Sample(rgb, counts, scale)


def read_depth(path: Path, conventions: Conventions) -> tuple[NDArray[np.uint16], float | None]:
    """((H, W) uint16 counts, metres in a count or None) of a depth file.

    Integers of 16 bits or more are counts as they are. Floats are metres, or what ``depth_unit`` says, and
    become counts of ``depth_scale``; of points (H, W, 3), z is taken. 0, NaN, infinity and the values of
    ``no_reading`` are no reading.

    Raises:
        DatasetError: another type, a distance that is negative or beyond the last count, a share of 65535
            that nobody has named, or floats that cannot be metres.
    """
    values = pixels(path, "depth")
    _check_type(path, facts_of(values))
    if values.ndim == 3:
        return to_counts(read_points(path, conventions)[..., 2], conventions, path)
    if values.dtype.kind == "f":
        return to_counts(_lengths(path, values, conventions), conventions, path)
    counts = _without(values, conventions.no_reading)
    low, high = int(counts.min()), int(counts.max())
    if low < 0 or high > HIGHEST_COUNT:
        raise DatasetError(
            f"{path}: counts from {low} to {high}; they must lie within 0 and {HIGHEST_COUNT}. If one "
            f"of these stands for no reading, say --no-reading {low if low < 0 else high}"
        )
    share = float(np.mean(counts == HIGHEST_COUNT)) if conventions.no_reading is None else 0.0
    if share >= _SATURATED:
        raise DatasetError(
            f"{path}: {share:.1%} of it is {HIGHEST_COUNT}: does that stand for no reading? "
            f'say --no-reading {HIGHEST_COUNT} ("no_reading" in dataset.json), '
            "or --no-reading none if it is a distance"
        )
    return np.ascontiguousarray(counts, np.uint16), conventions.depth_scale


def read_counts(path: Path) -> NDArray[np.uint16]:
    """(H, W) uint16 of a depth file as stored, every value meant. Raises DatasetError."""
    values = pixels(path, "depth")
    if values.dtype != np.uint16 or values.ndim != 2:
        raise DatasetError(f"{path}: {values.dtype} {values.shape}; depth must be 16-bit single-channel")
    return np.asarray(values, np.uint16)


def check_points(path: Path) -> tuple[int, int]:
    """(width, height) of a point image, from the header. Raises DatasetError where it is not one."""
    told = facts(path)
    if told.channels != 3 or told.kind.kind != "f":
        raise DatasetError(f"{path}: {told.words} image; points must be 3-channel floats x, y, z")
    return told.size


def read_points(path: Path, conventions: Conventions | None = None) -> NDArray[np.float32]:
    """(H, W, 3) float32: x right, y down, z away from the sensor, (0, 0, 0) = no point, in the file's unit.

    A point with a value that is not finite, or whose z is one of ``no_reading``, is no point.

    Raises:
        DatasetError: no floats of three channels, cut off, or a point behind the sensor.
    """
    check_points(path)
    points = np.array(pixels(path), np.float32)
    # The sum is finite where all are, and takes a tenth of the time.
    with np.errstate(invalid="ignore"):
        whole = bool(np.isfinite(points.sum(dtype=np.float64)))
    if not whole:
        points[~np.isfinite(points).all(axis=2)] = 0
    for value in (conventions.no_reading if conventions is not None else None) or ():
        points[points[..., 2] == np.float32(value)] = 0
    x, y, z = (points[..., axis] for axis in range(3))
    behind = int(np.count_nonzero((z < 0) | ((z == 0) & ((x != 0) | (y != 0)))))
    if behind:
        raise DatasetError(
            f"{path}: {behind} points are not in front of the sensor (least z {float(z.min()):g}); "
            "z must be the distance from the camera; if one value stands for no point, say --no-reading"
        )
    return points


def to_counts(
    z: NDArray[np.float32],
    conventions: Conventions,
    path: Path,
    *,
    unit: float = 1.0,
    scale: float = METRIC_SCALE,
) -> tuple[NDArray[np.uint16], float]:
    """((H, W) uint16 counts, metres in a count) of distances, 0 = no reading, rounded.

    A reading closer than one count becomes count 1, since 0 stands for no reading.

    Args:
        z: distances in ``depth_unit``. conventions: what was said of the folder. path: for messages.
        unit, scale: metres in a unit of ``z`` and in a count, where nothing was said.

    Raises:
        DatasetError: a distance beyond the largest count, or distances that cannot be in that unit.
    """
    given = conventions.depth_unit
    metres = z * np.float32(unit if given is None else given)
    count = scale if conventions.depth_scale is None else conventions.depth_scale
    farthest = float(metres.max(initial=0.0))
    if farthest / count > HIGHEST_COUNT + 0.49:
        middle = float(np.median(metres[metres > 0]))
        if given is None and middle > _FAR_M:
            raise DatasetError(
                f"{path}: half of its distances are above {middle:g} m: is this in millimetres? say "
                '--depth-unit mm ("depth_unit" in dataset.json)'
            )
        raise DatasetError(
            f"{path}: a point is {farthest:g} m away, the largest count of {count:g} m stands for "
            f"{HIGHEST_COUNT * count:g} m: read it with a depth_scale of at least "
            f"{farthest / HIGHEST_COUNT:.2g}; or say --no-reading if it stands for none, "
            "--depth-unit mm if these are millimetres"
        )
    counts = np.rint(metres * np.float32(1 / count))
    np.maximum(counts, 1, out=counts, where=metres > 0)
    return np.asarray(np.minimum(counts, HIGHEST_COUNT), np.uint16), count


def _check_type(path: Path, told: Facts) -> None:
    number, octets = told.kind.kind, told.kind.itemsize
    single = told.channels == 1 and (number == "f" or (number in "iu" and octets >= 2))
    if not single and not (told.channels == 3 and number == "f"):
        raise DatasetError(
            f"{path}: {told.words} image; depth must be 16-bit single-channel counts, floats, or float "
            "points of three channels"
        )


def _lengths(path: Path, values: NDArray[np.generic], conventions: Conventions) -> NDArray[np.float32]:
    lengths = _without(values, conventions.no_reading).astype(np.float32)
    lengths[~np.isfinite(lengths)] = 0
    wrong = int(np.count_nonzero(lengths < 0))
    if wrong:
        least = float(lengths.min())
        raise DatasetError(
            f"{path}: {wrong} distances are negative; 0, NaN and infinity are no reading: if {least:g} "
            f"stands for none too, say --no-reading {least:g}"
        )
    return lengths


def _without(values: NDArray[np.generic], no_reading: tuple[float, ...] | None) -> NDArray[np.generic]:
    """The values with 0 in place of those that stand for no reading."""
    out = np.array(values)
    for value in no_reading or ():
        out[out == (np.asarray(value, out.dtype) if out.dtype.kind == "f" else value)] = 0
    return out

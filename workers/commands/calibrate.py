"""``crosscheck calibrate``: reference frames to a station's file, with a table and a picture to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from inference.belt import cell_pixels
from inference.datasets.base import Notes, notes_of
from inference.datasets.conventions import Conventions
from inference.datasets.depth import load_pair
from inference.datasets.files import check_readable, images, note_content
from inference.datasets.open import open_dataset
from inference.errors import DatasetError
from inference.plane import TUKEY
from inference.roi import Roi
from inference.sample import Sample
from inference.station import Pinhole, Station
from inference.station_fit import Calibration, calibrate
from schemas.regular import open_regular
from workers.commands import console
from workers.errors import SettingsError

MOST_FRAMES = 64
"""More reference frames than this are thinned out evenly."""

T = TypeVar("T")
Frames = list[tuple[str, Sample]]


def run_calibrate(
    name: str,
    *,
    data: Path | None,
    frames: Sequence[Path],
    category: str | None,
    intrinsics: str | None,
    rays: Path | None,
    pitch: float | None,
    depth_scale: float | None,
    same_field: bool | None,
    conventions: Conventions | None = None,
    out: Path,
    json_file: Path | None,
) -> None:
    """Fit a station to reference frames, say what was found, and write it."""
    if (data is None) == (not frames):
        raise SettingsError("reference frames: give one of --data DIR and --frames FILE")
    if sum(given is not None for given in (intrinsics, rays, pitch)) > 1:
        raise SettingsError("--intrinsics, --rays and --pitch exclude each other: give one of them")
    if out.suffix.lower() != ".json":
        raise SettingsError(f"--out {out}: name a file that ends in .json; pictures and rays go beside it")
    pinhole = None if intrinsics is None else parse_intrinsics(intrinsics)
    ray_map = None if rays is None else _load_rays(rays)
    notes: list[str] = []
    if data is not None:
        dataset = open_dataset(
            data,
            category=category,
            same_field=same_field,
            depth_scale=depth_scale,
            conventions=conventions,
        )
        items = _thinned(list(dataset.train()))
        with console.progress() as report:
            found = []
            for index, item in enumerate(items):
                found.append((item.name, item.sample()))
                report("reading", index + 1, len(items))
        notes += notes_of(dataset)
        measure = getattr(dataset, "rays", None)
        if measure is not None and pinhole is None and ray_map is None and pitch is None:
            try:
                ray_map = measure()
            except DatasetError as error:
                notes.append(f"the data set's directions of the pixels cannot be used: {error}")
    else:
        said = Conventions(depth_scale=depth_scale).over(conventions or Conventions())
        remarks = Notes()
        found = read_frames(frames, said, remarks)
        notes += remarks
    calibration = calibrate(
        found, name=name, pinhole=pinhole, ray_map=ray_map, pitch=pitch, depth_scale=depth_scale
    )
    station = calibration.station
    station.save(out)
    picture = out.with_suffix(".png")
    if not cv2.imwrite(str(picture), draw_calibration(calibration, found[0][1])):
        raise SettingsError(f"{picture}: cannot be written; name another file with --out")
    notes += calibration.unusual
    console.out.print(_table(calibration))
    for note in notes:
        console.out.print("look:", style="yellow", end=" ")
        console.out.print(note, markup=False, highlight=False)
    console.out.print(f"picture: {picture} (left the region of interest, right the height over the plane)")
    console.out.print(f"station: {out}")
    console.write_json(json_file, {"station": str(out), "unusual": notes, **station.to_map()})


def parse_intrinsics(text: str) -> Pinhole:
    """The camera of "fx,fy,cx,cy". Raises SettingsError or StationError where these are no camera."""
    try:
        fx, fy, cx, cy = (float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(
            f"--intrinsics {text}: expected four numbers fx,fy,cx,cy in pixels of the depth image"
        ) from None
    return Pinhole(fx, fy, cx, cy)


def read_frames(paths: Sequence[Path], conventions: Conventions, notes: Notes | None = None) -> Frames:
    """Samples of depth images, and of folders of depth images, with their names. Raises DatasetError."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += images(path, notes).values()
            continue
        if not path.exists():
            raise DatasetError(f"{path}: no such file; name a depth image, or a folder of them")
        check_readable(path)
        if notes is not None:
            note_content(path, notes)
        files.append(path)
    return [(path.name, load_pair(None, path, conventions)) for path in _thinned(files)]


def _thinned(values: list[T]) -> list[T]:
    picks = np.linspace(0, len(values) - 1, min(MOST_FRAMES, len(values))).round().astype(int)
    return [values[index] for index in picks]


def _load_rays(path: Path) -> NDArray[np.float32]:
    try:
        with open_regular(path) as file:
            values = np.load(file, allow_pickle=False)
    except OSError as error:
        raise SettingsError(f"--rays {path}: {error.strerror or 'cannot be read'}") from None
    except (ValueError, EOFError):
        values = None
    if not isinstance(values, np.ndarray) or values.ndim != 3 or values.dtype.kind != "f":
        raise SettingsError(
            f"--rays {path}: expected an .npy of floats (H, W, 3), the direction of each depth pixel"
        )
    return values.astype(np.float32)


def _table(calibration: Calibration) -> Table:
    station = calibration.station
    table = Table(title=f"station {station.name}, from {station.frames} reference frames", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    height, width = station.depth_size
    plane = station.plane
    middle = plane.a * (width - 1) / 2 + plane.b * (height - 1) / 2 + plane.c
    table.add_row("depth image", f"{width} x {height}, {station.coverage:.1%} read")
    table.add_row("camera", _camera(station))
    table.add_row("belt at the middle", length(station, middle))
    sides = f"{length(station, plane.a * (width - 1))} to the right, "
    table.add_row("belt falls away by", sides + f"{length(station, plane.b * (height - 1))} downwards")
    table.add_row("spread of a frame", length(station, station.spread))
    table.add_row("spread of the median", length(station, plane.mad))
    table.add_row("belt in sight", f"{np.mean(station.cells > 0):.0%} of the field")
    offset = max(abs(shift[1]) for shift in calibration.shifts)
    tilt = max(shift[2] for shift in calibration.shifts)
    table.add_row("frames differ by", f"{length(station, offset)}, tilt {length(station, tilt)}")
    allowed = station.tolerance
    table.add_row(
        "drift allowed",
        "not watched"
        if allowed is None
        else f"{length(station, allowed.offset)}, tilt {length(station, allowed.tilt)}",
    )
    roi = station.roi
    where = f"x {roi.x0:.2f} to {roi.x1:.2f}, y {roi.y0:.2f} to {roi.y1:.2f}"
    table.add_row("region of interest", "the whole frame" if roi.whole else where)
    return table


def length(station: Station, counts: float) -> str:
    """A depth in counts for a person: millimetres too where the sensor is metric."""
    if station.depth_scale is None:
        return f"{counts:.1f} counts"
    return f"{counts * station.depth_scale * 1e3:.3f} mm ({counts:.1f} counts)"


def _camera(station: Station) -> str:
    if station.pinhole is not None:
        p = station.pinhole
        return f"pinhole, f {p.fx:g} x {p.fy:g}, middle at {p.cx:g}, {p.cy:g}"
    if station.ray_map is not None:
        return "a direction for each pixel"
    return "orthographic" + ("" if station.pitch is None else f", {station.pitch * 1e3:g} mm a pixel")


def draw_calibration(calibration: Calibration, first: Sample) -> NDArray[np.uint8]:
    """(H, W, 3) BGR: the first frame with the region, and beside it the pooled height over the plane.

    Red is nearer to the sensor than the plane, blue farther, white on it; grey was not read. Black dots are
    the pixels at which the belt is watched.
    """
    station = calibration.station
    height, width = station.depth_size
    assert first.depth is not None
    if first.rgb is not None:
        left = np.asarray(cv2.resize(first.rgb[..., ::-1], (width, height)), np.uint8)
    else:
        read = first.depth[first.depth > 0]
        low, high = np.quantile(read, (0.01, 0.99)) if read.size else (0.0, 1.0)
        grey = np.clip((first.depth - low) / max(high - low, 1) * 255, 0, 255).astype(np.uint8)
        left = np.repeat(grey[..., None], 3, axis=2)
    reach = TUKEY * max(station.plane.mad, 1.0)
    share = np.clip(calibration.height / reach, -1, 1)
    right = np.full((*share.shape, 3), 255, np.float32)
    right[..., :2] -= 255 * np.clip(-share, 0, 1)[..., None]  # nearer: blue and green go, red stays
    right[..., 1:] -= 255 * np.clip(share, 0, 1)[..., None]
    right[np.isnan(share)] = 128
    field = np.asarray(
        cv2.resize(right.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST), np.uint8
    )
    rows, columns = cell_pixels(station.depth_size)
    dots = np.zeros((height, width), bool)
    dots[rows, columns] = station.cells > 0
    field[dots] = 0
    for picture in (left, field):
        _outline(picture, station.roi)
    return np.hstack([left, np.full((height, 4, 3), 255, np.uint8), field])


def _outline(picture: NDArray[np.uint8], roi: Roi) -> None:
    rows, columns = roi.pixels(*picture.shape[:2])
    thick = max(1, round(max(picture.shape[:2]) / 200))
    cv2.rectangle(picture, (columns.start, rows.start), (columns.stop - 1, rows.stop - 1), (0, 160, 0), thick)

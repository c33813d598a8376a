"""A station: the belt is found under parts, its drift is measured, rays are those of the pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.belt import PlaneDrift, cell_pixels
from inference.errors import StationError
from inference.features.cloud import build
from inference.roi import Roi
from inference.sample import Sample
from inference.station import Pinhole, Station
from inference.station_fit import Calibration, calibrate

HEIGHT, WIDTH = 120, 160
NOISE = 3.0
SCALE = 1e-5

Frames = list[tuple[str, Sample]]


def belt(
    seed: int, *, offset: float = 0.0, size: tuple[int, int] = (HEIGHT, WIDTH), part: bool = True
) -> NDArray[np.uint16]:
    """A tilted belt with noise and holes, and a part on a third of it whose place depends on the seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    depth = 0.8 * columns - 0.5 * rows + 30000 + offset + rng.normal(0, NOISE, size)
    if part:
        top, left = int(rng.integers(10, size[0] // 3)), int(rng.integers(10, size[1] // 3))
        depth[top : top + size[0] // 2, left : left + size[1] // 2] -= 900
    depth[rng.random(size) < 0.03] = 0
    counts: NDArray[np.uint16] = np.round(depth).astype(np.uint16)
    return counts


def frames(count: int = 8, **kwargs: Any) -> Frames:
    return [(f"f{seed}", Sample(None, belt(seed, **kwargs), SCALE)) for seed in range(count)]


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(frames(), name="s1")


@pytest.fixture(scope="module")
def station(calibration: Calibration) -> Station:
    return calibration.station


def watched(station: Station, depth: NDArray[np.uint16]) -> PlaneDrift:
    drift = station.drift(depth)
    assert drift is not None
    return drift


def raised(depth: NDArray[np.uint16], by: float | NDArray[np.float64]) -> NDArray[np.uint16]:
    moved: NDArray[np.uint16] = np.where(depth > 0, np.round(depth + by), 0).astype(np.uint16)
    return moved


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (600, 431), (45, 700)])
def test_the_planted_plane_is_found_under_parts_in_pixels_of_the_image(size: tuple[int, int]) -> None:
    plane = calibrate(frames(size=size), name="s").station.plane
    corners = [(0, 0), (0, size[1] - 1), (size[0] - 1, 0), (size[0] - 1, size[1] - 1)]
    for row, column in corners:
        expected = 0.8 * column - 0.5 * row + 30000
        assert plane.a * column + plane.b * row + plane.c == pytest.approx(expected, abs=2)


def test_spread_and_coverage_are_those_of_the_frames(station: Station) -> None:
    assert station.spread == pytest.approx(NOISE, rel=0.15)
    assert station.plane.mad < station.spread
    assert station.coverage == pytest.approx(0.97, abs=0.01)
    assert station.depth_size == (HEIGHT, WIDTH)
    assert station.depth_scale == SCALE


def test_watched_pixels_are_belt_in_most_frames_and_hold_its_depth(station: Station) -> None:
    rows, columns = cell_pixels((HEIGHT, WIDTH))
    at_row, at_column = np.mgrid[0:HEIGHT, 0:WIDTH][:, rows, columns]
    on = station.cells > 0
    assert 0.3 < on.mean() < 0.9
    np.testing.assert_allclose(
        station.cells[on], (0.8 * at_column - 0.5 * at_row + 30000)[on], atol=5 * NOISE
    )
    shown = np.stack([belt(seed)[rows, columns] for seed in range(8)])
    flat = 0.8 * at_column - 0.5 * at_row + 30000
    share = (np.abs(shown - flat) < 100).mean(axis=0)
    assert share[on].min() >= 0.75


def test_reference_frames_and_others_like_them_are_within_tolerance(station: Station) -> None:
    for seed in range(20):
        drift = watched(station, belt(seed))
        assert drift.within, (seed, drift)
        assert abs(drift.offset) < NOISE


@pytest.mark.parametrize("by", [-400, -15, 15, 900])
def test_a_belt_that_moved_is_measured_and_is_not_within(station: Station, by: int) -> None:
    before, drift = watched(station, belt(30)), watched(station, belt(30, offset=by))
    assert drift.offset - before.offset == pytest.approx(by, abs=1)
    assert drift.offset_m == pytest.approx(drift.offset * SCALE)
    assert not drift.within


@settings(max_examples=25, deadline=None)
@given(offset=st.integers(-500, 500), tilt=st.integers(-300, 300))
def test_offset_and_tilt_add_up_as_planes_do(station: Station, offset: int, tilt: int) -> None:
    depth = belt(40)
    ramp = np.linspace(-tilt / 2, tilt / 2, WIDTH)[None, :]
    before, after = watched(station, depth), watched(station, raised(depth, offset + ramp))
    assert after.offset - before.offset == pytest.approx(offset, abs=0.02 * abs(tilt) + 1.5)
    assert after.tilt == pytest.approx(abs(tilt), abs=0.06 * abs(tilt) + 12)


def test_drift_looks_at_the_watched_pixels_only(station: Station) -> None:
    depth = belt(41)
    other = np.full_like(depth, 7)
    rows, columns = cell_pixels(depth.shape)
    other[rows, columns] = depth[rows, columns]
    assert station.drift(other) == station.drift(depth)


def test_a_belt_that_cannot_be_found_is_not_within(station: Station) -> None:
    lost = watched(station, np.zeros((HEIGHT, WIDTH), np.uint16))
    assert (lost.within, lost.inliers) == (False, 0)
    rng = np.random.default_rng(0)
    noise = rng.integers(1, 65535, (HEIGHT, WIDTH)).astype(np.uint16)
    assert not watched(station, noise).within


def test_a_frame_with_few_readings_is_seen_by_the_share_on_the_belt(station: Station) -> None:
    depth = belt(42)
    depth[:, : 7 * WIDTH // 8] = 0
    assert not watched(station, depth).within


def test_another_size_is_refused_with_both(station: Station) -> None:
    with pytest.raises(StationError, match="80 x 60, calibrated for 160 x 120"):
        station.drift(np.ones((60, 80), np.uint16))


def test_a_tilt_is_given_in_degrees_where_the_pitch_is_known() -> None:
    depth = belt(50)
    rise = np.linspace(-200, 200, WIDTH)[None, :]
    for camera in ({"pitch": 5e-4}, {"pinhole": Pinhole(600, 600, 80, 60)}):
        found = calibrate(frames(), name="s", **camera).station
        pitch = 5e-4 if "pitch" in camera else 0.30034 / 600
        angle = math.degrees(math.atan(400 * SCALE / (WIDTH - 1) / pitch))
        drift = watched(found, raised(depth, rise))
        assert drift.tilt_deg == pytest.approx(angle, rel=0.05)


def pinhole_map(camera: Pinhole) -> NDArray[np.float32]:
    rays = np.ones((HEIGHT, WIDTH, 3), np.float32)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            rays[row, column, :2] = (column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy
    return rays


CAMERA = Pinhole(500, 520, 81.5, 57.0)


@pytest.mark.parametrize("box", [Roi(), Roi(0.2, 0.1, 0.7, 0.9), Roi(0.5, 0.5, 0.51, 0.52)])
@pytest.mark.parametrize("side", [28, 224])
def test_rays_are_sampled_as_the_depth_of_a_tile_is(station: Station, box: Roi, side: int) -> None:
    full = pinhole_map(CAMERA)
    expected = cv2.resize(
        full[box.pixels(HEIGHT, WIDTH)], (side, side), interpolation=cv2.INTER_NEAREST_EXACT
    )
    for made in (replace(station, pinhole=CAMERA), replace(station, ray_map=full)):
        rays = made.rays(box, side)
        assert rays is not None
        assert rays.map.dtype == np.float32
        np.testing.assert_allclose(rays.map, expected, atol=1e-7)
    assert station.rays(box, side) is None


def test_the_metric_belt_of_a_tilted_plane_is_that_plane() -> None:
    camera = Pinhole(200, 200, 80, 60)  # wide: a tilted plane's depth is far from linear in the pixels
    normal = np.array([0.2, -0.1, -1.0])
    normal /= np.linalg.norm(normal)
    away = -0.4 / (pinhole_map(camera) @ normal)
    rng = np.random.default_rng(2)
    shots = [np.round(away / SCALE + rng.normal(0, 2, away.shape)).astype(np.uint16) for _ in range(3)]
    made = calibrate(
        [(str(n), Sample(None, shot, SCALE)) for n, shot in enumerate(shots)], name="s", pinhole=camera
    ).station
    assert made.belt is not None
    np.testing.assert_allclose(made.belt.normal, normal, atol=2e-4)
    assert made.belt.offset == pytest.approx(-0.4, abs=1e-4)
    rays = made.rays(Roi(), 64)
    depth = cv2.resize(shots[0], (64, 64), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.float32)
    cloud = build(depth, depth > 0, depth_scale=SCALE, rays=rays, belt=made.belt)
    assert np.abs(cloud.xyz[..., 2]).max() < 2e-4


def test_the_region_is_that_of_the_part() -> None:
    shots = []
    for seed in range(6):
        depth = belt(seed, part=False)
        depth[30:90, 40:120] -= 900
        shots.append((f"f{seed}", Sample(None, depth, None)))
    roi = calibrate(shots, name="s").station.roi
    assert 0.1 < roi.x0 < 0.25 < 0.75 < roi.x1 < 0.9
    assert 0.1 < roi.y0 < 0.25 < 0.75 < roi.y1 < 0.9


def test_what_is_unusual_is_said(calibration: Calibration) -> None:
    assert not [note for note in calibration.unusual if "region" not in note]

    def notes(shots: Frames) -> str:
        return " ".join(calibrate(shots, name="s").unusual)

    assert "2 reference frame(s)" in notes(frames(2))
    assert "f9 has the very depth of f1" in notes([*frames(), ("f9", frames()[1][1])])
    stray = calibrate([*frames(), ("knocked", Sample(None, belt(9, offset=300), SCALE))], name="s")
    assert "1 frame(s) with the belt elsewhere" in " ".join(stray.unusual)
    assert "knocked" in " ".join(stray.unusual)
    assert stray.station.tolerance is not None
    assert stray.station.tolerance.offset < 30
    holes = frames()
    for _, sample in holes:
        assert sample.depth is not None
        sample.depth[:60] = 0
    assert "depth reads 48% of the pixels" in notes(holes)
    jumpy = [(f"f{n}", Sample(None, belt(n, offset=1500.0 * n), None)) for n in range(8)]
    assert "only gross drift will be seen" in notes(jumpy)


def test_too_little_belt_to_watch_is_said_and_not_watched() -> None:
    shots = []
    for seed in range(6):
        depth = belt(seed, part=False)
        depth[:, 20:] = 0
        depth[20:] = 0
        shots.append((f"f{seed}", Sample(None, depth, None)))
    found = calibrate(shots, name="s")
    assert found.station.tolerance is None
    assert found.station.drift(belt(0)) is None
    assert "drift will not be seen" in " ".join(found.unusual)


WRONG: list[tuple[str, Callable[[], object], str]] = [
    ("none", lambda: calibrate([], name="s"), "no reference frames"),
    (
        "no depth",
        lambda: calibrate([("a", Sample(np.zeros((4, 4, 3), np.uint8), None))], name="s"),
        "a: no depth",
    ),
    (
        "zero",
        lambda: calibrate([*frames(2), ("z", Sample(None, np.zeros((HEIGHT, WIDTH), np.uint16)))], name="s"),
        "z: depth is zero throughout",
    ),
    (
        "sizes",
        lambda: calibrate([*frames(2), ("b", Sample(None, belt(0, size=(60, 80)), SCALE))], name="s"),
        "b: depth is 80 x 60, in f0 it is 160 x 120",
    ),
    (
        "line",
        lambda: calibrate([("a", Sample(None, np.full((1, 50), 9, np.uint16)))], name="s"),
        "no belt plane",
    ),
    ("two cameras", lambda: calibrate(frames(2), name="s", pinhole=CAMERA, pitch=1e-3), "exclude each other"),
    (
        "map size",
        lambda: calibrate(frames(2), name="s", ray_map=np.ones((3, 3, 3), np.float32)),
        r"ray map of shape \(3, 3, 3\)",
    ),
    (
        "map nan",
        lambda: calibrate(frames(2), name="s", ray_map=np.full((HEIGHT, WIDTH, 3), np.nan, np.float32)),
        "finite",
    ),
    ("pitch", lambda: calibrate(frames(2), name="s", pitch=0.0), "pitch"),
    ("scale", lambda: calibrate(frames(2), name="s", depth_scale=-1.0), "depth_scale"),
    (
        "no scale",
        lambda: calibrate([("a", Sample(None, belt(0)))], name="s", pinhole=CAMERA),
        "metres in a depth count",
    ),
    ("focal", lambda: Pinhole(0, 1, 2, 3), "fx > 0"),
    ("nan focal", lambda: Pinhole(1, 1, math.nan, 3), "finite"),
]


@pytest.mark.parametrize(("make", "words"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_wrong_input_is_told_by_its_name(make: Callable[[], object], words: str) -> None:
    with pytest.raises(StationError, match=words):
        make()


def test_a_station_is_the_same_after_the_file(station: Station, tmp_path: Path) -> None:
    full = pinhole_map(CAMERA)
    for name, made in (
        ("plain", station),
        ("pinhole", replace(station, pinhole=CAMERA, rgb_size=(480, 640))),
        ("rays", replace(station, ray_map=full)),
        ("blind", replace(station, tolerance=None, depth_scale=None)),
    ):
        path = tmp_path / "deep" / f"{name}.json"
        made.save(path)
        read = Station.load(path)
        assert read.to_map() == made.to_map()
        assert (tmp_path / "deep" / f"{name}.rays.npy").exists() == (name == "rays")
        depth = belt(60, offset=20)
        before, after = made.drift(depth), read.drift(depth)
        if before is None:
            assert after is None
        else:
            assert after is not None
            assert after.offset == pytest.approx(before.offset, abs=1e-3)
            assert after.within == before.within


def test_the_reference_frames_are_told_apart(station: Station) -> None:
    assert calibrate(frames(), name="other").station.reference == station.reference
    assert calibrate(frames(7), name="s1").station.reference != station.reference


DAMAGE: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("version", lambda v: v.update(version="station/0"), "calibrate it again"),
    ("missing", lambda v: v.pop("plane"), "damaged"),
    ("size", lambda v: v.update(depth_size=[0, 4]), "image size"),
    ("other size", lambda v: v.update(depth_size=[500, 640]), "belt is given at"),
    ("text", lambda v: v.update(spread="1"), "no finite number"),
    ("plane", lambda v: v["plane"].update(a=None), "no finite number"),
    ("roi", lambda v: v.update(roi={"x0": 2, "y0": 0, "x1": 1, "y1": 1}), "region of interest"),
    ("cells", lambda v: v.update(cells=[["x"]]), "damaged"),
    ("belt", lambda v: v.update(belt={"normal": [1], "offset": 2}), "belt is no map"),
]


@pytest.mark.parametrize(("damage", "words"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
def test_a_damaged_file_is_named(
    station: Station, tmp_path: Path, damage: Callable[[dict[str, Any]], object], words: str
) -> None:
    path = tmp_path / "s.json"
    values = json.loads(json.dumps(station.to_map()))
    damage(values)
    path.write_text(json.dumps(values))
    with pytest.raises(StationError, match=words) as caught:
        Station.load(path)
    assert "s.json" in str(caught.value)


def test_a_missing_file_and_one_that_is_no_station_are_named(tmp_path: Path) -> None:
    for text in (None, "{", "[1]"):
        path = tmp_path / "s.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(StationError, match=r"s\.json.*crosscheck calibrate"):
            Station.load(path)


def test_another_ray_map_is_not_taken(station: Station, tmp_path: Path) -> None:
    full, path = pinhole_map(CAMERA), tmp_path / "s.json"
    replace(station, ray_map=full).save(path)
    rays = tmp_path / "s.rays.npy"
    np.save(rays, full + np.float32(1e-3))
    with pytest.raises(StationError, match="another one"):
        Station.load(path)
    rays.write_bytes(b"x")
    with pytest.raises(StationError, match="missing or damaged"):
        Station.load(path)
    rays.unlink()
    with pytest.raises(StationError, match="missing or damaged"):
        Station.load(path)

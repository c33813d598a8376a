"""``crosscheck calibrate``: a station's file and picture from a folder, and one line for every mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.datasets.conventions import Conventions
from inference.datasets.surface import write_surface_layout
from inference.datasets.synthetic import SyntheticDataset
from inference.roi import Roi
from inference.sample import Sample
from inference.station import Station
from inference.station_fit import calibrate
from tests.e2e.inprocess import Call, assert_one_line, command_line
from tests.inference import test_datasets_mvtec3d as mvtec3d
from workers.commands.calibrate import MOST_FRAMES, draw_calibration, parse_intrinsics, read_frames

WRONG = 2


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Call]:
    """Runs a command in an empty folder."""
    with command_line(monkeypatch, capsys, tmp_path) as run:
        yield run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = SyntheticDataset(train=6, validation=1, test_good=1, defects_per_kind=1, size=64, lot_size=2)
    return write_surface_layout(parts, tmp_path_factory.mktemp("parts") / "set")


def test_a_station_is_written_with_its_picture_and_told(call: Call, data: Path) -> None:
    done = call(
        *("calibrate", "--data", str(data), "--station", "s7", "--intrinsics", "150,150,32,32"),
        *("--out", "st/s7.json", "--json", "found.json"),
    )
    assert done.code == 0, done.err
    for words in ("s7", "6 reference frames", "pinhole", "mm (", "region of interest", "st/s7.json"):
        assert words in done.out, done.out
    station = Station.load(Path("st/s7.json"))
    assert station.name == "s7"
    assert station.rgb_size == station.depth_size == (64, 64)
    assert station.belt is not None
    assert station.belt.offset == pytest.approx(-0.4, abs=0.01)
    picture = cv2.imread("st/s7.png")
    assert picture is not None
    assert picture.shape == (64, 64 + 4 + 64, 3)
    written = json.loads(Path("found.json").read_text())
    assert written["station"] == "st/s7.json"
    assert {k: v for k, v in written.items() if k not in ("station", "unusual")} == station.to_map()


def test_depth_images_alone_are_enough(call: Call, data: Path) -> None:
    folder = data / "train" / "good" / "depth"
    one = min(folder.iterdir())
    done = call(
        *("calibrate", "--frames", str(folder), "--frames", str(one), "--station", "s1"),
        *("--depth-scale", "2e-5", "--pitch", "0.001", "--out", "s1.json"),
    )
    assert done.code == 0, done.err
    assert "look:" in done.out
    assert "has the very depth of" in " ".join(done.out.split())
    station = Station.load(Path("s1.json"))
    assert (station.frames, station.depth_scale, station.pitch, station.rgb_size) == (7, 2e-5, 1e-3, None)


def test_the_directions_that_a_data_set_carries_are_taken(call: Call, tmp_path: Path) -> None:
    for seed in range(3):
        mvtec3d.write(tmp_path / "all/bagel/train/good", f"{seed:03d}", seed=seed)
    done = call("calibrate", "--data", "all", "--category", "bagel", "--station", "s", "--out", "s.json")
    assert done.code == 0, done.err
    assert "a direction for each pixel" in done.out
    station = Station.load(Path("s.json"))
    assert station.ray_map is not None
    assert station.ray_map.shape == (mvtec3d.HEIGHT, mvtec3d.WIDTH, 3)


def test_a_ray_map_is_read_from_its_file(call: Call, data: Path) -> None:
    rays = np.ones((64, 64, 3), np.float64)
    rays[..., 0] = np.linspace(-0.2, 0.2, 64)
    rays[..., 1] = np.linspace(-0.2, 0.2, 64)[:, None]
    np.save("rays.npy", rays)
    done = call("calibrate", "--data", str(data), "--station", "s", "--rays", "rays.npy", "--out", "s.json")
    assert done.code == 0, done.err
    made = Station.load(Path("s.json")).rays(Roi(), 64)
    assert made is not None
    np.testing.assert_allclose(made.map, rays, rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--intrinsics", "1,2,3"), ("--intrinsics 1,2,3", "four numbers fx,fy,cx,cy")),
        (("--intrinsics", "a,2,3,4"), ("--intrinsics a,2,3,4", "four numbers")),
        (("--intrinsics", "0,2,3,4"), ("intrinsics", "fx > 0")),
        (("--intrinsics", "1,2,3,4", "--pitch", "1"), ("--intrinsics", "--pitch", "exclude")),
        (("--rays", "none.npy"), ("--rays none.npy", "No such file")),
        (("--frames", "x.png"), ("one of --data DIR and --frames FILE",)),
        (("--depth-scale", "0"), ("depth_scale",)),
        (("--category", "bolt"), ("no category 'bolt'",)),
        (("--out", "s.png"), ("--out s.png", ".json")),
    ],
)
def test_a_wrong_option_costs_one_line(
    call: Call, data: Path, words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    out = () if "--out" in words else ("--out", "s.json")
    assert_one_line(call("calibrate", "--data", str(data), "--station", "s", *out, *words), WRONG, *said)
    assert not Path("s.json").exists()


def image(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), values)


def test_wrong_frames_cost_one_line(call: Call, tmp_path: Path) -> None:
    frame = np.arange(4096, dtype=np.uint16).reshape(64, 64) + np.uint16(1)
    image(tmp_path / "zero/a.png", np.zeros((64, 64), np.uint16))
    for name, size in (("a", 64), ("b", 32)):
        image(tmp_path / "sizes" / f"{name}.png", frame[:size, :size])
    image(tmp_path / "colour/a.png", np.zeros((8, 8, 3), np.uint8))
    image(tmp_path / "rgb_only/rgb/a.png", np.zeros((8, 8, 3), np.uint8))
    image(tmp_path / "rgb_only/rgb/b.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("no image")
    np.save("flat.npy", np.ones((4, 4), np.float32))

    def frames(*words: str) -> tuple[str, ...]:
        return ("calibrate", "--station", "s", "--out", "s.json", *words)

    assert_one_line(call(*frames("--frames", "zero")), WRONG, "a.png", "zero throughout")
    assert_one_line(call(*frames("--frames", "sizes")), WRONG, "b.png", "32 x 32", "64 x 64")
    assert_one_line(call(*frames("--frames", "colour")), WRONG, "a.png", "16-bit")
    assert_one_line(call(*frames("--frames", "empty")), WRONG, "empty", "no images")
    assert_one_line(call(*frames("--frames", "none.png")), WRONG, "none.png", "no such file")
    assert_one_line(call(*frames("--frames", "a.txt")), WRONG, "a.txt", "not read", "png, jpg")
    assert_one_line(call(*frames("--data", "empty")), WRONG, "empty", "no layout that is known")
    assert_one_line(
        call(*frames("--frames", "sizes/a.png", "--rays", "flat.npy")), WRONG, "flat.npy", "(H, W, 3)"
    )
    done = call(*frames("--data", "rgb_only"))
    assert done.code == WRONG
    assert "a: no depth image" in done.err
    assert "Traceback" not in done.err


def test_many_frames_are_thinned_evenly(tmp_path: Path) -> None:
    for number in range(MOST_FRAMES + 36):
        image(tmp_path / f"{number:03d}.png", np.full((4, 4), number + 1, np.uint16))
    found = read_frames([tmp_path], Conventions())
    assert len(found) == MOST_FRAMES
    assert (found[0][0], found[-1][0]) == ("000.png", f"{MOST_FRAMES + 35:03d}.png")


def test_intrinsics_are_read_in_their_order() -> None:
    camera = parse_intrinsics("600.5, 601,320,240")
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (600.5, 601, 320, 240)


def test_the_picture_shows_what_is_nearer_in_red_and_the_unread_in_grey() -> None:
    rng = np.random.default_rng(0)
    shots = []
    for number in range(5):
        depth = (30000 + rng.normal(0, 2, (60, 80))).round().astype(np.uint16)
        depth[20:40, 30:60] -= 500
        depth[:6, :6] = 0
        depth[50:56, 70:76] += 500
        shots.append((str(number), Sample(None, depth, None)))
    picture = draw_calibration(calibrate(shots, name="s"), shots[0][1])
    right = picture[:, 84:]
    assert right.shape == (60, 80, 3)
    assert right[31, 44].tolist() == [0, 0, 255]
    assert right[52, 73].tolist() == [255, 0, 0]
    assert right[2, 2].tolist() == [128, 128, 128]
    assert right[10, 71].min() > 100

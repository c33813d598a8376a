"""Files as people have them: every format that is read, and everything else named instead of passed over."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from plyfile import PlyData, PlyElement
from pypcd4.pypcd4 import Encoding, PointCloud

from inference.datasets.base import notes_of
from inference.datasets.conventions import Conventions
from inference.datasets.files import read_colour
from inference.datasets.found import find_frames
from inference.datasets.mvtec3d import MVTec3DDataset
from inference.datasets.open import open_dataset
from inference.datasets.pairs import PairsDataset
from inference.datasets.surface import SurfaceDataset
from inference.errors import DatasetError
from inference.sample import Sample
from tests.inference.tiff_files import write_tiff

HIGH, WIDE = 6, 8
RGB = np.random.default_rng(0).integers(0, 256, (HIGH, WIDE, 3)).astype(np.uint8)
COUNTS = np.random.default_rng(1).integers(15_000, 25_000, (HIGH, WIDE)).astype(np.uint16)
METRES = (COUNTS * 2e-5).astype(np.float32)
POINTS = np.stack([np.ones((HIGH, WIDE)), np.ones((HIGH, WIDE)), METRES], axis=-1).astype(np.float32)

Write = Callable[[Path], object]


def opencv(path: Path, image: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(image, image.dtype))


def numpy_file(path: Path, values: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".npz":
        np.savez_compressed(path, depth=values)
    else:
        with path.open("wb") as file:
            np.save(file, values)


def pcd(path: Path, points: NDArray[np.float32], encoding: Encoding, *, organised: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cloud = PointCloud.from_xyz_points(points.reshape(-1, 3))
    if organised:
        cloud.metadata.height, cloud.metadata.width = points.shape[:2]
    cloud.save(path, encoding=encoding)


def ply(path: Path, points: NDArray[np.float32], how: str, *, text: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = points.reshape(-1, 3)
    height, width = points.shape[:2]
    elements, comments, info = [], [], []
    if how == "grid":
        there = np.flatnonzero(flat[:, 2] > 0)
        place = {int(one): index for index, one in enumerate(there)}
        flat = flat[there]
        lists = [([place[cell]],) if cell in place else ([],) for cell in range(height * width)]
        grid = np.empty(height * width, dtype=[("vertex_indices", object)])
        grid["vertex_indices"] = [np.array(one[0], np.int32) for one in lists]
        elements = [PlyElement.describe(grid, "range_grid", val_types={"vertex_indices": "i4"})]
        info = [f"num_cols {width}", f"num_rows {height}"]
    elif how == "comment":
        comments = [f"width {width}", f"height {height}"]
    elif how == "camera":
        camera = np.array([(width, height)], dtype=[("viewportx", "i4"), ("viewporty", "i4")])
        elements = [PlyElement.describe(camera, "camera")]
    vertices = np.array([tuple(p) for p in flat], dtype=[("x", "f4"), ("y", "f4"), ("z", "f4")])
    PlyData(
        [PlyElement.describe(vertices, "vertex"), *elements], text=text, comments=comments, obj_info=info
    ).write(str(path))


def pair(root: Path, name: str = "a0") -> Path:
    opencv(root / f"rgb/{name}.png", RGB[..., ::-1])
    opencv(root / f"depth/{name}.png", COUNTS)
    return root


def depth_of(root: Path) -> NDArray[np.uint16]:
    sample = PairsDataset(root).all()[0].sample()
    assert sample.depth is not None
    return sample.depth


DEPTHS: list[tuple[str, Write]] = [
    ("a.tiff", lambda p: write_tiff(p, COUNTS)),
    ("a.tif", lambda p: opencv(p, COUNTS)),  # compressed
    ("big-endian.TIFF", lambda p: write_tiff(p, COUNTS, order=">")),
    ("metres.tiff", lambda p: write_tiff(p, METRES)),
    ("a.PNG", lambda p: opencv(p, COUNTS)),
    ("a.pgm", lambda p: opencv(p, COUNTS)),
    ("a.pnm", lambda p: opencv(p, COUNTS)),
    ("a.exr", lambda p: opencv(p, METRES)),
    ("a.npy", lambda p: numpy_file(p, COUNTS)),
    ("a.npz", lambda p: numpy_file(p, COUNTS)),
    ("big.npy", lambda p: numpy_file(p, COUNTS.astype(">u2"))),
    ("int.npy", lambda p: numpy_file(p, COUNTS.astype(np.int64))),
    ("column.npy", lambda p: numpy_file(p, COUNTS[..., None])),
    ("big-metres.npy", lambda p: numpy_file(p, METRES.astype(">f4"))),
    ("double.npz", lambda p: numpy_file(p, METRES.astype(np.float64))),
    ("xyz.npy", lambda p: numpy_file(p, POINTS)),
    ("xyz.tiff", lambda p: write_tiff(p, POINTS)),
    ("ascii.pcd", lambda p: pcd(p, POINTS, Encoding.ASCII)),
    ("binary.pcd", lambda p: pcd(p, POINTS, Encoding.BINARY)),
    ("compressed.pcd", lambda p: pcd(p, POINTS, Encoding.BINARY_COMPRESSED)),
    ("grid.ply", lambda p: ply(p, POINTS, "grid")),
    ("comment.ply", lambda p: ply(p, POINTS, "comment")),
    ("text.ply", lambda p: ply(p, POINTS, "comment", text=True)),
    ("camera.ply", lambda p: ply(p, POINTS, "camera")),
]


@pytest.mark.parametrize(("name", "write"), DEPTHS, ids=[name for name, _ in DEPTHS])
def test_depth_is_read_from_every_format_with_the_same_counts(
    tmp_path: Path, name: str, write: Write
) -> None:
    path = tmp_path / "depth" / name
    path.parent.mkdir()
    write(path)
    assert np.abs(depth_of(tmp_path).astype(int) - COUNTS).max() <= 0


COLOURS: list[tuple[str, Write]] = [
    (f"a{suffix}", lambda p: opencv(p, RGB[..., ::-1]))
    for suffix in (".png", ".PNG", ".bmp", ".BMP", ".tif", ".TIFF", ".ppm", ".pnm")
] + [
    ("a.npy", lambda p: numpy_file(p, RGB)),
    ("deep.png", lambda p: opencv(p, RGB[..., ::-1].astype(np.uint16) * 257)),
    ("deep.tiff", lambda p: write_tiff(p, RGB.astype(np.uint16) * 257)),
    ("alpha.png", lambda p: opencv(p, np.dstack([RGB[..., ::-1], np.full((HIGH, WIDE), 255, np.uint8)]))),
]


@pytest.mark.parametrize(("name", "write"), COLOURS, ids=[name for name, _ in COLOURS])
def test_colour_is_read_from_every_format_in_rgb_order(tmp_path: Path, name: str, write: Write) -> None:
    path = tmp_path / "rgb" / name
    path.parent.mkdir()
    write(path)
    sample = PairsDataset(tmp_path).all()[0].sample()
    assert sample.rgb is not None
    np.testing.assert_array_equal(sample.rgb, RGB)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_lossy_colour_is_read_within_its_loss(tmp_path: Path, suffix: str) -> None:
    smooth = cv2.resize(RGB[:2, :2], (64, 48), interpolation=cv2.INTER_LINEAR)
    opencv(tmp_path / f"a{suffix}", smooth[..., ::-1])
    assert np.abs(read_colour(tmp_path / f"a{suffix}").astype(int) - smooth).mean() < 6


def test_grey_is_repeated_and_a_palette_resolved(tmp_path: Path) -> None:
    opencv(tmp_path / "grey.bmp", RGB[..., 0])
    assert (read_colour(tmp_path / "grey.bmp") == RGB[..., :1]).all()
    from PIL import Image

    image = Image.fromarray(RGB // 128 * 255).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_colour(tmp_path / "palette.png"), np.asarray(image.convert("RGB")))


LAYOUTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "surface": ("train/good", lambda f: SurfaceDataset(f).train()),
    "mvtec3d": ("train/good", lambda f: MVTec3DDataset(f).train()),
    "pairs": (".", lambda f: PairsDataset(f).all()),
    "recognised": ("train/good", lambda f: open_dataset(f).train()),
    "inspected": ("test/good", lambda f: find_frames(f)),
    "inspected pairs": (".", lambda f: find_frames(f)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".raw", ".tar", ".dng", ".xyz", ".jp2", ".gif", ""])
def test_a_file_that_is_not_read_is_refused_by_name_in_every_layout(
    tmp_path: Path, layout: str, suffix: str
) -> None:
    place, read = LAYOUTS[layout]
    opencv(tmp_path / place / "rgb/a0.png", RGB)
    other = "xyz" if layout == "mvtec3d" else "depth"
    (tmp_path / place / other).mkdir()
    (tmp_path / place / other / f"a0{suffix}").write_bytes(b"data")
    with pytest.raises(DatasetError, match=rf"a0{suffix}: .*not read; read are png, jpg.*pcd"):
        read(tmp_path)


@pytest.mark.parametrize("layout", [one for one in LAYOUTS if one != "mvtec3d"])
@pytest.mark.parametrize("inside", [[], ["notes.txt", ".hidden", "Thumbs.db"]])
def test_a_sensors_folder_without_readable_files_is_refused(
    tmp_path: Path, layout: str, inside: list[str]
) -> None:
    place, read = LAYOUTS[layout]
    opencv(tmp_path / place / "rgb/a0.png", RGB)
    (tmp_path / place / "depth").mkdir()
    for name in inside:
        (tmp_path / place / "depth" / name).write_text("x")
    with pytest.raises(DatasetError, match=r"depth: no images in it"):
        read(tmp_path)


@pytest.mark.parametrize("layout", [one for one in LAYOUTS if one != "mvtec3d"])
@pytest.mark.parametrize("name", ["Depth", "DEPTH", "depths", "tiefe", "height"])
def test_the_other_sensor_under_another_name_is_not_counted_as_absent(
    tmp_path: Path, layout: str, name: str
) -> None:
    place, read = LAYOUTS[layout]
    opencv(tmp_path / place / "rgb/a0.png", RGB)
    opencv(tmp_path / place / name / "a0.png", COUNTS)
    with pytest.raises(DatasetError, match=rf"{name}: not read"):
        read(tmp_path)


@pytest.mark.parametrize("other", ["a0_depth.raw", "a0_tiefe.png", "a0_color.tiff"])
def test_files_side_by_side_with_another_ending_are_not_passed_over(tmp_path: Path, other: str) -> None:
    opencv(tmp_path / "a0_rgb.png", RGB)
    (tmp_path / other).write_bytes(b"data")
    for read in (lambda: PairsDataset(tmp_path).all(), lambda: find_frames(tmp_path)):
        with pytest.raises(DatasetError, match=other):
            read()


def test_folders_inside_a_sensors_folder_and_fifos_are_named(tmp_path: Path) -> None:
    pair(tmp_path)
    (tmp_path / "depth/lot1").mkdir()
    with pytest.raises(DatasetError, match="lot1: a folder among images"):
        PairsDataset(tmp_path).all()
    (tmp_path / "depth/lot1").rmdir()
    os.mkfifo(tmp_path / "depth/b0.png")
    with pytest.raises(DatasetError, match=r"b0\.png: not a regular file"):
        PairsDataset(tmp_path).all()


def test_sidecars_and_what_desktops_leave_are_passed_over(tmp_path: Path) -> None:
    pair(tmp_path)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._a0.png", "readme.txt", "a0.json", "log.CSV"):
        (tmp_path / "rgb" / name).write_bytes(b"x")
    data = PairsDataset(tmp_path)
    assert [item.name for item in data.all()] == ["a0"]
    assert not [note for note in notes_of(data) if "guessed" not in note]


def jpeg() -> bytes:
    return cv2.imencode(".jpg", cv2.resize(RGB, (64, 48)))[1].tobytes()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a0.png", jpeg(), "named .png, but holds JPEG"),
        ("a0.jpg", cv2.imencode(".png", RGB)[1].tobytes(), "named .jpg, but holds PNG"),
        ("a0.bmp", cv2.imencode(".tiff", RGB)[1].tobytes(), "named .bmp, but holds TIFF"),
        ("a0.tiff", jpeg(), "named .tiff, but holds JPEG"),
    ],
)
def test_content_of_another_format_than_the_suffix_is_read_and_told(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    for number in range(3):
        path = tmp_path / "rgb" / name.replace("a0", f"a{number}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    pairs = PairsDataset(tmp_path)
    assert pairs.all()[0].sample().rgb is not None
    lines = [note for note in notes_of(pairs) if "guessed" not in note]
    assert len(lines) == 1
    assert name in lines[0]
    assert " and 2 more: " in lines[0]
    assert said in lines[0]
    assert list(find_frames(tmp_path).notes) == lines


@pytest.mark.parametrize(
    "padding", [b"\0" * 5000, b"\xff" * 3000, os.urandom(1 << 16), b"\xff\xd8\xff\xd9" * 999]
)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_bytes_behind_the_end_of_a_picture_are_padding(tmp_path: Path, padding: bytes, suffix: str) -> None:
    big = cv2.resize(RGB, (64, 48))
    plain = cv2.imencode(suffix, big)[1].tobytes()
    for name, data in (("plain", plain), ("padded", plain + padding)):
        (tmp_path / f"{name}{suffix}").write_bytes(data)
    expected = read_colour(tmp_path / f"plain{suffix}")
    np.testing.assert_array_equal(read_colour(tmp_path / f"padded{suffix}"), expected)
    (tmp_path / f"cut{suffix}").write_bytes(plain[: len(plain) // 2] + bytes(5000))
    with pytest.raises(DatasetError, match="damaged or cut off"):
        read_colour(tmp_path / f"cut{suffix}")


@pytest.mark.parametrize(("name", "write"), DEPTHS, ids=[name for name, _ in DEPTHS])
@pytest.mark.parametrize("kept", [0.3, 0.97])
def test_a_file_that_was_cut_off_is_refused_in_every_format(
    tmp_path: Path, name: str, write: Write, kept: float
) -> None:
    path = tmp_path / "depth" / name
    path.parent.mkdir()
    write(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DatasetError, match=name):
        depth_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.pcd", lambda p: pcd(p, POINTS, Encoding.BINARY, organised=False), "48 points in no order"),
        ("a.ply", lambda p: ply(p, POINTS, "none"), "48 points in no order"),
        (
            "a.ply",
            lambda p: p.write_bytes(b"ply\nformat binary_little_endian 1.0\nend_header\n"),
            "no vertices",
        ),
        ("a.pcd", lambda p: p.write_bytes(b"# .PCD v0.7\nhello\n"), "not a PCD"),
        ("a.bmp", lambda p: opencv(p, RGB), "3-channel 8-bit integer image"),
        ("a.jpg", lambda p: opencv(p, RGB), "3-channel 8-bit integer image"),
        ("a.npy", lambda p: numpy_file(p, np.ones((2, 2), np.uint8)), "8-bit integer image"),
        ("a.npy", lambda p: numpy_file(p, np.ones(7)), r"expected numbers \(H, W\)"),
        ("a.npy", lambda p: numpy_file(p, np.ones((2, 2), np.complex64)), r"expected numbers \(H, W\)"),
        ("a.npz", lambda p: np.savez(p, left=COUNTS, right=COUNTS), r"2 arrays \(left, right\).*depth"),
        ("a.npz", lambda p: p.write_bytes(b"PK\x03\x04nothing"), "not an array"),
    ],
)
def test_what_is_no_depth_image_is_refused_in_words(
    tmp_path: Path, name: str, write: Write, said: str
) -> None:
    path = tmp_path / "depth" / name
    path.parent.mkdir()
    write(path)
    with pytest.raises(DatasetError, match=rf"{name}: .*{said}"):
        depth_of(tmp_path)


def test_an_archive_of_several_arrays_is_read_where_one_has_the_sensors_name(tmp_path: Path) -> None:
    (tmp_path / "depth").mkdir()
    np.savez(tmp_path / "depth/a.npz", confidence=COUNTS * 0, depth=COUNTS)
    np.testing.assert_array_equal(depth_of(tmp_path), COUNTS)


def test_a_tiff_of_several_pages_is_refused_and_a_thumbnail_is_no_page(tmp_path: Path) -> None:
    path = tmp_path / "depth/a.tiff"
    path.parent.mkdir()
    assert cv2.imwritemulti(str(path), [COUNTS, COUNTS])
    with pytest.raises(DatasetError, match="2 pages in one file"):
        depth_of(tmp_path)
    one = cv2.imencode(".tiff", COUNTS)[1].tobytes()
    # A second directory of one tag: NewSubfileType, a smaller copy.
    (at,) = struct.unpack_from("<I", one, 4)
    (count,) = struct.unpack_from("<H", one, at)
    following = at + 2 + 12 * count
    small = struct.pack("<HHHIII", 1, 254, 4, 1, 1, 0)
    path.write_bytes(one[:following] + struct.pack("<I", len(one)) + one[following + 4 :] + small)
    np.testing.assert_array_equal(depth_of(tmp_path), COUNTS)


def test_points_of_any_format_are_read_in_the_published_layout(tmp_path: Path) -> None:
    writers: list[tuple[str, Write]] = [
        ("000.tiff", lambda p: write_tiff(p, POINTS)),
        ("001.pcd", lambda p: pcd(p, POINTS, Encoding.BINARY_COMPRESSED)),
        ("002.ply", lambda p: ply(p, POINTS, "comment")),
        ("003.npy", lambda p: numpy_file(p, POINTS.astype(">f8"))),
    ]
    root = tmp_path / "bagel/train/good"
    for name, write in writers:
        opencv(root / f"rgb/{Path(name).stem}.bmp", RGB)
        (root / "xyz").mkdir(exist_ok=True)
        write(root / "xyz" / name)
    shutil.copytree(root, tmp_path / "bagel/validation/good")
    items = MVTec3DDataset(tmp_path / "bagel").train()
    assert len(items) == 4
    for item in items:
        depth = item.sample().depth
        assert depth is not None
        np.testing.assert_array_equal(depth, COUNTS)


def test_eyecandies_finds_its_files_whatever_their_case_and_refuses_the_others(tmp_path: Path) -> None:
    from tests.inference import test_datasets_eyecandies as eyecandies

    root = tmp_path / "Cake/train/data"
    eyecandies.write(root, "000", nearest=4, farthest=5, seed=0)
    for path in list(root.glob("*.png")):
        path.rename(path.with_suffix(".PNG"))
    data = open_dataset(tmp_path / "Cake")
    assert data.train()[0].sample().depth is not None
    (root / "001_depth.raw").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"001_depth\.raw: \.raw files are not read"):
        data.train()


def sample_of(root: Path, conventions: Conventions) -> Sample:
    return open_dataset(root, conventions=conventions).train()[0].sample()

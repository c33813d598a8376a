"""The region of interest that teaching finds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference.datasets.synthetic import SyntheticPart
from inference.errors import RoiError
from inference.roi import Roi, draw_roi, find_roi

Colour = NDArray[np.uint8]
Depth = NDArray[np.uint16]


def noise(rng: np.random.Generator, height: int, width: int) -> Colour:
    grey = rng.normal(90, 6, (height, width, 1))
    return np.repeat(grey, 3, axis=2).clip(0, 255).astype(np.uint8)


def part(
    box: tuple[int, int, int, int], seed: int, size: tuple[int, int] = (160, 200)
) -> tuple[Colour, Depth]:
    """A red block that stands 300 counts over a belt that leans, at (x0, y0, x1, y1)."""
    rng = np.random.default_rng(seed)
    x0, y0, x1, y1 = box
    colour = noise(rng, *size)
    colour[y0:y1, x0:x1] = (170, 60, 50)
    rows, columns = np.mgrid[: size[0], : size[1]]
    depth = 20_000 + 2.0 * columns + 1.0 * rows + rng.normal(0, 5, size)
    depth[y0:y1, x0:x1] -= 300
    depth[rng.random(size) < 0.05] = 0
    return colour, depth.astype(np.uint16)


def shifted(count: int) -> list[tuple[int, int, int, int]]:
    rng = np.random.default_rng(9)
    moves = rng.integers(-6, 7, (count, 2))
    return [(60 + int(x), 50 + int(y), 130 + int(x), 110 + int(y)) for x, y in moves]


@pytest.mark.parametrize("sensors", ["both", "colour", "depth"])
def test_the_box_holds_every_part_wherever_it_lies(sensors: str) -> None:
    boxes = shifted(20)
    frames = [part(box, seed) for seed, box in enumerate(boxes)]
    roi = find_roi(
        [colour if sensors != "depth" else None for colour, _ in frames],
        [depth if sensors != "colour" else None for _, depth in frames],
    )
    for x0, y0, x1, y1 in boxes:
        assert roi.x0 < x0 / 200
        assert roi.y0 < y0 / 160
        assert roi.x1 > x1 / 200
        assert roi.y1 > y1 / 160
    assert roi.area < 0.5


def test_depth_of_another_resolution_gives_the_same_box() -> None:
    frames = [part(box, seed) for seed, box in enumerate(shifted(12))]
    same = find_roi([c for c, _ in frames], [d for _, d in frames])
    halved = find_roi([c for c, _ in frames], [np.ascontiguousarray(d[::2, ::2]) for _, d in frames])
    assert halved.to_map() == pytest.approx(same.to_map(), abs=0.04)


def test_a_part_that_one_sensor_alone_can_see_is_found() -> None:
    frames = [part(box, seed) for seed, box in enumerate(shifted(12))]
    plain = [noise(np.random.default_rng(seed), 160, 200) for seed in range(12)]
    assert find_roi(plain, [d for _, d in frames]).area < 0.5
    flat = [np.full((160, 200), 20_000, np.uint16)] * 12
    assert find_roi([c for c, _ in frames], flat).area < 0.5


def test_a_larger_margin_gives_a_larger_box() -> None:
    frames = [part(box, seed) for seed, box in enumerate(shifted(8))]
    colours, depths = [c for c, _ in frames], [d for _, d in frames]
    assert find_roi(colours, depths, margin=0.1).area > find_roi(colours, depths, margin=0.0).area


def test_one_strange_frame_does_not_undo_the_box() -> None:
    frames = [part(box, seed) for seed, box in enumerate(shifted(20))]
    frames[3] = (noise(np.random.default_rng(0), 160, 200), np.zeros((160, 200), np.uint16))
    assert find_roi([c for c, _ in frames], [d for _, d in frames]).area < 0.5


def test_a_texture_that_fills_the_frame_is_taken_whole() -> None:
    rng = np.random.default_rng(3)
    colours, depths = [], []
    for _ in range(12):
        soft = cv2.GaussianBlur(rng.normal(0, 1, (128, 128)), (0, 0), 6)
        grey = 110 + 30 * soft / soft.std()
        colours.append(np.repeat(grey[..., None], 3, axis=2).clip(0, 255).astype(np.uint8))
        rough = cv2.GaussianBlur(rng.normal(0, 1, (128, 128)), (0, 0), 4)
        depths.append((30_000 + 400 * rough / rough.std()).astype(np.uint16))
    assert find_roi(colours, depths).area > 0.8


def test_a_speck_never_becomes_the_region() -> None:
    frames = [part((98, 78, 102, 82), seed) for seed in range(8)]
    assert find_roi([c for c, _ in frames], [d for _, d in frames]).whole


def test_a_small_part_gets_a_box_of_a_decent_size() -> None:
    frames = [part((95, 74, 110, 88), seed) for seed in range(8)]
    roi = find_roi([c for c, _ in frames], [d for _, d in frames], margin=0.0)
    assert roi.x1 - roi.x0 >= 0.15
    assert roi.y1 - roi.y0 >= 0.15
    assert roi.area < 0.1


def test_a_rendered_part_on_its_belt_is_inside_the_box() -> None:
    line = SyntheticPart(0, 128)
    samples = [line.render(seed, lot=seed // 4).sample for seed in range(12)]
    roi = find_roi([s.rgb for s in samples], [s.depth for s in samples])
    assert 0.3 < roi.area < 0.85
    for seed in range(100, 120):  # parts that were not among the normals
        depth = line.render(seed, lot=50).sample.depth
        assert depth is not None
        rows, columns = roi.pixels(*depth.shape)
        # The part stands 3 mm and more over the belt, which nothing outside the box may do.
        above = (depth > 0) & (depth < np.median(depth[:6]) - 300)
        inside = above[rows, columns].sum()
        assert inside > 0.99 * above.sum()


def test_frames_without_either_sensor_leave_the_frame_whole() -> None:
    assert find_roi([None, None], [None, None]).whole


@pytest.mark.parametrize(
    ("colours", "depths", "margin"), [([], [], 0.04), ([None], [], 0.04), ([None], [None], 0.6)]
)
def test_impossible_arguments_are_refused(colours: list[None], depths: list[None], margin: float) -> None:
    with pytest.raises(RoiError):
        find_roi(colours, depths, margin=margin)


def test_the_region_in_pixels_covers_its_share_and_never_nothing() -> None:
    assert Roi().pixels(100, 60) == (slice(0, 100), slice(0, 60))
    assert Roi(0.25, 0.5, 0.75, 1.0).pixels(100, 60) == (slice(50, 100), slice(15, 45))
    rows, columns = Roi(0.999, 0.999, 1.0, 1.0).pixels(3, 2)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (1, 1)
    with pytest.raises(RoiError):
        Roi().pixels(0, 5)


@pytest.mark.parametrize(
    "box",
    [
        (0.5, 0, 0.5, 1),
        (0, 0.7, 1, 0.2),
        (-0.1, 0, 1, 1),
        (0, 0, 1, 1.1),
        (0, 0, float("nan"), 1),
        (0, True, 1, 1),
    ],
)
def test_a_box_that_is_none_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(RoiError):
        Roi(*box)


def test_the_region_survives_its_map() -> None:
    roi = Roi(0.1, 0.2, 0.8, 0.9)
    assert Roi.from_map(roi.to_map()) == roi


@pytest.mark.parametrize("values", [{}, {"x0": 0, "y0": 0, "x1": 1}, {"x0": 0, "y0": 0, "x1": "1", "y1": 1}])
def test_a_map_that_is_no_region_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(RoiError):
        Roi.from_map(values)


def test_the_picture_darkens_what_is_left_out_and_keeps_the_rest() -> None:
    rgb = np.full((100, 100, 3), 200, np.uint8)
    before = rgb.copy()
    picture = draw_roi(rgb, Roi(0.2, 0.2, 0.8, 0.8))
    assert np.array_equal(rgb, before)
    assert (picture[:19] < 80).all()
    assert (picture[30:70, 30:70] == 200).all()
    assert not (picture[20, 20:80] == 200).all()

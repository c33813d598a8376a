"""Boxes of a map: what is strong is boxed tightly, what stands apart gets a box of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.regions import find_regions
from inference.roi import Roi
from schemas.verdict import MAX_REGIONS

WHOLE = (256, 256)


def spots(*places: tuple[int, int, float, float]) -> NDArray[np.float32]:
    """(256, 256): Gaussian bumps (x, y, sigma, height)."""
    y, x = np.mgrid[:256, :256].astype(np.float32)
    out = np.zeros(WHOLE, np.float32)
    for px, py, sigma, height in places:
        out = np.maximum(out, height * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)))
    return out


def nobody(place: NDArray[np.bool_]) -> None:
    return None


def test_a_strong_spot_is_boxed_at_half_its_peak_and_not_where_it_fades() -> None:
    (box,) = find_regions(spots((100, 80, 20.0, 40.0)), 4.0, WHOLE, Roi(), nobody)
    reach = 20.0 * np.sqrt(2 * np.log(2))
    assert abs(box.width - 2 * reach) <= 3
    assert abs(box.x + box.width / 2 - 100) <= 2
    assert abs(box.y + box.height / 2 - 80) <= 2
    assert box.score == np.float32(40.0)


def test_a_faint_spot_is_boxed_down_to_the_threshold() -> None:
    (box,) = find_regions(spots((100, 80, 10.0, 6.0)), 4.0, WHOLE, Roi(), nobody)
    assert abs(box.width - 2 * 10.0 * np.sqrt(2 * np.log(6 / 4))) <= 3


def test_spots_apart_have_boxes_of_their_own_the_strongest_first() -> None:
    found = find_regions(
        spots((40, 40, 6.0, 9.0), (200, 60, 6.0, 30.0), (120, 200, 6.0, 12.0)), 4.0, WHOLE, Roi(), nobody
    )
    assert [round(float(box.score)) for box in found] == [30, 12, 9]


def test_two_peaks_on_one_hill_are_two_boxes() -> None:
    found = find_regions(
        spots((80, 80, 8.0, 20.0), (130, 80, 8.0, 18.0), (105, 80, 30.0, 8.0)), 4.0, WHOLE, Roi(), nobody
    )
    assert len(found) == 2


def test_boxes_are_in_pixels_of_the_frame_around_the_region() -> None:
    roi = Roi(0.25, 0.5, 0.75, 1.0)
    (box,) = find_regions(spots((128, 128, 8.0, 9.0)), 4.0, (480, 640), roi, nobody)
    assert abs(box.x + box.width / 2 - (160 + 160)) <= 3
    assert abs(box.y + box.height / 2 - (240 + 120)) <= 3


def test_who_sees_a_region_is_asked_with_its_places() -> None:
    canvas = spots((60, 60, 8.0, 20.0), (180, 180, 8.0, 10.0))

    def which(place: NDArray[np.bool_]) -> str:
        return "left" if place[60, 60] and not place[180, 180] else "right"

    assert [box.seen_by for box in find_regions(canvas, 4.0, WHOLE, Roi(), which)] == ["left", "right"]


def test_a_map_below_the_threshold_still_says_where_and_never_too_much() -> None:
    assert len(find_regions(spots((60, 60, 8.0, 3.0)), 4.0, WHOLE, Roi(), nobody)) == 1
    rng = np.random.default_rng(0)
    noisy = np.kron(rng.uniform(0, 9, (64, 64)), np.ones((4, 4))).astype(np.float32)
    assert len(find_regions(noisy, 4.0, WHOLE, Roi(), nobody)) <= MAX_REGIONS

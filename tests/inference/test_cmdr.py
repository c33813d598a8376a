"""The published scoring against loops over pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference import cmdr
from inference.cmdr import CmdrSettings
from inference.errors import NoReading, NotFinite

Map = NDArray[Any]
HEIGHT, WIDTH = 9, 12


def drawn(
    seed: int, *, dtype: type = np.float64, high: float = 2.0
) -> tuple[Map, Map, Map, Map, NDArray[np.bool_]]:
    """m2, m3, r2, r3 and a mask with a hole and a border."""
    rng = np.random.default_rng(seed)
    maps: Map = rng.uniform(0.0, high, (4, HEIGHT, WIDTH)).astype(dtype)
    valid = np.zeros((HEIGHT, WIDTH), np.bool_)
    valid[2:8, 1:10] = True
    valid[4, 5] = False
    return maps[0], maps[1], maps[2], maps[3], valid


# The formulas again, a pixel at a time.


def naive_box(image: Map, width: int) -> Map:
    out = np.zeros_like(image)
    reach = width // 2
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            total = 0.0
            for v in range(y - reach, y + reach + 1):
                for u in range(x - reach, x + reach + 1):
                    if 0 <= v < image.shape[0] and 0 <= u < image.shape[1]:
                        total += image[v, u]
            out[y, x] = total / width**2
    return out


def naive_smooth(image: Map, passes: tuple[tuple[int, int], ...]) -> Map:
    for width, times in passes:
        for _ in range(times):
            image = naive_box(image, width)
    return image


def naive_gate(product: Map, alpha: float = 4.0, beta: float = 2.0) -> Map:
    mu = sum(product.ravel()) / product.size
    spread = np.sqrt(naive_box((product - mu) ** 2, 7))
    mean = sum(spread.ravel()) / spread.size
    out = np.zeros_like(product)
    for y in range(product.shape[0]):
        for x in range(product.shape[1]):
            steep = alpha + beta * spread[y, x] / (mean + 1e-8)
            out[y, x] = 1.0 / (1.0 + math.exp(-steep * product[y, x]))
    return out


def naive_reconstruction(r2: float, r3: float, doubt: float = 0.3) -> float:
    w2, w3 = math.exp(-doubt * r2), math.exp(-doubt * r3)
    return (w2 * r2 + w3 * r3) / (w2 + w3 + 1e-8)


def naive_evidence(m2: Map, m3: Map, r2: Map, r3: Map, valid: NDArray[np.bool_]) -> Map:
    m2, m3, r2, r3 = (np.where(valid, one, 0.0) for one in (m2, m3, r2, r3))
    r2 = naive_smooth(r2, ((5, 3), (7, 2)))
    product = m2 * m3
    gates = naive_gate(product)
    out = np.zeros_like(product)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            if valid[y, x]:
                out[y, x] = gates[y, x] * product[y, x] * naive_reconstruction(r2[y, x], r3[y, x])
    return naive_smooth(out, ((5, 5), (7, 3)))


def naive_mean_of_part(image: Map) -> float:
    part = [one for one in image.ravel() if one != 0]
    return float(sum(part) / len(part))


@pytest.mark.parametrize("width", [1, 3, 5, 7])
def test_a_box_counts_zeros_beyond_the_border(width: int) -> None:
    image = drawn(1)[0]
    np.testing.assert_allclose(cmdr.box(image, width), naive_box(image, width), rtol=1e-12)


def test_a_box_leaves_nothing_behind_where_all_is_zero() -> None:
    image = np.zeros((40, 40), np.float32)
    image[5:9, 5:9] = np.random.default_rng(0).uniform(0.1, 2.0, (4, 4))
    out = cmdr.smooth(image, ((5, 5), (7, 3)))
    assert out.dtype == np.float32
    assert (out[9 + 19 :] == 0.0).all()
    assert (out[:, 9 + 19 :] == 0.0).all()
    assert out[8 + 19, 8 + 19] > 0.0


def test_the_gate_is_that_of_loops() -> None:
    m2, m3, _, _, _ = drawn(2)
    np.testing.assert_allclose(cmdr.gate(m2 * m3), naive_gate(m2 * m3), rtol=1e-12)
    settings = CmdrSettings(alpha=1.0, beta=0.5)
    np.testing.assert_allclose(cmdr.gate(m2 * m3, settings), naive_gate(m2 * m3, 1.0, 0.5), rtol=1e-12)


@given(st.integers(0, 10_000), st.floats(0.0, 50.0))
def test_the_gate_never_suppresses_below_a_half(seed: int, high: float) -> None:
    product = np.random.default_rng(seed).uniform(0.0, high, (6, 7))
    gates = cmdr.gate(product)
    assert (gates >= 0.5).all()
    assert (gates <= 1.0).all()
    assert (cmdr.gate(np.zeros((6, 7))) == 0.5).all()


@given(st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_a_weight_falls_with_its_distance(r2: float, r3: float) -> None:
    found = float(cmdr.reconstruction(np.array([[r2]]), np.array([[r3]]))[0, 0])
    assert found == pytest.approx(naive_reconstruction(r2, r3), rel=1e-12, abs=1e-300)
    assert found <= 0.5 * (r2 + r3) + 1e-12
    assert found >= min(r2, r3) * (1.0 - 1e-7)


@pytest.mark.parametrize(("r2", "r3", "expected"), [(0.2, 0.8, 0.473), (0.0, 1.4, 0.555)])
def test_known_reconstruction_values(r2: float, r3: float, expected: float) -> None:
    found = float(cmdr.reconstruction(np.array([[r2]]), np.array([[r3]]))[0, 0])
    assert found == pytest.approx(expected, abs=2e-3)


def test_two_far_off_decoders_do_not_cancel_each_other() -> None:
    """On maps that are no distances both weights would vanish, and the strangest pixel would read 0."""
    found = float(cmdr.reconstruction(np.array([[300.0]]), np.array([[300.0]]))[0, 0])
    assert found == pytest.approx(300.0, rel=1e-6)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_the_evidence_is_that_of_loops(seed: int) -> None:
    m2, m3, r2, r3, valid = drawn(seed)
    found = cmdr.evidence(m2, m3, r2, r3, valid)
    np.testing.assert_allclose(found, naive_evidence(m2, m3, r2, r3, valid), rtol=1e-10)


def test_single_precision_stays_single_and_agrees() -> None:
    m2, m3, r2, r3, valid = drawn(6, dtype=np.float32)
    found = cmdr.evidence(m2, m3, r2, r3, valid)
    assert found.dtype == np.float32
    a, b, c, d = (one.astype(np.float64) for one in (m2, m3, r2, r3))
    expected = naive_evidence(a, b, c, d, valid)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_one_branch_near_zero_vetoes_the_others() -> None:
    """What the calibrated fusion is there for."""
    m2, m3, r2, r3, valid = drawn(7)
    assert not cmdr.evidence(0.0 * m2, m3, r2, r3, valid).any()


def test_what_is_not_valid_cannot_reach_the_map() -> None:
    m2, m3, r2, r3, valid = drawn(8)
    expected = cmdr.evidence(m2, m3, r2, r3, valid)
    a, b, c, d = (np.where(valid, one, np.nan) for one in (m2, m3, r2, r3))
    np.testing.assert_array_equal(cmdr.evidence(a, b, c, d, valid), expected)


@pytest.mark.parametrize("index", range(4))
def test_nan_on_the_part_is_an_error_and_no_low_score(index: int) -> None:
    m2, m3, r2, r3, valid = drawn(9)
    (m2, m3, r2, r3)[index][3, 3] = np.nan
    with pytest.raises(NotFinite, match="not finite"):
        cmdr.evidence(m2, m3, r2, r3, valid)


def test_a_frame_without_a_valid_pixel_is_no_reading() -> None:
    m2, m3, r2, r3, valid = drawn(10)
    with pytest.raises(NoReading, match="no pixel of the frame is valid"):
        cmdr.evidence(m2, m3, r2, r3, np.zeros_like(valid))
    with pytest.raises(NoReading, match="no pixel of the frame is valid"):
        cmdr.shape_only(r3, np.zeros_like(valid))


def test_a_mask_of_another_size_is_refused() -> None:
    m2, m3, r2, r3, valid = drawn(10)
    with pytest.raises(ValueError, match="use one grid for all"):
        cmdr.evidence(m2, m3, r2, r3, valid[1:])


def test_feature_mapping_alone_is_the_plain_product_smoothed() -> None:
    m2, m3, _, _, valid = drawn(11)
    expected = naive_smooth(np.where(valid, m2 * m3, 0.0), ((5, 5), (7, 3)))
    np.testing.assert_allclose(cmdr.cfm(m2, m3, valid), expected, rtol=1e-12)


def test_one_sensor_alone_is_its_own_map() -> None:
    _, _, r2, r3, valid = drawn(12)
    np.testing.assert_allclose(cmdr.shape_only(r3, valid), naive_box(np.where(valid, r3, 0.0), 5), rtol=1e-12)
    np.testing.assert_allclose(cmdr.colour_only(r2), naive_smooth(r2, ((5, 3), (7, 2))), rtol=1e-12)
    np.testing.assert_allclose(
        cmdr.colour_only(r2, valid), naive_smooth(np.where(valid, r2, 0.0), ((5, 3), (7, 2))), rtol=1e-12
    )


def test_maps_by_branch_name_take_the_form_that_fits_them() -> None:
    m2, m3, r2, r3, valid = drawn(13)
    every = {"colour": r2, "shape": r3, "colour_from_shape": m2, "shape_from_colour": m3}
    np.testing.assert_array_equal(cmdr.psi(every, valid), cmdr.evidence(m2, m3, r2, r3, valid))
    shuffled = {name: every[name] for name in reversed(every)} | {"dents": r2}
    np.testing.assert_array_equal(cmdr.psi(shuffled, valid), cmdr.evidence(m2, m3, r2, r3, valid))
    mapped = {"shape_from_colour": m3, "colour_from_shape": m2}
    np.testing.assert_array_equal(cmdr.psi(mapped, valid), cmdr.cfm(m2, m3, valid))
    np.testing.assert_array_equal(cmdr.psi({"colour": r2}, None), cmdr.colour_only(r2))
    np.testing.assert_array_equal(cmdr.psi({"shape": r3, "dents": r2}, valid), cmdr.shape_only(r3, valid))
    with pytest.raises(NoReading, match="needs colour, shape, both mappings or all four"):
        cmdr.psi({"dents": r2}, valid)
    with pytest.raises(NoReading, match="this frame has colour, shape"):
        cmdr.psi({"colour": r2, "shape": r3}, valid)


def test_the_three_published_normalisations() -> None:
    *maps, valid = drawn(14)
    image = np.where(valid, maps[0], 0.0)
    part = naive_mean_of_part(image)
    everywhere = float(sum(image.ravel()) / image.size)
    np.testing.assert_allclose(cmdr.for_pro(image), image / part, rtol=1e-12)
    np.testing.assert_allclose(cmdr.for_pixels(image), image / math.sqrt(everywhere), rtol=1e-12)
    np.testing.assert_allclose(cmdr.for_image(image), image / math.sqrt(part), rtol=1e-12)
    assert cmdr.image_score(image) == pytest.approx(max(image.ravel()) / math.sqrt(part), rel=1e-12)


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_the_image_score_grows_like_a_root_and_ignores_background(seed: int, scale: float) -> None:
    image = np.random.default_rng(seed).uniform(0.1, 1.0, (5, 6))
    score = cmdr.image_score(image)
    assert cmdr.image_score(scale * image) == pytest.approx(math.sqrt(scale) * score, rel=1e-9)
    assert cmdr.image_score(np.pad(image, 4)) == pytest.approx(score, rel=1e-12)


def test_a_map_of_zeros_scores_zero_and_nan_is_an_error() -> None:
    nothing = np.zeros((4, 4), np.float32)
    assert cmdr.image_score(nothing) == 0.0
    assert not cmdr.for_pro(nothing).any()
    assert not cmdr.for_pixels(nothing).any()
    nothing[1, 1] = np.inf
    for normalise in (cmdr.image_score, cmdr.for_pro, cmdr.for_pixels):
        with pytest.raises(NotFinite, match="not finite"):
            normalise(nothing)


def test_distances_of_arrays_are_of_directions_only() -> None:
    rng = np.random.default_rng(15)
    a, b = rng.standard_normal((2, 3, 4, 6))
    for y in range(3):
        for x in range(4):
            one, other = a[y, x], b[y, x]
            cosine = sum(one * other) / math.sqrt(sum(one**2) * sum(other**2))
            assert cmdr.distance(a, b)[y, x] == pytest.approx(math.sqrt(2.0 - 2.0 * cosine), rel=1e-9)
    np.testing.assert_allclose(cmdr.distance(7.0 * a, 0.1 * b), cmdr.distance(a, b), rtol=1e-12)
    assert cmdr.distance(a.astype(np.float32), b).dtype == np.float64
    assert float(cmdr.distance(np.zeros(3), np.ones(3))) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "values",
    [
        {"alpha": -1.0},
        {"doubt": math.nan},
        {"spread": 6},
        {"smooth": ((4, 1),)},
        {"smooth_colour": ((5, -1),)},
    ],
    ids=lambda values: next(iter(values)),
)
def test_constants_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"cmdr: {next(iter(values))}"):
        CmdrSettings(**values)


def test_the_figures_smoothing_can_be_set() -> None:
    m2, m3, r2, r3, valid = drawn(16)
    plain = cmdr.evidence(m2, m3, r2, r3, valid, CmdrSettings(smooth=()))
    figure = cmdr.evidence(m2, m3, r2, r3, valid, CmdrSettings(smooth=((5, 3), (7, 2))))
    assert (plain[~valid] == 0.0).all()
    np.testing.assert_allclose(figure, naive_smooth(plain, ((5, 3), (7, 2))), rtol=1e-12)

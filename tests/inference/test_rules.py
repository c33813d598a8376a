"""Rules of fusion and the operating point against arithmetic written out."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference import cmdr
from inference.branches.base import Branch
from inference.branches.dents import Dents
from inference.branches.gaussian import ShapeGaussian
from inference.branches.mapping import ColourFromShape, ShapeFromColour
from inference.branches.nearest import Nearest
from inference.calibration import Scale
from inference.errors import BundleError, NoReading, NotFinite
from inference.fusion import KNEE, Measured, Seen, measure
from inference.operating import OperatingPoint
from inference.roi import Roi
from inference.rules import CALIBRATED, CMDR, DUAL, MODULATED, Calibrated, Cmdr
from inference.tiles import TileLayout
from schemas.verdict import Mode

ONE = TileLayout(Roi())
KINDS: dict[Mode, tuple[type[Branch], ...]] = {
    Mode.FUSED: (Nearest, ShapeGaussian, ColourFromShape, ShapeFromColour, Dents),
    Mode.RGB: (Nearest,),
    Mode.DEPTH: (ShapeGaussian, Dents),
}
FOUR = ["colour", "shape", "colour_from_shape", "shape_from_colour"]


def seen(seed: int, *, spot: float = 0.0, foreground: NDArray[np.bool_] | None = None) -> Seen:
    """Maps of one tile: noise, and a spot of a given height on every branch."""
    rng = np.random.default_rng(seed)
    maps = {}
    for kind, side in zip(KINDS[Mode.FUSED], (28, 64, 28, 28, 128), strict=True):
        values = rng.gamma(9.0, 0.1, (side, side)).astype(np.float32)
        values[side // 4 : side // 3, side // 4 : side // 3] += spot
        maps[kind.name] = values
    return Seen(maps, np.ones((128, 128), bool), foreground)


def measured(one: Seen) -> Measured:
    return measure([one], KINDS[Mode.FUSED], {})


@pytest.fixture(scope="module")
def point() -> OperatingPoint:
    frames = [[seen(k)] for k in range(48)]
    groups = [f"lot{k // 4}" for k in range(48)]
    return OperatingPoint.fit(
        frames,
        groups,
        KINDS,
        ONE,
        distances=False,
        false_reject=0.01,
        review_share=0.04,
        report=lambda *_: None,
    )


def test_calibrated_is_the_log_of_the_sum_of_exponentials() -> None:
    scales = {kind.name: Scale(1.0 + k, 0.5 + k) for k, kind in enumerate(KINDS[Mode.FUSED])}
    rule, one = Calibrated(scales, ONE), measured(seen(1))
    names = list(scales)
    each = [(one.scores[n] - scales[n].mean) / scales[n].deviation for n in names]
    assert rule.score(one, names, Mode.FUSED) == pytest.approx(math.log(sum(map(math.exp, each))))
    canvas = rule.canvas(one, names, Mode.FUSED, empty=0.0)
    place = [(float(one.tiles[0][n][35, 45]) - scales[n].mean) / scales[n].deviation for n in names]
    assert canvas[35, 45] == pytest.approx(math.log(sum(map(math.exp, place))), rel=1e-5)
    assert float(canvas.min()) > rule.floor(names)


def test_beyond_the_knee_a_wide_branch_counts_half_on_the_map_and_whole_in_the_score() -> None:
    scales = {kind.name: Scale(1.0, 0.5) for kind in KINDS[Mode.FUSED]}
    sharp, plain = Calibrated(scales, ONE, wide=["shape"]), Calibrated(scales, ONE)
    one = measured(seen(3, spot=9.0))
    assert sharp.score(one, ["shape"], Mode.FUSED) == plain.score(one, ["shape"], Mode.FUSED)
    before = plain.canvas(one, ["shape"], Mode.FUSED, empty=0.0)
    expected = np.where(before > KNEE, KNEE + (before - KNEE) / 2, before)
    assert before.max() > 2 * KNEE
    np.testing.assert_allclose(sharp.canvas(one, ["shape"], Mode.FUSED, empty=0.0), expected, atol=1e-4)
    others = ["colour", "dents"]
    np.testing.assert_array_equal(
        sharp.canvas(one, others, Mode.FUSED, empty=0.0), plain.canvas(one, others, Mode.FUSED, empty=0.0)
    )


def test_cmdr_is_the_published_formula_on_maps_over_their_medians() -> None:
    norms = dict(zip(FOUR, (0.5, 1.0, 2.0, 3.0), strict=True))
    one = seen(2, spot=3.0)
    maps = {n: cv2.resize(one.maps[n], (224, 224)) / norms[n] for n in FOUR}
    psi = cmdr.evidence(
        maps["colour_from_shape"],
        maps["shape_from_colour"],
        maps["colour"],
        maps["shape"],
        np.ones((224, 224), bool),
    )
    rule = Cmdr(norms, ONE)
    large = cv2.resize(psi, (128, 128))
    assert rule.score(measured(one), FOUR, Mode.FUSED) == pytest.approx(cmdr.image_score(large), rel=1e-5)
    canvas = rule.canvas(measured(one), FOUR, Mode.FUSED, empty=-9.0)
    assert canvas.max() == pytest.approx(rule.score(measured(one), FOUR, Mode.FUSED))
    alone = cmdr.colour_only(maps["colour"])
    assert rule.score(measured(one), ["colour"], Mode.RGB) == pytest.approx(
        cmdr.image_score(cv2.resize(alone, (128, 128))), rel=1e-5
    )


def test_a_branch_that_sees_nothing_vetoes_the_product_and_not_the_sum(point: OperatingPoint) -> None:
    spot = seen(50, spot=6.0)
    maps = dict(spot.maps)
    blind = seen(51)
    for name in ("shape", "shape_from_colour", "dents"):
        maps[name] = blind.maps[name]
    names = point.names(Mode.FUSED)
    half, whole = measured(Seen(maps, spot.valid)), measured(spot)
    for rule in (CALIBRATED, CMDR):
        scored = point.rules[rule]
        assert scored.score(half, names, Mode.FUSED) < scored.score(whole, names, Mode.FUSED)
    limit = point.limits[CALIBRATED][Mode.FUSED].rejects
    assert point.rules[CALIBRATED].score(half, names, Mode.FUSED) > limit


@pytest.mark.parametrize("rule", [CALIBRATED, CMDR, MODULATED, DUAL])
@pytest.mark.parametrize("mode", list(KINDS))
def test_normals_lie_below_each_threshold_and_a_clear_spot_above(
    point: OperatingPoint, rule: str, mode: Mode
) -> None:
    names, limit = point.names(mode), point.limits[rule][mode].rejects
    normal = [point.rules[rule].score(point.measure([seen(k)], mode), names, mode) for k in range(100, 130)]
    spot = point.rules[rule].score(point.measure([seen(200, spot=9.0)], mode), names, mode)
    assert np.mean([score > limit for score in normal]) <= 0.1
    assert spot > max(normal)
    assert spot > limit


def test_what_lies_outside_the_foreground_does_not_count(point: OperatingPoint) -> None:
    elsewhere = np.zeros((128, 128), bool)
    elsewhere[70:120, 70:120] = True
    names = point.names(Mode.FUSED)
    rule = point.rules[CALIBRATED]
    spot = rule.score(point.measure([seen(60, spot=9.0)], Mode.FUSED), names, Mode.FUSED)
    hidden = rule.score(
        point.measure([seen(60, spot=9.0, foreground=elsewhere)], Mode.FUSED), names, Mode.FUSED
    )
    limit = point.limits[CALIBRATED][Mode.FUSED].rejects
    assert hidden <= limit < spot
    with pytest.raises(NoReading, match="no tile could be scored"):
        point.measure([seen(60, foreground=np.zeros((128, 128), bool))], Mode.FUSED)


def test_it_comes_back_from_a_bundle_bit_for_bit(point: OperatingPoint) -> None:
    values = json.loads(json.dumps(point.to_map()))
    again = OperatingPoint.restore(values, point.tensors(), KINDS, ONE, "here")
    for mode in KINDS:
        names = point.names(mode)
        for rule in point.rules:
            one, other = (p.measure([seen(7, spot=2.0)], mode) for p in (point, again))
            assert point.rules[rule].score(one, names, mode) == again.rules[rule].score(other, names, mode)
            assert point.limits[rule][mode] == again.limits[rule][mode]
    assert point.branch_limits == again.branch_limits


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"calibration": {"colour": {"mean": 1.0, "deviation": 0.0}}}, "calibration of branch 'colour'"),
        ({"cmdr_medians": {"colour": 0.0}}, "medians of the published formula"),
        ({"thresholds": {"calibrated": {}}}, "FUSED"),
        ({"disagreement": None}, "disagreement"),
        ({"branch_thresholds": {}}, "colour"),
    ],
)
def test_a_damaged_operating_point_is_refused(
    point: OperatingPoint, changes: dict[str, object], match: str
) -> None:
    with pytest.raises(BundleError, match=match):
        OperatingPoint.restore(point.to_map() | changes, point.tensors(), KINDS, ONE, "here")


def test_a_score_that_is_no_number_is_refused() -> None:
    scales = {"colour": Scale(0.0, 1.0)}
    with pytest.raises(NotFinite, match="not a number to decide on"):
        Calibrated(scales, ONE).score(Measured({"colour": math.inf}, (), ()), ["colour"], Mode.RGB)

"""Thresholds set after teaching: for the version they were set for, and never a way to a PASS of nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import NoPart
from inference.inspection import Inspection
from schemas.command import Action, Command, ThresholdSetting
from schemas.errors import InvalidField
from schemas.verdict import Decision, Mode
from tests.workers.standin import inspection
from workers.serving.thresholds import Thresholds
from workers.steps.deciding import decide

numbers = st.floats(allow_nan=False, allow_infinity=False)
anything = st.none() | st.floats()


def setting(mode: Mode, number: float | None, version: str = "2", product: str = "cap") -> Command:
    text = str(ThresholdSetting(mode=mode, number=number, version=version))
    return Command(id="c", action=Action.THRESHOLD, issued_at=1, product=product, value=text)


def thresholds(*commands: Command) -> Thresholds:
    made = Thresholds()
    for command in commands:
        made.set(command)
    return made


@given(
    mode=st.sampled_from(Mode), number=numbers, score=anything, taught=anything, granted=st.booleans(),
    coverage=st.floats(0, 1),
)  # fmt: skip
def test_a_threshold_never_makes_a_pass_of_what_has_no_finite_score_or_no_grant(
    mode: Mode, number: float, score: float | None, taught: float | None, granted: bool, coverage: float
) -> None:
    seen = replace(
        inspection(mode=mode, coverage=coverage, degraded_pass=granted), score=score, threshold=taught
    )
    held = thresholds(setting(mode, number)).applied(seen, "cap/2")
    decision, _ = decide(held, 0.8)
    if decision is Decision.PASS:
        assert score is not None
        assert abs(score) < float("inf")
        assert taught is not None
        assert abs(taught) < float("inf")
        assert score <= number
        assert coverage >= 0.8
        assert granted
        assert mode is Mode.FUSED or score <= taught
    assert (held.score, held.mode, held.coverage) == (score, mode, coverage)


@pytest.mark.parametrize(
    ("command", "bundle"),
    [
        (setting(Mode.FUSED, 0.5), "cap/1"),
        (setting(Mode.FUSED, 0.5), "lid/2"),
        (setting(Mode.RGB, 0.5), "cap/2"),
        (setting(Mode.FUSED, None), "cap/2"),
    ],
)
def test_another_version_product_or_mode_keeps_its_own(command: Command, bundle: str) -> None:
    seen = inspection(0.7)
    assert thresholds(command).applied(seen, bundle) is seen
    assert thresholds(setting(Mode.FUSED, 0.5)).applied(seen, "cap/2").threshold == 0.5


def test_the_last_setting_of_a_mode_counts_whatever_version_it_is_for() -> None:
    made = thresholds(setting(Mode.FUSED, 0.5), setting(Mode.FUSED, 0.6, version="3"))
    assert made.applied(inspection(0.7), "cap/2").threshold == 1.0
    assert made.applied(inspection(0.7), "cap/3").threshold == 0.6
    made.set(setting(Mode.FUSED, None, version="3"))
    assert made.settings == {}


def test_an_error_stays_an_error() -> None:
    failed = Inspection.failed(NoPart("an empty belt"))
    assert thresholds(setting(Mode.FUSED, 9.0)).applied(failed, "cap/2") is failed


def test_a_sensor_granted_to_pass_alone_may_not_under_a_higher_threshold() -> None:
    alone = inspection(0.7, mode=Mode.DEPTH)
    higher = thresholds(setting(Mode.DEPTH, 1.5)).applied(alone, "cap/2")
    assert decide(higher, 0.8) == (Decision.REVIEW, "degraded")
    lower = thresholds(setting(Mode.DEPTH, 0.9)).applied(alone, "cap/2")
    assert decide(lower, 0.8) == (Decision.PASS, None)


def test_what_is_no_threshold_is_refused() -> None:
    with pytest.raises(InvalidField, match="MODE=NUMBER@VERSION"):
        thresholds(Command(id="c", action=Action.THRESHOLD, issued_at=1, product="cap", value="0.5"))

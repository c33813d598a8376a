"""Thresholds set after teaching: for the version they were set for, and never a way to a PASS of nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.calibration import Limits, limits_of
from inference.errors import NoPart
from inference.inspection import Inspection
from schemas.command import Action, Command, Confirmation, ThresholdSetting
from schemas.errors import InvalidField
from schemas.part import PartKey
from schemas.verdict import Decision, Mode
from tests.workers.standin import StandInModel, inspection
from workers.serving import desk
from workers.serving.confirming import confirmation
from workers.serving.thresholds import Thresholds
from workers.steps.deciding import decide

numbers = st.floats(allow_nan=False, allow_infinity=False)
anything = st.none() | st.floats()
TAUGHT = replace(
    limits_of([0.1, 0.2, 0.3, 0.4], list("abcd"), false_reject=0.01, review_share=0.04), rejects=1.0
)
"""Passes up to 0.4, the highest score that was seen, and rejects above 1.0."""


def setting(mode: Mode, number: float | None, version: str = "2", product: str = "cap") -> Command:
    text = str(ThresholdSetting(mode=mode, number=number, version=version))
    return Command(id="c", action=Action.THRESHOLD, issued_at=1, product=product, value=text)


@dataclass
class Judge(StandInModel):
    """A bundle that was taught to pass up to 0.4 and to reject above 1.0."""

    bundle_id: str = "cap/2"
    bundle_hash: str = "2" * 64

    def __post_init__(self) -> None:
        super().__init__()
        self.limits = {mode: TAUGHT for mode in Mode}


def judge(bundle: str = "cap/2", digest: str = "2" * 64) -> Judge:
    return Judge(bundle, digest)


def confirmed(
    number: int, score: float | None, *, mode: Mode = Mode.FUSED, digest: str = "2" * 64
) -> Command:
    said = Confirmation(mode=mode, score=score, version="2")
    return confirmation(PartKey("s1", 1, number), "cap", said, digest, at=1)


def confirming(*commands: Command) -> Thresholds:
    made = Thresholds()
    for command in commands:
        made.confirm(command)
    return made


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
        inspection(mode=mode, coverage=coverage, degraded_pass=granted),
        score=score,
        threshold=taught,
        pass_limit=taught,
    )
    held = thresholds(setting(mode, number)).applied(seen, judge("cap/2"))
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
    assert thresholds(command).applied(seen, judge(bundle)) is seen
    assert thresholds(setting(Mode.FUSED, 0.5)).applied(seen, judge("cap/2")).threshold == 0.5


def test_the_last_setting_of_a_mode_counts_whatever_version_it_is_for() -> None:
    made = thresholds(setting(Mode.FUSED, 0.5), setting(Mode.FUSED, 0.6, version="3"))
    assert made.applied(inspection(0.7), judge("cap/2")).threshold == 1.0
    assert made.applied(inspection(0.7), judge("cap/3")).threshold == 0.6
    made.set(setting(Mode.FUSED, None, version="3"))
    assert made.settings == {}


def test_an_error_stays_an_error() -> None:
    failed = Inspection.failed(NoPart("an empty belt"))
    assert thresholds(setting(Mode.FUSED, 9.0)).applied(failed, judge("cap/2")) is failed


def test_a_sensor_granted_to_pass_alone_may_not_under_a_higher_threshold() -> None:
    alone = inspection(0.7, mode=Mode.DEPTH)
    higher = thresholds(setting(Mode.DEPTH, 1.5)).applied(alone, judge("cap/2"))
    assert decide(higher, 0.8) == (Decision.REVIEW, "degraded")
    lower = thresholds(setting(Mode.DEPTH, 0.9)).applied(alone, judge("cap/2"))
    assert decide(lower, 0.8) == (Decision.PASS, None)


def test_what_is_no_threshold_is_refused() -> None:
    with pytest.raises(InvalidField, match="MODE=NUMBER@VERSION"):
        thresholds(Command(id="c", action=Action.THRESHOLD, issued_at=1, product="cap", value="0.5"))


def test_parts_between_two_set_limits_go_to_review() -> None:
    command = desk.threshold(
        "cap", ThresholdSetting(mode=Mode.FUSED, number=0.9, version="2", pass_limit=0.5)
    )
    made = thresholds(command)
    found = {score: decide(made.applied(inspection(score), judge()), 0.8) for score in (0.5, 0.7, 0.95)}
    assert found == {
        0.5: (Decision.PASS, None),
        0.7: (Decision.REVIEW, "between"),
        0.95: (Decision.REJECT, None),
    }


@pytest.mark.parametrize(
    "text", ["FUSED=1.0..0.5@2", "FUSED=nan..1.0@2", "FUSED=0.5..@2", "FUSED=0.5..taught@2"]
)
def test_limits_the_wrong_way_round_or_half_are_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="threshold"):
        ThresholdSetting.parse(text)


def between(score: float, mode: Mode = Mode.FUSED) -> Inspection:
    """Of a part between the taught limits, or not."""
    return replace(inspection(score, mode=mode), pass_limit=TAUGHT.passes, threshold=TAUGHT.rejects)


def test_a_confirmed_part_moves_the_pass_limit_up_to_its_score() -> None:
    made = confirming(confirmed(1, 0.7))
    assert decide(made.applied(between(0.7), judge()), 0.8) == (Decision.PASS, None)
    assert decide(made.applied(between(0.71), judge()), 0.8) == (Decision.REVIEW, "between")
    assert decide(made.applied(between(1.1), judge()), 0.8) == (Decision.REJECT, None)


def test_what_was_rejected_is_not_moved_by_a_confirmation() -> None:
    made = confirming(confirmed(1, 3.0))
    assert made.applied(between(0.7), judge()).pass_limit == TAUGHT.passes
    assert made.applied(between(0.7), judge()).threshold == TAUGHT.rejects


def test_a_confirmation_that_is_taken_back_counts_no_longer() -> None:
    made = confirming(confirmed(1, 0.7), confirmed(2, 0.6), confirmed(1, None))
    assert made.applied(between(0.65), judge()).pass_limit == 0.6
    made.confirm(confirmed(2, None))
    assert made.applied(between(0.65), judge()).pass_limit == TAUGHT.passes


def test_a_confirmation_counts_for_the_bundle_and_mode_that_scored_the_part() -> None:
    made = confirming(confirmed(1, 0.7), confirmed(2, 0.8, mode=Mode.RGB))
    assert made.applied(between(0.5), judge(digest="3" * 64)).pass_limit == TAUGHT.passes
    assert made.applied(between(0.5), judge()).pass_limit == 0.7
    assert made.applied(between(0.5, Mode.RGB), judge()).pass_limit == 0.8


def test_limits_that_were_set_go_before_confirmed_parts() -> None:
    made = confirming(confirmed(1, 0.7))
    made.set(setting(Mode.FUSED, 0.5))
    assert made.applied(between(0.6), judge()).pass_limit == 0.5


def test_a_sensor_granted_to_pass_alone_may_not_above_the_taught_pass_limit() -> None:
    held = confirming(confirmed(1, 0.7, mode=Mode.RGB)).applied(between(0.6, Mode.RGB), judge())
    assert decide(held, 0.8) == (Decision.REVIEW, "degraded")


def test_a_bundle_with_one_limit_is_not_moved() -> None:
    model = judge()
    model.limits = {Mode.FUSED: Limits.single(0.4)}
    held = confirming(confirmed(1, 0.3)).applied(
        replace(inspection(0.35), pass_limit=0.4, threshold=0.4), model
    )
    assert (held.pass_limit, held.threshold) == (0.4, 0.4)

"""From evidence to a decision: everything that is not plainly good does not pass."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import WrongSize
from inference.inspection import Inspection
from schemas.verdict import Decision, Mode, Verdict
from tests.workers.frames import frame, pending
from tests.workers.standin import inspection
from workers.clock import ManualClock
from workers.steps.deciding import Judge, decide

JUDGE = Judge("w1", ManualClock(), min_coverage=0.5)


def judged(evidence: Inspection, reasons: tuple[str, ...] = ()) -> Verdict:
    part = pending(frame(1))
    part.reasons = reasons
    return JUDGE.inspected(part, evidence, bundle="widget/1", bundle_hash="ab", attempt=1, timings={})


def test_a_good_fused_part_passes() -> None:
    assert judged(inspection(0.2)).decision is Decision.PASS


def test_a_score_at_the_threshold_passes_and_one_above_is_rejected() -> None:
    assert judged(inspection(1.0)).decision is Decision.PASS
    assert judged(inspection(math.nextafter(1.0, 2.0))).decision is Decision.REJECT


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_an_error(score: float) -> None:
    evidence = inspection()
    try:
        evidence = replace(evidence, score=score)
    except ValueError:
        return  # the inspector's own type refuses it: it never gets here
    with_score = replace(evidence, score=score)
    decision, reason = decide(with_score, 0.5)
    assert decision is Decision.ERROR
    assert reason == "not_finite: no finite score"


def test_low_coverage_is_review() -> None:
    verdict = judged(inspection(0.2, coverage=0.49))
    assert (verdict.decision, verdict.reason) == (Decision.REVIEW, "coverage")


def test_a_degraded_mode_without_permission_is_review_and_with_it_passes() -> None:
    evidence = inspection(0.2, mode=Mode.RGB, degraded_pass=False, degraded=("depth:absent",))
    assert judged(evidence).decision is Decision.REVIEW
    assert judged(replace(evidence, degraded_pass=True)).decision is Decision.PASS


def test_a_defect_in_a_degraded_mode_is_still_rejected() -> None:
    evidence = inspection(2.0, mode=Mode.RGB, degraded_pass=False)
    assert judged(evidence).decision is Decision.REJECT


def test_an_inspection_error_is_an_error_with_its_reason() -> None:
    verdict = judged(Inspection.failed(WrongSize("colour image is 10 x 10, taught on 256 x 256")))
    assert verdict.decision is Decision.ERROR
    assert verdict.reason is not None
    assert verdict.reason.startswith("size: ")


def test_the_workers_reason_for_a_missing_sensor_replaces_the_inspectors() -> None:
    evidence = inspection(mode=Mode.RGB, degraded_pass=False, degraded=("depth:absent",))
    assert judged(evidence, ("depth:frozen",)).degraded == ("depth:frozen",)


def test_the_verdict_says_which_foreground_was_used() -> None:
    assert judged(replace(inspection(0.2), foreground="silhouette")).foreground == "silhouette"
    assert judged(inspection(0.2)).foreground is None


@given(
    st.floats(),
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from(list(Mode)),
)
def test_a_pass_always_carries_its_proof(score: float, coverage: float, granted: bool, mode: Mode) -> None:
    evidence = inspection(0.0, coverage=coverage, degraded_pass=granted or mode is Mode.FUSED, mode=mode)
    try:
        evidence = replace(evidence, score=score)
    except ValueError:
        return
    decision, _ = decide(evidence, 0.5)
    if decision is Decision.PASS:
        assert math.isfinite(score)
        assert score <= 1.0
        assert coverage >= 0.5
        assert granted or mode is Mode.FUSED

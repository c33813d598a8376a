"""Checks tell what was seen, since when, and never end who they watch by a mistake of their own."""

from __future__ import annotations

from tests.workers.telemetry.scraping import key, told
from workers.clock import ManualClock
from workers.contact import GRACE_S, Contact
from workers.pulse import Pulse
from workers.telemetry.health import Health


def test_a_check_says_since_when_it_is_as_it_is() -> None:
    clock, trouble = ManualClock(1_000_000_000_000), [""]
    checks = Health("worker", ready={"redis": lambda: trouble[0] or None}, clock=clock)
    assert checks.ready().checks[0].since == 1_000_000
    clock.advance(5)
    assert checks.ready().checks[0].since == 1_000_000
    trouble[0] = "away"
    assert checks.ready().checks[0].since == 1_005_000
    clock.advance(5)
    trouble[0] = "still away"
    found = checks.ready().checks[0]
    assert (found.since, found.why) == (1_005_000, "still away")


def test_what_does_not_move_is_not_ready_either() -> None:
    checks = Health("gate", live={"loop": lambda: "stuck"}, ready={"redis": lambda: None})
    assert (checks.live().status, checks.ready().status) == (503, 503)
    assert [check.name for check in checks.ready().checks] == ["loop", "redis"]


def test_a_check_that_fails_itself_is_not_ready_and_ends_nobody() -> None:
    def wrong() -> str | None:
        raise KeyError("mistake")

    checks = Health("gate", live={"loop": wrong}, ready={"redis": wrong})
    assert checks.live().ok
    assert not checks.ready().ok
    assert "KeyError" in checks.ready().checks[1].why


def test_both_are_metrics_of_the_process() -> None:
    found = told(Health("archive", ready={"kafka": lambda: "away"}))
    assert found[key("crosscheck_live", process="archive")] == 1
    assert found[key("crosscheck_ready", process="archive")] == 0


def test_a_loop_without_a_turn_within_its_limit_does_not_move() -> None:
    clock = ManualClock()
    pulse = Pulse(10, clock)
    clock.advance(10)
    assert pulse.trouble() is None
    clock.advance(1)
    assert pulse.trouble() == "the loop has not turned for 11 s"
    pulse.turned()
    assert pulse.trouble() is None


def test_a_service_counts_as_reachable_while_it_answers_and_its_answer_is_fresh() -> None:
    clock = ManualClock()
    contact = Contact("redis", clock)
    assert contact.trouble(60) == "redis was not spoken to yet"
    contact.succeeded()
    assert contact.trouble(60) is None
    clock.advance(61)
    assert contact.trouble(60) == "redis was last spoken to 61 s ago"


def test_one_failure_among_successes_is_no_outage_and_one_that_nothing_follows_is() -> None:
    clock = ManualClock()
    contact = Contact("kafka", clock)
    contact.succeeded()
    contact.failed("refused")
    assert contact.trouble(60) is None
    clock.advance(GRACE_S + 0.1)
    assert contact.trouble(60) == "refused"
    contact.succeeded()
    assert contact.trouble(60) is None


def test_a_service_that_never_answered_is_away_at_once() -> None:
    contact = Contact("kafka", ManualClock())
    contact.failed("nobody there")
    assert contact.trouble(60) == "nobody there"

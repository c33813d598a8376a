"""Challenge parts: never let through, and what is not rejected locks the gate until one is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.part import PartKey
from schemas.verdict import Decision
from tests.workers.gate_line import STATION, GateLine, key, verdict
from workers.errors import SettingsError
from workers.gate import ChallengeSettings, Gate, JournalError, Reason, audit, events
from workers.gate.challenge_state import OVERDUE
from workers.store import keys

SHIFT_S, GRACE_S = 100.0, 10.0


class Challenged(GateLine):
    """A line whose gate owes a challenge every shift, where told to."""

    every_s: float | None = None

    def _gate(self) -> Gate:
        return Gate(
            self.store,
            self.source,
            self.actuator,
            self.journal,
            station=STATION,
            clock=self.clock,
            product="cap",
            alarm=self._alarm,
            challenge=ChallengeSettings(every_s=self.every_s, grace_s=GRACE_S),
            challenge_store=self.store,
        )

    def part(self, decision: Decision | None = Decision.PASS, *, challenge: bool = False) -> PartKey:
        """One part from trigger to gate."""
        part = key(self.triggers)
        self.triggers += 1
        self.source.trigger(part, self.clock.now(), challenge=challenge)
        if decision is not None:
            self.store.decide(verdict(part, decision))
        self.pass_time(1.05, step_s=0.05)
        return part

    def arm(self, parts: int = 1) -> None:
        self.store.arm_challenge(STATION, parts=parts, ttl_s=60)
        self.pass_time(0.5, step_s=0.1)
        assert self.store.armed_challenge(STATION) is None, "taken"

    def locked(self) -> str | None:
        return self.gate.report().locked

    def passes(self) -> bool:
        """Whether a good part gets through now."""
        part = self.part()
        return part in self.recorder.passed


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Challenged]:
    with Challenged(tmp_path) as line:
        yield line


def shift(line: Challenged) -> Challenged:
    line.every_s = SHIFT_S
    line.restart()
    line.pass_time(0.1)
    return line


def test_a_challenge_part_that_is_rejected_is_the_proof_and_the_line_goes_on(line: Challenged) -> None:
    part = line.part(Decision.REJECT, challenge=True)
    assert (line.decisions()[part].decision, line.decisions()[part].reason) == (
        Decision.REJECT,
        Reason.CHALLENGE_PART,
    )
    assert line.passes()
    report = line.gate.report()
    assert (report.challenges_passed, report.challenges_failed, report.locked) == (1, 0, None)
    assert line.alarms == []


@pytest.mark.parametrize("decision", [d for d in Decision if d is not Decision.REJECT] + [None])
def test_a_challenge_part_that_is_not_rejected_is_kept_out_and_locks(
    line: Challenged, decision: Decision | None
) -> None:
    part = line.part(decision, challenge=True)
    found = line.decisions()[part]
    assert found.reason is Reason.CHALLENGE_PART
    assert found.decision not in (Decision.PASS, Decision.REJECT)
    assert events.ALARM_CHALLENGE_FAILED in line.alarms
    assert line.locked() == "failed"
    for verdict_of_next in (Decision.PASS, Decision.REVIEW, None):
        after = line.part(verdict_of_next)
        assert line.decisions()[after].reason is Reason.CHALLENGE
    assert line.recorder.passed == []
    assert line.alarms.count(events.ALARM_LOCKED) == 1
    line.part(Decision.REJECT)
    assert line.locked() == "failed", "the rejection of any other part proves nothing"
    line.part(Decision.REJECT, challenge=True)
    assert line.locked() is None
    assert line.passes()


def test_a_rejection_that_comes_too_late_proves_nothing(line: Challenged) -> None:
    part = key(line.triggers)
    line.triggers += 1
    line.source.trigger(part, line.clock.now(), challenge=True)
    line.pass_time(0.5)
    line.clock.advance(0.6)  # the gate sleeps over the due moment; the verdict comes meanwhile
    line.store.decide(verdict(part, Decision.REJECT))
    line.pass_time(0.1)
    assert line.decisions()[part].decision is Decision.MISSING
    assert line.locked() == "failed"


def test_parts_due_in_the_same_turn_as_a_failed_challenge_stay_out(line: Challenged) -> None:
    line.pass_time(0.01)
    parts = [key(trigger) for trigger in range(3)]
    line.triggers = 3
    for part in parts:
        line.source.trigger(part, line.clock.now(), challenge=part == parts[0])
        line.store.decide(verdict(part))
    line.pass_time(1.2)
    assert line.recorder.passed == []
    assert [line.decisions()[part].reason for part in parts] == [
        Reason.CHALLENGE_PART,
        Reason.CHALLENGE,
        Reason.CHALLENGE,
    ]


def test_an_armed_station_takes_the_next_part_and_only_that(line: Challenged) -> None:
    before = line.trigger()
    line.store.decide(verdict(before))
    line.pass_time(0.1)
    line.arm()
    bad = line.part(Decision.REJECT)
    assert line.decisions()[bad].reason is Reason.CHALLENGE_PART
    assert line.recorder.passed == [before], "triggered before it was armed"
    assert line.passes()


def test_each_part_of_an_armed_set_must_be_rejected(line: Challenged) -> None:
    line.arm(3)
    line.part(Decision.PASS)
    assert line.locked() == "failed"
    line.part(Decision.REJECT)
    line.part(Decision.REJECT)
    assert line.locked() == "failed", "two of three do not make the first one good"
    line.arm(2)
    line.part(Decision.REJECT)
    assert line.locked() == "failed", "half of a set is no proof"
    line.part(Decision.REJECT)
    assert line.locked() is None
    assert line.passes()


def test_an_armed_station_forgets_it_after_a_while(line: Challenged) -> None:
    line.arm()
    line.pass_time(61.0, step_s=0.5)
    assert line.passes()
    assert line.locked() is None


def test_without_a_challenge_for_a_shift_it_alarms_and_after_the_grace_locks(line: Challenged) -> None:
    shift(line)
    line.pass_time(SHIFT_S - 2.0, step_s=0.5)
    assert line.alarms == []
    assert line.passes()
    line.pass_time(2.0, step_s=0.5)
    assert line.alarms == [events.ALARM_CHALLENGE_DUE]
    assert line.passes(), "the alarm comes before the lock"
    line.pass_time(GRACE_S, step_s=0.5)
    assert line.alarms == [events.ALARM_CHALLENGE_DUE, events.ALARM_LOCKED]
    assert line.locked() == "overdue"
    assert not line.passes()
    line.part(Decision.REJECT, challenge=True)
    assert line.passes()
    line.pass_time(SHIFT_S - 5.0, step_s=0.5)
    assert line.alarms.count(events.ALARM_CHALLENGE_DUE) == 1
    line.pass_time(20.0, step_s=0.5)
    assert line.locked() == "overdue", "the next shift counts from the last rejection"


def test_a_restart_neither_unlocks_nor_grants_another_shift(line: Challenged) -> None:
    shift(line)
    for _ in range(4):
        line.pass_time(SHIFT_S / 4, step_s=0.5)
        line.restart()
    line.pass_time(GRACE_S + 1.0, step_s=0.5)
    assert line.locked() == "overdue"
    line.every_s = None  # not even without the shift: it is locked until a part was rejected
    line.restart()
    line.store._redis.flushall()
    line.pass_time(0.1)
    assert line.locked() == "overdue"
    assert not line.passes()
    line.part(Decision.REJECT, challenge=True)
    line.restart()
    assert line.passes()


def test_a_clock_set_back_grants_nothing(line: Challenged) -> None:
    shift(line)
    line.part(Decision.REJECT, challenge=True)
    line.clock._now -= 3600 * 10**9
    line.restart()
    line.pass_time(0.1)
    assert line.locked() == "overdue"


def test_redis_without_its_data_neither_unlocks_nor_forgets_what_was_armed(line: Challenged) -> None:
    line.arm()
    line.store._redis.flushall()
    line.restart()
    bad = line.part(Decision.PASS)
    assert line.decisions()[bad].reason is Reason.CHALLENGE_PART
    assert line.locked() == "failed"
    line.store._redis.flushall()
    line.restart()
    assert line.locked() == "failed"


def test_a_word_that_is_told_again_is_not_taken_again(line: Challenged) -> None:
    line.store.arm_challenge(STATION)
    word = line.store._redis.hgetall(keys.challenge(STATION))
    line.pass_time(0.5, step_s=0.1)
    line.part(Decision.REJECT)
    line.store._redis.hset(keys.challenge(STATION), mapping=word)  # type: ignore[arg-type]
    line.restart()
    line.pass_time(0.5, step_s=0.1)
    assert line.passes()
    assert line.store.armed_challenge(STATION) is None


def test_a_store_that_refuses_this_key_alone_keeps_no_verdict_away(line: Challenged) -> None:
    line.store._redis.set(keys.challenge(STATION), "another program's")
    line.pass_time(0.5, step_s=0.1)
    assert all(line.passes() for _ in range(3))
    assert line.alarms == [events.ALARM_CHALLENGE_DEAF]
    line.store._redis.delete(keys.challenge(STATION))
    line.pass_time(6.0, step_s=0.5)
    line.arm()
    line.part(Decision.PASS)
    assert line.locked() == "failed"


@pytest.mark.parametrize("spoilt", [{"id": "x"}, {"id": "x", "parts": "two", "ttl_s": "9"}, {"parts": "1"}])
def test_a_word_that_cannot_be_read_arms_nothing(line: Challenged, spoilt: dict[str, str]) -> None:
    line.store._redis.hset(keys.challenge(STATION), mapping=spoilt)
    line.pass_time(0.5, step_s=0.1)
    assert line.passes()


def test_the_state_survives_segments_and_the_audit_lists_it(line: Challenged, tmp_path: Path) -> None:
    shift(line)
    line.max_bytes = 1500
    line.restart()
    bad = line.part(Decision.PASS, challenge=True)
    for _ in range(12):
        line.part()
        line.pass_time(0.5)
    assert len(list(tmp_path.glob("gate.journal.[0-9]*"))) >= 2
    line.restart()
    assert line.locked() == "failed"
    good = line.part(Decision.REJECT, challenge=True)
    line.pass_time(SHIFT_S + GRACE_S + 1.0, step_s=0.5)
    log = tmp_path / "agent.log"
    log.touch()
    found = audit(log, line.path)
    assert [(e.part, e.decision.decision) for e in found.challenges] == [
        (bad, Decision.ERROR),
        (good, Decision.REJECT),
    ]
    assert OVERDUE in [mark.kind for mark in found.marks]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["part", "challenge", "arm", "restart", "flush"]),
            st.sampled_from([Decision.PASS, Decision.REJECT, Decision.REVIEW, None]),
        ),
        max_size=25,
    )
)
def test_whatever_happens_no_challenge_part_and_nothing_behind_a_failed_one_gets_through(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[str, Decision | None]]
) -> None:
    with Challenged(tmp_path_factory.mktemp("challenge")) as line:
        armed, failed = False, False
        for what, decision in turns:
            if what == "arm":
                line.arm()
                armed = True
            elif what == "restart":
                line.restart()
            elif what == "flush":
                line.store._redis.flushall()
            else:
                bad = armed or what == "challenge"
                armed = armed and what == "challenge"
                part = line.part(decision, challenge=what == "challenge")
                if bad:
                    failed = decision is not Decision.REJECT
                    assert part not in line.recorder.passed
                else:
                    assert (part in line.recorder.passed) is (decision is Decision.PASS and not failed)
        assert line.gate.report().lost == 0


@pytest.mark.parametrize("values", [{"every_s": 0.0}, {"every_s": -1.0}, {"grace_s": -1.0}])
def test_impossible_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        ChallengeSettings(**values)


def test_the_journal_that_fails_while_it_is_armed_keeps_the_part_out(
    line: Challenged, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.arm()

    def full(*_: object, **__: object) -> None:
        raise JournalError("gate journal: no space left")

    with monkeypatch.context() as patch:
        patch.setattr(line.journal, "note", full)
        bad = line.part(Decision.PASS)
    assert line.decisions()[bad].reason is Reason.CHALLENGE_PART
    assert line.recorder.passed == []

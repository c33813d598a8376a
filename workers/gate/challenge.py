"""Challenge parts: a part known to be bad must be rejected every shift, or the gate locks.

A part is one when its trigger line says so, or when an operator has armed the station (``crosscheck
challenge``) and it is the next to be triggered. It is never let through, whatever its verdict: REJECT, seen
in time, is the proof that bad parts are still found; anything else locks the gate. A locked gate is closed
for every part until another challenge part is rejected. All of it is in the journal, whose lines say what
holds after a restart: Redis only carries the operator's word, and losing its data unlocks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from schemas.part import PartKey
from schemas.verdict import Decision
from workers.clock import Clock
from workers.errors import SettingsError, StoreError
from workers.gate import events
from workers.gate.challenge_state import ARMED, EXPIRED, FAILED, LATE, OVERDUE, SINCE, Arm
from workers.gate.decision import GateDecision, Reason, closed
from workers.gate.journal import CHALLENGE, Entry, Journal, JournalError, Mark
from workers.gate.parts import Arrival
from workers.store.verdicts import Armed

_log = structlog.get_logger(__name__)

_ASK_S = 0.2
_DEAF_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeSettings:
    """What a station owes.

    Attributes:
        every_s: a challenge part must be rejected this often, seconds (a shift is 28800); None: never owed.
        grace_s: so long after that the gate locks; the alarm comes before it.

    Raises:
        SettingsError: not above 0.
    """

    every_s: float | None = None
    grace_s: float = 900.0

    def __post_init__(self) -> None:
        if self.every_s is not None and not 0 < self.every_s <= 10**8:
            raise SettingsError(f"challenge every {self.every_s} s: use seconds above 0, such as 28800")
        if not 0 <= self.grace_s <= 10**8:
            raise SettingsError(f"challenge grace {self.grace_s} s: use seconds, at least 0")


class ChallengeStore(Protocol):
    """The part of ``workers.store.VerdictStore`` that brings an operator's word. It may raise StoreError."""

    def armed_challenge(self, station: str) -> Armed | None:
        """What was asked for and not taken."""
        ...

    def take_challenge(self, station: str, name: str) -> None:
        """It is on the gate's disk."""
        ...


class Challenges:
    """The challenge parts of one gate.

    ``ask`` belongs to the thread that speaks with the store, everything else to the gate's loop.

    Args:
        alarm: called with an event name and facts.
    """

    def __init__(
        self,
        journal: Journal,
        settings: ChallengeSettings,
        *,
        station: str,
        clock: Clock,
        alarm: Callable[[str, Mapping[str, object]], None],
    ) -> None:
        self._journal = journal
        self._state = journal.challenges
        self._settings = settings
        self._station = station
        self._clock = clock
        self._alarm = alarm
        self._parts: set[PartKey] = set()
        self._asked: Armed | None = None
        self._taken: str | None = None
        self._ask_at = 0.0
        self._deaf = False
        self._overdue = False
        self._told_due = False

    @property
    def locked(self) -> str | None:
        """Why nothing is let through, or None."""
        return self._state.locked or (LATE if self._overdue else None)

    def ask(self, store: ChallengeStore) -> None:
        """Hear whether an operator has armed the station; a few times a second. Raises no StoreError.

        A store that refuses this alone (a user without rights to the key) must not keep verdicts away.
        """
        now = self._clock.monotonic()
        if now < self._ask_at:
            return
        self._ask_at = now + _ASK_S
        try:
            if (taken := self._taken) is not None:
                store.take_challenge(self._station, taken)
                self._taken = None
            self._asked = store.armed_challenge(self._station)
        except StoreError as error:
            if not self._deaf:
                self._alarm(events.ALARM_CHALLENGE_DEAF, {"error": str(error)})
            self._deaf = True
            self._ask_at = now + _DEAF_S
            return
        self._deaf = False

    def start(self) -> None:
        """Say what holds from before."""
        if self.locked is not None:
            self._alarm(events.ALARM_LOCKED, {"why": self.locked})
        if self._settings.every_s is not None and self._state.since is None:
            self._mark(Mark(SINCE, self._clock.now(), {}))

    def watch(self) -> None:
        """Arm what was asked for, and see whether a challenge is owed."""
        self._arm()
        every = self._settings.every_s
        if every is None:
            return
        state = self._state
        since = max((at for at in (state.since, state.passed_at) if at is not None), default=None)
        # Without a record there is nothing to count from, and before it somebody has set the clock back.
        age = None if since is None else (self._clock.now() - since) / 1e9
        due = age is None or age >= every or age < -1.0
        late = age is None or age >= every + self._settings.grace_s or age < -1.0
        if due and not self._told_due:
            self._alarm(events.ALARM_CHALLENGE_DUE, {"grace_s": self._settings.grace_s})
        self._told_due = due
        if late and self.locked is None:
            self._overdue = True
            self._alarm(events.ALARM_LOCKED, {"why": LATE})
            self._mark(Mark(OVERDUE, self._clock.now(), {}))
        elif not late:
            self._overdue = False

    def _arm(self) -> None:
        arm, now = self._state.arm, self._clock.now()
        if arm is not None and now > arm.until and arm.taken < arm.parts and arm.id not in self._pending():
            self._mark(Mark(EXPIRED, now, {"id": arm.id}))
            _log.warning(events.CHALLENGE_EXPIRED, station=self._station, parts=arm.parts, seen=arm.taken)
        asked, self._asked = self._asked, None
        if asked is None or self._taken == asked.id:
            return
        if self._state.armed_id != asked.id:
            until = now + asked.ttl_s * 10**9
            if not self._mark(Mark(ARMED, now, {"id": asked.id, "parts": asked.parts, "until": until})):
                return
            _log.warning(events.CHALLENGE_ARMED, station=self._station, parts=asked.parts)
        self._taken = asked.id

    def _pending(self) -> set[str]:
        return set(self._state.pending.values())

    def see(self, arrival: Arrival) -> None:
        """A part is on its way: is it one of them?"""
        part, state = arrival.part, self._state
        if arrival.challenge or part in state.pending:
            self._parts.add(part)
            return
        arm: Arm | None = state.arm
        if arm is None or arm.taken >= arm.parts or not arm.at <= arrival.triggered_at <= arm.until:
            return
        self._parts.add(part)
        _log.warning(events.CHALLENGE_PART, station=self._station, part=str(part))
        try:
            self._journal.note(part, CHALLENGE, arm.id, sync=True)
        except JournalError as error:
            # This process knows it; so does the next one, unless it finds the set armed as it was.
            self._alarm(events.ALARM_JOURNAL, {"error": str(error)})
            state.designated(part, arm.id)

    def is_one(self, part: PartKey) -> bool:
        """Whether this part is a challenge part."""
        return part in self._parts

    def judge(self, found: GateDecision, *, late: bool) -> GateDecision:
        """What the gate does, where without challenges it would do ``found``.

        Args:
            late: the verdict was not there when the part was due.
        """
        part = found.part
        if part in self._parts:
            if found.decision is Decision.REJECT:
                return closed(part, Decision.MISSING if late else Decision.REJECT, Reason.CHALLENGE_PART)
            decision = Decision.ERROR if found.opened else found.decision
            return closed(part, decision, Reason.CHALLENGE_PART)
        if self.locked is None:
            return found
        return closed(part, Decision.REVIEW if found.opened else found.decision, Reason.CHALLENGE)

    def decided(self, entry: Entry, *, locked_before: str | None) -> None:
        """The decision is in the journal: tell what it means."""
        part = entry.part
        if part not in self._parts:
            return
        self._parts.discard(part)
        facts = {"part": str(part), "decision": entry.decision.decision.value}
        if entry.decision.decision is not Decision.REJECT:
            self._alarm(events.ALARM_CHALLENGE_FAILED, facts)
            if locked_before != FAILED:
                self._alarm(events.ALARM_LOCKED, {"why": FAILED})
            return
        _log.warning(events.CHALLENGE_PASSED, station=self._station, **facts)
        if self._state.locked is None:
            self._overdue = False
            if locked_before is not None:
                _log.warning(events.UNLOCKED, station=self._station, part=str(part))

    def _mark(self, mark: Mark) -> bool:
        try:
            self._journal.mark(mark)
        except JournalError as error:
            self._alarm(events.ALARM_JOURNAL, {"error": str(error)})
            return False
        return True

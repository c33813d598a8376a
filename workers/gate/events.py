"""Names of the events the gate logs and of the alarms it raises; dashboards and tests refer to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

GATE_STARTED = "gate_started"
GATE_STOPPED = "gate_stopped"
GATE_DECIDED = "gate_decided"
STORE_BACK = "gate_store_back"
STANDING_DIFFERS = "gate_standing_differs"
"""The verdict that stands in the store is not the gate's; the gate's decision stays as it was."""
LATE_VERDICT = "gate_late_verdict"
VERDICT_CONFLICT = "gate_verdict_conflict"
REPEATED_ARRIVAL = "gate_repeated_arrival"

ALARM_STORE_DOWN = "gate_store_down"
ALARM_FEED = "gate_feed_failed"
"""Following the store failed in a way that it should not. It goes on; the gate stays closed meanwhile."""
ALARM_ACTUATOR = "gate_actuator_failed"
ALARM_RELEASE = "gate_release_failed"
"""The actuator did not confirm that it closed; the heartbeat stops until it does, and the PLC closes it."""
ALARM_JOURNAL = "gate_journal_failed"
ALARM_JOURNAL_DAMAGED = "gate_journal_damaged"
ALARM_JOURNAL_FILE = "gate_journal_moved"
"""The journal's file was removed, moved, replaced or cut, and was made good; the journal says so too."""
ALARM_MISSING = "gate_part_missing"
ALARM_UNREADABLE = "gate_verdict_unreadable"
ALARM_SOURCE = "gate_source_failed"
ALARM_SOURCE_FILE = "gate_source_moved"
"""The agent's log was removed, moved or replaced from outside; it is read on as far as it is known where."""
ALARM_UNTOLD = "gate_part_not_told"
"""The agent has numbered parts, or workers have judged parts, of which its trigger log does not tell."""
ALARM_BEHIND = "gate_behind"
"""A part had left before the gate came to decide about it."""
ALARM_CLOCK = "gate_clock_set"
"""The wall clock was set: the parts on their way stay out, since their due moments mean nothing any more."""
ALARM_MISSING_DROPPED = "gate_missing_not_recorded"
"""A MISSING verdict could not be written to the store; the gate's journal has it."""
ALARM_UNSEEN = "gate_part_not_seen"
"""The PLC counted a part that the gate's own source did not tell of."""
ALARM_COUNTER = "gate_counter_set"
"""The PLC's part counter went back: it started again or was set."""

ALARM_PRODUCT = "gate_product_differs"
"""A part was to pass, and is not known to be of the product that its verdict is about."""
ALARM_PRODUCT_DEAF = "gate_product_not_heard"
"""The store does not say which product is due: parts not known to be of one do not pass."""

CHALLENGE_ARMED = "gate_challenge_armed"
CHALLENGE_PART = "gate_challenge_part"
CHALLENGE_PASSED = "gate_challenge_passed"
CHALLENGE_EXPIRED = "gate_challenge_expired"
UNLOCKED = "gate_unlocked"
ALARM_CHALLENGE_DUE = "gate_challenge_due"
"""The shift is over: a challenge part is owed, and after the grace the gate locks."""
ALARM_CHALLENGE_FAILED = "gate_challenge_failed"
"""A part known to be bad was not rejected in time."""
ALARM_CHALLENGE_DEAF = "gate_challenge_not_heard"
"""The store does not say whether an operator has armed the station."""
ALARM_LOCKED = "gate_locked"
"""Nothing is let through until a challenge part is rejected."""

Alarm = Callable[[str, Mapping[str, object]], None]
"""Called with the alarm's name and its facts. It must return quickly and must not raise."""

_log = structlog.get_logger(__name__)


def log_alarm(name: str, facts: Mapping[str, object]) -> None:
    """The default alarm: a structlog error event."""
    _log.error(name, alarm=True, **facts)

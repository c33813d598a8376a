"""Names of the events that a product change logs and of the alarms it raises."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

PRODUCT_BEGINS = "changeover_product_begins"
PRODUCT_READY = "changeover_product_ready"
"""Gate and workers have the product, and the PLC our answer."""
WELL = "changeover_well_again"

ALARM_PLC = "changeover_plc_lost"
"""The PLC does not answer: parts captured meanwhile are not passed."""
ALARM_NUMBER = "changeover_number_unknown"
"""The PLC's number belongs to no product: parts captured meanwhile are not passed."""
ALARM_ANSWER = "changeover_answer_not_written"
ALARM_STORE = "changeover_store_down"
"""Redis does not take what is known: parts captured meanwhile are passed only once it does."""
ALARM_BUS = "changeover_command_not_sent"
ALARM_NOT_TAKEN = "changeover_not_taken"
"""A worker has not taken the new product in time: its parts are not passed, and the PLC gets no answer."""
ALARM_CLOCK = "changeover_clock_set"
"""The wall clock was set: nothing is known of the product before this moment."""
ALARM_UNREADABLE = "changeover_state_unreadable"
"""What an earlier process left in Redis cannot be read: its parts on the line are not passed."""

_log = structlog.get_logger(__name__)


def log_alarm(name: str, facts: Mapping[str, object]) -> None:
    """The default alarm: a structlog error event."""
    _log.error(name, alarm=True, **facts)

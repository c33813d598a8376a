"""Names of the events that a capture agent logs; dashboards and tests refer to them."""

from __future__ import annotations

AGENT_STARTED = "capture_started"
AGENT_FINISHED = "capture_finished"
FRAME_FAILED = "capture_frame_failed"
"""A frame did not reach the bus. Its part still reaches the gate, which stays closed for it."""
NO_SENSOR = "capture_no_sensor"
SHOT_LATE = "capture_shot_late"
LOG_TORN = "capture_log_torn"

"""The gate's hand on the actuator: what is not confirmed open counts as closed, and is closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from schemas.part import PartKey
from workers.clock import Clock
from workers.gate import events
from workers.gate.actuators import Actuator


class Output:
    """Opens, closes and sends heartbeats; an actuator that fails gets no heartbeat until it has closed.

    Args:
        pulse_s: open for so long for each part, and from closed each time: a PLC that acts on the edge opens
            once for each, however long a coil stays on that nobody is left to switch off.
        alarm: called with an event name and facts: once when something begins to fail, not at each try.

    Attributes:
        stuck: it did not confirm that it closed.
        round_trip_ms: how long the last ``energise`` took.
    """

    def __init__(
        self,
        actuator: Actuator,
        clock: Clock,
        alarm: Callable[[str, Mapping[str, object]], None],
        *,
        pulse_s: float | None = None,
    ) -> None:
        self._pulse = None if pulse_s is None else round(pulse_s * 1e9)
        self._actuator = actuator
        self._clock = clock
        self._alarm = alarm
        self._open_until: int | None = None
        self._beating = True
        self.stuck = False
        self.round_trip_ms = 0.0

    @property
    def failing(self) -> bool:
        """Whether it did not confirm the last time that it closed, or that it was reached."""
        return self.stuck or not self._beating

    def energise(self, part: PartKey, until: int) -> bool:
        """Open for this part; whether that is confirmed. It closes at ``until`` (see ``close_when_due``)."""
        if self.stuck or (self._pulse is not None and self._open_until is not None):
            self.release()
        if self.stuck:
            return False
        before = self._clock.monotonic()
        try:
            self._actuator.energise(part)
        except Exception as error:  # whatever a driver raises means that the gate is not known to be open
            self.release()
            self._alarm(events.ALARM_ACTUATOR, {"part": str(part), "error": repr(error)})
            return False
        self.round_trip_ms = (self._clock.monotonic() - before) * 1e3
        self._open_until = until if self._pulse is None else self._clock.now() + self._pulse
        return True

    def release(self) -> None:
        """Close."""
        try:
            self._actuator.release()
        except Exception as error:  # see energise; until it closes, no heartbeat, and the PLC closes it
            if not self.stuck:
                self._alarm(events.ALARM_RELEASE, {"error": repr(error)})
            self.stuck = True
            return
        self.stuck = False
        self._open_until = None

    def close_when_due(self) -> None:
        """Close behind the part that it is open for."""
        if self._open_until is not None and self._clock.now() >= self._open_until:
            self.release()

    def beat(self) -> None:
        """Send the heartbeat; where it fails, close."""
        if self.stuck:
            self.release()
        if self.stuck:
            return
        try:
            self._actuator.heartbeat()
        except Exception as error:  # see energise
            if self._beating:
                self._alarm(events.ALARM_ACTUATOR, {"error": repr(error)})
            self._beating = False
            self.release()
            return
        self._beating = True

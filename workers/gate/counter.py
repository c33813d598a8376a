"""The PLC's own count of parts against the gate's: a part that only the PLC saw is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workers.clock import Clock
from workers.gate import events
from workers.gate.modbus import WRAP


class CounterWatch:
    """Compares how far both counts have moved since the first reading.

    The register says how many parts came by, not which: keys are minted by the agent, and one part that only
    one of the two saw would shift every key behind it. So it is checked against, and never decided from.

    Args:
        counted: the register, 0 to 65535, or None while it is not known.
        grace_s: how long a part may be seen by the PLC alone: the two eyes do not look at one moment.
    """

    def __init__(
        self,
        counted: Callable[[], int | None],
        clock: Clock,
        alarm: Callable[[str, Mapping[str, object]], None],
        *,
        grace_s: float = 1.0,
    ) -> None:
        self._counted = counted
        self._clock = clock
        self._alarm = alarm
        self._grace = grace_s
        self._last: int | None = None
        self._ahead = 0
        self._moved = 0.0
        self._since: float | None = None
        self._seen = 0
        self.unseen = 0
        """Parts that were told."""

    def look(self, seen: int) -> None:
        """``seen``: the parts that the gate has seen so far."""
        now = self._counted()
        if now is None:
            return
        time = self._clock.monotonic()
        if self._last is None:
            self._last, self._seen, self._moved = now, seen, time
            return
        step, mine = (now - self._last) % WRAP, seen - self._seen
        self._last, self._seen = now, seen
        if step >= WRAP // 2:
            # It went back: the PLC started again, or somebody set it.
            self._alarm(events.ALARM_COUNTER, {"counter": now})
            self._ahead, self._since, step = 0, None, 0
        else:
            self._ahead += step - mine
        if step or mine:
            self._moved = time
        if self._ahead <= 0:
            self._since = None
            if time - self._moved >= self._grace:
                # The line rests, so both counts are complete: what the PLC did not see hides nothing later.
                self._ahead = 0
            return
        if self._since is None:
            self._since = time
        if time - self._since >= self._grace:
            self.unseen += self._ahead
            self._alarm(events.ALARM_UNSEEN, {"parts": self._ahead})
            self._ahead, self._since = 0, None

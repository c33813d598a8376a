"""The agent's count of parts against the gate's: a part that the trigger log did not tell of is told.

Parts are numbered by their agent, from 0 in each run. So a number that was left out is a trigger that the
gate did not see; and so is a part that has a verdict and never came past the gate's eyes, which is all that
shows where the log is another file by now than the one that the agent writes.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping

from schemas.part import PartKey
from workers.clock import Clock
from workers.gate import events

_MOST = 4096
_BACKLOG = 500
"""So many parts in one turn are a log that is being read from its start: the newest stand at its end."""


class AgentCount:
    """Compares the parts that were seen with those that the agent must have had.

    ``heard`` may be called on any thread, the rest belongs to the gate.

    Args:
        known: whether a part was seen, by this process or by the one before it.
        grace_s: how long a verdict may be here before its part is.
        again_s: the least time between two alarms.
    """

    def __init__(
        self,
        known: Callable[[PartKey], bool],
        clock: Clock,
        alarm: Callable[[str, Mapping[str, object]], None],
        *,
        grace_s: float = 1.0,
        again_s: float = 10.0,
    ) -> None:
        self._known = known
        self._clock = clock
        self._alarm = alarm
        self._grace = grace_s
        self._again = again_s
        self._heard: deque[tuple[float, PartKey]] = deque(maxlen=_MOST)
        self._left_out: OrderedDict[PartKey, float] = OrderedDict()
        self._last: dict[int, int] = {}
        self._told: OrderedDict[PartKey, None] = OrderedDict()
        self._fresh: list[PartKey] = []
        self._burst = 0
        self._not_before = 0.0
        self._next = 0.0
        self._until = 0.0
        self.untold = 0
        """Parts that were told."""

    @property
    def trouble(self) -> str | None:
        """Why the gate may be blind, for half a minute after the last part that it was not told of."""
        if self._clock.monotonic() >= self._until:
            return None
        return f"{self.untold} parts of the agent are not in its trigger log"

    def heard(self, part: PartKey) -> None:
        """A verdict of this part has come, just now."""
        self._heard.append((self._clock.monotonic(), part))

    def seen(self, part: PartKey) -> None:
        """The gate's eyes have seen this part."""
        self._burst += 1
        self._left_out.pop(part, None)
        last = self._last.get(part.run)
        if last is None:
            # The first run may have begun before the log that is left; later ones begin with 0, or 1.
            last = part.trigger - 1 if not self._last or part.trigger <= 1 else -1
            if len(self._last) >= 64:
                del self._last[min(self._last)]
        now = self._clock.monotonic()
        for trigger in range(max(last + 1, part.trigger - _MOST), part.trigger):
            self._left_out[PartKey(part.station, part.run, trigger)] = now
        self._last[part.run] = max(last, part.trigger)

    def look(self) -> None:
        """Tell of what should have been seen by now."""
        now = self._clock.monotonic()
        if self._burst >= _BACKLOG:
            self._not_before = now + self._grace
        self._burst = 0
        if now < self._not_before:
            return
        while self._heard and now - self._heard[0][0] >= self._grace:
            self._miss(self._heard.popleft()[1])
        while self._left_out and now - next(iter(self._left_out.values())) >= self._grace:
            self._miss(self._left_out.popitem(last=False)[0])
        if self._fresh and now >= self._next:
            facts = {"parts": len(self._fresh), "first": str(self._fresh[0]), "last": str(self._fresh[-1])}
            self._fresh.clear()
            self._next = now + self._again
            self._alarm(events.ALARM_UNTOLD, facts)

    def _miss(self, part: PartKey) -> None:
        if self._known(part) or part in self._told:
            return
        self._told[part] = None
        if len(self._told) > _MOST:
            self._told.popitem(last=False)
        self._fresh.append(part)
        self.untold += 1
        self._until = self._clock.monotonic() + 3 * self._again

"""The state machine of one sensor: up, suspect, down, recovering, each way with hysteresis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.part import PartKey


class SensorState(StrEnum):
    """What the worker thinks of one sensor."""

    UP = "up"
    SUSPECT = "suspect"
    """It failed lately: its good images are used and waited for, its bad ones are left out."""
    DOWN = "down"
    """Nobody waits for it and the model does not see it."""
    RECOVERING = "recovering"
    """It gives good images again: waited for, but not yet seen by the model."""


MOST_PATIENCE = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """How many parts it takes.

    Attributes:
        down_after: bad parts in a row that take a sensor down.
        up_after: good pairs in a row that bring it up again.
    """

    down_after: int
    up_after: int


@dataclass(slots=True)
class Condition:
    """One sensor.

    A bad part weighs twice a good one: ``down_after`` bad ones in a row take the sensor down, and so does, a
    little later, one that is bad every other time, since half of its verdicts would flip between modes.
    Each recovery that fails doubles the good images that the next one takes to begin.

    Attributes:
        state: what it is.
        since: integer nanoseconds since the epoch, when it came to be so.
        why: what was last wrong with it; empty while it is up.
        level: bad parts less good ones, twice and once.
        good: good pairs in a row while recovering.
        patience: good images in a row that begin a recovery.
        rest: good images in a row while it is down.
        unsure: parts in a row of which nobody knows whether the part or the sensor lacked something.
        last_bad: the part that failed last; what is learnt later about parts before it is old news.
    """

    state: SensorState = SensorState.UP
    since: int = 0
    why: str = ""
    level: int = 0
    good: int = 0
    patience: int = 1
    rest: int = 0
    unsure: int = 0
    last_bad: PartKey | None = None

    def failed(self, why: str, part: PartKey, at: int, limits: Limits) -> None:
        """The sensor was bad for this part, at ``at`` nanoseconds."""
        self.why, self.last_bad = why, part
        self.good = self.rest = 0
        if self.state is SensorState.RECOVERING:
            self.patience = min(MOST_PATIENCE, 2 * self.patience)
            self.level = 2 * limits.down_after
        self.level = min(self.level + 2, 2 * limits.down_after)
        self._to(SensorState.DOWN if self.level >= 2 * limits.down_after else SensorState.SUSPECT, at)

    def worked(self, part: PartKey, at: int, limits: Limits, *, pair: bool = True) -> None:
        """The sensor was good for this part; only as one of a pair does it count towards coming up."""
        if self.outdated(part):
            return
        self.unsure = 0
        if self.state is SensorState.DOWN:
            self.rested(at)
        if self.state is SensorState.RECOVERING:
            self.good += pair
            if self.good >= limits.up_after:
                self._up(at)
        elif self.state is SensorState.SUSPECT:
            self.level -= 1
            if self.level <= 0:
                self._up(at)

    def rested(self, at: int) -> None:
        """A sensor that is down gave a good image: enough of them in a row begin a recovery."""
        if self.state is not SensorState.DOWN:
            return
        self.rest += 1
        if self.rest >= self.patience:
            self.rest = self.good = 0
            self._to(SensorState.RECOVERING, at)

    def doubted(self, why: str, part: PartKey, at: int, limits: Limits) -> None:
        """Something lacked, in the part or in the sensor: it is the sensor when it goes on and on."""
        if self.outdated(part):
            return
        self.unsure += 1
        self.good = self.rest = 0
        if self.unsure >= limits.down_after:
            self.failed(why, part, at, limits)

    def outdated(self, part: PartKey) -> bool:
        """Whether a later part of the same run has failed already."""
        last = self.last_bad
        return last is not None and last.run == part.run and part.trigger <= last.trigger

    def _up(self, at: int) -> None:
        self.level = self.good = self.rest = self.unsure = 0
        self.patience = 1
        self.why = ""
        self._to(SensorState.UP, at)

    def _to(self, state: SensorState, at: int) -> None:
        if state is not self.state:
            self.state, self.since = state, at

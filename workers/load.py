"""Whether a worker falls behind: how many records come to its partitions, and how many it answers."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

log = structlog.get_logger(__name__)

GROWING = 3
"""Looks in a row with a larger backlog before it is said."""
BEHIND_S = 1.0
"""And the backlog is worth so many seconds of work."""
AGAIN_S = 60.0


class LoadWatch:
    """Compares one look at the partitions' ends with the next. One thread calls it."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._lag = 0
        self._answered = 0
        self._places: frozenset[int] = frozenset()
        self._growing = 0
        self._told_at: float | None = None
        self.behind = False

    def looked(self, lags: Mapping[int, int], answered: int, now: float) -> None:
        """Take in one look.

        Args:
            lags: by partition, records that are not decided.
            answered: records answered since the worker began.
            now: monotonic seconds.
        """
        lag, places = sum(lags.values()), frozenset(lags)
        before, self._at = self._at, now
        grown, served = lag - self._lag, answered - self._answered
        same, self._places = places == self._places, places
        self._lag, self._answered = lag, answered
        if before is None or now <= before or not same:
            self._growing = 0  # partitions came or went: what lay in them is no sign of the load
            return
        rate = served / (now - before)
        arriving = max(0.0, rate + grown / (now - before))
        self._growing = self._growing + 1 if grown > 0 else 0
        if self._growing >= GROWING and lag > BEHIND_S * max(rate, 1.0):
            self._say(lag, rate, arriving, now)
        elif self.behind and lag <= BEHIND_S * max(rate, 1.0):
            self.behind, self._told_at = False, None
            log.info("worker.caught_up", waiting=lag)

    def _say(self, lag: int, rate: float, arriving: float, now: float) -> None:
        self.behind = True
        if self._told_at is not None and now - self._told_at < AGAIN_S:
            return
        self._told_at = now
        log.warning(
            "worker.falling_behind",
            served_a_second=round(rate, 1),
            arriving_a_second=round(arriving, 1),
            waiting=lag,
            fix="add workers, at most one a partition; or set CROSSCHECK_SHEDDING, so that what is late gives"
            " way",
        )

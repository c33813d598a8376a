"""A brake against floods of unreadable records, for each station by itself.

A broken agent, or one with a wrong encoding, would otherwise turn its stream into dead letters while the line
looks busy. Its station is parked: what cannot be read goes to the dead letters as before, what can be read is
an ERROR without the model, and an alarm says so. After a run of readable records it is judged again. The
other stations go on. Records whose station cannot be read count to their partition, of which nothing else can
be parked: for it there is the alarm alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from workers.bus.base import TopicPartition
from workers.errors import DeadLetterFlood, StationParked
from workers.settings import Settings

log = structlog.get_logger(__name__)

WINDOW = 1000
"""How many of a station's last records the share of dead letters is taken of."""
MAX_SOURCES = 4096


@dataclass(slots=True)
class _Source:
    partition: int
    run: int = 0
    good: int = 0
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    dead: int = 0
    why: str | None = None

    def add(self, dead: bool) -> None:
        if len(self.recent) == WINDOW:
            self.dead -= self.recent[0]
        self.recent.append(dead)
        self.dead += dead
        self.run = self.run + 1 if dead else 0
        self.good = 0 if dead else self.good + 1


class Parking:
    """Which stations are parked. One thread calls it.

    Args:
        run_limit: unreadable records in a row above which a station is parked.
        ratio_limit: share of its last thousand, counted once there are more than ``run_limit`` of them.
        good: readable records in a row after which it is judged again.
    """

    def __init__(self, *, run_limit: int, ratio_limit: float, good: int) -> None:
        self._limit = run_limit
        self._ratio = ratio_limit
        self._good = good
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._last: deque[str] = deque(maxlen=WINDOW)

    @classmethod
    def of(cls, settings: Settings) -> Parking:
        """As the settings say."""
        return cls(
            run_limit=settings.deadletter_run,
            ratio_limit=settings.deadletter_ratio,
            good=settings.deadletter_good,
        )

    def answered(self, station: str | None, partition: int, *, dead: bool) -> None:
        """One more record or part is answered: by a dead letter, or properly.

        Args:
            station: None where the record does not say.
        """
        name = f"partition {partition}" if station is None else station
        source = self._sources.setdefault(name, _Source(partition))
        self._sources.move_to_end(name)
        if len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
        source.partition = partition
        source.add(dead)
        self._last.append(name)
        if source.why is None:
            source.why = self._trouble(source)
            if source.why is not None:
                log.error("worker.station_parked", station=name, why=source.why)
        elif source.good >= self._good:
            self._sources[name] = _Source(partition)
            log.warning("worker.station_judged_again", station=name, readable=self._good)

    def _trouble(self, source: _Source) -> str | None:
        if source.run > self._limit:
            return (
                f"{source.run} unreadable records in a row, the limit is {self._limit}"
                " (CROSSCHECK_DEADLETTER_RUN)"
            )
        if source.dead > max(self._limit, self._ratio * len(source.recent)):
            return (
                f"{source.dead} of its last {len(source.recent)} records could not be read, the limit is a"
                f" share of {self._ratio:g} (CROSSCHECK_DEADLETTER_RATIO)"
            )
        return None

    @property
    def parked(self) -> Mapping[str, str]:
        """What is parked, stations and "partition N", each with why."""
        return {name: source.why for name, source in self._sources.items() if source.why is not None}

    def refusal(self, station: str) -> StationParked | None:
        """Why the parts of a station are not judged now, or None."""
        source = self._sources.get(station)
        if source is None or source.why is None:
            return None
        return StationParked(
            f"station {station} is parked: {source.why}; look at `crosscheck deadletter list --station"
            f" {station}` and mend its agent: it is judged again after {self._good} records in a row that can"
            " be read (CROSSCHECK_DEADLETTER_GOOD)"
        )

    def check(self) -> None:
        """Stop the worker where the fault is of all that it reads, for then it is likely to be its own.

        Raises:
            DeadLetterFlood: everything it has read of late is parked, and that is more than one station.
        """
        parked = self.parked
        if len(parked) > 1 and parked.keys() >= set(self._last):
            some = ", ".join(sorted(parked)[:8])
            raise DeadLetterFlood(
                f"all {len(parked)} sources that this worker reads are parked ({some}):"
                " its release, or what all agents were given, is at fault; look at the dead letters with"
                " `crosscheck deadletter list`, mend it, start the worker again"
            )

    def forget(self, partitions: set[TopicPartition]) -> None:
        """Partitions that are no longer ours: whoever has them counts for himself."""
        gone = {place.partition for place in partitions}
        for name in [name for name, source in self._sources.items() if source.partition in gone]:
            del self._sources[name]
        self._last.clear()

"""Frames that retention deleted before anybody read them: which parts they were, so that each is MISSING.

The broker tells only how many records of a partition are gone. Triggers count up by one within a run, so the
first frame of a station behind the gap names its parts: those between the last that is known and itself.

What cannot be named here: the end of a run whose agent began another one inside the gap, and parts of a
station that sends nothing any more. The gate saw them pass, held no verdict, and stayed closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import structlog

from schemas.errors import SchemaError
from schemas.frame import Frame
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_verdict
from workers.bus.base import TopicPartition

log = structlog.get_logger(__name__)

Latest = Callable[[str], bytes | None]
"""The newest verdict of a station by (run, trigger), as ``VerdictStore.latest``."""

MAX_STATIONS = 4096
MAX_NAMED = 100_000
"""Parts named for one gap, at most, however many records are gone."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Parts of one station whose records are gone, in order, and how many records the gap took in all."""

    parts: tuple[PartKey, ...] = ()
    records: int = 0

    def verdicts(self, witness: Frame | Notice, *, worker: str, now: int) -> Iterator[Verdict]:
        """MISSING for each of them, in order.

        Nothing is known of them but their names: product, capture time and deadline are the witness's, the
        first frame behind the gap. So the times are later than theirs were, which opens no gate.

        Args:
            now: nanoseconds since the epoch.
        """
        for part in self.parts:
            yield Verdict(
                part=part,
                product=witness.product,
                decision=Decision.MISSING,
                reason=f"gap: {self.records} records were deleted before they were read",
                worker=worker,
                captured_at=witness.captured_at,
                decided_at=now,
                deadline=witness.deadline,
            )


@dataclass(slots=True)
class _Gap:
    records: int = 0
    left: int = 0
    done: set[str] = field(default_factory=set)


class GapWatch:
    """What was read last of each station, and the gaps behind which it has not been read yet.

    Args:
        latest: asked for a station of which nothing was read here.
    """

    def __init__(self, latest: Latest) -> None:
        self._latest = latest
        self._newest: OrderedDict[str, tuple[tuple[int, int], TopicPartition]] = OrderedDict()
        self._gaps: dict[TopicPartition, _Gap] = {}

    def gap(self, place: TopicPartition, records: int) -> None:
        """So many records of a partition are gone unread."""
        if records <= 0:
            return
        gap = self._gaps.setdefault(place, _Gap())
        gap.records += records
        gap.left = min(gap.left + records, MAX_NAMED)
        gap.done.clear()

    def lost_before(self, part: PartKey, place: TopicPartition) -> Lost:
        """The parts that are gone, if this is the first frame of its station behind a gap; else none.

        Never more than records are gone, whatever number a corrupt key holds; the newest are kept. To be
        called before ``saw`` of the same part; calling it again after an error is safe.

        Raises:
            StoreError: Redis was asked for the station's last part and is away.
        """
        gap = self._gaps.get(place)
        if gap is None or part.station in gap.done:
            return Lost()
        last = self._last(part.station)
        if last is not None and part.order <= last:
            return Lost()  # sent again, or late: the first new one is still to come
        gap.done.add(part.station)
        first = last[1] + 1 if last is not None and last[0] == part.run else 0
        kept = max(first, part.trigger - gap.left)
        if kept > first:
            log.error(
                "worker.gap_beyond_bound", station=part.station, run=part.run, first=first, named_from=kept
            )
        parts = tuple(PartKey(part.station, part.run, trigger) for trigger in range(kept, part.trigger))
        if parts:
            log.error("worker.gap_parts", station=part.station, first=str(parts[0]), parts=len(parts))
        lost = Lost(parts, gap.records)
        gap.left -= len(parts)
        if gap.left == 0 or len(gap.done) >= MAX_STATIONS:
            del self._gaps[place]
        return lost

    def saw(self, part: PartKey, place: TopicPartition) -> None:
        """A frame or a notice was read."""
        known = self._newest.get(part.station)
        if known is None or part.order > known[0]:
            self._newest[part.station] = (part.order, place)
        self._newest.move_to_end(part.station)
        if len(self._newest) > MAX_STATIONS:
            self._newest.popitem(last=False)

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """Partitions that are no longer ours: others read on, and what was last here is not the last."""
        gone = set(places)
        for place in gone:
            self._gaps.pop(place, None)
        for station in [s for s, (_, place) in self._newest.items() if place in gone]:
            del self._newest[station]

    def _last(self, station: str) -> tuple[int, int] | None:
        known = self._newest.get(station)
        if known is not None:
            return known[0]
        standing = self._latest(station)
        if standing is None:
            return None
        try:
            return decode_verdict(standing).part.order
        except SchemaError as error:
            log.warning("worker.latest_unreadable", station=station, error=str(error))
            return None

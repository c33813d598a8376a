"""Frames that nobody can read: which parts they were, so that each is MISSING.

Retention deleted them before they were read, or they cannot be decoded, not even whose they are. It is known
only how many records of a partition they were. Triggers count up by one within a run, so the
first frame of a station behind the gap names its parts: those between the last that is known and itself.

What cannot be named here: the end of a run whose agent began another one inside the gap, and parts of a
station that sends nothing any more. The gate saw them pass, held no verdict, and stayed closed.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import structlog

from schemas.codes import ReasonCode
from schemas.errors import SchemaError
from schemas.frame import Frame
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_verdict
from workers.bus.base import TopicPartition
from workers.steps.publishing import Outcome
from workers.steps.runs import Mark

log = structlog.get_logger(__name__)

Latest = Callable[[str], bytes | None]
"""The newest verdict of a station by (run, trigger), as ``VerdictStore.latest``."""

DELETED = "were deleted before they were read"
UNREADABLE = "could not be read"

MAX_STATIONS = 4096
MAX_NAMED = 100_000
"""Parts named for one gap, at most, however many records are gone."""


@dataclass(frozen=True, slots=True)
class Witness:
    """A frame or a notice read behind a gap, without its images."""

    part: PartKey
    product: str
    captured_at: int
    deadline: int
    place: TopicPartition


@dataclass(frozen=True, slots=True)
class Lost:
    """Parts of one station whose records are gone, in order.

    Attributes:
        witness: the first frame or notice of the station behind the gap.
        parts: those before it.
        records: how many records the gap took in all, of this and other stations.
        why: what became of them.
    """

    witness: Witness
    parts: tuple[PartKey, ...]
    records: int
    why: str

    def outcomes(self, *, worker: str, now: int, most: int = 256) -> Iterator[list[Outcome]]:
        """MISSING for each of them, in order, at most ``most`` at a time; no record hangs on any.

        Nothing is known of them but their names: product, capture time and deadline are the witness's. So the
        times are later than theirs were, which opens no gate.

        Args:
            now: nanoseconds since the epoch.
        """
        for first in range(0, len(self.parts), most):
            yield [
                Outcome(self.witness.place.partition, self._verdict(part, worker, now), ())
                for part in self.parts[first : first + most]
            ]

    def _verdict(self, part: PartKey, worker: str, now: int) -> Verdict:
        return Verdict(
            part=part,
            product=self.witness.product,
            decision=Decision.MISSING,
            reason=f"{ReasonCode.GAP}: {self.records} records {self.why}",
            worker=worker,
            captured_at=self.witness.captured_at,
            decided_at=now,
            deadline=self.witness.deadline,
        )


@dataclass(slots=True)
class _Gap:
    records: int = 0
    left: int = 0
    causes: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)


class GapWatch:
    """What was read last of each station, and the gaps behind which it has not been read yet.

    Reading asks nobody; ``lost`` asks Redis, which may be away, and may be called again until it answers.

    Args:
        latest: a station's newest verdict: what others decided, or this worker in an earlier life.
        bound_s: seconds by which an agent's clock may be ahead of ours.
    """

    def __init__(self, latest: Latest, *, bound_s: float = 0.25) -> None:
        self._latest = latest
        self._bound = round(bound_s * 1e9)
        self._newest: OrderedDict[str, tuple[Mark, TopicPartition]] = OrderedDict()
        self._gaps: dict[TopicPartition, _Gap] = {}
        self._witnesses: deque[tuple[Witness, Mark | None]] = deque()
        self._found: list[Lost] = []

    def gap(self, place: TopicPartition, records: int, why: str = DELETED) -> None:
        """So many records of a partition are lost to us, and why: `DELETED` or `UNREADABLE`."""
        if records <= 0:
            return
        gap = self._gaps.setdefault(place, _Gap())
        gap.records += records
        gap.left = min(gap.left + records, MAX_NAMED)
        gap.causes.add(why)
        gap.done.clear()

    def opened(self, found: Frame | Notice, place: TopicPartition, read_at: int) -> None:
        """A frame or a notice was read at ``read_at``, nanoseconds since the epoch by our clock."""
        part = found.part
        known = self._newest.get(part.station)
        gap = self._gaps.get(place)
        if gap is not None and part.station not in gap.done:
            witness = Witness(part, found.product, found.captured_at, found.deadline, place)
            self._witnesses.append((witness, None if known is None else known[0]))
        if known is None or known[0].passed_by(part.order, found.captured_at, self._bound):
            self._newest[part.station] = (Mark(part.order, read_at), place)
        self._newest.move_to_end(part.station)
        if len(self._newest) > MAX_STATIONS:
            self._newest.popitem(last=False)

    def lost(self) -> list[Lost]:
        """The parts that are gone, of each station that was read again behind a gap since the last call.

        To be answered before anything that was read since. Never more than records are gone, whatever number
        a corrupt key holds; the newest are kept.

        Raises:
            StoreError: Redis is away; nothing is forgotten.
        """
        while self._witnesses:
            self._hear(*self._witnesses[0])
            self._witnesses.popleft()
        found, self._found = self._found, []
        return found

    def _hear(self, witness: Witness, read: Mark | None) -> None:
        part, gap = witness.part, self._gaps.get(witness.place)
        if gap is None or part.station in gap.done:
            return
        marks = (read, self._decided(part.station))
        believed = [
            mark.order
            for mark in marks
            if mark is not None and not mark.disproved_by(part.order, witness.captured_at, self._bound)
        ]
        last = max(believed, default=None)
        if last is not None and part.order <= last:
            return  # sent again, or late: the first new one is still to come
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
            self._found.append(Lost(witness, parts, gap.records, " or ".join(sorted(gap.causes))))
        gap.left -= len(parts)
        if gap.left == 0 or len(gap.done) >= MAX_STATIONS:
            del self._gaps[witness.place]

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """Partitions that are no longer ours: others read on, and what was last here is not the last."""
        gone = set(places)
        for place in gone:
            self._gaps.pop(place, None)
        for station in [s for s, (_, place) in self._newest.items() if place in gone]:
            del self._newest[station]
        self._witnesses = deque(entry for entry in self._witnesses if entry[0].place not in gone)
        self._found = [lost for lost in self._found if lost.witness.place not in gone]

    def _decided(self, station: str) -> Mark | None:
        standing = self._latest(station)
        if standing is None:
            return None
        try:
            verdict = decode_verdict(standing)
        except SchemaError as error:
            log.warning("worker.latest_unreadable", station=station, error=str(error))
            return None
        return Mark(verdict.part.order, verdict.decided_at)

"""Step 3: bring the sensors of one part together, without ever waiting for one that is down.

Parts leave in their station's order: a part that is complete waits behind one that is not, but none waits
longer than it may itself. The wait is what the station's pairs were seen to need; the setting is its upper
bound, and so is the part's deadline less the time that a model run takes.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from schemas.errors import InvalidField
from schemas.frame import Frame
from schemas.part import PartKey
from workers.bus.base import Record
from workers.steps.offsets import Ticket
from workers.steps.pending import PendingPart, Shot
from workers.steps.skew import Skews

SensorsDown = Callable[[str], frozenset[str]]
"""Which sensors of a station are down."""

REMEMBERED = 256
"""Parts of a station that are remembered after they left, so that a late record of theirs is known as one."""
MAX_STATIONS = 1024


def merge(first: Frame, second: Frame) -> Frame:
    """One frame of two records of the same part; what the first already has is kept.

    Raises:
        InvalidField: they name different products, so that nobody knows whose model is to judge the part.
    """
    if first.product != second.product:
        raise InvalidField(
            f"part {first.part}: one record says product {first.product!r}, another {second.product!r}: "
            "set the same product on every agent of the station"
        )
    depth_is_new = first.depth is None and second.depth is not None
    return replace(
        first,
        rgb=first.rgb if first.rgb is not None else second.rgb,
        depth=second.depth if depth_is_new else first.depth,
        depth_scale=second.depth_scale if depth_is_new else first.depth_scale,
        deadline=min(first.deadline, second.deadline),
        expects=tuple(dict.fromkeys(first.expects + second.expects)),
    )


@dataclass(frozen=True, slots=True)
class _Left:
    """A part that has left: what a record of it that comes only now is measured against."""

    arrived: float
    stamped: int
    reach: float
    present: frozenset[str]
    ticket: Ticket


class _Queue:
    """The parts of one station that wait, in the order of their triggers."""

    __slots__ = ("order", "waiting")

    def __init__(self) -> None:
        self.order: list[tuple[tuple[int, int], PartKey]] = []
        self.waiting: dict[PartKey, tuple[PendingPart, float, float]] = {}

    def put(self, pending: PendingPart, due: float, fair: float) -> None:
        if pending.part not in self.waiting:
            insort(self.order, (pending.part.order, pending.part))
        self.waiting[pending.part] = (pending, due, fair)

    def head(self) -> PendingPart:
        return self.waiting[self.order[0][1]][0]

    def pop(self, now: float) -> PendingPart:
        pending, _, fair = self.waiting.pop(self.order.pop(0)[1])
        pending.hurried = now < fair
        return pending

    def due(self, now: float) -> bool:
        # Of any part, not of the first alone: one behind it may have to go sooner, and order is kept.
        return any(now >= self.waiting[part][1] for _, part in self.order)

    def keep(self, keep: Callable[[Ticket], bool]) -> None:
        self.waiting = {
            part: entry for part, entry in self.waiting.items() if any(map(keep, entry[0].tickets))
        }
        self.order = [entry for entry in self.order if entry[1] in self.waiting]


class Pairer:
    """Parts waiting for a sensor, a queue a station, and a memory of those that left.

    Args:
        wait_s: the longest wait; what a station needs is learnt.
        sensors_down: which sensors nobody waits for.
        near_s: time a model run needs: no part waits beyond its deadline less this.
        skews: what is known of each station's skew; its own where none is given.
    """

    def __init__(
        self, wait_s: float, sensors_down: SensorsDown, *, near_s: float = 0.0, skews: Skews | None = None
    ) -> None:
        self._longest = wait_s
        self._near = near_s
        self._down = sensors_down
        self._skews = Skews(wait_s) if skews is None else skews
        self._queues: dict[str, _Queue] = {}
        self._late: deque[PendingPart] = deque()
        self._left: OrderedDict[str, OrderedDict[PartKey, _Left]] = OrderedDict()

    def offer(self, frame: Frame, record: Record, ticket: Ticket, *, now: float, read_at: int) -> None:
        """Add one record's frame; a part already waiting here takes it in.

        A record of a part that has left already does not wait: it comes out at the next ``ready`` with
        ``late`` set, to be given the answer that its part has or is about to get.

        Raises as ``merge``.
        """
        parts = self._left.get(frame.part.station)
        left = None if parts is None else parts.get(frame.part)
        queue = self._queues.get(frame.part.station)
        known = None if queue is None else queue.waiting.get(frame.part)
        if known is not None:
            pending = known[0]
            before = pending.present
            pending.frame = merge(pending.frame, frame)
            expected = frozenset(pending.frame.expects)
            if expected <= pending.present and not expected <= before:
                first = pending.records[0].timestamp_ms
                self._skews.saw(frame.part.station, _apart(now - pending.arrived, record, first))
        else:
            pending = PendingPart(frame, arrived=now, read_at=read_at)
            if left is not None:
                pending.late = self._in_reach(left, frame, record, now)
                self._left[frame.part.station][frame.part] = replace(
                    left, present=left.present | pending.present
                )
        for sensor in pending.present:
            pending.shots.setdefault(sensor, Shot(frame.captured_at, read_at))
        pending.records.append(record)
        pending.tickets.append(ticket)
        if pending.late is not None:
            self._late.append(pending)
        else:
            queue = self._queues.setdefault(frame.part.station, _Queue())
            usual = self._skews.wait(frame.part.station)
            queue.put(
                pending, pending.arrived + min(usual, self._reach(pending)), pending.arrived + usual / 2
            )

    def _in_reach(self, left: _Left, frame: Frame, record: Record, now: float) -> frozenset[str]:
        """The sensors in a late record that a longer wait, still within bounds, had caught."""
        here = {name for name, image in (("rgb", frame.rgb), ("depth", frame.depth)) if image is not None}
        fresh = frozenset(here) - left.present
        skew = now - left.arrived
        if not fresh or skew > left.reach:
            return frozenset()
        self._skews.too_late(frame.part.station, _apart(skew, record, left.stamped))
        return fresh

    def _reach(self, pending: PendingPart) -> float:
        """Seconds that the part could wait at the very most."""
        slack = (pending.frame.deadline - pending.read_at) / 1e9 - self._near
        return max(0.0, min(self._longest, slack))

    def ready(self, now: float) -> Iterator[PendingPart]:
        """Take out the late records, then the parts that are complete or may wait no longer, in order."""
        while self._late:
            yield self._late.popleft()
        for station in list(self._queues):
            # Looked up anew for each part: whoever takes one may offer others before it asks for the next.
            while (queue := self._queues.get(station)) is not None:
                if not queue.order:
                    del self._queues[station]
                    break
                if self._waits(queue.head()) and not queue.due(now):
                    break
                pending = queue.pop(now)
                self._remember(pending)
                yield pending

    def _remember(self, pending: PendingPart) -> None:
        station = pending.part.station
        parts = self._left.setdefault(station, OrderedDict())
        self._left.move_to_end(station)
        parts[pending.part] = _Left(
            pending.arrived,
            pending.records[0].timestamp_ms,
            self._reach(pending),
            pending.present,
            pending.tickets[0],
        )
        if len(parts) > REMEMBERED:
            parts.popitem(last=False)
        if len(self._left) > MAX_STATIONS:
            self._left.popitem(last=False)

    def _waits(self, pending: PendingPart) -> bool:
        missing = frozenset(pending.frame.expects) - pending.present
        return bool(missing - self._down(pending.part.station))

    def next_due(self) -> float | None:
        """Monotonic seconds when the next part leaves, at the latest; None when nothing waits."""
        dues = [late.arrived for late in self._late]
        for queue in self._queues.values():
            dues.extend(due for _, due, _ in queue.waiting.values())
            if queue.order and not self._waits(queue.head()):
                # A sensor went down meanwhile: there is nothing left to wait for.
                dues.append(queue.head().arrived)
        return min(dues, default=None)

    def drop(self, keep: Callable[[Ticket], bool]) -> None:
        """Forget parts none of whose records is still ours to commit, and those that left under them."""
        for queue in self._queues.values():
            queue.keep(keep)
        self._late = deque(late for late in self._late if any(map(keep, late.tickets)))
        for station in list(self._left):
            # Their next reading may be by us, without an answer: it must not be taken for a late record.
            parts = self._left[station]
            kept = OrderedDict((part, left) for part, left in parts.items() if keep(left.ticket))
            if kept:
                self._left[station] = kept
            else:
                del self._left[station]

    def __contains__(self, part: PartKey) -> bool:
        queue = self._queues.get(part.station)
        return queue is not None and part in queue.waiting

    def holds(self, station: str) -> bool:
        """Whether any part of the station waits here."""
        queue = self._queues.get(station)
        return queue is not None and bool(queue.order)

    def __len__(self) -> int:
        return len(self._late) + sum(len(queue.waiting) for queue in self._queues.values())

    @property
    def size(self) -> int:
        """Bytes held."""
        waiting = sum(p.size for queue in self._queues.values() for p, _, _ in queue.waiting.values())
        return waiting + sum(late.size for late in self._late)

    @property
    def remembered(self) -> int:
        """Parts that have left and are still known."""
        return sum(map(len, self._left.values()))


def _apart(skew: float, record: Record, first_ms: int) -> float:
    """Seconds between two records of a part as they came, or as they were sent where that is longer.

    In a backlog both are read at once, whatever lay between them when they were sent.
    """
    return max(skew, abs(record.timestamp_ms - first_ms) / 1e3)

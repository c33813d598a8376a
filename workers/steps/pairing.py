"""Step 3: bring the sensors of one part together, without ever waiting for one that is down.

Parts leave in the order in which their station's first records came: a part that is complete waits behind one
that is not, but never longer than that one's own waiting time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace

from schemas.errors import InvalidField
from schemas.frame import Frame
from schemas.part import PartKey
from workers.bus.base import Record
from workers.steps.offsets import Ticket
from workers.steps.pending import PendingPart

SensorsDown = Callable[[str], frozenset[str]]
"""Which sensors of a station are down."""


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


class Pairer:
    """Parts waiting for a sensor, a queue a station."""

    def __init__(self, wait_s: float, sensors_down: SensorsDown) -> None:
        self._wait = wait_s
        self._down = sensors_down
        self._queues: dict[str, OrderedDict[PartKey, PendingPart]] = {}

    def offer(self, frame: Frame, record: Record, ticket: Ticket, *, now: float, read_at: int) -> None:
        """Add one record's frame; a part already waiting here takes it in. Raises as ``merge``."""
        queue = self._queues.setdefault(frame.part.station, OrderedDict())
        pending = queue.get(frame.part)
        if pending is None:
            pending = queue[frame.part] = PendingPart(frame, arrived=now, read_at=read_at)
        else:
            pending.frame = merge(pending.frame, frame)
        pending.records.append(record)
        pending.tickets.append(ticket)

    def ready(self, now: float) -> Iterator[PendingPart]:
        """Take out the parts that are complete or have waited long enough, in station order."""
        for station in list(self._queues):
            queue = self._queues[station]
            while queue:
                head = next(iter(queue.values()))
                if self._waits(head) and now < head.arrived + self._wait:
                    break
                queue.popitem(last=False)
                yield head
            if not queue:
                del self._queues[station]

    def _waits(self, pending: PendingPart) -> bool:
        missing = frozenset(pending.frame.expects) - pending.present
        return bool(missing - self._down(pending.part.station))

    def next_due(self) -> float | None:
        """Monotonic seconds when the next waiting part has waited long enough; None when nothing waits."""
        heads = [next(iter(queue.values())).arrived for queue in self._queues.values() if queue]
        return min(heads) + self._wait if heads else None

    def drop(self, keep: Callable[[Ticket], bool]) -> None:
        """Forget parts none of whose records is still ours to commit."""
        for queue in self._queues.values():
            for part in [p for p, pending in queue.items() if not any(map(keep, pending.tickets))]:
                del queue[part]

    def __contains__(self, part: PartKey) -> bool:
        return part in self._queues.get(part.station, ())

    def holds(self, station: str) -> bool:
        """Whether any part of the station waits here."""
        return bool(self._queues.get(station))

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(pending.size for queue in self._queues.values() for pending in queue.values())

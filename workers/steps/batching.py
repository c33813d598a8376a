"""Step 4: gather parts for one model run, never longer than the oldest may wait, fair across stations.

Three rules, the stronger first:

* order within a station is kept, whatever the deadlines of its parts;
* no station starves: each gets its turn within a bounded number of batches;
* a part whose deadline is near makes its batch start now, and its station goes first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf

from schemas.part import PartKey
from workers.steps.offsets import Ticket
from workers.steps.pending import PendingPart


def deadline_of(pending: PendingPart) -> float:
    """The part's deadline in monotonic seconds: it was read at one moment of both clocks."""
    return pending.arrived + (pending.frame.deadline - pending.read_at) / 1e9


@dataclass(slots=True)
class _Queue:
    """The parts of one station, first come, first served.

    ``nearest`` holds each deadline that is nearer than all behind it: the first is the nearest of all, and a
    part enters and leaves it once.
    """

    parts: deque[tuple[PendingPart, float]] = field(default_factory=deque)
    nearest: deque[float] = field(default_factory=deque)
    passed_over: int = 0

    def push(self, pending: PendingPart) -> None:
        moment = deadline_of(pending)
        while self.nearest and self.nearest[-1] > moment:
            self.nearest.pop()
        self.nearest.append(moment)
        self.parts.append((pending, moment))

    def pop(self) -> PendingPart:
        pending, moment = self.parts.popleft()
        if self.nearest[0] == moment:
            self.nearest.popleft()
        return pending

    @property
    def head(self) -> PendingPart:
        return self.parts[0][0]


class Batcher:
    """Parts ready for the model, a queue a station.

    Args:
        max_batch: parts in one batch, at most.
        max_delay_s: seconds a part may wait here before its batch starts.
        near_s: a part whose deadline is not further than so many seconds is batched now.
    """

    def __init__(self, max_batch: int, max_delay_s: float, near_s: float = 0.0) -> None:
        self._max_batch = max_batch
        self._max_delay = max_delay_s
        self._near = near_s
        self._queues: OrderedDict[str, _Queue] = OrderedDict()
        self._count = 0
        self._bytes = 0

    def add(self, pending: PendingPart) -> None:
        """Queue one part behind the others of its station."""
        self._queues.setdefault(pending.part.station, _Queue()).push(pending)
        self._count += 1
        self._bytes += pending.size

    def due_at(self) -> float | None:
        """Monotonic seconds when a batch must start; None when nothing waits.

        That is when the oldest part has waited long enough, or the deadline of any part is near.
        """
        moments = (self._due_at(queue) for queue in self._queues.values())
        return min(moments, default=None)

    def _due_at(self, queue: _Queue) -> float:
        return min(queue.head.arrived + self._max_delay, queue.nearest[0] - self._near)

    def due(self, now: float) -> bool:
        """Whether a batch must start now: it is full, or ``due_at`` has come."""
        if self._count >= self._max_batch:
            return True
        due_at = self.due_at()
        return due_at is not None and now >= due_at

    def take(self, now: float = -inf, most: int | None = None) -> list[PendingPart]:
        """At most ``max_batch`` parts (or ``most``), one a station in turn, so that a burst starves nobody.

        Stations with a deadline that is near at ``now`` (monotonic seconds) come first, the nearest before
        the others, wherever in its station's queue it waits: the way to a part leads through those before
        it. A station passed over in twice as many batches as a fair turn takes precedes even them.
        """
        waiting = len(self._queues)
        patience = 2 * -(-waiting // self._max_batch)
        turn = deque(self._order(now, patience))
        batch: list[PendingPart] = []
        room = self._max_batch if most is None else most
        while turn and len(batch) < room:
            station = turn.popleft()
            queue = self._queues[station]
            batch.append(self._pop(station, queue))
            queue.passed_over = -1
            if queue.parts:
                self._queues.move_to_end(station)
                turn.append(station)
        for queue in self._queues.values():
            queue.passed_over += 1
        return batch

    def _order(self, now: float, patience: int) -> Iterable[str]:
        passed_over: list[str] = []
        near: list[tuple[float, str]] = []
        others: list[str] = []
        for station, queue in self._queues.items():
            if queue.passed_over >= patience:
                passed_over.append(station)
            elif queue.nearest[0] - self._near <= now:
                near.append((queue.nearest[0], station))
            else:
                others.append(station)
        return [*passed_over, *(station for _, station in sorted(near)), *others]

    def _pop(self, station: str, queue: _Queue) -> PendingPart:
        pending = queue.pop()
        self._count -= 1
        self._bytes -= pending.size
        if not queue.parts:
            del self._queues[station]
        return pending

    def late(self, now: int) -> list[PendingPart]:
        """Take out the parts whose deadline is gone, to be answered at once and without the model.

        Verdicts of a station are published in the order of its parts. So only late parts with nothing but
        late parts before them are taken: one behind a part that still has time waits for that part's batch,
        and is answered STALE in it. The deadlines of a station run with its triggers, so this is rare.

        Args:
            now: nanoseconds since the epoch; a deadline is gone when it is before this moment.
        """
        gone: list[PendingPart] = []
        for station in list(self._queues):
            queue = self._queues[station]
            while queue.parts and queue.head.frame.deadline < now:
                gone.append(self._pop(station, queue))
        return gone

    def drop(self, keep: Callable[[Ticket], bool]) -> None:
        """Forget parts none of whose records is still ours to commit."""
        for station, queue in list(self._queues.items()):
            kept = [p for p, _ in queue.parts if any(map(keep, p.tickets))]
            if len(kept) == len(queue.parts):
                continue
            while queue.parts:
                self._pop(station, queue)
            if kept:
                # At the end of the turn: what it had waited for is gone.
                for pending in kept:
                    self.add(pending)

    def __contains__(self, part: PartKey) -> bool:
        queue = self._queues.get(part.station)
        return queue is not None and any(pending.part == part for pending, _ in queue.parts)

    def holds(self, station: str) -> bool:
        """Whether any part of the station waits here."""
        return station in self._queues

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._bytes

"""Step 4: gather parts for one model run, never longer than the oldest may wait, fair across stations."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from schemas.part import PartKey
from workers.steps.offsets import Ticket
from workers.steps.pending import PendingPart


class Batcher:
    """Parts ready for the model, a queue a station; order within a station is kept."""

    def __init__(self, max_batch: int, max_delay_s: float) -> None:
        self._max_batch = max_batch
        self._max_delay = max_delay_s
        self._queues: OrderedDict[str, deque[PendingPart]] = OrderedDict()

    def add(self, pending: PendingPart) -> None:
        """Queue one part behind the others of its station."""
        self._queues.setdefault(pending.part.station, deque()).append(pending)

    def due_at(self) -> float | None:
        """Monotonic seconds when the oldest part may wait no longer; None when nothing waits."""
        if not self._queues:
            return None
        return min(queue[0].arrived for queue in self._queues.values()) + self._max_delay

    def due(self, now: float) -> bool:
        """Whether a batch must start now: it is full, or its oldest part has waited long enough."""
        due_at = self.due_at()
        return due_at is not None and (len(self) >= self._max_batch or now >= due_at)

    def take(self) -> list[PendingPart]:
        """At most ``max_batch`` parts, one a station in turn, so that a burst starves nobody."""
        batch: list[PendingPart] = []
        while self._queues and len(batch) < self._max_batch:
            station, queue = next(iter(self._queues.items()))
            batch.append(queue.popleft())
            if queue:
                self._queues.move_to_end(station)
            else:
                del self._queues[station]
        return batch

    def drop(self, keep: Callable[[Ticket], bool]) -> None:
        """Forget parts none of whose records is still ours to commit."""
        for station in list(self._queues):
            kept = deque(p for p in self._queues[station] if any(map(keep, p.tickets)))
            if kept:
                self._queues[station] = kept
            else:
                del self._queues[station]

    def __contains__(self, part: PartKey) -> bool:
        return any(pending.part == part for pending in self._queues.get(part.station, ()))

    def holds(self, station: str) -> bool:
        """Whether any part of the station waits here."""
        return station in self._queues

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(pending.size for queue in self._queues.values() for pending in queue)

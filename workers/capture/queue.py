"""The agent's queue: what is in flight, then what waits, in the order in which it came.

No thread and no bus in here, and a lock that is never held over a call to disk or broker.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from workers.bus.base import Delivery, TopicPartition
from workers.capture.entry import Entry
from workers.capture.segments import Place
from workers.errors import BusError


class Posted:
    """The delivery of a frame that was handed to the agent's queue."""

    def __init__(self) -> None:
        self._settled = threading.Event()
        self._place: tuple[TopicPartition, int] | None = None
        self._error: BusError | None = None

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._settled.is_set()

    def wait(self, timeout: float) -> tuple[TopicPartition, int]:
        """Where the frame stands. Raises BusError where it was given up, or not acknowledged in time."""
        if not self._settled.wait(timeout):
            raise BusError(f"no acknowledgement within {timeout:g} s; the frame waits in the agent's buffer")
        if self._error is not None:
            raise self._error
        assert self._place is not None
        return self._place

    def succeed(self, place: tuple[TopicPartition, int]) -> None:
        """The broker has the frame."""
        self._place = place
        self._settled.set()

    def fail(self, error: BusError) -> None:
        """The broker will not have the frame."""
        self._error = error
        self._settled.set()


@dataclass(slots=True, eq=False)
class Item:
    """One place in the queue.

    Attributes:
        seq, last_seq: the places that it stands for; several where notices were joined.
        entry: what is to be said.
        value: the message, None where it has to be read from the disk or made from the entry.
        since: when it came, seconds of the monotonic clock.
        place: where it is on disk, None where it is not.
        deliveries: what was sent of it and not yet answered.
        refused: the disk had no room for it.
        taken: the sender has it in hand, or it is in flight.
        sent: when it was sent, seconds of the monotonic clock.
    """

    seq: int
    last_seq: int
    entry: Entry
    value: bytes | None
    since: float
    place: Place | None = None
    ticket: Posted | None = None
    deliveries: list[Delivery] = field(default_factory=list)
    done: bool = False
    refused: bool = False
    taken: bool = False
    sent: float = 0.0

    # As calls, because they change between two looks.

    def settled(self) -> bool:
        """Whether it is done."""
        return self.done

    def is_told(self) -> bool:
        """Whether it is told by notices."""
        return self.entry.told

    @property
    def memory(self) -> int:
        """What it holds in memory, bytes."""
        return 0 if self.value is None or self.place is not None else len(self.value)


class Queue:
    """``changed`` guards everything; methods say where the caller has to hold it."""

    def __init__(self, next_seq: int) -> None:
        self.changed = threading.Condition()
        self.flying: deque[Item] = deque()
        self.waiting: deque[Item] = deque()
        self.in_memory: deque[Item] = deque()
        """Those not on disk, in order; done ones stay in it until ``oldest_in_memory`` passes them."""
        self.memory = 0
        self.next_seq = next_seq

    def add(self, item: Item) -> None:
        """Put an item at the end. Hold ``changed``."""
        self.waiting.append(item)
        if item.place is None:
            self.in_memory.append(item)
            self.memory += item.memory
        self.changed.notify_all()

    def take_seq(self) -> int:
        """The next place. Hold ``changed``."""
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        return seq

    def oldest_in_memory(self) -> Item | None:
        """The oldest item that is not on disk and that the disk has not refused. Hold ``changed``."""
        while self.in_memory and ((head := self.in_memory[0]).done or head.place is not None or head.refused):
            self.in_memory.popleft()
        return self.in_memory[0] if self.in_memory else None

    def stored(self, item: Item, place: Place) -> None:
        """The item is on disk now. Hold ``changed``."""
        self.memory -= item.memory
        item.place = place
        item.value = None

    def settle(self, item: Item) -> None:
        """The item is done. Hold ``changed``; the caller has taken it out of ``waiting`` or ``flying``."""
        self.memory -= item.memory
        item.done = True
        item.value = None

    def without_images(self, item: Item, why: str) -> None:
        """The images of an item are given up. Hold ``changed``."""
        self.memory -= item.memory
        item.value = None
        item.entry = item.entry.without_images(why)
        if item.place is None:
            # The notice goes to the disk in its own right.
            item.refused = False
            self.in_memory.append(item)

    def take_off(self, item: Item) -> None:
        """The first that waits is in flight now. Hold ``changed``."""
        assert self.waiting[0] is item
        self.flying.append(self.waiting.popleft())

    def all(self) -> Iterator[Item]:
        """Every item in order. Hold ``changed``."""
        return chain(self.flying, self.waiting)

    def first_seq(self) -> int:
        """Everything before this place is done. Hold ``changed``."""
        heads = [many[0].seq for many in (self.flying, self.waiting) if many]
        return min(heads, default=self.next_seq)

    def empty(self) -> bool:
        """Whether nothing waits and nothing is in flight. Hold ``changed``."""
        return not self.flying and not self.waiting

    def join_notices(self) -> list[tuple[Item, list[Item]]]:
        """Join what can be told as one; each joined item and those that it replaces. Hold ``changed``.

        The first that waits is left alone: it may be on its way.
        """
        if len(self.waiting) < 3:
            return []
        joined: list[tuple[Item, list[Item]]] = []
        left: deque[Item] = deque([self.waiting[0]])
        group: list[Item] = []

        def close() -> None:
            if len(group) == 1:
                left.append(group[0])
            elif group:
                entry = group[0].entry
                for item in group[1:]:
                    entry = entry.joined(item.entry)
                whole = Item(group[0].seq, group[-1].last_seq, entry, None, group[0].since)
                left.append(whole)
                joined.append((whole, list(group)))
            group.clear()

        for item in list(self.waiting)[1:]:
            if not (group and group[-1].entry.precedes(item.entry)):
                close()
            if item.entry.told and item.ticket is None:
                group.append(item)
            else:
                close()
                left.append(item)
        close()
        self.waiting = left
        for whole, parts in joined:
            for item in parts:
                item.done = True
            self.in_memory.appendleft(whole)
        return joined

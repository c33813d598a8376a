"""The keeper: writes to the disk what the broker does not take in time, and gives up what has no room."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from workers.capture import events
from workers.capture.buffer import DiskBuffer
from workers.capture.queue import Item, Queue
from workers.clock import Clock
from workers.errors import BufferFull

_log = structlog.get_logger(__name__)

FULL = "buffer full"
_MANY_NOTICES = 4096
"""Entries without images after which those that follow one another are joined."""


class Keeper:
    """Spills the queue to the disk while it has to. One thread calls ``turn``.

    Args:
        give_up: told of an item whose images are lost, with the reason; called with ``queue.changed`` held.
        spill_after_s: what is in memory longer than this goes to the disk.
        memory_bytes: so does the oldest while more than half of this waits in memory.
    """

    def __init__(
        self,
        queue: Queue,
        buffer: DiskBuffer,
        give_up: Callable[[Item, str], None],
        *,
        spill_after_s: float,
        memory_bytes: int,
        clock: Clock,
    ) -> None:
        self._queue = queue
        self._buffer = buffer
        self._give_up = give_up
        self._spill_after = spill_after_s
        self._memory = memory_bytes
        self._clock = clock
        self._buffering = False
        self._told_since_join = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="capture-keeper", daemon=True)

    def turn(self, *, everything: bool = False) -> bool:
        """Write one item to the disk if that is called for; whether one was."""
        item = self._candidate(everything)
        if item is None:
            return False
        self._keep(item)
        if self._told_since_join >= _MANY_NOTICES:
            self._told_since_join = 0
            self._join()
        return True

    def _candidate(self, everything: bool) -> Item | None:
        with self._queue.changed:
            item = self._queue.oldest_in_memory()
            buffering = self._buffer.records > 0
            if buffering != self._buffering:
                self._buffering = buffering
                event = events.BUFFERING if buffering else events.DRAINED
                _log.warning(event, folder=str(self._buffer.folder))
            if item is None:
                return None
            old = self._clock.monotonic() - item.since >= self._spill_after
            if everything or buffering or old or self._queue.memory > self._memory // 2:
                return item
            return None

    def _keep(self, item: Item) -> None:
        with self._queue.changed:
            if item.done:
                return
            entry, value = item.entry, item.value
            if not entry.told and value is None:
                # In flight, and its copy on disk was given up for newer ones.
                item.refused = True
                return
        while True:
            try:
                place = self._buffer.append(item.seq, item.last_seq, entry, value or b"")
                break
            except BufferFull as full:
                if entry.told:
                    # It stays in memory; after a crash the log of triggers still tells of it.
                    item.refused = True
                    return
                newest = self._buffer.keep == "newest" and self._buffer.could_hold(len(value or b""))
                if newest and self._make_room(item):
                    continue
                with self._queue.changed:
                    if item.settled():
                        return
                    if item.taken:
                        # The broker may have it already, and memory still does.
                        item.refused = True
                        return
                    self._give_up(item, f"{FULL}: {full}" if full.args else FULL)
                    entry, value = item.entry, None
                self._told_since_join += 1
        with self._queue.changed:
            if not item.settled():
                self._queue.stored(item, place)
                return
        # Acknowledged while it was being written.
        self._buffer.done(place)

    def _make_room(self, newer: Item) -> bool:
        """Give up the oldest file of frames; False where there is none that is older."""
        number = self._buffer.oldest_frames()
        if number is None:
            return False
        victims: list[Item] = []
        with self._queue.changed:
            for item in self._queue.all():
                if item is newer:
                    break
                if item.place is not None and item.place.segment == number and not item.entry.told:
                    victims.append(item)
            for item in victims:
                item.place = None
                if not item.taken:
                    self._give_up(item, FULL)
                    self._told_since_join += 1
        for item in victims:
            if item.is_told():
                try:
                    place = self._buffer.append(item.seq, item.last_seq, item.entry)
                except BufferFull:
                    item.refused = True
                    continue
                with self._queue.changed:
                    if not item.settled():
                        item.place = place
                        continue
                self._buffer.done(place)
        self._buffer.give_up(number)
        return True

    def _join(self) -> None:
        """Tell many parts that follow one another as one, on disk too."""
        with self._queue.changed:
            joined = self._queue.join_notices()
        self._buffer.finish_notices()
        for whole, parts in joined:
            try:
                place = self._buffer.append(whole.seq, whole.last_seq, whole.entry)
            except BufferFull:
                place = None
            for part in parts:
                if part.place is not None:
                    self._buffer.done(part.place)
            if place is None:
                continue
            with self._queue.changed:
                if not whole.done:
                    whole.place = place
                    continue
            self._buffer.done(place)

    def start(self) -> None:
        """Begin to watch the queue."""
        self._thread.start()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                moved = self.turn()
                self._buffer.sync()
            except Exception as error:  # whatever it is, the line must not stop for it; it is tried again
                _log.error(events.BUFFER_FAILED, error=f"{type(error).__name__}: {error}")
                moved = False
                self._stopping.wait(0.5)
            if not moved:
                with self._queue.changed:
                    head = self._queue.oldest_in_memory()
                    # Nothing is old enough before its time, and what comes next wakes us only then.
                    wait = 0.25 if head is None else self._spill_after - self._clock.monotonic() + head.since
                self._stopping.wait(min(max(wait, 0.005), 0.05 if self._buffering else 0.25))

    def close(self) -> None:
        """Write down everything that the broker does not have."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(30.0)
        while self.turn(everything=True):
            pass

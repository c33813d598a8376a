"""From the camera to the broker without the camera waiting: a queue in memory, the disk behind it.

``post`` puts a frame in the queue and returns. The sender, a thread, takes it from there to the broker. As
long as each is acknowledged within ``spill_after_s`` nothing touches the disk. When one is not, or too many
wait, the keeper, another thread, writes what waits to the disk buffer, in order, and everything that comes
behind it too, until the disk is empty again. A frame in flight is written as well: whatever happens to this
process then, it is on disk or with the broker. What the disk has no room for is given up by the buffer's
policy, and told in its place by a notice. A process that is killed loses what was in memory; the log of
triggers knows of it.

Delivery is at least once: a frame whose acknowledgement was lost is sent again; workers know it by its key.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

import structlog

from schemas.errors import CrosscheckError
from schemas.part import PartKey
from schemas.wire import encode
from workers.bus.base import Bus, Delivery, Producer, TopicPartition
from workers.capture import events
from workers.capture.buffer import DiskBuffer
from workers.capture.entry import Entry
from workers.capture.log import AgentLog
from workers.capture.outbox_settings import OutboxSettings
from workers.capture.queue import Item, Posted, Queue
from workers.capture.spill import FULL, Keeper
from workers.clock import Clock, SystemClock
from workers.errors import BusError, RecordTooLarge, SettingsError, SourceError

_log = structlog.get_logger(__name__)

EXPIRED = "expired in the buffer"
TOO_SLOW = "buffer full: the disk did not keep up"
_NOTICES_AT_ONCE = 256
_RETRY_S = 0.5
_PATIENCE_S = 1.0
_PREPARE_S = 2.0


class Outbox:
    """See the module. ``start`` runs the threads; without it ``turn`` and ``keeper.turn`` are theirs to call.

    Args:
        connect: opens the bus; called again and again while it raises.
        place: the station's partition of the frames topic.
        station: whose parts these are.
        owns_bus: close the bus when closing.

    Raises:
        SettingsError: the buffer holds another station's parts.

    Attributes:
        published: frames that the broker has.
        notices: notices that it has.
        dropped: parts whose images were given up.
        away: whether the broker did not answer the last time.
    """

    failed = 0

    def __init__(
        self,
        connect: Callable[[], Bus],
        buffer: DiskBuffer,
        place: TopicPartition,
        *,
        station: str,
        settings: OutboxSettings | None = None,
        owns_bus: bool = False,
        log: AgentLog | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._connect = connect
        self._buffer = buffer
        self._place = place
        self._station = station
        self._settings = settings or OutboxSettings()
        self._owns_bus = owns_bus
        self._log = log
        self._clock: Clock = clock or SystemClock()
        self.queue = Queue(buffer.next_seq)
        self.keeper = Keeper(
            self.queue,
            buffer,
            self.give_up,
            spill_after_s=self._settings.spill_after_s,
            memory_bytes=self._settings.window_bytes,
            clock=self._clock,
        )
        self.published = 0
        self.notices = 0
        self.dropped = 0
        self.away = False
        self.bus: Bus | None = None
        self._producer: Producer | None = None
        self._prepared = False
        self._retry_at = 0.0
        self._unwritten: deque[tuple[PartKey, int, str]] = deque()
        self._stopping = threading.Event()
        self._sender = threading.Thread(target=self._send_loop, name="capture-sender", daemon=True)
        now = self._clock.monotonic()
        with self.queue.changed:
            for stored in buffer.recovered:
                if stored.entry.part.station != station:
                    raise SettingsError(
                        f"buffer {buffer.folder} holds parts of station {stored.entry.part.station}:"
                        f" give station {station} a folder of its own"
                    )
                item = Item(stored.seq, stored.last_seq, stored.entry, None, now, stored.place)
                self.queue.add(item)
            buffer.recovered.clear()

    # The camera's side

    def post(self, entry: Entry, value: bytes | None) -> Posted:
        """Take a frame, or notices where ``value`` is None; returns at once."""
        ticket = Posted()
        now = self._clock.monotonic()
        with self.queue.changed:
            seq = self.queue.take_seq()
            full = value is not None and self.queue.memory + len(value) > 2 * self._settings.window_bytes
            item = Item(seq, seq, entry, value, now, ticket=None if entry.told else ticket)
            self.queue.add(item)
            if full:
                self.give_up(item, TOO_SLOW)
        return ticket

    def recover(self, notice: Callable[[PartKey, int], Entry]) -> None:
        """Before ``start``: tell the parts that an earlier run saw and neither sent nor kept, by the log.

        Args:
            notice: makes the entry of a part from its trigger's time.
        """
        kept = {part for item in self.queue.waiting for part in item.entry.parts()}
        untold = [] if self._log is None else self._log.unsettled(self._station)
        untold = [(part, at) for part, at in untold if part not in kept]
        for part, at in untold:
            self.post(notice(part, at), None)
        if kept or untold:
            _log.warning(events.RECOVERED, station=self._station, kept=len(kept), untold=len(untold))
        while self.keeper.turn(everything=True):
            pass
        try:
            self._buffer.sync(now=True)
        except OSError:
            return
        with self.queue.changed:
            safe = all(item.place is not None for item in self.queue.all())
        # From here on the disk answers for them. Without this line the next start looks at them again.
        if safe and self._log is not None:
            self._log.recovered(self._station, self._clock.now())

    def waiting(self) -> int:
        """Entries that the broker does not have yet."""
        with self.queue.changed:
            return len(self.queue.flying) + len(self.queue.waiting)

    @property
    def buffered(self) -> int:
        """Frames on disk that the broker does not have yet."""
        return self._buffer.records

    def give_up(self, item: Item, why: str) -> None:
        """The images of an item are lost: it is told by a notice. Hold ``queue.changed``."""
        if item.entry.told:
            return
        if not self.dropped:
            _log.error(events.GIVEN_UP, part=str(item.entry.part), why=why)
        self.dropped += 1
        self.queue.without_images(item, why)
        if item.ticket is not None:
            item.ticket.fail(BusError(f"part {item.entry.part}: {why}"))
            item.ticket = None
        # Written by the sender: the camera waits for this lock, and is not to wait for a disk.
        self._unwritten.append((item.entry.part, self._clock.now(), why))

    def _write_log(self, write: Callable[[AgentLog], None]) -> None:
        if self._log is not None:
            try:
                write(self._log)
            except SourceError as error:
                _log.error(events.LOG_FAILED, error=str(error))

    def _write_dropped(self) -> None:
        while self._unwritten:
            part, at, why = self._unwritten.popleft()
            self._write_log(partial(AgentLog.dropped, part=part, at=at, why=why))

    # The broker's side

    def turn(self) -> bool:
        """Look at what was sent and send what may be sent; whether anything changed."""
        self._write_dropped()
        moved, failed = self._reap()
        age = self._age_in_flight()
        if age >= self._settings.spill_after_s:
            self._say_away("no acknowledgement")
        if age >= self._settings.delivery_timeout_s + _PATIENCE_S:
            self._renew()
            return True
        if not self._ready():
            return moved
        # One at a time until the broker answers again: each try holds what it sends for the whole timeout.
        while not failed and (item := self._next()) is not None:
            try:
                deliveries = self._send(item)
            except RecordTooLarge as error:
                with self.queue.changed:
                    self.give_up(item, f"too large: {error}")
                continue
            except BusError as error:
                item.taken = False
                self._say_away(str(error))
                self._retry_at = self._clock.monotonic() + _RETRY_S
                break
            moved = True
            if deliveries is None:
                continue
            with self.queue.changed:
                item.deliveries = deliveries
                item.sent = self._clock.monotonic()
                if item.place is not None:
                    item.value = None
                if self.queue.waiting and self.queue.waiting[0] is item:
                    self.queue.take_off(item)
                else:
                    self.queue.flying.append(item)
        return moved

    def _renew(self) -> None:
        """Replace a producer that keeps its answers past its own timeout: it will not give them any more."""
        silent, self._producer, self._prepared = self._producer, None, False
        _log.error(events.BUS_AWAY, error="the producer gave no answer at all; it is replaced")
        if silent is not None:
            threading.Thread(target=silent.close, args=(0.0,), name="capture-discard", daemon=True).start()
        with self.queue.changed:
            for item in self.queue.flying:
                item.deliveries = []

    def _age_in_flight(self) -> float:
        with self.queue.changed:
            flying = self.queue.flying
            return self._clock.monotonic() - flying[0].sent if flying else 0.0

    def _reap(self) -> tuple[bool, bool]:
        """Whether there were answers, and whether failures wait for the rest of what is in flight."""
        with self.queue.changed:
            answered = [i for i in self.queue.flying if i.deliveries and all(d.done() for d in i.deliveries)]
        for item in answered:
            try:
                place = [delivery.wait(0.0) for delivery in item.deliveries][-1]
            except RecordTooLarge as error:
                with self.queue.changed:
                    self.give_up(item, f"too large: {error}")
                    item.deliveries = []
            except BusError as error:
                item.deliveries = []
                self._say_away(str(error))
            else:
                self._acknowledged(item, place)
        with self.queue.changed:
            self.queue.flying = deque(i for i in self.queue.flying if not i.done)
            failed = any(not item.deliveries for item in self.queue.flying)
            if failed and not any(item.deliveries for item in self.queue.flying):
                # All answers are in: those that failed go again, in order, before everything else.
                for item in self.queue.flying:
                    item.taken = False
                    if item.value is None and item.place is None:
                        self.give_up(
                            item, FULL
                        )  # its copy on disk went for newer ones while it was in flight
                self.queue.waiting.extendleft(reversed(self.queue.flying))
                self.queue.flying.clear()
                failed = False
            if answered:
                self._buffer.acked(self.queue.first_seq())
                self.queue.changed.notify_all()
        return bool(answered), failed

    def _acknowledged(self, item: Item, place: tuple[TopicPartition, int]) -> None:
        entry, at = item.entry, self._clock.now()
        if entry.told:
            for part in entry.parts():
                self._write_log(partial(AgentLog.told, part=part, at=at, why=entry.why))
        else:
            self._write_log(partial(AgentLog.sent, part=entry.part, at=at, sensors=entry.sensors))
        with self.queue.changed:
            self.queue.settle(item)
            stored = item.place
            if entry.told:
                self.notices += entry.count
            else:
                self.published += 1
            if self.away:
                self.away = False
                _log.info(events.BUS_BACK, waiting=len(self.queue.flying) + len(self.queue.waiting))
        if stored is not None:
            self._buffer.done(stored)
        if item.ticket is not None:
            item.ticket.succeed(place)

    def reach(self) -> Bus:
        """The bus, opened where it is not yet. Raises as ``connect``."""
        if self.bus is None:
            self.bus = self._connect()
        return self.bus

    def _ready(self) -> bool:
        if self._clock.monotonic() < self._retry_at:
            return False
        if self._prepared:
            return True
        try:
            self.reach()
            if self._producer is None:
                self._producer = self.reach().producer(
                    max_in_flight_bytes=2 * self._settings.window_bytes,
                    max_block=0.5,
                    delivery_timeout=self._settings.delivery_timeout_s,
                )
            self._producer.prepare(self._place, _PREPARE_S)
        except CrosscheckError as error:
            self._say_away(str(error))
            self._retry_at = self._clock.monotonic() + _RETRY_S
            return False
        self._prepared = True
        return True

    def _next(self) -> Item | None:
        with self.queue.changed:
            flying, waiting = self.queue.flying, self.queue.waiting
            if not waiting or (self.away and flying):
                return None
            in_flight = sum(_size(item) for item in flying)
            item = waiting[0]
            if flying and in_flight + _size(item) > self._settings.window_bytes:
                return None
            limit = self._settings.expired_after_s
            late_ns = self._clock.now() - item.entry.deadline
            if not item.entry.told and limit is not None and late_ns > limit * 1e9:
                self.give_up(item, EXPIRED)
            if item.entry.count > _NOTICES_AT_ONCE:
                head, item.entry = item.entry.split(_NOTICES_AT_ONCE)
                return Item(item.seq, item.seq, head, None, item.since, taken=True)
            item.taken = True
            return item

    def _send(self, item: Item) -> list[Delivery] | None:
        """Hand an item to the producer; None where it turned into a notice meanwhile."""
        assert self._producer is not None
        with self.queue.changed:
            entry, value, place = item.entry, item.value, item.place
        if not entry.told and value is None:
            try:
                value = None if place is None else self._buffer.read(place)
                lost = FULL
            except SourceError as error:
                # The keeper may have given it up for newer ones while we looked for it.
                lost = FULL if item.place is None else f"lost in the buffer: {error}"
            if value is None:
                with self.queue.changed:
                    self.give_up(item, lost)
                return None
        messages = (
            [(str(notice.part), encode(notice)) for notice in entry.notices()]
            if value is None
            else [(str(entry.part), value)]
        )
        return [
            self._producer.send(self._place.topic, message, key=key.encode(), partition=self._place.partition)
            for key, message in messages
        ]

    def _say_away(self, why: str) -> None:
        if not self.away:
            self.away = True
            _log.warning(events.BUS_AWAY, error=why)

    # Life

    def start(self) -> None:
        """Begin to send."""
        self.keeper.start()
        self._sender.start()

    def _send_loop(self) -> None:
        while not self._stopping.is_set():
            try:
                moved = self.turn()
            except Exception as error:  # whatever it is, the line must not stop for it; it is tried again
                _log.error(events.BUS_AWAY, error=f"{type(error).__name__}: {error}")
                moved = False
                self._stopping.wait(_RETRY_S)
            if moved:
                continue
            with self.queue.changed:
                idle = self.queue.empty()
                # A delivery does not call back: it is looked at.
                self.queue.changed.wait(0.5 if idle else 0.005)

    def flush(self, timeout_s: float) -> int:
        """Wait until the broker has everything; how many entries it does not have then.

        While the broker is away and all is on disk there is nothing to wait for.
        """
        with self.queue.changed:
            self.queue.changed.wait_for(
                lambda: self.queue.empty() or (self.away and self.queue.oldest_in_memory() is None),
                timeout_s,
            )
            return len(self.queue.flying) + len(self.queue.waiting)

    def close(self, timeout_s: float) -> int:
        """Send what can be sent, leave the rest on disk for the next start; how many entries that are.

        Closing twice is allowed.
        """
        if self._stopping.is_set():
            return self.waiting()
        self.flush(timeout_s)
        self._stopping.set()
        with self.queue.changed:
            self.queue.changed.notify_all()
        if self._sender.is_alive():
            self._sender.join(timeout_s + 10.0)
        self._reap()
        self.keeper.close()
        self._write_dropped()
        if self._producer is not None:
            self._producer.close(0.0)
        if self.bus is not None and self._owns_bus:
            self.bus.close()
        left = self.waiting()
        self._buffer.close()
        return left


def _size(item: Item) -> int:
    if item.entry.told:
        return 256 * item.entry.count
    if item.place is not None:
        return item.place.length
    return len(item.value or b"")

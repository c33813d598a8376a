"""What the gate knows of verdicts: it follows the store's stream, asks after parts, and writes MISSING ones.

All talk with Redis happens here, so that a slow or absent Redis never holds a decision up. ``step`` may be
called in the gate's loop or on a thread of its own; the other methods belong to the gate.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_verdict
from workers.clock import Clock
from workers.errors import StoreError
from workers.gate import events
from workers.gate.parts import Arrival
from workers.store.verdicts import START, Decided, GateEntry

_log = structlog.get_logger(__name__)

_READ = 256
_BLOCK_MS = 20
_RETRY_S = 0.2
_FIRST_HEARING_S = 0.25
_LOOK_AGAIN = 20_000_000
"""Nanoseconds between two questions after one part."""


class GateStore(Protocol):
    """The part of ``workers.store.VerdictStore`` that a gate uses. Each method may raise StoreError."""

    def gate_entries(
        self, station: str, after_id: str = START, *, block_ms: int = 0, count: int = 256
    ) -> list[GateEntry]:
        """Decisions of a station behind ``after_id``, oldest first."""
        ...

    def standing_many(self, parts: Sequence[PartKey]) -> list[bytes | None]:
        """The verdict bytes of each part, or None."""
        ...

    def decide(self, verdict: Verdict) -> Decided:
        """Write the verdict unless the part has one; return the one that stands."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """A verdict that the gate holds, and since when (integer nanoseconds since the epoch)."""

    verdict: bytes = field(repr=False)
    seen_at: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a MISSING verdict: the decision that stands in the store."""

    part: PartKey
    standing: str


def _is_pass(verdict: bytes, part: PartKey) -> bool:
    try:
        found = decode_verdict(verdict)
    except SchemaError:
        return False
    return found.decision is Decision.PASS and found.part == part


class VerdictFeed:
    """Verdicts by part.

    Those of parts on their way are all held; the belt bounds them. Of those whose part has not been seen yet,
    at most ``capacity`` are; an evicted one is found again by its part's key.

    Args:
        decided: whether a part has its gate decision already: such verdicts need not be kept.
        check_before_s: a part without a verdict is looked up by its key this long before it is due, in case
            the stream was trimmed or lost.
        retry_s: after a failure Redis is left alone for this long.
        ask: called in each step, for others who speak with the store on the same thread.
        heard: told of each part whose verdict comes in the stream behind those that were there at the start.
    """

    def __init__(
        self,
        store: GateStore,
        *,
        station: str,
        clock: Clock,
        decided: Callable[[PartKey], bool],
        alarm: events.Alarm,
        capacity: int = 4096,
        check_before_s: float = 0.1,
        retry_s: float = 0.5,
        ask: Sequence[Callable[[], None]] = (),
        heard: Callable[[PartKey], None] = lambda _: None,
    ) -> None:
        self._heard = heard
        self._caught_up = False
        self._store = store
        self._station = station
        self._clock = clock
        self._decided = decided
        self._alarm = alarm
        self._capacity = capacity
        self._check_before = round(check_before_s * 1e9)
        self._retry = retry_s
        self._ask = tuple(ask)
        self._lock = threading.Lock()
        self._held: dict[PartKey, Held] = {}
        self._unclaimed: OrderedDict[PartKey, Held] = OrderedDict()
        self._waiting: dict[PartKey, Arrival] = {}
        self._checked: dict[PartKey, int] = {}
        self._missing: deque[Verdict] = deque()
        self._recorded: deque[Recorded] = deque()
        self._unanswered: OrderedDict[PartKey, None] = OrderedDict()
        self._cursor = START
        self._down_until: float | None = None
        self.late_verdicts = 0
        """Verdicts that came after the gate had closed for want of them."""

    @property
    def down(self) -> bool:
        """Whether the last talk with the store failed."""
        return self._down_until is not None

    # The gate's side

    def held(self, part: PartKey) -> Held | None:
        """The verdict filed under this part, if one was seen."""
        with self._lock:
            return self._held.get(part)

    def _find(self, part: PartKey) -> Held | None:
        return self._held.get(part) or self._unclaimed.get(part)

    def expect(self, arrival: Arrival) -> None:
        """This part is on its way: look after its verdict."""
        with self._lock:
            self._waiting[arrival.part] = arrival
            known = self._unclaimed.pop(arrival.part, None)
            if known is not None:
                self._held[arrival.part] = known

    def settled(self, part: PartKey, *, missing: Verdict | None = None) -> None:
        """The part is decided; ``missing`` is to be written to the store where nothing stands there yet."""
        with self._lock:
            self._held.pop(part, None)
            self._unclaimed.pop(part, None)
            self._waiting.pop(part, None)
            self._checked.pop(part, None)
            if missing is None:
                return
            self._unanswered[part] = None
            if len(self._unanswered) > self._capacity:
                self._unanswered.popitem(last=False)
            dropped = self._missing.popleft() if len(self._missing) >= self._capacity else None
            self._missing.append(missing)
        if dropped is not None:
            self._alarm(events.ALARM_MISSING_DROPPED, {"station": self._station, "part": str(dropped.part)})

    def recorded(self) -> list[Recorded]:
        """MISSING verdicts that the store has answered since the last call."""
        with self._lock:
            done = list(self._recorded)
            self._recorded.clear()
        return done

    @property
    def unwritten(self) -> int:
        """MISSING verdicts that the store has not got yet."""
        return len(self._missing)

    # The store's side

    def step(self, block_ms: int = 0) -> None:
        """Read what is new, look up what is nearly due, write what was missing. Raises no StoreError."""
        if self._down_until is not None and self._clock.monotonic() < self._down_until:
            return
        try:
            self._read(block_ms)
            self._look_up()
            self._write()
            for ask in self._ask:
                ask()
        except StoreError as error:
            self._went_down(error)
            return
        if self._down_until is not None:
            self._down_until = None
            _log.info(events.STORE_BACK, station=self._station)

    def _went_down(self, error: StoreError) -> None:
        first = self._down_until is None
        self._down_until = self._clock.monotonic() + self._retry
        if first:
            self._alarm(events.ALARM_STORE_DOWN, {"station": self._station, "error": str(error)})

    def _read(self, block_ms: int) -> None:
        while True:
            entries = self._store.gate_entries(self._station, self._cursor, block_ms=block_ms, count=_READ)
            now = self._clock.now()
            for entry in entries:
                self._file(entry.part, entry.verdict, now, stated=entry.decision)
                self._cursor = entry.id
                if self._caught_up:
                    self._heard(entry.part)
            if len(entries) < _READ:
                self._caught_up = True
                return
            block_ms = 0

    def _look_up(self) -> None:
        now = self._clock.now()
        soon = now + self._check_before
        with self._lock:
            # Again and again until it is due: what is written after the first look comes through the stream,
            # unless that is trimmed or lost in these very moments.
            parts = [
                part
                for part, arrival in self._waiting.items()
                if arrival.due <= soon
                and part not in self._held
                and abs(now - self._checked.get(part, 0)) >= _LOOK_AGAIN
            ]
        if not parts:
            return
        answers = self._store.standing_many(parts)
        now = self._clock.now()
        for part, verdict in zip(parts, answers, strict=True):
            if verdict is not None:
                self._file(part, verdict, now, stated=None)
        with self._lock:
            self._checked.update((part, now) for part in parts if part in self._waiting)

    def _file(self, part: PartKey, verdict: bytes, now: int, *, stated: Decision | None) -> None:
        if self._decided(part):
            self._came_late(part, verdict)
            return
        if stated is not None and stated is not Decision.PASS and _is_pass(verdict, part):
            # The envelope and the letter disagree: these bytes are not believed, and not readable as a PASS.
            _log.error(events.VERDICT_CONFLICT, station=self._station, part=str(part), stated=stated.value)
            verdict = b""
        with self._lock:
            before = self._find(part)
            if before is not None and before.verdict == verdict:
                return
            if before is not None:
                # First write wins, so the store must have lost the first verdict. The worse one holds.
                _log.error(events.VERDICT_CONFLICT, station=self._station, part=str(part))
                if _is_pass(verdict, part):
                    return
            if part in self._waiting:
                self._held[part] = Held(verdict, now)
                return
            self._unclaimed[part] = Held(verdict, now)
            if len(self._unclaimed) > self._capacity:
                self._unclaimed.popitem(last=False)

    def _came_late(self, part: PartKey, verdict: bytes) -> None:
        with self._lock:
            if part not in self._unanswered:
                return
            try:
                decision = decode_verdict(verdict).decision
            except SchemaError:
                decision = Decision.ERROR
            if decision is Decision.MISSING:
                return
            del self._unanswered[part]
            self.late_verdicts += 1
        _log.warning(events.LATE_VERDICT, station=self._station, part=str(part), decision=decision.value)

    def _write(self) -> None:
        while True:
            with self._lock:
                verdict = self._missing[0] if self._missing else None
            if verdict is None:
                return
            answer = self._store.decide(verdict)
            standing = Decision.MISSING
            if not answer.first:
                try:
                    standing = decode_verdict(answer.standing).decision
                except SchemaError:
                    standing = Decision.ERROR
                if standing is not Decision.MISSING:
                    self._came_late(verdict.part, answer.standing)
                    _log.warning(
                        events.STANDING_DIFFERS,
                        station=self._station,
                        part=str(verdict.part),
                        standing=standing.value,
                    )
            with self._lock:
                if self._missing and self._missing[0] is verdict:
                    self._missing.popleft()
                self._recorded.append(Recorded(verdict.part, standing.value))


@contextmanager
def followed(feed: VerdictFeed, clock: Clock, station: str, alarm: events.Alarm) -> Iterator[None]:
    """Step the feed on a thread of its own meanwhile."""
    ended, heard = threading.Event(), threading.Event()

    def listen(block_ms: int) -> None:
        try:
            feed.step(block_ms)
        except Exception as error:  # were this thread to die, every part would be MISSING in silence
            alarm(events.ALARM_FEED, {"error": repr(error)})
            ended.wait(_RETRY_S)

    def follow() -> None:
        while not ended.is_set():
            before = clock.monotonic()
            listen(0 if not heard.is_set() else _BLOCK_MS)
            heard.set()
            if feed.down or clock.monotonic() - before < 0.001:
                ended.wait(0.002)

    thread = threading.Thread(target=follow, name=f"gate-feed-{station}", daemon=True)
    thread.start()
    # Verdicts that are there already are heard first, but an absent Redis must not hold the start up.
    heard.wait(_FIRST_HEARING_S)
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5.0)

"""The loop of a product change: read the PLC, tell Redis, tell the workers, answer the PLC. In this order.

Every turn:

1. read the product's number from the PLC, with the time before and after;
2. write to Redis what is known of the product now (``Due``): the gate opens for nothing else;
3. where the product is another one, send the workers a command on the control topic, until it is delivered;
4. once every worker says in its heartbeat that it has it, write the number into the PLC's answer register.

A product is known from the end of the first reading to the beginning of the last one, with no pause between
two readings longer than ``lost_s``, each end drawn in by ``margin_s`` for clocks that differ. All else is
"not known", and no part captured in it is passed: the moments of a change, a number without a product, a PLC
that does not answer, a clock that was set, this process being away. The gate need not notice any of it: what
is known has ceased to grow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from schemas.command import Action, Command
from schemas.errors import SchemaError
from schemas.wire import encode
from workers.bus.base import Delivery, Producer
from workers.changeover import events
from workers.changeover.due import MAX_SPANS, Due, Span
from workers.changeover.plc import Plc
from workers.clock import Clock, SystemClock
from workers.errors import BusError, PlcError, SettingsError, StoreError
from workers.gate.backoff import Backoff
from workers.gate.wall import WallWatch
from workers.pulse import Pulse

_log = structlog.get_logger(__name__)

PULSE_S = 15.0
"""A turn waits for PLC, Redis and Kafka, each within its own bound; for longer it does not move."""
_ASK_S = 0.1
"""Seconds between two looks at the workers' heartbeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeoverSettings:
    """How one station's product is followed.

    Attributes:
        station: whose product it is.
        products: the product's name by the PLC's number. 0 is none.
        margin_s: by how much the clocks of this machine, the agents and the workers may differ, seconds.
            Parts captured so long around a change are not passed, nor is any part before it is so old.
        lost_s: a PLC that does not answer for longer than this may have changed the product meanwhile.
        ready_s: an alarm is raised where the workers do not have a new product after this.

    Raises:
        SettingsError: no product, or a time that is none.
    """

    station: str
    products: Mapping[int, str]
    margin_s: float = 0.25
    lost_s: float = 1.0
    ready_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.products or 0 in self.products:
            raise SettingsError("changeover: name a product for each number from 1, such as 1=cap,2=lid")
        for name, least in (("margin_s", 0.0), ("lost_s", 0.001), ("ready_s", 0.001)):
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= 3600):
                raise SettingsError(f"changeover: {name} {value}: use seconds from {least:g} to 3600")


class DueStore(Protocol):
    """The part of ``workers.store.VerdictStore`` that is used here. Each method may raise StoreError."""

    def product(self, station: str) -> dict[str, str]:
        """What was said last."""
        ...

    def set_product(self, station: str, state: Mapping[str, str | int]) -> None:
        """Say which product is due."""
        ...

    def workers(self) -> list[str]:
        """Who has a fresh heartbeat."""
        ...

    def worker(self, worker: str) -> dict[str, str]:
        """The heartbeat of one."""
        ...


class Changeover:
    """Follows the product of one station; one process a station.

    Args:
        plc: what says the product.
        store: Redis.
        producer: sends commands; ``topic`` is the control topic.
        alarm: called with an event name and facts; default is an error in the log.
    """

    def __init__(
        self,
        plc: Plc,
        store: DueStore,
        producer: Producer,
        settings: ChangeoverSettings,
        *,
        topic: str = "inspection.control",
        clock: Clock | None = None,
        alarm: Callable[[str, Mapping[str, object]], None] = events.log_alarm,
    ) -> None:
        self._plc = plc
        self._store = store
        self._producer = producer
        self._settings = settings
        self._topic = topic
        self._line = topic.rpartition(".")[0]
        self._clock: Clock = clock or SystemClock()
        self._alarm_hook = alarm
        self._margin = round(settings.margin_s * 1e9)
        self._wall = WallWatch(self._clock)
        self._spans: list[Span] = []
        self._due: Due | None = None
        self._told: Due | None = None
        self._read_at: float | None = None
        self._command: Command | None = None
        self._delivery: Delivery | None = None
        self._delivered = False
        self._ready = False
        self._begun_at = 0.0
        self._acked: int | None = None
        self._ask_at = 0.0
        self._bus_wait = Backoff(self._clock)
        self._ailing: set[str] = set()
        self._started = False
        self.alarms: Counter[str] = Counter()
        """How often each was raised."""
        self.pulse = Pulse(PULSE_S, self._clock)
        self.changes = 0
        """How often a product began."""

    @property
    def due(self) -> Due | None:
        """What is known now; None before the first reading."""
        return self._due

    @property
    def ready(self) -> bool:
        """Whether gate and workers have the product, and the PLC our answer."""
        due = self._due
        return due is not None and due.product is not None and self._acked == due.number

    def start(self) -> None:
        """Take over what an earlier process knew, so that its parts on the line may pass. ``step`` calls it.

        Raises:
            StoreError: Redis does not answer; call again.
        """
        if self._started:
            return
        raw = self._store.product(self._settings.station)
        self._started = True
        if not raw:
            return
        try:
            before = Due.from_map(raw)
        except SchemaError as error:
            self._alarm(events.ALARM_UNREADABLE, {"error": str(error)})
            return
        now = self._clock.now()
        # One that ends in the future was written by a clock that has been set since.
        self._spans = [span for span in before.spans if span.last <= now]

    def step(self) -> None:
        """One turn. Raises nothing for a PLC, Redis or broker that is away: it says so and tries again."""
        self.pulse.turned()
        try:
            self.start()
        except StoreError as error:
            self._ails(events.ALARM_STORE, error)
            return
        self._look()
        self._tell()
        self._send()
        self._answer()

    # 1. The PLC

    def _look(self) -> None:
        began = self._clock.monotonic()
        before = self._clock.now()
        try:
            number = self._plc.read()
        except PlcError as error:
            self._lost(error, began)
            return
        after = self._clock.now()
        if self._wall.stepped() is not None:
            # Times before the step and after it are of two clocks: nothing can be said across it.
            self._alarm(events.ALARM_CLOCK, {})
            self._spans, self._read_at = [], None
            until = after - self._margin
            self._due = self._state(None, number, until, after + self._margin, until, "the clock was set")
            return
        self._well(events.ALARM_PLC)
        # To the end of this reading: the PLC may have looked at its register at any moment of either.
        gap = self._read_at is None or self._clock.monotonic() - self._read_at > self._settings.lost_s
        self._read_at = began
        known = self._due
        same = known is not None and known.number == number and not gap
        until = before - self._margin
        product = self._settings.products.get(number)
        if product is None:
            if not same or known is None or not known.why:
                self._unknown(number)
            since = self._spans[-1].last if self._spans else until
            why = "the PLC says 0: no product" if number == 0 else f"number {number} is not in the map"
            self._due = self._state(None, number, min(since, until), after + self._margin, until, why)
        elif same and known is not None and known.product == product:
            last = self._spans[-1]
            self._spans[-1] = Span(last.product, last.first, max(last.last, until))
            self._due = self._state(product, number, known.since, known.issued_at, until)
        else:
            self._begin(product, number, until, after + self._margin)

    def _begin(self, product: str, number: int, until: int, first: int) -> None:
        since = min(self._spans[-1].last if self._spans else until, first)
        self._spans = [*self._spans[-MAX_SPANS + 1 :], Span(product, first, until)]
        self._due = self._state(product, number, since, first, until)
        station = self._settings.station
        self._command = Command(
            id=f"product-{station}-{first}",
            action=Action.PRODUCT,
            issued_at=first,
            since=max(0, since),
            target=station,
            value=product,
        )
        self._delivery, self._delivered, self._ready, self._acked = None, False, False, None
        self._begun_at = self._clock.monotonic()
        self.changes += 1
        _log.info(events.PRODUCT_BEGINS, station=station, product=product, number=number, since=since)

    def _unknown(self, number: int) -> None:
        self._alarm(events.ALARM_NUMBER, {"number": number, "known": sorted(self._settings.products)})
        self._command, self._delivery, self._acked = None, None, None

    def _lost(self, error: PlcError, began: float) -> None:
        known = self._due
        if self._read_at is not None and began - self._read_at <= self._settings.lost_s:
            return
        self._ails(events.ALARM_PLC, error)
        if known is not None and known.product is not None:
            self._due = self._state(
                None, known.number, known.since, known.issued_at, known.seen_at, "the PLC does not answer"
            )

    def _state(
        self, product: str | None, number: int | None, since: int, issued_at: int, seen_at: int, why: str = ""
    ) -> Due:
        return Due(
            product=product,
            number=number,
            since=max(0, since),
            issued_at=issued_at,
            seen_at=seen_at,
            why=why,
            spans=tuple(self._spans),
        )

    # 2. Redis, and so the gate

    def _tell(self) -> None:
        due = self._due
        if due is None or due == self._told:
            return
        try:
            self._store.set_product(self._settings.station, due.to_map())
        except StoreError as error:
            self._told = None
            self._ails(events.ALARM_STORE, error)
            return
        self._told = due
        self._well(events.ALARM_STORE)

    # 3. The workers

    def _send(self) -> None:
        command = self._command
        if command is None or self._told is None or self._delivered or self._bus_wait.left_s() > 0:
            return
        try:
            if self._delivery is None:
                self._delivery = self._producer.send(
                    self._topic, encode(command), key=command.key, partition=0
                )
            if not self._delivery.done():
                return
            self._delivery.wait(0)
        except BusError as error:
            # The same command again: a worker that has it already takes no notice.
            self._delivery = None
            self._bus_wait.failed()
            self._ails(events.ALARM_BUS, error)
            return
        self._bus_wait.answered()
        self._delivered = True
        self._well(events.ALARM_BUS)

    # 4. The answer

    def _answer(self) -> None:
        due = self._due
        if due is None or self._told is None:
            return
        now = self._clock.monotonic()
        if self._acked is None:
            # Not ready: what stands in the register is of another product, or of another time.
            self._acknowledge(0)
        if due.product is None or due.number is None or self._acked in (None, due.number):
            return
        if not self._ready:
            if not self._delivered or now < self._ask_at:
                self._late(now)
                return
            self._ask_at = now + _ASK_S
            self._ready = self._workers_have(due)
        if not self._ready:
            self._late(now)
            return
        self._well(events.ALARM_NOT_TAKEN)
        self._acknowledge(due.number)
        if self._acked == due.number:
            _log.info(
                events.PRODUCT_READY,
                station=self._settings.station,
                product=due.product,
                after_s=round(now - self._begun_at, 3),
            )

    def _late(self, now: float) -> None:
        if now - self._begun_at > self._settings.ready_s:
            self._ails(events.ALARM_NOT_TAKEN, None)

    def _workers_have(self, due: Due) -> bool:
        try:
            beats = [self._store.worker(name) for name in self._store.workers()]
        except StoreError as error:
            self._ails(events.ALARM_STORE, error)
            return False
        wanted = f"{self._settings.station}:{due.issued_at}"
        # Workers of another line in the same Redis hear another topic.
        beats = [beat for beat in beats if beat.get("line", self._line) == self._line]
        # One that has gone meanwhile answers with nothing: the next look does not list it.
        return bool(beats) and all(
            wanted in beat.get("due", "").split(",") and _judges(beat, due.product) for beat in beats
        )

    def _acknowledge(self, number: int) -> None:
        try:
            self._plc.acknowledge(number)
        except PlcError as error:
            self._ails(events.ALARM_ANSWER, error)
            return
        self._acked = number
        self._well(events.ALARM_ANSWER)

    # Alarms

    def _ails(self, name: str, error: Exception | None) -> None:
        """Told once, until it is well again."""
        if name not in self._ailing:
            self._ailing.add(name)
            self._alarm(name, {} if error is None else {"error": str(error)})

    def _well(self, name: str) -> None:
        if name in self._ailing:
            self._ailing.discard(name)
            _log.info(events.WELL, station=self._settings.station, again=name)

    def _alarm(self, name: str, facts: Mapping[str, object]) -> None:
        self.alarms[name] += 1
        self._alarm_hook(name, {"station": self._settings.station, **facts})


def _judges(beat: Mapping[str, str], product: str | None) -> bool:
    """Whether a worker's heartbeat names a bundle of the product."""
    return any(bundle.partition("/")[0] == product for bundle in beat.get("bundles", "").split(","))

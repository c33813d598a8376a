"""What the control topic says, read beside the loop and applied between two batches.

The topic is the truth about what is in service. A worker reads it from its begin to its end before it answers
anything, so that one that starts anew judges by what was activated, and follows it from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from schemas.command import Action, Command
from schemas.errors import CrosscheckError, SchemaError
from schemas.wire import decode_command
from workers.bus.base import Bus, Consumer, Record, TopicPartition
from workers.bus.partitions import partitions_of
from workers.clock import Clock, SystemClock
from workers.errors import BusError, OffsetGap
from workers.serving.activation import Activations
from workers.serving.thresholds import Thresholds
from workers.steps.changeover import Changeovers
from workers.steps.listening import POLL_S, Listener
from workers.steps.pending import PendingPart
from workers.vitals import Report

log = structlog.get_logger(__name__)

BEGIN_S = 30.0
"""In which the topic must be read from its begin to its end."""
MAX_COMMAND_BYTES = 64 * 1024
_STARTING = Report(
    answered=0,
    held=0,
    held_bytes=0,
    paused=False,
    partitions=(),
    dead_letters=0,
    sensors={},
    clocks={},
    untrusted=(),
)


@dataclass(frozen=True, slots=True)
class Heard:
    """A command; ``fresh`` if it was issued after the reader began, by its place in the topic."""

    command: Command
    fresh: bool


class ControlReader:
    """Reads the control topic from its begin, outside any group. One thread at a time uses it."""

    def __init__(self, bus: Bus, topic: str, clock: Clock) -> None:
        self._bus = bus
        self._topic = topic
        self._clock = clock
        self._consumer: Consumer | None = None
        self._next: dict[TopicPartition, int] = {}
        self._fresh_from: dict[TopicPartition, int] = {}

    def read_all(self, within: float) -> list[Heard]:
        """Every command that is there now and was not read yet, oldest first.

        Raises:
            BusError: the broker is away, there is no such topic, or its end was not reached ``within``
                seconds.
        """
        until = self._clock.monotonic() + within
        consumer = self._open()
        ends = consumer.end_offsets(consumer.assignment())
        self._fresh_from = self._fresh_from or ends
        found: list[Heard] = []
        while any((consumer.position(place) or 0) < end for place, end in ends.items()):
            if self._clock.monotonic() >= until:
                raise BusError(
                    f"{self._topic}: not read to its end within {within:g} s, and it says what is in service;"
                    " see whether Kafka runs with `crosscheck services status`"
                )
            found.extend(self.read(POLL_S))
        return found

    def read(self, timeout: float) -> list[Heard]:
        """The commands that came, waiting up to ``timeout`` seconds for the first.

        Raises:
            BusError: the broker is away, or there is no such topic.
        """
        consumer = self._open()
        try:
            records = consumer.poll(timeout)
        except OffsetGap as gap:
            # The topic was deleted and made anew, or cut: what it holds now is what counts.
            log.error("worker.control_gap", error=str(gap))
            place = TopicPartition(gap.topic, gap.partition)
            consumer.seek(place, gap.resume_at)
            if gap.wanted > gap.resume_at:
                # Its offsets begin again, and all that is in it was issued since.
                self._next[place] = self._fresh_from[place] = gap.resume_at
            return []
        found = []
        for record in records:
            self._next[record.source] = record.offset + 1
            command = _command(record)
            if command is not None:
                found.append(Heard(command, record.offset >= self._fresh_from.get(record.source, 0)))
        return found

    def _open(self) -> Consumer:
        if self._consumer is not None:
            return self._consumer
        places = partitions_of(self._bus, self._topic)
        consumer = self._bus.consumer(None, name="control")
        consumer.assign(places)
        for place, begin in consumer.beginning_offsets(places).items():
            consumer.seek(place, self._next.get(place, begin))
        self._consumer = consumer
        return consumer

    def close(self) -> None:
        """Let go of the broker; ``read`` would go on where it was."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.close()
            except BusError as error:
                log.warning("worker.control_close_failed", error=str(error))


def _command(record: Record) -> Command | None:
    try:
        return decode_command(record.value, MAX_COMMAND_BYTES)
    except SchemaError as error:
        # Nothing is done that cannot be read; what was in service stays.
        log.error("worker.command_unreadable", reason=error.reason, offset=record.offset, error=str(error))
        return None


class ControlListener(Listener[Heard]):
    """Reads the topic to its end, then follows it."""

    def __init__(self, bus: Bus, topic: str, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self._commands = ControlReader(bus, topic, clock)
        super().__init__(self._commands, clock, what="control")

    def read_all(self, within: float) -> list[Heard]:
        """Every command from the begin of the topic to its end; before ``start``. Raises BusError."""
        try:
            return self._commands.read_all(within)
        finally:
            # The thread opens one of its own: a consumer belongs to one thread.
            self._commands.close()


class Control:
    """The commands that a worker acts on. The loop's thread owns it.

    Args:
        worker: our name, that a DRAIN may be meant for.
        listener: where commands come from; without one there are none.
        activations: what ACTIVATE commands act on; without it they are ignored.

    Attributes:
        thresholds: what THRESHOLD commands set, and what CONFIRM commands said.
        changeovers: what PRODUCT commands said.
        draining: whether a DRAIN was issued since this worker began: finish, commit, leave.
    """

    def __init__(
        self,
        worker: str = "",
        listener: ControlListener | None = None,
        activations: Activations | None = None,
    ) -> None:
        self._worker = worker
        self._listener = listener
        self.activations = activations
        self.thresholds = Thresholds()
        self.changeovers = Changeovers()
        self.draining = False

    def begin(self, within: float = BEGIN_S, announce: Callable[[Report], None] | None = None) -> None:
        """Read the topic to its end, and load what judges from the start. Before anything is answered.

        Bundles take their time to load, and commands may come meanwhile. So the topic is read again until
        nothing more is to be loaded: by then we are announced, and who sends a command waits for us too.

        Args:
            announce: writes our heartbeat; called before each of those later readings.

        Raises:
            BusError: the topic cannot be read within so many seconds.
            SettingsError, BundleError: as ``Activations.begin``.
            StoreError: from ``announce``.
        """
        activated = self._read_all(within)
        if self.activations is not None:
            self.activations.begin(activated)
        while True:
            if announce is not None:
                announce(self.told(_STARTING))
            activated = self._read_all(within)
            if self.activations is None or not activated:
                return
            self.activations.catch_up(activated)

    def start(self) -> None:
        """Follow the topic from now on."""
        if self._listener is not None:
            self._listener.start()

    def turn(self) -> bool:
        """Between two batches: act on what was heard, take over what is loaded. Never waits.

        Returns:
            Whether anything is otherwise than before: worth a heartbeat now.
        """
        heard = [] if self._listener is None else self._listener.drain()
        for one in heard:
            self._take(one)
        swapped = self.activations is not None and self.activations.turn()
        return swapped or bool(heard)

    def place(self, pending: PendingPart) -> CrosscheckError | None:
        """Give a part the product that was due when it was captured, or say why it is not scored."""
        return self.changeovers.place(pending)

    def told(self, report: Report) -> Report:
        """A worker's report, with what is in service and what was asked for."""
        report = replace(report, due=self.changeovers.due)
        if self.activations is None:
            return report
        return replace(
            report,
            bundles=tuple(one.short for one in self.activations.models.served),
            swaps=self.activations.swaps,
            refused=self.activations.refused,
        )

    def close(self) -> None:
        """Stop listening and loading. Closing twice is allowed."""
        if self._listener is not None:
            self._listener.close()
        if self.activations is not None:
            self.activations.close()

    def _read_all(self, within: float) -> list[Command]:
        """Act on what was not read yet, but for ACTIVATE: the newest one of each product is returned."""
        heard = [] if self._listener is None else self._listener.read_all(within)
        activated: dict[str, Command] = {}
        for one in heard:
            if one.command.action is Action.ACTIVATE:
                activated[one.command.product or ""] = one.command
            else:
                self._take(one)
        return list(activated.values())

    def _take(self, heard: Heard) -> None:
        command = heard.command
        match command.action:
            case Action.ACTIVATE:
                if self.activations is not None:
                    self.activations.want(command)
            case Action.THRESHOLD:
                try:
                    self.thresholds.set(command)
                except SchemaError as error:
                    log.error("worker.threshold_refused", command=command.id, error=str(error))
            case Action.CONFIRM:
                try:
                    self.thresholds.confirm(command)
                except SchemaError as error:
                    log.error("worker.confirmation_refused", command=command.id, error=str(error))
            case Action.PRODUCT:
                self.changeovers.heard(command)
            case Action.DRAIN:
                # One that lies there from before was for whoever ran then: it would stop each start anew.
                if heard.fresh and command.target in ("*", self._worker):
                    log.info("worker.told_to_drain", command=command.id)
                    self.draining = True

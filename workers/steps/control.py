"""What the control topic says, read beside the loop and applied between two batches.

The topic is the truth about what is in service. A worker reads it from its begin to its end before it answers
anything, so that one that starts anew judges by what was activated, and follows it from then on.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace

import structlog

from schemas.command import Action, Command
from schemas.errors import CrosscheckError, SchemaError
from schemas.wire import decode_command
from workers.bus.base import Bus, Consumer, Record, TopicPartition
from workers.clock import Clock, SystemClock
from workers.errors import BusError, OffsetGap
from workers.serving.activation import Activations
from workers.serving.thresholds import Thresholds
from workers.steps.changeover import Changeovers
from workers.steps.pending import PendingPart
from workers.vitals import Report

log = structlog.get_logger(__name__)

BEGIN_S = 30.0
"""In which the topic must be read from its begin to its end."""
POLL_S = 0.5
RETRY_S = 1.0
"""After a first failure; twice as long after each further one, up to ``MAX_RETRY_S``."""
MAX_RETRY_S = 15.0
MAX_COMMAND_BYTES = 64 * 1024


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
        """Every command that is there now, oldest first.

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
            consumer.seek(TopicPartition(gap.topic, gap.partition), gap.resume_at)
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
        count = self._bus.partitions(self._topic)
        if not count:
            raise BusError(f"{self._topic} does not exist: create it with `crosscheck topics`")
        consumer = self._bus.consumer(None, name="control")
        places = {TopicPartition(self._topic, index) for index in range(count)}
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


class ControlListener:
    """A thread that reads commands, and what it has heard, for the loop to fetch.

    A broker that is away disturbs nobody: the thread tries again. Where the clock is set by hand no thread
    runs, since its polls would move that clock: ``drain`` then reads, without waiting.
    """

    def __init__(self, bus: Bus, topic: str, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._reader = ControlReader(bus, topic, self._clock)
        self._heard: deque[Heard] = deque()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_read = 0.0
        self._away = False

    def read_all(self, within: float) -> list[Heard]:
        """Every command from the begin of the topic to its end; before ``start``. Raises BusError."""
        try:
            return self._reader.read_all(within)
        finally:
            # The thread opens one of its own: a consumer belongs to one thread.
            self._reader.close()

    def start(self) -> None:
        """Begin to follow the topic."""
        if isinstance(self._clock, SystemClock) and self._thread is None:
            self._thread = threading.Thread(target=self._listen, name="control", daemon=True)
            self._thread.start()

    def drain(self) -> list[Heard]:
        """What was heard since the last call. Never waits."""
        if self._thread is None and not isinstance(self._clock, SystemClock):
            now = self._clock.monotonic()
            if now >= self._next_read:
                self._next_read = now + POLL_S
                self._read(0.0)
        found = []
        while self._heard:
            found.append(self._heard.popleft())
        return found

    def close(self) -> None:
        """Stop listening, within a poll. Closing twice is allowed."""
        self._stop.set()
        if self._thread is None:
            self._reader.close()
        else:
            # A thread that hangs on a broker that is away is left to itself: it owns its consumer.
            self._thread.join(2 * POLL_S + RETRY_S)

    def _listen(self) -> None:
        pause = RETRY_S
        while not self._stop.is_set():
            if self._read(POLL_S):
                pause = RETRY_S
            else:
                self._stop.wait(pause)
                pause = min(2 * pause, MAX_RETRY_S)
        self._reader.close()

    def _read(self, timeout: float) -> bool:
        try:
            self._heard.extend(self._reader.read(timeout))
        except Exception as error:  # whatever it is, a thread that ends unseen would hear no command any more
            if not self._away:
                log.error("worker.control_away", kind=type(error).__name__, error=str(error))
            self._away = True
            self._reader.close()
            return False
        if self._away:
            log.info("worker.control_back")
        self._away = False
        return True


class Control:
    """The commands that a worker acts on. The loop's thread owns it.

    Args:
        worker: our name, that a DRAIN may be meant for.
        listener: where commands come from; without one there are none.
        activations: what ACTIVATE commands act on; without it they are ignored.

    Attributes:
        thresholds: what THRESHOLD commands set.
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

    def begin(self, within: float = BEGIN_S) -> None:
        """Read the topic to its end, and load what judges from the start. Before anything is answered.

        Raises:
            BusError: the topic cannot be read within so many seconds.
            SettingsError, BundleError: as ``Activations.begin``.
        """
        heard = [] if self._listener is None else self._listener.read_all(within)
        activated: dict[str, Command] = {}
        for one in heard:
            if one.command.action is Action.ACTIVATE:
                activated[one.command.product or ""] = one.command
            else:
                self._take(one)
        if self.activations is not None:
            self.activations.begin(activated.values())

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
            case Action.PRODUCT:
                self.changeovers.heard(command)
            case Action.DRAIN:
                # One that lies there from before was for whoever ran then: it would stop each start anew.
                if heard.fresh and command.target in ("*", self._worker):
                    log.info("worker.told_to_drain", command=command.id)
                    self.draining = True

"""The inspection worker: one loop, its steps numbered.

    1. Poll the frames; go on polling while paused.
    2. Check each record by itself; one that cannot be read goes to the dead letters, its part gets an ERROR.
    3. Pair the sensors of a part.
    4. Batch: at most ``max_batch``, never later than ``max_delay`` after the oldest frame came in.
    5. Inspect; a part past its deadline is answered STALE without the model.
    6. Decide once: Redis keeps the first verdict of a part, that one goes to the result topic; wait for both.
    7. Commit the contiguous prefix of what is answered, never for a partition that is no longer ours.

Nothing is committed before both sinks have acknowledged it, so a worker that dies at any point leaves its
parts to the next one; what it had decided stands, byte for byte, whoever answers again.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

import structlog

from schemas.errors import CrosscheckError
from workers.bus.base import Bus, Record, TopicPartition, largest_message
from workers.clock import Clock, SystemClock
from workers.errors import BusError, Fenced, OffsetGap
from workers.models import Models
from workers.patience import RETRY_S, Abandoned, Patience
from workers.settings import Settings
from workers.stages import COMMIT, OPEN, STORE, StageTimes
from workers.steps.answering import Answering
from workers.steps.aside import Aside
from workers.steps.batching import Batcher
from workers.steps.clocks import AgentClocks
from workers.steps.control import Control
from workers.steps.deadletter import DeadLetters
from workers.steps.deciding import Judge
from workers.steps.delivery import open_delivery
from workers.steps.flow import Flow
from workers.steps.gaps import GapWatch
from workers.steps.heartbeats import HeartbeatListener
from workers.steps.inspecting import BatchInspector, heatmap_policy
from workers.steps.intake import Intake
from workers.steps.memory import SensorMemory
from workers.steps.observing import Observer, Observers
from workers.steps.offsets import OffsetTracker
from workers.steps.pairing import Pairer
from workers.steps.parking import Parking
from workers.steps.pending import PendingPart
from workers.steps.polling import Poller
from workers.steps.publishing import Outcome, ResultPublisher
from workers.steps.sensors import SensorWatch
from workers.steps.shedding import shedding
from workers.steps.silhouettes import Silhouettes
from workers.steps.skew import Skews
from workers.steps.step import OnStep, Step, ignore
from workers.steps.triage import Triage
from workers.store import keys
from workers.store.verdicts import VerdictStore
from workers.vitals import Report, Vitals
from workers.watchdog import Watchdog

log = structlog.get_logger(__name__)

IDLE_POLL_S = 0.1
LONGEST_RUN = 10
"""How many times the stall limit one model run may take."""


class InspectionWorker:
    """Reads frames, answers every one of them, commits what is answered.

    One thread owns a worker. ``step`` is one turn of the loop; ``run`` turns until told to stop.

    Args:
        on_step: called as each numbered step is done, for tests that end the process there.
        watchdog: told of every turn; whoever runs the process starts it.
        observers: told of every batch and of every answer.
        control: what is acted on between two batches; it has begun already. None: nobody commands.
    """

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        store: VerdictStore,
        models: Models,
        *,
        clock: Clock | None = None,
        on_step: OnStep = ignore,
        watchdog: Watchdog | None = None,
        observers: Sequence[Observer] = (),
        control: Control | None = None,
    ) -> None:
        keys.checked("CROSSCHECK_WORKER: worker", settings.worker)
        self._settings = settings
        self._clock = clock or SystemClock()
        self._store = store
        self._on_step = on_step
        self._watchdog = watchdog or Watchdog(stall_s=settings.stall_s, clock=self._clock)
        self.stages = StageTimes(self._clock)
        self.vitals = Vitals(settings.worker, store, self._clock, self._watchdog)
        self._patience = Patience(self._clock, self._wait_for_sinks, settings.drain_s)
        self._control = control or Control()
        self.flow = Flow(max_parts=settings.max_in_flight, max_bytes=int(settings.max_in_flight_mb * 1e6))
        self._offsets = OffsetTracker()
        self._judge = Judge(settings.worker, self._clock, settings.min_coverage)
        # Steps 2 to 4.
        near = settings.near_ms / 1e3
        self._sensors = SensorWatch(
            settings.sensor_down_after,
            settings.sensor_up_after,
            looks=True,
            max_skew_s=settings.max_clock_offset_ms / 1e3,
        )
        self._skews = Skews(settings.pair_wait_ms / 1e3)
        self._memory = SensorMemory(store, self._skews)
        self._heard: set[str] = set()
        self._silhouettes = Silhouettes(store)
        self._pairer = Pairer(settings.pair_wait_ms / 1e3, self._sensors.down, near_s=near, skews=self._skews)
        self._batcher = Batcher(settings.max_batch, settings.max_delay_ms / 1e3, near)
        self._aside = Aside()
        self._gaps = GapWatch(store.latest, bound_s=settings.max_clock_offset_ms / 1e3)
        self._clocks = AgentClocks(settings.max_clock_offset_ms / 1e3, self._clock)
        self._beats = HeartbeatListener(bus, settings.topic("heartbeats"), self._clock)
        largest, ahead = largest_message(settings.largest_record), round(settings.max_clock_offset_ms * 1e6)
        self._intake = Intake(
            self._pairer, self._aside, self._judge, self._gaps, self._clocks, largest, ahead
        )
        # Steps 5 to 7.
        self._producer = bus.producer()
        self._consumer = bus.consumer(
            settings.group,
            max_poll_records=settings.max_batch,
            session_timeout=settings.session_timeout_ms / 1e3,
            name=settings.worker,
            member=settings.worker if settings.static_member else None,
        )
        self._poller = Poller(self._consumer, self._clock, self.stages, self._watchdog)
        self._decoders = ThreadPoolExecutor(2, thread_name_prefix="decode")
        self._dead_letters = DeadLetters(
            self._producer, settings.topic("deadletter"), worker=settings.worker, clock=self._clock
        )
        self._parking = Parking.of(settings)
        self._delivery = open_delivery(settings, bus, self._producer, self._consumer, self._offsets)
        publisher = ResultPublisher(
            self._producer,
            self._delivery,
            store,
            self._dead_letters,
            self.stages,
            settings.topic("heatmaps"),
            bus.partitions(settings.topic("verdicts")) or 1,
            on_step,
        )
        self._answering = Answering(
            store=store,
            triage=Triage(store, self._judge, self._clock, settings.max_attempts, self._refuse),
            inspector=BatchInspector(
                models,
                self._judge,
                self._clock,
                self.stages,
                self._decoders,
                heatmap_policy(settings.heatmaps),
                self._silhouettes,
                self._control.thresholds,
                self._parking.refusal,
            ),
            publisher=publisher,
            dead_letters=self._dead_letters,
            parking=self._parking,
            offsets=self._offsets,
            aside=self._aside,
            shedding=shedding(settings.shedding, max_batch=settings.max_batch),
            patience=self._patience,
            clock=self._clock,
            stages=self.stages,
            on_step=on_step,
            busy=partial(self._watchdog.busy, LONGEST_RUN * settings.stall_s),
            meanwhile=self._poll_beside_the_model,
            learn=self._learn,
            observers=Observers(observers),
        )
        self._consumer.subscribe({settings.topic("frames")}, self)

    # What the group tells us, from inside poll, on our own thread.

    def on_assigned(self, partitions: set[TopicPartition]) -> None:
        """A new epoch for what was gained; a pause that is in force holds for it too."""
        self._offsets.assigned(partitions)
        self.flow.assigned(self._consumer, partitions)
        log.info("worker.assigned", partitions=sorted(map(str, partitions)))

    def on_revoked(self, partitions: set[TopicPartition]) -> None:
        """Commit what is answered; what is not is left to the next owner."""
        offsets = {p: o for p, o in self._offsets.committable().items() if p in partitions}
        if offsets:
            try:
                self._consumer.commit(offsets)
            except BusError as error:
                log.warning("worker.commit_on_revoke_failed", error=str(error))
        self._forget(partitions)
        log.info("worker.revoked", partitions=sorted(map(str, partitions)))

    def on_lost(self, partitions: set[TopicPartition]) -> None:
        """They are somebody else's already: nothing of them may be committed."""
        self._forget(partitions)
        log.warning("worker.lost", partitions=sorted(map(str, partitions)))

    def _forget(self, partitions: set[TopicPartition]) -> None:
        self._offsets.dropped(partitions)
        self._pairer.drop(self._offsets.current)
        self._batcher.drop(self._offsets.current)
        self._aside.drop(self._offsets.current)
        self._gaps.forget(partitions)
        self._parking.forget(partitions)
        self._forget_stations(self._sensors.forget(partitions))

    def _forget_stations(self, stations: Sequence[str]) -> None:
        self._silhouettes.forget(stations)
        self._skews.forget(stations)

    # The loop.

    def run(self, stop: Event) -> None:
        """Turn until ``stop`` is set, then answer what is in hand and leave the group.

        Raises:
            DeadLetterFlood: of all that is read, too much cannot be.
        """
        log.info("worker.started", worker=self._settings.worker, group=self._settings.group)
        self._patience.stop = stop
        self._beats.start()
        self._control.start()
        try:
            while not (stop.is_set() or self._control.draining):
                self.step()
            self.drain()
        except Abandoned:
            log.warning("worker.left_unanswered", records=self._offsets.in_flight())
        finally:
            self.close()

    def step(self) -> int:
        """One turn of the loop; returns how many parts were answered."""
        before = self._answering.answered
        self._watchdog.turned()
        self._beats.drain(self._clocks)
        if self._control.turn():
            self.vitals.soon()
        self._take(self._poll(), settle=True)  # 1, 2, 3
        self._offsets.ask(self._consumer)
        self._answer_lost()
        for pending in self._pairer.ready(self._clock.monotonic()):
            self._queue(pending)
        self._answer_aside()
        self._answer(self._batcher.late(self._clock.now()))
        while self._batcher.due(self._clock.monotonic()):  # 4
            self._answer(self._more())  # 5, 6
            self._commit()  # 7
        self._commit()
        size = self._pairer.size + self._batcher.size + self._aside.size
        self.flow.balance(self._consumer, held=self._held, size=size)
        self.vitals.beat(self._report)
        self.vitals.look_for_lag(self._consumer, self._offsets, self.answered)
        return self._answering.answered - before

    def drain(self) -> None:
        """Answer what was read, for at most ``drain_s``; the rest is redelivered to somebody else."""
        until = self._clock.monotonic() + self._settings.drain_s
        while self._held and self._clock.monotonic() < until:
            self._watchdog.turned(paused=True)
            self._answer_lost()
            for pending in self._pairer.ready(float("inf")):
                self._queue(pending)
            self._answer_aside()
            self._answer(self._more())
            self._commit()

    @property
    def answered(self) -> int:
        """Parts and records answered so far."""
        return self._answering.answered

    def close(self) -> None:
        """Leave the group and let go of the broker. Closing twice is allowed."""
        for let_go in (self._consumer.close, self._producer.close, self._delivery.close):
            try:
                let_go()
            except BusError as error:
                log.warning("worker.close_failed", error=str(error))
        self._beats.close()
        self._control.close()
        self._answering.close()
        self._decoders.shutdown(wait=False)
        log.info("worker.stopped", worker=self._settings.worker, answered=self.answered)

    def _poll(self) -> list[Record]:
        now = self._clock.monotonic()
        dues = [due for due in (self._batcher.due_at(), self._pairer.next_due()) if due is not None]
        timeout = min([IDLE_POLL_S, *(max(0.0, due - now) for due in dues)])
        try:
            return self._poller.wait(timeout)
        except OffsetGap as gap:
            self._jump(gap)
        return []

    def _jump(self, gap: OffsetGap) -> None:
        # Their frames are gone unread: the first one behind names the parts, and each is answered MISSING.
        log.error("worker.offset_gap", missing=gap.missing, error=str(gap))
        place = TopicPartition(gap.topic, gap.partition)
        remade = gap.wanted > gap.resume_at
        if remade:
            self._offsets.withhold(place)
        # What was read before the gap is answered before what is lost in it: order within a station.
        self.drain()
        if self._offsets.in_flight({place}):
            return  # more than one drain answers: the same gap is found again at the next poll
        try:
            self._consumer.seek(place, gap.resume_at)
        except BusError as error:
            # It has gone to somebody else, who will find the same gap.
            log.warning("worker.seek_failed", error=str(error))
            return
        self._gaps.gap(place, gap.missing)
        if remade:
            # Made anew: its offsets begin again, and the old ones would hold the commits of the new back.
            self._forget({place})
            self._offsets.assigned({place})
            self._offsets.committed({place: 0})

    def _take(self, records: Sequence[Record], *, settle: bool = False) -> None:
        if not records:
            return
        self._on_step(Step.POLLED)
        # Before anything is answered: what goes to somebody else meanwhile is his.
        tickets = [self._offsets.take(record.source, record.offset) for record in records]
        for record, ticket in zip(records, tickets, strict=True):
            if settle and record.undecoded is not None and record.undecoded.batch:
                # Like a gap: what was read before it is answered before what is lost in it.
                self.drain()
            if ticket is not None and self._offsets.current(ticket):
                with self.stages.stage(OPEN):
                    self._intake.take(record, ticket, now=self._clock.monotonic(), read_at=self._clock.now())
        self._on_step(Step.OPENED)

    def _queue(self, pending: PendingPart) -> None:
        station = pending.part.station
        if not self._sensors.knows(station):
            self._patience.call(partial(self._recall, pending))
        if not any(map(self._offsets.current, pending.tickets)):
            return  # it went while Redis was away: its new owner answers it
        self._heard.add(station)
        for change in self._sensors.observe(pending):
            change.tell()
        self._batcher.add(pending)
        self._on_step(Step.PAIRED)

    def _recall(self, pending: PendingPart) -> None:
        """What is known of a station is read while it is ours, and not kept when it is not."""
        if any(map(self._offsets.current, pending.tickets)):
            self._memory.restore(self._sensors, pending.part.station)
            self._silhouettes.recall(pending.part.station)

    def _refuse(self, pending: PendingPart) -> CrosscheckError | None:
        return self._clocks.refusal(pending.part.station) or self._control.place(pending)

    def _learn(self, pending: PendingPart, outcome: Outcome) -> None:
        if outcome.look is not None:
            for change in self._sensors.learn(pending, outcome.look):
                change.tell()

    def _answer_lost(self) -> None:
        """MISSING for the parts whose frames were deleted unread, before anything that came behind them."""
        for lost in self._patience.call(self._gaps.lost):
            for outcomes in lost.outcomes(worker=self._settings.worker, now=self._clock.now()):
                self._watchdog.turned()
                self._answering.publish(outcomes)

    def _answer_aside(self) -> None:
        """Publish what needs no model and has nothing of its station in front of it."""
        self._answering.publish(self._aside.ready(self._behind))

    def _behind(self, station: str) -> bool:
        return self._pairer.holds(station) or self._batcher.holds(station)

    def _more(self, parts: int | None = None) -> list[PendingPart]:
        return self._batcher.take(self._clock.monotonic(), parts)

    def _answer(self, batch: list[PendingPart]) -> None:
        if not batch:
            return
        self._answering.answer(batch, len(self._batcher), self._more)
        with self.stages.stage(STORE):
            stations, self._heard = self._heard, set()
            self._patience.call(lambda: self._memory.remember(self._sensors, stations))
            self._silhouettes.keep(stations)

    def _commit(self) -> None:
        offsets = self._offsets.committable()
        if not offsets:
            return
        with self.stages.stage(COMMIT):
            try:
                self._consumer.commit(offsets)
            except Fenced:
                raise
            except BusError as error:
                # Not lost: what was not committed is read and answered again, with the same verdicts.
                log.warning("worker.commit_failed", error=str(error))
                return
        self._offsets.committed(offsets)
        self._on_step(Step.COMMITTED)

    def _report(self) -> Report:
        self._forget_stations(self._sensors.drop_idle(self._clock.now()))
        report = Report(
            answered=self.answered,
            held=self._held,
            held_bytes=self._pairer.size + self._batcher.size,
            paused=self.flow.paused,
            partitions=tuple(place.partition for place in self._consumer.assignment()),
            dead_letters=self._dead_letters.total,
            parked=tuple(self._parking.parked),
            sensors=self._sensors.states(),
            clocks=self._clocks.stations(),
            untrusted=tuple(self._clocks.untrusted()),
            line=self._settings.topic_prefix,
        )
        return self._control.told(report)

    @property
    def _held(self) -> int:
        """Parts and answers held: read, and not on both sinks."""
        return len(self._pairer) + len(self._batcher) + len(self._aside)

    # Outages.

    def _wait_for_sinks(self) -> None:
        self._watchdog.turned(paused=True)
        self.flow.pause(self._consumer, "sink down")
        self._clock.sleep(RETRY_S)
        self._take(self._poller.now())

    def _poll_beside_the_model(self) -> None:
        self.flow.pause(self._consumer, "the model is busy", routine=True)
        self._take(self._poller.now())

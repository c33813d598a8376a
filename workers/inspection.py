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
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from threading import Event

import structlog

from schemas.part import PartKey
from schemas.verdict import Decision
from workers.bus.base import Bus, Producer, Record, TopicPartition
from workers.clock import Clock, SystemClock
from workers.errors import BusError, OffsetGap, StoreError
from workers.models import Models
from workers.patience import RETRY_S, Abandoned, Patience
from workers.settings import Settings
from workers.stages import COMMIT, IDLE, OPEN, POLL, STORE, StageTimes
from workers.steps.aside import Aside
from workers.steps.batching import Batcher
from workers.steps.deadletter import DeadLetters
from workers.steps.deciding import Judge
from workers.steps.delivery import Acknowledged, Delivery, Transactional
from workers.steps.flow import Flow
from workers.steps.inspecting import BatchInspector
from workers.steps.intake import Intake
from workers.steps.memory import SensorMemory
from workers.steps.offsets import OffsetTracker
from workers.steps.pairing import Pairer
from workers.steps.pending import PendingPart
from workers.steps.publishing import Outcome, ResultPublisher
from workers.steps.sensors import SensorWatch
from workers.steps.silhouettes import Silhouettes
from workers.steps.step import OnStep, Step, ignore
from workers.steps.triage import Triage
from workers.store import keys
from workers.store.verdicts import VerdictStore

log = structlog.get_logger(__name__)

IDLE_POLL_S = 0.1
MODEL_POLL_S = 0.5
"""A model run that takes longer is waited for with polls in between."""
BEAT_S = 2.0


class InspectionWorker:
    """Reads frames, answers every one of them, commits what is answered.

    One thread owns a worker. ``step`` is one turn of the loop; ``run`` turns until told to stop.

    Args:
        on_step: called as each numbered step is done, for tests that end the process there.
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
    ) -> None:
        keys.checked("CROSSCHECK_WORKER: worker", settings.worker)
        self._settings = settings
        self._clock = clock or SystemClock()
        self._store = store
        self._on_step = on_step
        self.stages = StageTimes(self._clock)
        self._offsets = OffsetTracker()
        self._sensors = SensorWatch(settings.sensor_down_after, settings.sensor_up_after)
        self._memory = SensorMemory(store)
        self._silhouettes = Silhouettes(store)
        self._pairer = Pairer(settings.pair_wait_ms / 1e3, self._sensors.down)
        self._batcher = Batcher(settings.max_batch, settings.max_delay_ms / 1e3, settings.near_ms / 1e3)
        self._judge = Judge(settings.worker, self._clock, settings.min_coverage)
        self._aside = Aside()
        self._intake = Intake(self._pairer, self._aside, self._judge, int(settings.max_message_mb * 2**20))
        self._triage = Triage(store, self._judge, self._clock, settings.max_attempts)
        self._decoders = ThreadPoolExecutor(2, thread_name_prefix="decode")
        self._inspector = BatchInspector(
            models,
            self._judge,
            self._clock,
            self.stages,
            self._decoders,
            self._keep_heatmap,
            self._silhouettes,
        )
        self._producer = bus.producer()
        self._verdicts: Producer | None = None
        self._dead_letters = DeadLetters(
            self._producer,
            settings.topic("deadletter"),
            worker=settings.worker,
            clock=self._clock,
            run_limit=settings.deadletter_run,
            ratio_limit=settings.deadletter_ratio,
        )
        self._consumer = bus.consumer(
            settings.group,
            max_poll_records=settings.max_batch,
            session_timeout=settings.session_timeout_ms / 1e3,
            name=settings.worker,
            member=settings.worker if settings.static_member else None,
        )
        self._publisher = ResultPublisher(
            self._producer,
            self._delivery(bus),
            store,
            self._dead_letters,
            self.stages,
            settings.topic("heatmaps"),
            bus.partitions(settings.topic("verdicts")) or 1,
            on_step,
        )
        self._bench = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._next_beat = 0.0
        self._patience = Patience(self._clock, self._wait_for_sinks, settings.drain_s)
        self._patiently = self._patience.call
        self._flow = Flow(max_parts=settings.max_in_flight, max_bytes=int(settings.max_in_flight_mb * 1e6))
        self.answered = 0
        self._consumer.subscribe({settings.topic("frames")}, self)

    def _delivery(self, bus: Bus) -> Delivery:
        topic = self._settings.topic("verdicts")
        if self._settings.delivery == "plain":
            return Acknowledged(self._producer, topic)
        # Heatmaps and dead letters go by the other producer: they are no part of any transaction.
        name = f"{self._settings.group}.{self._settings.worker}"
        self._verdicts = bus.producer(transactional_id=name)
        return Transactional(self._verdicts, topic, self._consumer, self._offsets)

    # What the group tells us, from inside poll, on our own thread.

    def on_assigned(self, partitions: set[TopicPartition]) -> None:
        """A new epoch for what was gained; a pause that is in force holds for it too."""
        self._offsets.assigned(partitions)
        self._flow.assigned(self._consumer, partitions)
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
        self._silhouettes.forget(self._sensors.forget(partitions))

    # The loop.

    def run(self, stop: Event) -> None:
        """Turn until ``stop`` is set, then answer what is in hand and leave the group.

        Raises:
            DeadLetterFlood: too many unreadable records in a row.
        """
        log.info("worker.started", worker=self._settings.worker, group=self._settings.group)
        self._patience.stop = stop
        try:
            while not stop.is_set():
                self.step()
            self.drain()
        except Abandoned:
            log.warning("worker.left_unanswered", records=self._offsets.in_flight())
        finally:
            self.close()

    def step(self) -> int:
        """One turn of the loop; returns how many parts were answered."""
        self._take(self._poll())  # 1, 2, 3
        for pending in self._pairer.ready(self._clock.monotonic()):
            self._queue(pending)
        answered = self._answer_aside()
        answered += self._answer(self._batcher.late(self._clock.now()))
        while self._batcher.due(self._clock.monotonic()):  # 4
            answered += self._answer(self._batcher.take(self._clock.monotonic()))  # 5, 6
            self._commit()  # 7
        self._commit()
        self._flow.balance(self._consumer, held=self._held, size=self._pairer.size + self._batcher.size)
        self._beat()
        return answered

    def drain(self) -> None:
        """Answer what was read, for at most ``drain_s``; the rest is redelivered to somebody else."""
        until = self._clock.monotonic() + self._settings.drain_s
        while (self._held or len(self._aside)) and self._clock.monotonic() < until:
            for pending in self._pairer.ready(float("inf")):
                self._queue(pending)
            self._answer_aside()
            self._answer(self._batcher.take())
            self._commit()

    def close(self) -> None:
        """Leave the group and let go of the broker. Closing twice is allowed."""
        try:
            self._consumer.close()
            self._producer.close()
            if self._verdicts is not None:
                self._verdicts.close()
        except BusError as error:
            log.warning("worker.close_failed", error=str(error))
        for threads in (self._decoders, self._bench):
            threads.shutdown(wait=False)
        log.info("worker.stopped", worker=self._settings.worker, answered=self.answered)

    def _poll(self) -> list[Record]:
        now = self._clock.monotonic()
        dues = [due for due in (self._batcher.due_at(), self._pairer.next_due()) if due is not None]
        timeout = min([IDLE_POLL_S, *(max(0.0, due - now) for due in dues)])
        with self.stages.stage(IDLE) as stage:
            try:
                records = self._consumer.poll(timeout)
                if records:
                    stage.name = POLL
                return records
            except OffsetGap as gap:
                self._jump(gap)
            except BusError as error:
                log.warning("worker.poll_failed", error=str(error))
                self._clock.sleep(RETRY_S)
        return []

    def _jump(self, gap: OffsetGap) -> None:
        # Their frames are gone unread. The gate answers MISSING for each of their parts: it saw them pass.
        log.error("worker.offset_gap", missing=gap.missing, error=str(gap))
        place = TopicPartition(gap.topic, gap.partition)
        try:
            self._consumer.seek(place, gap.resume_at)
        except BusError as error:
            # It has gone to somebody else, who will find the same gap.
            log.warning("worker.seek_failed", error=str(error))
            return
        if gap.wanted > gap.end:
            # Made anew: its offsets begin again, and the old ones would hold the commits of the new back.
            self.drain()
            self._forget({place})
            self._offsets.assigned({place})

    def _keep_heatmap(self, decision: Decision) -> bool:
        keep = self._settings.heatmaps
        return keep == "all" or (keep == "not-passed" and decision is not Decision.PASS)

    def _take(self, records: Sequence[Record]) -> None:
        if not records:
            return
        self._on_step(Step.POLLED)
        with self.stages.stage(OPEN):
            for record in records:
                ticket = self._offsets.take(record.source, record.offset)
                if ticket is not None:
                    self._intake.take(record, ticket, now=self._clock.monotonic(), read_at=self._clock.now())
        self._on_step(Step.OPENED)

    def _queue(self, pending: PendingPart) -> None:
        station = pending.part.station
        if not self._sensors.knows(station):
            self._patiently(partial(self._memory.restore, self._sensors, station))
            self._silhouettes.recall(station)
        for change in self._sensors.observe(pending):
            log.warning(
                "worker.sensor",
                station=change.station,
                sensor=change.sensor,
                state=change.state,
                why=change.why,
            )
        self._batcher.add(pending)
        self._on_step(Step.PAIRED)

    def _answer_aside(self) -> int:
        """Publish what needs no model and has nothing of its station in front of it."""
        ready = self._aside.ready(self._behind)
        self._publish(ready)
        return len(ready)

    def _behind(self, part: PartKey) -> bool:
        if part in self._pairer or part in self._batcher:
            return False
        return self._pairer.holds(part.station) or self._batcher.holds(part.station)

    def _answer(self, batch: list[PendingPart]) -> int:
        batch = [p for p in batch if any(map(self._offsets.current, p.tickets))]
        if not batch:
            return 0
        self._on_step(Step.BATCHED)
        with self.stages.stage(STORE):
            groups = self._patiently(lambda: self._triage.sort(batch))
        turn = {pending.part: index for index, pending in enumerate(batch)}
        for group in groups:
            outcomes = [*group.answered, *self._inspect(group.parts)]
            outcomes.sort(key=lambda o: -1 if o.verdict is None else turn.get(o.verdict.part, -1))
            self._publish(self._aside.among(outcomes))
        with self.stages.stage(STORE):
            stations = {p.part.station for p in batch}
            self._patiently(lambda: self._memory.remember(self._sensors, stations))
            self._silhouettes.keep(stations)
        return len(batch)

    def _inspect(self, parts: list[PendingPart]) -> list[Outcome]:
        """The model on its own thread: however long it takes, polling keeps our place in the group."""
        if not parts:
            return []
        with self.stages.stage(STORE):
            keys = [pending.part for pending in parts]
            attempts = self._patiently(partial(self._store.begin_attempts, keys))
        running = self._bench.submit(self._inspector.inspect, parts, attempts)
        while not wait([running], MODEL_POLL_S).done:
            self._flow.pause(self._consumer, "the model is busy")
            self._take(self._poll_now())
        outcomes = running.result()
        self._on_step(Step.INSPECTED)
        return outcomes

    def _publish(self, outcomes: list[Outcome]) -> None:
        if not outcomes:
            return
        committed = self._patiently(lambda: self._publisher.publish(outcomes))
        for outcome in outcomes:
            self._dead_letters.answered(dead=bool(outcome.dead))
            for ticket in outcome.tickets:
                self._offsets.finish(ticket)
        self._offsets.committed(committed)
        self.answered += len(outcomes)
        self._dead_letters.check()

    def _commit(self) -> None:
        offsets = self._offsets.committable()
        if not offsets:
            return
        with self.stages.stage(COMMIT):
            try:
                self._consumer.commit(offsets)
            except BusError as error:
                # Not lost: what was not committed is read and answered again, with the same verdicts.
                log.warning("worker.commit_failed", error=str(error))
                return
        self._offsets.committed(offsets)
        self._on_step(Step.COMMITTED)

    def _beat(self) -> None:
        now = self._clock.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_S
        state: dict[str, str | int | float] = {
            "at": self._clock.now(),
            "answered": self.answered,
            "held": self._held,
            "paused": int(self._flow.paused),
            "partitions": ",".join(sorted(str(p.partition) for p in self._consumer.assignment())),
            "dead_letters": self._dead_letters.total,
        }
        try:
            self._store.beat(self._settings.worker, state)
        except StoreError as error:
            # The heartbeat tells; it does not decide. The next verdict will find Redis away by itself.
            log.warning("worker.beat_failed", error=str(error))

    @property
    def _held(self) -> int:
        """Parts read and not answered."""
        return len(self._pairer) + len(self._batcher)

    # Outages.

    def _wait_for_sinks(self) -> None:
        self._flow.pause(self._consumer, "sink down")
        self._clock.sleep(RETRY_S)
        self._take(self._poll_now())

    def _poll_now(self) -> list[Record]:
        try:
            return self._consumer.poll(0.0)
        except BusError as error:
            log.warning("worker.poll_failed", error=str(error))
            return []

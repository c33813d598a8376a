"""A shadow run: the line's own frames, the verdict that stands, and what a candidate would have said.

It belongs to no consumer group and commits nothing: it reads from where the topic ended when it began, and
neither the workers nor their group can tell that it is there. It never waits for a part longer than
``wait_s`` and never holds more than ``HELD`` of them: what comes meanwhile is skipped and counted, and so is
what lies between it and the end of the topic when it falls behind.

The candidate looks at the sensors that the line used, so that the two scores are of the same evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from schemas.errors import CrosscheckError, SchemaError
from schemas.frame import Frame
from schemas.part import PartKey
from schemas.verdict import Decision, Mode, Verdict
from schemas.wire import decode_verdict
from workers.bus.base import Bus, Record, TopicPartition
from workers.clock import Clock, SystemClock
from workers.errors import BusError, OffsetGap, StoreError, UndecodableRecord
from workers.models import Model
from workers.shadow.keeping import Keeping
from workers.shadow.tally import Tally, ratio
from workers.steps.deciding import decide
from workers.steps.decode import decode_sample, open_record, require_decoded
from workers.steps.offsets import Ticket
from workers.steps.pairing import Pairer
from workers.steps.pending import PendingPart
from workers.steps.silhouettes import Silhouettes
from workers.store.verdicts import VerdictStore

log = structlog.get_logger(__name__)

HELD = 32
"""Parts that wait for their verdict, or for the candidate, at most."""
BEHIND = 256
"""Records behind the end of a partition after which it goes on at its end."""
LOOK_S = 5.0
"""Seconds between two looks at how far behind it is."""
ASK_S = 0.05
"""Seconds between two questions for verdicts."""
WRITE_S = 1.0
RUN_OF = 4
"""Parts scored between two polls."""
_SENSORS = {
    Mode.FUSED: frozenset({"rgb", "depth"}),
    Mode.RGB: frozenset({"rgb"}),
    Mode.DEPTH: frozenset({"depth"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSettings:
    """How a run reads.

    Attributes:
        product: whose parts are compared; others are left alone.
        topic: of the frames.
        wait_s: how long a part waits for its verdict.
        pair_wait_s: how long one sensor's record waits for the other's.
        min_coverage: as the workers'.
        max_record: bytes; a larger record is left alone.
        most: so many parts are compared and no more; None: for as long as it runs.
    """

    product: str
    topic: str
    wait_s: float = 10.0
    pair_wait_s: float = 0.15
    min_coverage: float = 0.8
    max_record: int = 16 * 2**20
    most: int | None = None


class Shadow:
    """One run. One thread owns it.

    Raises:
        BusError, StoreError: Kafka or Redis is away as it begins.
    """

    def __init__(
        self,
        bus: Bus,
        store: VerdictStore,
        model: Model,
        settings: ShadowSettings,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._model = model
        self._settings = settings
        self._clock = clock or SystemClock()
        self._pairer = Pairer(settings.pair_wait_s, lambda station: frozenset())
        self._waiting: dict[PartKey, tuple[PendingPart, float]] = {}
        # Its own, in memory: what the candidate saw of a station helps it where depth is missing.
        self._silhouettes = Silhouettes(store)
        self._keeping = Keeping(store, settings.product)
        self._keeping.begin()
        self.tally = Tally(settings.product, model.bundle_id, self._now_ms())
        self._next_ask = self._next_look = self._next_write = 0.0
        self._consumer = bus.consumer(None, start="latest", name=f"shadow-{settings.product}")
        places = {TopicPartition(settings.topic, at) for at in range(bus.partitions(settings.topic) or 0)}
        self._consumer.assign(places)
        for place, end in self._consumer.end_offsets(places).items():
            self._consumer.seek(place, end)

    def step(self, timeout: float = 0.1) -> int:
        """One turn; ``timeout`` is how long it waits for a record. Returns how many parts were judged."""
        before = self.tally.count + self.tally.failed
        self._take(self._poll(timeout if not self._waiting else min(timeout, ASK_S)))
        now = self._clock.monotonic()
        for pending in self._pairer.ready(now):
            self._wait(pending, now)
        if now >= self._next_ask:
            self._next_ask = now + ASK_S
            self._judge(now)
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            self._keep_up()
        if now >= self._next_write:
            self._next_write = now + WRITE_S
            self._keeping.write(self.tally, self._now_ms())
        return self.tally.count + self.tally.failed - before

    def close(self) -> None:
        """Write what was found, and let go of the broker."""
        # Their time was not up: they are neither with nor without a verdict.
        self.tally.skipped += sum(len(pending.records) for pending, _ in self._waiting.values())
        self._waiting.clear()
        self._keeping.write(self.tally, self._now_ms(), running=False)
        self._consumer.close()

    # Frames.

    def _poll(self, timeout: float) -> list[Record]:
        try:
            return self._consumer.poll(timeout)
        except OffsetGap as gap:
            self.tally.skipped += gap.missing
            self._consumer.seek(TopicPartition(gap.topic, gap.partition), gap.resume_at)
        except BusError as error:
            log.warning("shadow.no_frames", error=str(error))
            self._clock.sleep(timeout)
        return []

    def _take(self, records: Sequence[Record]) -> None:
        now, read_at = self._clock.monotonic(), self._clock.now()
        for record in records:
            try:
                require_decoded(record)
                found = open_record(record, self._settings.max_record)
                if isinstance(found, Frame) and found.product == self._settings.product:
                    self._pairer.offer(
                        found, record, Ticket(record.source, record.offset, 1), now=now, read_at=read_at
                    )
            except (SchemaError, UndecodableRecord):
                continue  # the worker makes a dead letter of it; here it is no part

    def _wait(self, pending: PendingPart, now: float) -> None:
        if pending.late is not None:
            return
        if len(self._waiting) >= HELD:
            # What waits is kept: if the oldest gave way, a line that answers slowly were never compared.
            self.tally.skipped += len(pending.records)
            return
        self._waiting[pending.part] = (pending, now)

    def _keep_up(self) -> None:
        """Go on at the end of every partition that is too far away to be caught up with."""
        try:
            ends = self._consumer.end_offsets(self._consumer.assignment())
        except BusError as error:
            log.warning("shadow.lag_unknown", error=str(error))
            return
        for place, end in ends.items():
            at = self._consumer.position(place)
            if at is not None and end - at > BEHIND:
                self._consumer.seek(place, end)
                self.tally.skipped += end - at

    # Verdicts.

    def _judge(self, now: float) -> None:
        """Score the parts whose verdict stands; give up those that have waited for too long."""
        if not self._waiting:
            return
        parts = list(self._waiting)
        try:
            standing = self._store.standing_many(parts)
        except StoreError as error:
            log.warning("shadow.no_verdicts", error=str(error))
            standing = [None] * len(parts)
        scored = 0
        for part, value in zip(parts, standing, strict=True):
            if self.done:
                return
            pending, since = self._waiting[part]
            if value is None:
                if now - since > self._settings.wait_s:
                    del self._waiting[part]
                    self.tally.unmatched += 1
            elif scored < RUN_OF:
                del self._waiting[part]
                scored += self._compare(pending, value)

    @property
    def done(self) -> bool:
        """Whether as many parts were compared as were asked for."""
        return self._settings.most is not None and self.tally.count >= self._settings.most

    def _compare(self, pending: PendingPart, value: bytes) -> bool:
        """One part by the candidate; whether it took the candidate's time."""
        try:
            verdict = decode_verdict(value)
        except SchemaError:
            self.tally.unmatched += 1
            return False
        if verdict.mode is None or verdict.score is None:
            self.tally.unscored += 1
            return False
        if not _SENSORS[verdict.mode] <= pending.present:
            self.tally.unmatched += 1  # a sensor's record came too late for us, and not for the worker
            return False
        started = self._clock.monotonic()
        try:
            decision, found = self._ask(pending, verdict, verdict.mode)
        except Exception as error:  # a candidate may be broken in any way: that is what is to be found out
            why = str(error) if isinstance(error, CrosscheckError) else repr(error)
            log.warning("shadow.candidate_failed", part=str(pending.part), error=why[:300])
            self.tally.fell(1e3 * (self._clock.monotonic() - started))
            return True
        took = 1e3 * (self._clock.monotonic() - started)
        self.tally.compared(verdict, decision, found, took, self._now_ms())
        return True

    def _ask(self, pending: PendingPart, verdict: Verdict, mode: Mode) -> tuple[Decision, float | None]:
        """The candidate's decision and its score / reject limit. Raises whatever goes wrong."""
        frame, model = pending.frame, self._model
        sample = decode_sample(frame, use_rgb=mode is not Mode.DEPTH, use_depth=mode is not Mode.RGB)
        station, product = frame.part.station, frame.product
        sample = self._silhouettes.lend(station, product, model.bundle_hash, sample)
        (inspection,) = model.inspect([sample])
        if inspection.error is not None:
            raise inspection.error
        decision, _ = decide(inspection, self._settings.min_coverage)
        self._silhouettes.learn(station, product, model.bundle_hash, inspection, decision)
        return decision, ratio(inspection.score, inspection.threshold)

    def _now_ms(self) -> int:
        return self._clock.now() // 1_000_000

"""A worker's whole surroundings in memory: bus, store, clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import fakeredis

from schemas.frame import Frame
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.verdict import Verdict
from schemas.wire import decode_verdict, encode
from tests.workers.frames import START
from tests.workers.standin import StandInModel
from workers.bus.base import Record, TopicPartition, TopicSpec
from workers.bus.memory import MemoryBus
from workers.clock import ManualClock
from workers.inspection import InspectionWorker
from workers.settings import Settings
from workers.steps.control import Control
from workers.steps.observing import Observer
from workers.steps.step import OnStep, ignore
from workers.store.verdicts import VerdictStore
from workers.watchdog import Watchdog

FRAMES, VERDICTS, DEAD = "inspection.frames", "inspection.verdicts", "inspection.deadletter"

# Workers of the test that runs: it may let one die, but its threads have to end.
made: list[InspectionWorker] = []


class Line:
    """A bus, a store and as many workers as a test wants."""

    def __init__(self, *, partitions: int = 2) -> None:
        self.clock = ManualClock(START)
        self.bus = MemoryBus(self.clock)
        spec = TopicSpec(partitions=partitions)
        self.bus.ensure_topics(
            {name: spec for name in (FRAMES, VERDICTS, "inspection.heatmaps")}
            | {DEAD: TopicSpec(partitions=1)}
        )
        self.server = fakeredis.FakeServer()
        self.redis = fakeredis.FakeRedis(server=self.server)
        self.store = VerdictStore(self.redis)
        self.producer = self.bus.producer()

    def worker(
        self,
        model: Any = None,
        *,
        name: str = "w1",
        on_step: OnStep = ignore,
        watchdog: Watchdog | None = None,
        control: Control | None = None,
        observers: Sequence[Observer] = (),
        **settings: Any,
    ) -> InspectionWorker:
        values: dict[str, Any] = {"worker": name, "max_delay_ms": 0, "log": "json"}
        worker = InspectionWorker(
            Settings(**(values | settings)),
            self.bus,
            self.store,
            model or StandInModel(),
            clock=self.clock,
            on_step=on_step,
            watchdog=watchdog,
            control=control,
            observers=observers,
        )
        made.append(worker)
        return worker

    def send(
        self, of: Frame | Notice, *, value: bytes | None = None, partition: int = 0, key: bytes | None = None
    ) -> None:
        self.producer.send(
            FRAMES,
            encode(of) if value is None else value,
            key=str(of.part).encode() if key is None else key,
            partition=partition,
        ).wait(1)

    def turn(self, worker: InspectionWorker, until: Callable[[], bool], turns: int = 60) -> None:
        for _ in range(turns):
            if until():
                return
            worker.step()
            self.clock.advance(0.01)
        assert until(), "the worker did not get there"

    def read(self, topic: str) -> list[Record]:
        consumer = self.bus.consumer(None)
        count = self.bus.partitions(topic) or 0
        partitions = {TopicPartition(topic, p) for p in range(count)}
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, 0)
        records: list[Record] = []
        while batch := consumer.poll(0):
            records.extend(batch)
        consumer.close()
        return records

    def verdicts(self) -> list[Verdict]:
        return [decode_verdict(record.value) for record in self.read(VERDICTS)]

    def standing(self, part: PartKey) -> Verdict:
        value = self.store.standing(part)
        assert value is not None
        return decode_verdict(value)

    def committed(self, partition: int = 0) -> int | None:
        consumer = self.bus.consumer("crosscheck-workers")
        try:
            return consumer.committed(TopicPartition(FRAMES, partition))
        finally:
            consumer.close()

"""A line from end to end where every process has its own user, by TLS, and no right beyond the table."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from schemas.heartbeat import Heartbeat
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import decode_verdict, encode
from tests.security.conftest import LINE_GROUP, LINE_PREFIX
from tests.security.servers import PASSWORD, SecureKafka
from tests.workers.frames import frame
from tests.workers.standin import StandInModel
from workers.bus.base import Bus, TopicPartition
from workers.commands.local import open_bus, open_store
from workers.inspection import InspectionWorker
from workers.rights import user
from workers.settings import Settings
from workers.topics import StationMap, TopicPlan

pytestmark = pytest.mark.services


def within(seconds: float, found: Callable[[], bool], turn: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        turn()


def test_a_part_goes_from_agent_to_gate_and_archive(secure_broker: SecureKafka, secure_redis: int) -> None:
    def settings(process: str, **more: Any) -> Settings:
        return Settings(
            kafka=secure_broker.sasl_ssl,
            kafka_security="sasl_ssl",
            kafka_user=user(process),
            kafka_password=PASSWORD,
            kafka_ca=secure_broker.ca,
            redis=f"redis://127.0.0.1:{secure_redis}/0",
            redis_user=user(process),
            redis_password=PASSWORD,
            topic_prefix=LINE_PREFIX,
            group=LINE_GROUP,
            worker="w1",
            max_delay_ms=0,
            **more,
        )

    with ExitStack() as stack:

        def bus(process: str, *topics: str) -> Bus:
            opened = open_bus(settings(process), *topics)
            stack.callback(opened.close)
            return opened

        TopicPlan(StationMap({"s1": 0}), prefix=LINE_PREFIX).apply(bus("operator"))
        agent = bus("agent", "frames", "heartbeats").producer()
        archive = bus("archive", "verdicts").consumer(f"{LINE_PREFIX}-archive")
        archive.subscribe({f"{LINE_PREFIX}.verdicts"})
        gate = open_store(settings("gate"))

        filed: list[PartKey] = []
        for run, delivery in enumerate(("plain", "transactions")):
            first, now = 100 * run, time.time_ns()
            for trigger in range(first, first + 3):
                sent = frame(trigger, captured_at=now, deadline_s=60)
                agent.send(f"{LINE_PREFIX}.frames", encode(sent), key=str(sent.part).encode(), partition=0)
            gone = Notice(
                part=PartKey("s1", sent.part.run, first + 50),
                product="widget",
                captured_at=now,
                deadline=now + 60 * 10**9,
                why="buffer full",
            )
            agent.send(f"{LINE_PREFIX}.frames", encode(gone), key=str(gone.part).encode(), partition=0)
            agent.send(f"{LINE_PREFIX}.frames", b"no message", key=b"no key", partition=0)
            beat = Heartbeat(station="s1", agent="a1", sent_at=time.time_ns())
            agent.send(f"{LINE_PREFIX}.heartbeats", encode(beat), partition=0)
            agent.flush(10)

            worker = InspectionWorker(
                settings("worker", delivery=delivery, heatmaps="all"),
                bus("worker", "frames", "verdicts", "heatmaps", "deadletter"),
                open_store(settings("worker")),
                StandInModel(),
            )
            parts = [PartKey("s1", sent.part.run, first + n) for n in (0, 1, 2)]
            try:
                within(60, lambda: None not in gate.standing_many([*parts, gone.part]), worker.step)  # noqa: B023
                for _ in range(5):
                    worker.step()
            finally:
                worker.close()
            seen = {entry.part: entry.decision for entry in gate.gate_entries("s1")}
            assert [seen[part] for part in parts] == [Decision.PASS] * 3
            assert seen[gone.part] is Decision.MISSING

            def file() -> None:
                filed.extend(decode_verdict(record.value).part for record in archive.poll(0.1))

            within(60, lambda: {*parts, gone.part} <= set(filed), file)  # noqa: B023
        # The unreadable one of each run.
        letters = bus("operator", "deadletter").consumer(None)
        dead = TopicPartition(f"{LINE_PREFIX}.deadletter", 0)
        assert letters.end_offsets({dead}) == {dead: 2}

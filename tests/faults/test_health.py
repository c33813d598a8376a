"""A real Redis and a real broker that go and come back: who is ready says so, and nobody is started anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from compose.services import Services
from tests.e2e.processes import wait_until
from tests.workers.standin import StandInModel
from tests.workers.telemetry.scraping import health, key, scrape
from workers.bus.base import TopicSpec
from workers.bus.kafka import KafkaBus
from workers.capture.publisher import Publisher
from workers.gate import Gate, Journal, RecordingActuator, SimulatedPartSource
from workers.inspection import InspectionWorker
from workers.settings import Settings
from workers.store.connection import connect
from workers.store.verdicts import VerdictStore
from workers.telemetry.agent import monitored
from workers.telemetry.assembly import Assembly
from workers.telemetry.gate import GateWaits, watch_gate
from workers.telemetry.watching import watch_answers, watch_worker
from workers.topics import StationMap
from workers.watchdog import Watchdog

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]

TOPICS = ("frames", "verdicts", "heatmaps", "deadletter", "heartbeats", "control")


@contextmanager
def turning(run: threading.Thread, stop: threading.Event) -> Iterator[None]:
    """A loop on a thread of its own, stopped at the end."""
    run.start()
    try:
        yield
    finally:
        stop.set()
        run.join(40)
        assert not run.is_alive()


class Line:
    """Agent, worker and gate in this process, on servers of their own; each asked over HTTP."""

    def __init__(self, services: Services, folder: Path, stack: ExitStack) -> None:
        endpoints = services.up()
        self.settings = Settings(
            kafka=endpoints.kafka,
            redis=endpoints.redis_url,
            topic_prefix="health",
            group="health",
            worker="w1",
            stall_s=5,
            drain_s=1,
        )
        self.stop = threading.Event()
        self._pixels = np.random.default_rng(1)
        admin = KafkaBus(endpoints.kafka)
        admin.ensure_topics({self.settings.topic(name): TopicSpec(partitions=1) for name in TOPICS})
        admin.close()
        self.at = {
            "worker": self._worker(stack),
            "gate": self._gate(stack, folder),
            "agent": self._agent(stack),
        }

    def _store(self) -> VerdictStore:
        return VerdictStore(connect(self.settings.redis))

    def _worker(self, stack: ExitStack) -> str:
        watch = Assembly("worker", "127.0.0.1:0")
        watch_answers(watch)
        bus, store = KafkaBus(self.settings.kafka), self._store()
        stack.callback(bus.close)
        dog = Watchdog(stall_s=5, exit=lambda code: None)
        worker = InspectionWorker(
            self.settings, bus, store, StandInModel(), watchdog=dog, observers=watch.observers
        )
        watch_worker(watch, worker, dog, services=(store.contact, bus.contact), stop=self.stop)
        monitor = stack.enter_context(watch.served())
        stack.enter_context(turning(threading.Thread(target=worker.run, args=(self.stop,)), self.stop))
        assert monitor is not None
        return monitor.address

    def _gate(self, stack: ExitStack, folder: Path) -> str:
        watch, waits, store = Assembly("gate", "127.0.0.1:0"), GateWaits(), self._store()
        journal = stack.enter_context(Journal(folder / "gate.journal", sync=False))
        gate = Gate(
            store,
            SimulatedPartSource(travel_s=1.0),
            RecordingActuator(),
            journal,
            station="s1",
            alarm=lambda name, facts: None,
            on_decision=waits.decided,
        )
        watch_gate(watch, gate, waits, station="s1", redis=store.contact, stop=self.stop)
        monitor = stack.enter_context(watch.served())
        stack.enter_context(turning(threading.Thread(target=gate.run, args=(self.stop,)), self.stop))
        assert monitor is not None
        return monitor.address

    def _agent(self, stack: ExitStack) -> str:
        self.publisher = stack.enter_context(
            Publisher(
                self.settings.kafka,
                station="s1",
                product="widget",
                station_map=StationMap({"s1": 0}),
                topic=self.settings.topic("frames"),
                heartbeats=self.settings.topic("heartbeats"),
                deadline_s=60.0,
            )
        )
        return stack.enter_context(monitored(self.publisher, "127.0.0.1:0")).address

    def shoot(self) -> None:
        """One part, as no other before."""
        rgb = self._pixels.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        depth = self._pixels.integers(1, 60_000, (24, 32), dtype=np.uint16)
        self.publisher.publish(self.publisher.next_part(), rgb, depth)

    def ready(self, process: str) -> bool:
        return health(self.at[process], "ready")[0] == 200

    def wait(self, expected: dict[str, bool], what: str) -> None:
        began = time.monotonic()
        wait_until(lambda: {name: self.ready(name) for name in self.at} == expected, 40.0, what)
        print(f"{what}: {time.monotonic() - began:.1f} s")

    def paused(self) -> float:
        return scrape(self.at["worker"])[key("crosscheck_paused")]

    def all_live(self) -> bool:
        return all(health(address, "live")[0] == 200 for address in self.at.values())


def test_ready_follows_redis_and_the_broker_and_life_goes_on(mortal: Services, tmp_path: Path) -> None:
    services = mortal
    with ExitStack() as stack:
        stack.callback(services.up)
        line = Line(services, tmp_path, stack)
        every = dict.fromkeys(line.at, True)
        line.wait(every, "all are ready")
        line.shoot()
        verdict = key(
            "crosscheck_verdicts_total", station="s1", product="widget", decision="PASS", mode="FUSED"
        )
        wait_until(lambda: scrape(line.at["worker"]).get(verdict) == 1, 20.0, "a verdict in the metrics")

        services.kill_redis()
        line.wait({"worker": False, "gate": False, "agent": True}, "redis is missed")
        for name in ("worker", "gate"):
            assert not health(line.at[name], "ready")[1]["redis"]["ok"]
        assert line.all_live()
        line.shoot()
        wait_until(lambda: line.paused() == 1, 20.0, "the worker paused")
        services.start_redis()
        line.wait(every, "redis is back")
        wait_until(lambda: line.paused() == 0, 20.0, "the worker went on")

        services.kill_kafka()
        line.wait({"worker": False, "gate": True, "agent": False}, "the broker is missed")
        assert not health(line.at["worker"], "ready")[1]["kafka"]["ok"]
        assert line.all_live()
        services.start_kafka()
        line.wait(every, "the broker is back")
        line.shoot()
        wait_until(lambda: scrape(line.at["worker"]).get(verdict) == 3, 20.0, "a verdict after the outages")

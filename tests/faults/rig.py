"""One fault line: topics, stations, gates and workers of its own on a real Kafka and a real Redis."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from schemas.part import PartKey
from schemas.verdict import Decision
from tests.e2e.processes import wait_until
from tests.faults.crew import Crew, Member, Nursery, Resources
from tests.faults.shots import PRODUCT, Picture
from tests.faults.traffic import Traffic
from workers.bus.base import TopicPartition
from workers.bus.kafka import KafkaBus, KafkaSettings
from workers.capture.buffer import DiskBuffer
from workers.clock import Clock, SystemClock
from workers.errors import BusError
from workers.gate import Gate, Journal, LogPartSource, RecordingActuator
from workers.gate.decision import GateDecision
from workers.gate.journal import Entry
from workers.store.connection import connect
from workers.store.verdicts import VerdictStore
from workers.topics import StationMap, TopicPlan

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSetup:
    """What a class of faults needs of its line.

    Attributes:
        real: the taught model; else a stand-in of fixed cost.
        stations: how many, each on a partition of its own.
        workers: how many processes.
        rate: parts a second on each station.
        to_gate_s: seconds from trigger to gate: a part without a verdict by then is MISSING. So long by
            default that every part can still be judged after the longest outage.
        settings: of the workers, fields of ``Settings``.
        slow_s: how long a frame stamped SLOW takes the stand-in.
        clocks: the clock of a station's agent, by the station's number.
        heartbeats: whether agents say that they live, and what their clock says.
        buffers: the disk buffer of an agent, by its folder.
        replication: how many brokers hold each record.
        poll_interval_s: how long a worker may take between two polls before its group gives it up.
    """

    real: bool = False
    stations: int = 8
    workers: int = 3
    rate: float = 4.0
    to_gate_s: float = 60.0
    settings: dict[str, Any] = field(default_factory=dict)
    slow_s: float = 0.0
    clocks: Callable[[int], Clock] = lambda number: SystemClock()
    heartbeats: bool = False
    buffers: Callable[[Path], DiskBuffer | None] = lambda folder: None
    replication: int = 1
    poll_interval_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault: when (nanoseconds since the epoch), and which stations it hit.

    Attributes:
        victim: the worker whose partitions others have to take over; None where no worker is gone.
    """

    what: str
    at: int
    stations: frozenset[str]
    victim: str | None = None


class OffsetWatch:
    """Reads the group's committed offsets again and again: they may only grow."""

    def __init__(self, bus: KafkaBus, group: str, topic: str, partitions: Sequence[int]) -> None:
        self._bus, self._group, self._topic = bus, group, topic
        self._partitions = partitions
        self._stop = threading.Event()
        self._seen: dict[int, int] = {}
        self._lock = threading.Lock()
        self._blind = False
        self.back: list[str] = []
        self._thread = threading.Thread(target=self._run, name="offsets", daemon=True)

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self._thread.start()

    @contextmanager
    def blind(self) -> Iterator[None]:
        """The topic is made anew: its offsets begin again, once the workers have noticed."""
        self._blind = True
        try:
            yield
        finally:
            with self._lock:
                self._seen.clear()
            self._blind = False

    def _run(self) -> None:
        consumer = self._bus.consumer(self._group)
        try:
            while not self._stop.wait(0.4):
                for number in self._partitions:
                    with suppress(BusError):
                        offset = consumer.committed(TopicPartition(self._topic, number)) or 0
                        with self._lock:
                            known = self._seen.get(number, 0)
                            if offset < known and not self._blind:
                                self.back.append(f"partition {number}: {known} to {offset}")
                            self._seen[number] = offset
                    if self._stop.is_set():
                        break
        finally:
            with suppress(BusError):
                consumer.close()

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(15.0)


class FaultRig:
    """What many lines share: the servers' addresses, the workers' parent, the taught model, a folder."""

    def __init__(
        self,
        folder: Path,
        kafka: str,
        redis_url: str,
        nursery: Nursery,
        pictures: PicturePool,
        models: Path,
        disk: Path | None = None,
    ) -> None:
        self.folder = folder
        self.kafka = kafka
        self.redis_url = redis_url
        self.nursery = nursery
        self.pictures = pictures
        self.models = models
        self.disk = disk

    def elsewhere(
        self, *, kafka: str | None = None, redis_url: str | None = None, disk: Path | None = None
    ) -> FaultRig:
        """The same with other servers, or another disk under the agents' buffers."""
        return FaultRig(
            self.folder,
            kafka or self.kafka,
            redis_url or self.redis_url,
            self.nursery,
            self.pictures,
            self.models,
            disk or self.disk,
        )


PicturePool = Callable[[bool], Sequence[Picture]]
"""Pictures for the real model (True) or the stand-in."""


class Line:
    """Stations, gates, workers and traffic. Use it as ``with line(rig, setup) as running``."""

    def __init__(self, rig: FaultRig, setup: LineSetup, name: str) -> None:
        self.setup = setup
        self.prefix = f"{name}-{next(_numbers)}"
        self.folder = rig.folder / self.prefix
        self.folder.mkdir(parents=True)
        self.map = StationMap({f"{self.prefix}.s{n}": n for n in range(setup.stations)})
        self.stations = frozenset(self.map)
        self.partitions = {self.map.partition(name) for name in self.map}
        self.bus = KafkaBus(KafkaSettings(bootstrap=rig.kafka, replication_factor=setup.replication))
        self.client: redis.Redis = connect(rig.redis_url)
        self.store = VerdictStore(self.client)
        self.group = f"{self.prefix}.workers"
        self.frames = f"{self.prefix}.frames"
        self.verdicts = f"{self.prefix}.verdicts"
        self.make_topics()
        self.injections: list[Injection] = []
        self.ended: dict[Injection, int] = {}
        self.until = float("inf")
        """When no further fault is begun, monotonic seconds."""
        self.notes: list[str] = []
        self.exempt: set[PartKey] = set()
        """Parts whose fault it is that no verdict in time can come, or none by the model."""
        self.excused_failures = False
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._decided = 0
        self._answered: dict[str, list[tuple[int, int]]] = {name: [] for name in self.stations}
        self._gates: list[tuple[Gate, Journal, threading.Thread]] = []
        self._watch = self.bus.consumer(self.group)
        self.offsets = OffsetWatch(self.bus, self.group, self.frames, sorted(self.partitions))
        slow = None if setup.real else setup.slow_s
        chosen: dict[str, Any] = {
            "kafka": rig.kafka,
            "redis": rig.redis_url,
            "models": str(rig.models),
            "topic_prefix": self.prefix,
            "group": self.group,
            "max_batch": 4,
            "threads": 1,
        }
        self.crew = Crew(
            rig.nursery,
            self.folder,
            chosen | setup.settings,
            slow_s=slow,
            poll_interval_s=setup.poll_interval_s,
            prefix=self.prefix,
        )
        self.traffic = Traffic(
            self.bus,
            self.map,
            rig.pictures(setup.real),
            topic=self.frames,
            log_of=self.agent_log,
            rate=setup.rate,
            deadline_s=setup.to_gate_s,
            clocks=lambda name: setup.clocks(self.map.partition(name)),
            heartbeats=f"{self.prefix}.heartbeats" if setup.heartbeats else None,
            buffers=lambda name: setup.buffers((rig.disk or self.folder) / f"{name}.buffer"),
        )
        self.traffic.backlog = self.backlog

    def make_topics(self) -> None:
        """As ``crosscheck topics`` makes them."""
        TopicPlan(self.map, frames_per_second=20.0, frame_bytes=100_000, prefix=self.prefix).apply(self.bus)

    def agent_log(self, station: str) -> Path:
        """The trigger log of a station."""
        return self.folder / f"{station}.triggers.jsonl"

    def journal(self, station: str) -> Path:
        """The journal of a station's gate."""
        return self.folder / f"{station}.gate.jsonl"

    # Start and end

    def start(self, timeout: float = 60.0) -> None:
        """Workers, gates, traffic; returns when every station has had verdicts."""
        for seat in range(self.setup.workers):
            self.crew.start(seat)
        for station in sorted(self.stations):
            self._start_gate(station)
        self.crew.wait_settled(self.partitions, timeout)
        began = time.time_ns()
        self.offsets.start()
        self.traffic.start()
        self.wait_answered(began, self.stations, timeout, "first verdicts")

    def _start_gate(self, station: str) -> None:
        # Not synced: what these gates do must outlive a process, not this machine.
        journal = Journal(self.journal(station), sync=False)
        gate = Gate(
            self.store,
            LogPartSource(self.agent_log(station), station=station, travel_s=self.setup.to_gate_s),
            RecordingActuator(),
            journal,
            station=station,
            product=PRODUCT,
            early=True,
            alarm=lambda name, facts: None,
            on_decision=self._heard,
        )
        thread = threading.Thread(target=gate.run, args=(self._stop,), kwargs={"tick_s": 0.02}, daemon=True)
        thread.start()
        self._gates.append((gate, journal, thread))

    def _heard(self, decision: GateDecision, entry: Entry) -> None:
        with self._lock:
            self._decided += 1
            if entry.seen_at is not None and decision.decision is not Decision.MISSING:
                self._answered[entry.part.station].append((entry.triggered_at, entry.seen_at))

    def close(self) -> None:
        """Stop everything that this line started, and delete its keys."""
        steps: list[Callable[[], object]] = [
            self.traffic.close,
            self.crew.stop,
            self.offsets.close,
            self._close_gates,
            self.bus.close,
            self.client.close,
        ]
        for step in steps:
            try:
                step()
            except Exception as error:  # the next thing is to be stopped all the same
                self.notes.append(f"while closing: {type(error).__name__}: {error}"[:300])

    def _close_gates(self) -> None:
        self._stop.set()
        for _, journal, thread in self._gates:
            thread.join(10.0)
            journal.close()

    # What happens

    def decided(self) -> int:
        """Decisions of all gates so far."""
        with self._lock:
            return self._decided

    def backlog(self) -> int:
        """Parts triggered and not decided."""
        return self.traffic.sent - self.decided()

    def answered_since(self, at: int, station: str) -> int | None:
        """When the first part triggered after ``at`` had its verdict at the gate; None while none had."""
        with self._lock:
            after = [seen for triggered, seen in reversed(self._answered[station]) if triggered > at]
        return min(after, default=None)

    def wait_answered(self, at: int, stations: frozenset[str], timeout: float, what: str) -> None:
        """Wait until each of the stations has a verdict for a part triggered after ``at``."""
        wait_until(
            lambda: all(self.answered_since(at, name) is not None for name in stations), timeout, what, 0.05
        )

    def injected(
        self,
        what: str,
        stations: frozenset[str] | None = None,
        at: int | None = None,
        victim: str | None = None,
    ) -> Injection:
        """Note a fault that has just been put in."""
        hit = self.stations if stations is None else stations
        found = Injection(what, at or time.time_ns(), hit, victim)
        self.injections.append(found)
        return found

    def over(self, injection: Injection) -> None:
        """What was away is back: recovery is counted from now on."""
        self.ended[injection] = time.time_ns()

    def recovered(self, injection: Injection, timeout: float = 60.0) -> None:
        """Wait until the stations that a fault hit have verdicts again."""
        self.wait_answered(injection.at, injection.stations, timeout, f"verdicts after {injection.what}")

    def stations_of(self, member: Member) -> frozenset[str]:
        """The stations whose partitions a worker holds."""
        held = member.partitions()
        return frozenset(name for name in self.stations if self.map.partition(name) in held)

    def wants(self, times: int) -> int:
        """How many faults are still to be put in: none any more once the class has had its time."""
        return max(0, times - len(self.injections)) if time.monotonic() < self.until else 0

    def lag(self) -> int:
        """Records that no commit covers."""
        places = {TopicPartition(self.frames, number) for number in self.partitions}
        ends = self._watch.end_offsets(places)
        return sum(max(0, ends[p] - (self._watch.committed(p) or 0)) for p in places)

    def finish(self, timeout: float = 90.0) -> None:
        """No more parts; wait for the last decision and the last commit."""
        self.traffic.pause()
        self.traffic.settle(30.0)
        wait_until(lambda: self.backlog() <= 0, timeout, "a decision for every part", every=0.1)

        def committed() -> bool:
            try:
                return self.lag() == 0
            except BusError:
                return False

        try:
            wait_until(committed, 20.0, "every frame committed", every=0.3)
        except AssertionError:
            self.notes.append("not every frame was committed at the end")

    def resources(self) -> Resources:
        """What the living workers take."""
        return self.crew.resources()


@contextmanager
def line(rig: FaultRig, setup: LineSetup, name: str) -> Iterator[Line]:
    """A line that runs, and is taken down again whatever happens."""
    running = Line(rig, setup, name)
    try:
        running.start()
        yield running
    finally:
        running.close()

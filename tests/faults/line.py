"""Four stations on four partitions of a real Kafka, two worker processes, a gate for each station."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from inference.datasets.defects import Defect, DefectKind
from inference.datasets.synthetic import SyntheticPart
from schemas.part import PartKey
from schemas.payload import ColourEncoding
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_verdict
from tests.e2e.processes import Running, wait_until
from tests.e2e.topics import verdicts_on
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus
from workers.capture.log import AgentLog
from workers.capture.publisher import Publisher
from workers.capture.sources import Shot, SyntheticLine
from workers.gate import Audit, Gate, Journal, LogPartSource, RecordingActuator, audit
from workers.store.connection import connect
from workers.store.verdicts import VerdictStore
from workers.topics import StationMap

PRODUCT = "cap"
SIZE = 192
SEED = 5
BAD_EVERY = 5
STATIONS = ("s1", "s2", "s3", "s4")
SECONDS_TO_GATE = 120.0
"""So long that every part can have a real answer, however slow the machine: none has to be MISSING."""


class FaultLine:
    """One run of the line, with topics, keys and files of its own. Use it as ``with fault_line(...)``."""

    def __init__(self, folder: Path, models: Path, kafka: str, redis_url: str, prefix: str) -> None:
        self.folder = folder
        self.prefix = prefix
        self.group = f"{prefix}.workers"
        self.stations = {f"{prefix}.{name}": number for number, name in enumerate(STATIONS)}
        self.bus = KafkaBus(kafka)
        self.client: redis.Redis = connect(redis_url)
        self.store = VerdictStore(self.client)
        self.workers: dict[str, Running] = {}
        self._words = ("--kafka", kafka, "--redis", redis_url, "--models", str(models), "--log", "json")
        self._gates: list[Gate] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._journals: list[Journal] = []
        self._watch = self.bus.consumer(self.group)
        frames = {self.topic("frames"): TopicSpec(partitions=len(STATIONS))}
        results = {self.topic(name): TopicSpec(partitions=len(STATIONS)) for name in ("verdicts", "heatmaps")}
        ours = {
            self.topic("deadletter"): TopicSpec(partitions=1),
            self.topic("control"): TopicSpec(partitions=1, compacted=True),
        }
        self.bus.ensure_topics(frames | results | ours)

    def topic(self, name: str) -> str:
        """The full name of one of this line's topics."""
        return f"{self.prefix}.{name}"

    # Workers

    def start_workers(self, *names: str, **settings: str) -> None:
        """Start them, and wait until each holds partitions and no partition is without a worker.

        Args:
            settings: as in the environment, without the prefix CROSSCHECK_.
        """
        chosen = {
            "topic_prefix": self.prefix,
            "group": self.group,
            "max_batch": "4",
            "threads": "1",
        } | settings
        # Each of the two workers has one of the cores of a small machine.
        env = {f"CROSSCHECK_{name.upper()}": value for name, value in chosen.items()}
        for name in names:
            self.workers[name] = Running(
                "worker", "--name", name, *self._words, folder=self.folder, name=name, env=env
            )
        wait_until(self._shared_out, 90.0, "partitions shared by the workers")

    def partitions_of(self, worker: str) -> set[int]:
        """The partitions a worker holds, by its own log."""
        held: set[int] = set()
        for event in self.workers[worker].events():
            numbers = {int(p.rpartition("[")[2].rstrip("]")) for p in event.get("partitions", ())}
            if event["event"] == "worker.assigned":
                held |= numbers
            elif event["event"] in ("worker.revoked", "worker.lost"):
                held -= numbers
        return held

    def _shared_out(self) -> bool:
        for name, worker in self.workers.items():
            assert worker.process.poll() is None, f"{name} ended: {worker.wait(0).err[-2000:]}"
        held = [self.partitions_of(name) for name in self.workers]
        return all(held) and sorted(n for numbers in held for n in numbers) == sorted(self.stations.values())

    def on_the_bench(self, worker: str) -> set[PartKey]:
        """Parts of the worker's stations that were begun and not decided, as Redis knows them."""
        numbers = self.partitions_of(worker)
        found = set()
        for station, number in self.stations.items():
            if number in numbers:
                for key in self.client.scan_iter(match=f"{{{station}}}:attempts:*", count=1000):
                    _, _, run, trigger = key.decode().rsplit(":", 3)
                    found.add(PartKey(station, int(run), int(trigger)))
        return found

    def lag(self) -> dict[int, int]:
        """Records after the committed offset, by partition: what nobody has answered for yet."""
        partitions = {TopicPartition(self.topic("frames"), number) for number in self.stations.values()}
        ends = self._watch.end_offsets(partitions)
        return {p.partition: ends[p] - (self._watch.committed(p) or 0) for p in partitions}

    # The line

    def log(self, station: str) -> Path:
        """The agent's log of a station."""
        return self.folder / f"{station}.triggers.jsonl"

    def journal(self, station: str) -> Path:
        """The journal of a station's gate."""
        return self.folder / f"{station}.gate.jsonl"

    def start_gates(self) -> None:
        """A gate for each station: its eyes are the agent's log, its ears Redis."""
        for station in self.stations:
            journal = Journal(self.journal(station))
            gate = Gate(
                self.store,
                LogPartSource(self.log(station), station=station, travel_s=SECONDS_TO_GATE),
                RecordingActuator(),
                journal,
                station=station,
                product=PRODUCT,
                early=True,
                alarm=lambda name, facts: None,
            )
            thread = threading.Thread(
                target=gate.run, args=(self._stop,), kwargs={"tick_s": 0.02}, daemon=True
            )
            thread.start()
            self._gates.append(gate)
            self._journals.append(journal)
            self._threads.append(thread)

    def send_burst(self, each: int) -> list[PartKey]:
        """``each`` parts on every station, all at once, one in ``BAD_EVERY`` with a defect."""
        part = SyntheticPart(SEED, SIZE)
        defects = {
            n: Defect(DefectKind.BOTH.value, size=40.0, contrast=2.0, seed=n)
            for n in range(0, each, BAD_EVERY)
        }
        shots: list[list[Shot]] = []
        for number in range(len(self.stations)):
            shots.append(list(SyntheticLine(part, count=each, script=defects, seed=number)))
        sent: list[PartKey] = []
        publishers = []
        for station in self.stations:
            publishers.append(
                Publisher(
                    self.bus,
                    station=station,
                    product=PRODUCT,
                    station_map=StationMap(self.stations),
                    topic=self.topic("frames"),
                    deadline_s=SECONDS_TO_GATE,
                    # As it was taught: without the traces that JPEG leaves.
                    colour=ColourEncoding.PNG,
                    depth_scale=SyntheticLine.depth_scale,
                    log=AgentLog(self.log(station)),
                )
            )
        for trigger in range(each):
            for publisher, made in zip(publishers, shots, strict=True):
                key = publisher.next_part()
                publisher.publish(key, made[trigger].rgb, made[trigger].depth)
                sent.append(key)
        for publisher in publishers:
            publisher.flush(30.0)
            assert publisher.failed == 0
            publisher.close()
        return sent

    def decided(self) -> int:
        """Decisions of all gates so far."""
        return sum(gate.report().decisions for gate in self._gates)

    def finish(self, parts: int, timeout: float) -> None:
        """Wait until the gates have decided about so many parts, and the workers answered for all frames."""
        wait_until(lambda: self.decided() >= parts, timeout, f"{parts} decisions at the gates")
        wait_until(lambda: not any(self.lag().values()), 20.0, "every frame committed", every=0.2)

    def close(self) -> None:
        """Stop everything that this line started."""
        for worker in self.workers.values():
            worker.stop()
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)
        for journal in self._journals:
            journal.close()
        self.bus.close()
        self.client.close()

    # What is left

    def audits(self) -> dict[str, Audit]:
        """Each agent's log against the journal of its gate."""
        return {s: audit(self.log(s), self.journal(s), station=s) for s in self.stations}

    def assert_every_part_has_its_decision(self, sent: list[PartKey]) -> dict[PartKey, Verdict]:
        """The promise of the line, counted from the agents' logs; returns the verdicts that stand."""
        standing = dict(zip(sent, self.store.standing_many(sent), strict=True))
        on_topic = verdicts_on(self.bus, self.topic("verdicts"))
        triggered = 0
        for found in self.audits().values():
            triggered += found.triggers
            assert found.lost == ()
            assert found.duplicates == ()
            assert found.unknown == ()
            assert found.damaged_lines == 0
            for part in found.opened:
                value = standing[part]
                assert value is not None
                assert decode_verdict(value).decision is Decision.PASS
            for part, entry in found.decided.items():
                value = standing[part]
                assert value is not None, f"part {part} was decided and has no verdict in Redis"
                assert decode_verdict(value).decision is entry.decision.decision
        assert triggered == len(sent)
        assert set(on_topic) == set(sent)
        for part in sent:
            assert on_topic[part] == {standing[part]}, f"part {part}: topic and Redis disagree"
        return {part: decode_verdict(value) for part, value in standing.items() if value is not None}


@contextmanager
def fault_line(folder: Path, models: Path, kafka: str, redis_url: str, prefix: str) -> Iterator[FaultLine]:
    """A line that is taken down again, whatever happens."""
    line = FaultLine(folder, models, kafka, redis_url, prefix)
    try:
        line.start_gates()
        yield line
    finally:
        line.close()


def freeze(worker: Running) -> None:
    """Stop a process where it stands; it goes on at SIGCONT."""
    worker.signal(signal.SIGSTOP)


def thaw(worker: Running) -> None:
    """Let a stopped process go on."""
    worker.signal(signal.SIGCONT)

"""The machinery of the benchmark: services, one worker process, the capture process, a reader of verdicts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from compose.services import Endpoints
from schemas.part import PartKey
from schemas.wire import decode_verdict
from tests.bench.figures import Answer, Run
from tests.bench.material import Material
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus
from workers.store.connection import connect
from workers.store.verdicts import VerdictStore

STATION = "s1"
DEADLINE_S = 900.0
"""Long enough that no part is STALE, however far the worker falls behind: the model sees every one."""
ROOT = Path(__file__).resolve().parents[2]
WARM_FRAMES = 24
_SILENCE_S = 60.0
_SAMPLE_S = 0.2


class BenchError(Exception):
    """The benchmark cannot go on: a process ended, or verdicts stopped coming."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How the worker is started; None leaves its own default."""

    threads: int | None = None
    max_batch: int | None = None
    max_delay_ms: float | None = None

    def flags(self) -> list[str]:
        """Command line flags of ``crosscheck worker``."""
        named = {
            "--threads": self.threads,
            "--max-batch": self.max_batch,
            "--max-delay-ms": self.max_delay_ms,
        }
        return [word for flag, value in named.items() if value is not None for word in (flag, str(value))]


class WorkerProcess:
    """``crosscheck worker`` as a process of its own, and its memory over the frames it has answered."""

    def __init__(self, ends: Endpoints, material: Material, prefix: str, options: WorkerOptions) -> None:
        folder = material.folder
        self._stages = folder / f"{prefix}.stages.json"
        self._log = (folder / f"{prefix}.worker.log").open("wb")
        # The surroundings must not change what is measured.
        surroundings = {k: v for k, v in os.environ.items() if not k.startswith("CROSSCHECK_")}
        command = [
            str(Path(sys.executable).with_name("crosscheck")),
            "worker",
            *("--models", str(material.models), "--name", "bench", "--group", prefix),
            *("--kafka", ends.kafka, "--redis", ends.redis_url, "--stages", str(self._stages)),
            *options.flags(),
        ]
        self._process = subprocess.Popen(
            command,
            env=surroundings | {"CROSSCHECK_TOPIC_PREFIX": prefix},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def check(self) -> None:
        """Raises BenchError when the worker is gone."""
        if self._process.poll() is not None:
            tail = Path(self._log.name).read_text(errors="replace").strip().splitlines()[-12:]
            raise BenchError("the worker ended:\n" + "\n".join(tail))

    def rss(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def cpu_seconds(self) -> float:
        """Processor seconds of all its threads so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def stop(self) -> dict[str, dict[str, float]]:
        """SIGTERM, and the stage times it wrote."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BenchError("the worker did not stop within 30 s of SIGTERM") from None
        self._log.close()
        return dict(json.loads(self._stages.read_text(encoding="utf-8")))

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@dataclass(slots=True)
class _Seen:
    answers: dict[PartKey, Answer] = field(default_factory=dict)
    duplicates: int = 0


class VerdictReader(threading.Thread):
    """Reads the result topic as a subscriber would; notes when each verdict could be read."""

    def __init__(self, kafka: str, topic: str) -> None:
        super().__init__(name="verdict-reader", daemon=True)
        self._bus = KafkaBus(kafka)
        self._consumer = self._bus.consumer(None, max_poll_records=500)
        self._consumer.assign({TopicPartition(topic, 0)})
        self._stop_asked = threading.Event()
        self._seen = _Seen()
        self.count = 0

    def run(self) -> None:
        while not self._stop_asked.is_set():
            records = self._consumer.poll(0.2)
            now = time.time_ns()
            for record in records:
                verdict = decode_verdict(record.value)
                if verdict.part in self._seen.answers:
                    self._seen.duplicates += 1
                    continue
                self._seen.answers[verdict.part] = Answer.of(verdict, now)
                self.count += 1

    def of_run(self, run: int, count: int) -> list[Answer | None]:
        """The answers of one run's triggers, in their order; None for one that has not come."""
        return [self._seen.answers.get(PartKey(STATION, run, trigger)) for trigger in range(count)]

    @property
    def duplicates(self) -> int:
        """Verdicts that were read a second time."""
        return self._seen.duplicates

    def stop(self) -> None:
        """End the thread and let go of the broker."""
        self._stop_asked.set()
        self.join(10)
        self._bus.close()


class Line:
    """Kafka topics, one worker, one reader; ``offer`` sends frames and waits for their verdicts.

    Attributes:
        memory: (frames answered, resident bytes), sampled five times a second since the worker was warm.
    """

    def __init__(self, ends: Endpoints, material: Material, options: WorkerOptions) -> None:
        self._ends = ends
        self._material = material
        prefix = f"bench-{time.time_ns()}"
        self._frames = f"{prefix}.frames"
        bus = KafkaBus(ends.kafka)
        spec = TopicSpec(partitions=1)
        names = ("frames", "verdicts", "heatmaps", "deadletter", "control")
        bus.ensure_topics({f"{prefix}.{name}": spec for name in names})
        bus.close()
        self._store = VerdictStore(connect(ends.redis_url))
        self.reader = VerdictReader(ends.kafka, f"{prefix}.verdicts")
        self.worker = WorkerProcess(ends, material, prefix, options)
        self.memory: list[tuple[int, int]] = []
        self.stages: dict[str, dict[str, float]] = {}
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="memory", daemon=True)

    def __enter__(self) -> Self:
        try:
            self.reader.start()
            # Also waits for the worker: networks, bundle, first assignment.
            self.offer(rate=100.0, count=WARM_FRAMES)
            self._sampler.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.stages = self.worker.stop()
        finally:
            self._close()

    def _close(self) -> None:
        self._done.set()
        self.worker.kill()
        self.reader.stop()

    def offer(self, *, rate: float, count: int) -> Run:
        """Send ``count`` frames on a schedule of ``rate`` a second and wait for their verdicts.

        Raises:
            BenchError: no verdict came for a minute, or a process ended.
        """
        run = time.time_ns()
        # This Redis' own clock dates the gate's entries; it is the clock of this machine.
        since = f"{time.time_ns() // 1_000_000}-0"
        before = self.worker.cpu_seconds()
        sent = self._send(run, rate, count)
        self._wait(run, count)
        answers = self.reader.of_run(run, count)
        return Run(
            rate=rate,
            start=sent["start"],
            period=sent["period"],
            worst_late_ms=sent["worst_late_ms"],
            answers=tuple(answers),
            stored=self._stored(run, since),
            cpu_seconds=self.worker.cpu_seconds() - before,
        )

    def _send(self, run: int, rate: float, count: int) -> dict[str, float]:
        command = [sys.executable, "-m", "tests.bench.offer", "--kafka", self._ends.kafka]
        command += ["--topic", self._frames, "--pool", str(self._material.pool), "--station", STATION]
        command += ["--run", str(run), "--count", str(count), "--rate", repr(rate)]
        command += ["--deadline", str(DEADLINE_S)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False, text=True)
        if done.returncode != 0:
            raise BenchError(f"the capture process ended with exit code {done.returncode}")
        return dict(json.loads(done.stdout))

    def _wait(self, run: int, count: int) -> None:
        seen, since = -1, time.monotonic()
        while (found := sum(a is not None for a in self.reader.of_run(run, count))) < count:
            self.worker.check()
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since > _SILENCE_S:
                raise BenchError(f"{count - found} of {count} verdicts never came")
            time.sleep(0.1)

    def _stored(self, run: int, since: str) -> dict[int, int]:
        """Trigger to nanoseconds since the epoch (in whole milliseconds): when Redis had told the gate."""
        found: dict[int, int] = {}
        while entries := self._store.gate_entries(STATION, since):
            since = entries[-1].id
            for entry in entries:
                if entry.part.run == run:
                    found[entry.part.trigger] = int(entry.id.split("-")[0]) * 1_000_000
        return found

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            try:
                self.memory.append((self.reader.count, self.worker.rss()))
            except psutil.Error:
                return


@contextmanager
def pinned(cores: int) -> Iterator[list[int]]:
    """Keep this process, and all that it starts, on the first ``cores`` processors."""
    before = os.sched_getaffinity(0)
    chosen = sorted(before)[:cores]
    os.sched_setaffinity(0, chosen)
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, before)

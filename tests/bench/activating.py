"""A line on which bundles take over: small real bundles, and frames whose score by each is known."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from inference.datasets.synthetic import SyntheticDataset
from inference.inspector import Inspector
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.frame import Frame
from schemas.images import encode_colour, encode_depth
from schemas.part import PartKey
from schemas.verdict import Verdict
from schemas.wire import decode_verdict, encode
from tests.e2e.processes import Running, wait_until
from workers.bus.base import TopicPartition
from workers.bus.kafka import KafkaBus
from workers.scan import records
from workers.serving import desk
from workers.settings import Settings
from workers.steps.decode import decode_sample
from workers.store.connection import connect
from workers.store.verdicts import VerdictStore
from workers.topics import StationMap, TopicPlan

PRODUCT = "cap"
STATIONS = 4
DEADLINE_S = 900.0
"""Long enough that no part is STALE: the model sees every one."""
_NOBODY = PartKey("pool", 0, 0)


@dataclass(frozen=True, slots=True)
class Material:
    """Bundles of one product that score differently, and frames whose scores by each are known.

    Attributes:
        models: the models folder.
        frames: the pool; part n of the line shows frame n modulo its length.
        scores: by digest of the bundle, what it gives each frame of the pool.
        bundles: NAME/VERSION by digest.
    """

    models: Path
    frames: Sequence[Frame]
    scores: Mapping[str, Sequence[float | None]]
    bundles: Mapping[str, str]


def make(folder: Path, *, versions: int = 3, pool: int = 16, size: int = 96) -> Material:
    """Teach ``versions`` bundles on as many sets of normals, and score the pool by each, alone."""
    models = folder / "models"
    for seed in range(versions):
        normals = SyntheticDataset(train=16, validation=8, size=size, lot_size=4, seed=seed, product=1)
        teach(normals, models, name=PRODUCT, settings=TeachSettings(bank_size=64, folds=2))
    shown = SyntheticDataset(
        train=16, test_good=pool - 3, defects_per_kind=1, size=size, lot_size=4, seed=99, product=1
    )
    frames = []
    for item in shown.test():
        sample = item.sample()
        assert sample.rgb is not None
        assert sample.depth is not None
        frames.append(
            Frame(
                part=_NOBODY,
                product=PRODUCT,
                captured_at=0,
                deadline=0,
                rgb=encode_colour(sample.rgb),
                depth=encode_depth(sample.depth),
                depth_scale=sample.depth_scale,
            )
        )
    scores: dict[str, list[float | None]] = {}
    bundles: dict[str, str] = {}
    for version in range(1, versions + 1):
        inspector = Inspector.load(models / PRODUCT / str(version))
        bundles[inspector.bundle_hash] = inspector.bundle_id
        # One at a time: what a frame scores in a batch must be what it scores alone.
        scores[inspector.bundle_hash] = [
            inspector.inspect([decode_sample(frame, use_rgb=True, use_depth=True)])[0].score
            for frame in frames
        ]
    for each in zip(*scores.values(), strict=True):
        # Or no score could tell which bundle it came from.
        assert len(set(each)) == versions
        assert None not in each
    return Material(models, frames, scores, bundles)


@dataclass(slots=True)
class Counted:
    """What became of the parts of a run.

    Attributes:
        parts: sent.
        lost: without a verdict on the topic.
        repeated: verdicts that were read a second time, with the same bytes.
        conflicting: parts with two different verdicts, or with another one in Redis.
        unscored: answered without the model.
        wrong: scored otherwise than the bundle that the verdict names scores that frame alone.
        unnamed: the verdict's name and digest are not those of a bundle.
        by_bundle: verdicts of each bundle.
        verdicts: the verdict of each part.
    """

    parts: int = 0
    lost: int = 0
    repeated: int = 0
    conflicting: int = 0
    unscored: int = 0
    wrong: int = 0
    unnamed: int = 0
    by_bundle: Counter[str] = field(default_factory=Counter)
    verdicts: dict[PartKey, Verdict] = field(default_factory=dict, repr=False)

    @property
    def broken(self) -> dict[str, int]:
        """Every count that must be 0 and is not."""
        names = ("lost", "conflicting", "unscored", "wrong", "unnamed")
        return {name: count for name in names if (count := getattr(self, name))}


class ActivationLine:
    """Topics, worker processes, and a thread that sends frames on a schedule. Use ``activation_line``."""

    def __init__(self, folder: Path, material: Material, kafka: str, redis_url: str, prefix: str) -> None:
        self.folder = folder
        self.material = material
        self.settings = Settings(
            kafka=kafka,
            redis=redis_url,
            topic_prefix=prefix,
            group=f"{prefix}.workers",
            models=material.models,
            log="json",
        )
        self.stations = StationMap({f"{prefix}.s{number}": number for number in range(STATIONS)})
        self.bus = KafkaBus(kafka)
        self._client = connect(redis_url)
        self.store = VerdictStore(self._client)
        self.workers: dict[str, Running] = {}
        self.sent: list[tuple[PartKey, int]] = []
        self._run = time.time_ns()
        self._stop = threading.Event()
        self._sender: threading.Thread | None = None
        self._failed: list[BaseException] = []
        TopicPlan(self.stations, frame_bytes=200_000, prefix=prefix).apply(self.bus)

    def start_worker(self, name: str, **environment: str) -> None:
        """Start a ``crosscheck worker`` process; it is not waited for."""
        self.workers[name] = Running(
            *("worker", "--name", name, "--threads", "1"),
            folder=self.folder,
            name=name,
            env=self.environment | environment,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The line as variables of a command."""
        settings = self.settings
        return {
            "CROSSCHECK_KAFKA": settings.kafka,
            "CROSSCHECK_REDIS": settings.redis,
            "CROSSCHECK_TOPIC_PREFIX": settings.topic_prefix,
            "CROSSCHECK_GROUP": settings.group,
            "CROSSCHECK_MODELS": str(settings.models),
            "CROSSCHECK_LOG": "json",
            "COLUMNS": "200",
        }

    def wait_serving(self, name: str, bundle: str, timeout: float = 180.0) -> None:
        """Wait until a worker's heartbeat says that it judges by NAME/VERSION."""

        def serves() -> bool:
            worker = self.workers[name]
            assert worker.process.poll() is None, f"{name} ended: {worker.wait(0).err[-2000:]}"
            return any(
                one.worker == name and one.serves(bundle)
                for one in desk.workers_say(self.store, self.settings.topic_prefix)
            )

        wait_until(serves, timeout, f"{name} with {bundle}")

    def saw(self, name: str, event: str) -> bool:
        """Whether a worker has logged an event."""
        return any(one["event"] == event for one in self.workers[name].events())

    @contextmanager
    def passer_by(self) -> Iterator[None]:
        """A member of the workers' group that joins, is given partitions, and leaves; it answers nothing."""
        consumer = self.bus.consumer(self.settings.group)
        consumer.subscribe({self.settings.topic("frames")})

        def joined() -> bool:
            consumer.poll(0.05)
            return bool(consumer.assignment())

        try:
            wait_until(joined, 60.0, "a share for the passer-by", every=0.0)
            yield
        finally:
            consumer.close()

    def send(self, rate: float, count: int | None = None) -> None:
        """Begin to send frames, ``rate`` a second, stations in turn, until ``count`` or ``finish``."""
        self._sender = threading.Thread(target=self._send, args=(rate, count), name="sender", daemon=True)
        self._sender.start()

    def _send(self, rate: float, count: int | None) -> None:
        try:
            producer = self.bus.producer(max_in_flight_bytes=2**28, max_block=60.0, delivery_timeout=60.0)
            names = list(self.stations)
            begin, number = time.monotonic(), 0
            while not self._stop.is_set() and (count is None or number < count):
                if self._stop.wait(max(0.0, begin + number / rate - time.monotonic())):
                    break
                station = names[number % STATIONS]
                at = time.time_ns()
                frame = replace(
                    self.material.frames[number % len(self.material.frames)],
                    part=PartKey(station, self._run, number),
                    captured_at=at,
                    deadline=at + round(DEADLINE_S * 1e9),
                )
                producer.send(
                    self.settings.topic("frames"),
                    encode(frame),
                    key=str(frame.part).encode(),
                    partition=self.stations.partition(station),
                )
                self.sent.append((frame.part, at))
                number += 1
            producer.flush(60.0)
        except BaseException as error:
            self._failed.append(error)

    def wait_sent(self, count: int, timeout: float = 600.0) -> None:
        """Wait until so many frames were sent."""
        wait_until(lambda: bool(self._failed) or len(self.sent) >= count, timeout, f"{count} frames sent")
        assert not self._failed, self._failed

    def decided_at(self) -> int:
        """When the newest verdict of any station was decided, nanoseconds; 0 before the first."""
        found = [self.store.latest(station) for station in self.stations]
        return max((decode_verdict(value).decided_at for value in found if value is not None), default=0)

    def answered(self) -> int:
        """Verdicts on the result topic."""
        topic = self.settings.topic("verdicts")
        consumer = self.bus.consumer(None)
        try:
            places = {TopicPartition(topic, number) for number in range(STATIONS)}
            return sum(consumer.end_offsets(places).values())
        finally:
            consumer.close()

    def finish(self, timeout: float = 120.0) -> None:
        """Stop sending, and wait until every part that was sent has its verdict in Redis."""
        self._stop.set()
        assert self._sender is not None
        self._sender.join(120.0)
        assert not self._failed, self._failed
        parts = [part for part, _ in self.sent]
        wait_until(
            lambda: None not in self.store.standing_many(parts), timeout, "a verdict for each part", 0.2
        )
        wait_until(lambda: self.answered() >= len(parts), 15.0, "each verdict on the topic", 0.2)

    def count(self) -> Counted:
        """Read every verdict, and hold it against the bundle that it names."""
        counted = Counted(parts=len(self.sent))
        seen: dict[PartKey, bytes] = {}
        for record in records(self.bus, self.settings.topic("verdicts")):
            verdict = decode_verdict(record.value)
            if verdict.part in seen:
                same = seen[verdict.part] == record.value
                counted.repeated += same
                counted.conflicting += not same
                continue
            seen[verdict.part] = record.value
            counted.verdicts[verdict.part] = verdict
            self._hold(counted, verdict)
        parts = [part for part, _ in self.sent]
        counted.lost = sum(part not in seen for part in parts)
        standing = self.store.standing_many(parts)
        counted.conflicting += sum(
            part in seen and value != seen[part] for part, value in zip(parts, standing, strict=True)
        )
        return counted

    def _hold(self, counted: Counted, verdict: Verdict) -> None:
        if verdict.bundle_hash is None or verdict.score is None:
            counted.unscored += 1
            return
        if self.material.bundles.get(verdict.bundle_hash) != verdict.bundle:
            counted.unnamed += 1
            return
        scores = self.material.scores[verdict.bundle_hash]
        counted.wrong += verdict.score != scores[verdict.part.trigger % len(scores)]
        counted.by_bundle[verdict.bundle or ""] += 1

    def close(self) -> None:
        """End every process and let go of the servers."""
        self._stop.set()
        for worker in self.workers.values():
            worker.stop()
        self.bus.close()
        self._client.close()


@contextmanager
def activation_line(
    folder: Path, material: Material, kafka: str, redis_url: str, prefix: str
) -> Iterator[ActivationLine]:
    """A line, ended whatever happens."""
    with ExitStack() as stack:
        line = ActivationLine(folder, material, kafka, redis_url, prefix)
        stack.callback(line.close)
        yield line

"""A real model: an ageing lamp is told of before good parts are rejected; a candidate beside a worker."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.datasets.synthetic import SyntheticDataset, SyntheticPart
from inference.inspector import Inspector
from inference.sample import Sample
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.frame import Frame
from schemas.images import encode_colour, encode_depth
from schemas.part import PartKey
from schemas.payload import ColourEncoding
from schemas.verdict import Decision
from schemas.wire import encode
from tests.e2e.inprocess import Call, command_line
from tests.e2e.processes import Running, wait_until
from tests.workers.line import Line
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus, KafkaSettings
from workers.commands.local import open_store
from workers.drift.reading import read_drift
from workers.drift.watch import DriftWatch
from workers.drift.window import Pace
from workers.inspection import InspectionWorker
from workers.serving.loading import ready
from workers.serving.served import ServedModels
from workers.settings import Settings
from workers.shadow.report import read_shadow

SIZE = 96
NORMALS = SyntheticDataset(train=16, validation=8, size=SIZE, lot_size=4, seed=3)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of one product."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    for bank in (128, 64):
        teach(NORMALS, root, name="cap", settings=TeachSettings(bank_size=bank, folds=2))
    return root


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Good parts that were not taught, of lots of their own."""
    part = SyntheticPart(0, SIZE)
    return [part.render(7_000_000 + at, lot=7000 + at // 4).sample for at in range(24)]


def frame(sample: Sample, trigger: int, *, at: int, light: float = 1.0, station: str = "s1") -> Frame:
    assert sample.rgb is not None
    assert sample.depth is not None
    return Frame(
        part=PartKey(station, 1, trigger),
        product="cap",
        captured_at=at,
        deadline=at + 60 * 10**9,
        rgb=encode_colour(np.rint(sample.rgb * light).astype(np.uint8), ColourEncoding.PNG),
        depth=encode_depth(sample.depth),
        depth_scale=sample.depth_scale,
        expects=("rgb", "depth"),
    )


def test_a_lamp_that_ages_is_told_of_before_the_false_rejects_come(
    models: Path, samples: list[Sample]
) -> None:
    line = Line(partitions=1)
    watch = DriftWatch(line.store, "w1", clock=line.clock, pace=Pace(block=4, window=24, learn=40))
    inspector = Inspector.load(models / "cap" / "1")
    worker = line.worker(ServedModels([inspector]), observers=[watch])
    fresh, ageing = 48, 96
    light = 1 - 0.45 * np.clip((np.arange(fresh + ageing) - fresh) / ageing, 0, 1)
    warned: dict[str, int] = {}
    for trigger, (sample, lamp) in enumerate(zip(itertools.cycle(samples), light.tolist(), strict=False)):
        line.send(frame(sample, trigger, at=line.clock.now(), light=lamp))
        line.turn(worker, lambda done=trigger: worker.answered > done)  # type: ignore[misc]
        watch.look()
        for reading in read_drift(line.store, "s1"):
            if reading.warning:
                warned.setdefault(reading.kind, trigger)
    verdicts = {verdict.part.trigger: verdict for verdict in line.verdicts()}
    rejected = [verdicts[trigger].decision is Decision.REJECT for trigger in range(fresh + ageing)]
    before = sum(rejected[:fresh])
    assert before <= 4, "the bundle does not fit the line from the start"
    assert sum(rejected[-12:]) > 6, "the lamp has not aged enough to matter"
    # As a line would count them: the first two dozen parts among which there are twice as many as at first.
    counted = [sum(rejected[at - 24 : at]) for at in range(24, fresh + ageing)]
    rise = next(24 + at for at, share in enumerate(counted) if share > max(before, 2))
    assert fresh < warned["brightness"] < rise
    assert "belt" not in warned


@contextmanager
def worker_beside(bus: KafkaBus, settings: Settings, models: Path) -> Iterator[InspectionWorker]:
    """A worker of this process, on a thread."""
    served = ServedModels([ready(models / "cap" / "1")])
    worker = InspectionWorker(settings, bus, open_store(settings), served)
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        yield worker
    finally:
        stop.set()
        thread.join(30)


@pytest.mark.services
def test_a_candidate_runs_beside_a_worker_and_dies_without_anybody_noticing(
    models: Path,
    samples: list[Sample],
    kafka_bootstrap: str,
    redis_url: str,
    kafka_topic: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = Settings(
        kafka=kafka_bootstrap,
        redis=redis_url,
        topic_prefix=kafka_topic,
        group=f"{kafka_topic}.workers",
        models=models,
        worker="w1",
    )
    bus = KafkaBus(KafkaSettings(bootstrap=kafka_bootstrap))
    names = ("frames", "verdicts", "heatmaps", "deadletter", "heartbeats")
    bus.ensure_topics({settings.topic(name): TopicSpec(partitions=1) for name in names})
    store = open_store(settings)
    done = threading.Event()
    sent = itertools.count()

    def publish(worker: InspectionWorker) -> None:
        producer, trigger = bus.producer(), -1
        while not done.wait(0.1):
            if trigger - worker.answered > 8:
                continue  # a busy machine is not what is tried here
            trigger = next(sent)
            one = frame(samples[trigger % len(samples)], trigger, at=time.time_ns(), station=kafka_topic)
            key = str(one.part).encode()
            producer.send(settings.topic("frames"), encode(one), key=key, partition=0).wait(10.0)

    flags = ["--models", str(models), "--kafka", kafka_bootstrap, "--redis", redis_url, "--wait", "60"]
    monkeypatch.setenv("CROSSCHECK_TOPIC_PREFIX", kafka_topic)
    with worker_beside(bus, settings, models) as worker:
        publisher = threading.Thread(target=publish, args=(worker,))
        publisher.start()
        try:
            first = Running("shadow", "cap", "2", *flags, "--log", "json", folder=tmp_path, name="shadow")
            try:
                wait_until(lambda: _count(store) >= 3, 180, "the candidate has compared three parts")
            finally:
                first.process.kill()
                first.process.wait(10)
            answered = worker.answered
            with command_line(monkeypatch, capsys, tmp_path) as call:
                table = _second(call, flags)
            assert worker.answered > answered
        finally:
            done.set()
            publisher.join(10)
        total = next(sent)
        wait_until(lambda: worker.answered >= total, 30, "the worker has answered every part")
    report = json.loads((tmp_path / "shadow.json").read_text())
    assert report["count"] == 8
    assert report["candidate"] == "cap/2"
    assert report["active"] == "cap/1"
    assert (
        report["agree"] + report["active_pass_candidate_reject"] + report["active_reject_candidate_pass"]
        == report["count"]
    )
    assert report["failed"] == 0
    assert "cap/2 beside cap/1" in table
    assert "both do the same" in table
    # The group has one member's commits: all of them, and nobody else's.
    reader = bus.consumer(settings.group)
    assert reader.committed(TopicPartition(settings.topic("frames"), 0)) == total
    reader.close()
    bus.close()


def _second(call: Call, flags: list[str]) -> str:
    done = call("shadow", "cap", "2", *flags, "--count", "8", "--json", "shadow.json")
    assert done.code == 0, done.err
    return done.out


def _count(store: Any) -> int:
    return sum(report.count for report in read_shadow(store) if report.product == "cap")

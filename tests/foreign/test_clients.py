"""Agents and subscribers in other languages, from the documents alone, around a worker on a real Kafka."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import pytest

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import decode_verdict
from tests.workers.standin import StandInModel, by_sensors
from workers.bus.kafka import KafkaBus
from workers.inspection import InspectionWorker
from workers.settings import Settings
from workers.store.verdicts import VerdictStore
from workers.topics import StationMap, TopicPlan

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
STATIONS = StationMap({"s1": 0, "s2": 2, "s3": 1})
COUNT = 5
WAIT_S = 120


class Line:
    """Topics on the real broker, a worker with a stand-in for the model, and a folder for programs."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        self.bootstrap, self.prefix, self.folder = bootstrap, prefix, folder
        self.bus = KafkaBus(bootstrap)
        self.bus.ensure_topics(TopicPlan(STATIONS, prefix=prefix).specs())
        STATIONS.save(folder / "stations.json")
        self.samples: list[Sample] = []
        self.redis = fakeredis.FakeRedis()
        self.store = VerdictStore(self.redis)
        settings = Settings(topic_prefix=prefix, group=f"{prefix}-workers", max_delay_ms=5)
        self.worker = InspectionWorker(settings, self.bus, self.store, StandInModel(self.see))

    def see(self, sample: Sample) -> Inspection:
        self.samples.append(sample)
        return by_sensors(sample)

    def agent(self, command: list[str]) -> list[str]:
        """Run an agent; the keys of the parts that it sent."""
        arguments = [
            self.bootstrap,
            f"{self.prefix}.frames",
            "stations.json",
            "s2",
            "cap",
            str(COUNT),
            "3600",
        ]
        return self.run([*command, *arguments]).split()

    def subscriber(self, command: list[str], name: str) -> list[list[str]]:
        """Run a subscriber until it has seen every part: the words of its lines."""
        arguments = [self.bootstrap, f"{self.prefix}.verdicts", f"{self.prefix}-{name}", str(COUNT)]
        return [words.split() for words in self.run([*command, *arguments]).splitlines()]

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=WAIT_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def answer(self, parts: int) -> None:
        end = time.monotonic() + WAIT_S
        while self.worker.answered < parts:
            assert time.monotonic() < end, "the worker did not answer"
            self.worker.step()

    def close(self) -> None:
        self.worker.close()
        self.bus.close()
        self.redis.close()


@pytest.fixture
def line(kafka_bootstrap: str, kafka_topic: str, tmp_path: Path) -> Iterator[Line]:
    made = Line(kafka_bootstrap, kafka_topic, tmp_path)
    yield made
    made.close()


def whole_way(line: Line, agent: list[str], subscriber: list[str], name: str) -> None:
    keys = line.agent(agent)
    assert len(keys) == COUNT
    parts = [PartKey.parse(key) for key in keys]
    # The trigger of a part on a station of its own; the run is a time that no double holds exactly.
    assert [part.trigger for part in parts] == list(range(COUNT))
    assert abs(parts[0].run - time.time_ns()) < 3600 * 10**9
    line.answer(COUNT)
    # Both images were decoded: digest, size, layout and the kind of bytes are right.
    assert len(line.samples) == COUNT
    first = line.samples[0]
    assert first.rgb is not None
    assert first.depth is not None
    assert first.rgb.shape == (48, 64, 3)
    assert first.depth[7, 9] == 1000 + 9
    standing = [line.store.standing(part) for part in parts]
    assert all(value is not None and decode_verdict(value).decision is Decision.PASS for value in standing)
    verdict = decode_verdict(standing[0] or b"")
    assert verdict.sources[0].partition == STATIONS.partition("s2")
    told = line.subscriber(subscriber, name)
    assert [[key, decision] for key, decision, _ in told] == [[key, "PASS"] for key in keys]
    assert {float(score) for _, _, score in told} == {0.1}


@pytest.mark.services
def test_an_agent_and_a_subscriber_with_confluent_kafka_go_the_whole_way(line: Line) -> None:
    python = [sys.executable, "-P"]
    agent, subscriber = (str(EXAMPLES / f"confluent_{name}.py") for name in ("agent", "subscriber"))
    whole_way(line, [*python, agent], [*python, subscriber], "confluent")


@pytest.mark.services
def test_an_agent_and_a_subscriber_in_node_go_the_whole_way(line: Line, node_modules: Path) -> None:
    for name in ("agent.js", "subscriber.js", "package.json"):
        (line.folder / name).write_text((EXAMPLES / "node" / name).read_text())
    (line.folder / "node_modules").symlink_to(node_modules)
    whole_way(line, ["node", "agent.js"], ["node", "subscriber.js"], "node")


def test_the_foreign_clients_in_python_import_nothing_of_ours() -> None:
    ours = {"crosscheck", "schemas", "inference", "workers", "compose"}
    for path in EXAMPLES.glob("confluent_*.py"):
        names = {
            name.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert names
        assert not names & ours

"""The subscribers, as programs of their own on a real topic: the first verdict of a part wins."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import IO

import msgpack
import pytest

from docs.examples.subscribe_msgpack import first_of_each_part as first_maps
from schemas.verdict import Decision
from schemas.wire import encode
from tests.workers.gate_line import key, verdict
from workers.bus.base import TopicSpec
from workers.bus.kafka import KafkaBus

ROOT = Path(__file__).parents[2]
VALUES = [
    encode(verdict(key(0))),
    encode(verdict(key(1), Decision.REJECT)),
    encode(replace(verdict(key(0)), attempt=2)),
    encode(verdict(key(2))),
]


def test_the_first_verdict_of_each_part_is_given() -> None:
    assert [each["part"][2] for each in first_maps(VALUES)] == [0, 1, 2]


def test_a_message_of_another_kind_is_not_taken_for_a_verdict() -> None:
    with pytest.raises(ValueError, match="too old"):
        list(first_maps([msgpack.packb({"v": 2, "kind": "verdict"})]))


def line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


@pytest.mark.services
@pytest.mark.parametrize("program", ["subscribe_verdicts.py", "subscribe_msgpack.py"])
def test_a_subscriber_prints_verdicts_of_a_real_topic(
    kafka_bootstrap: str, kafka_topic: str, program: str
) -> None:
    bus = KafkaBus(kafka_bootstrap)
    bus.ensure_topics({kafka_topic: TopicSpec(partitions=1)})
    command = [sys.executable, f"docs/examples/{program}", kafka_bootstrap, kafka_topic]
    process = subprocess.Popen(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    try:
        producer = bus.producer()
        # It begins at the topic's end, and nobody knows when it is there: a part every tenth of a second.
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.append(line(process.stdout)))
        reader.start()
        trigger = 0
        while reader.is_alive():
            assert trigger < 300, "it printed nothing"
            producer.send(kafka_topic, encode(verdict(key(trigger))), partition=0).wait(10)
            trigger += 1
            reader.join(0.1)
        assert "cap PASS 0.5" in lines[0]
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
        bus.close()

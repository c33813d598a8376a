"""`crosscheck board` as a process: it comes up whatever is away, says where it is, and ends when told."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from compose.process import free_ports
from workers.board.server import BoardServer, address_of
from workers.board.sinks import Kafka, Redis, Sink
from workers.bus.memory import MemoryBus
from workers.errors import BusError, SettingsError, StoreError
from workers.settings import Settings

TOKEN = "not-to-be-printed-anywhere"


def test_it_comes_up_without_kafka_and_redis_says_so_and_ends_at_once_with_browsers_open(
    tmp_path: Path,
) -> None:
    kafka, redis = free_ports(2)
    command = "import sys; from workers.cli import main; sys.argv[0] = 'crosscheck'; main()"
    arguments = ["board", "--port", "0", "--kafka", f"127.0.0.1:{kafka}", "--log", "json"]
    arguments += ["--redis", f"redis://127.0.0.1:{redis}/0", "--review", str(tmp_path / "review")]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "CROSSCHECK_BOARD_TOKEN": TOKEN,
            "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
        },
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.match(r"board: (http://127\.0\.0\.1:\d+/) ", said)
        assert found, said
        url = found[1]
        with urllib.request.urlopen(url + "api/state", timeout=30) as answer:
            state = json.load(answer)
        assert state["sinks"] == {"kafka": False, "redis": False}
        stream = urllib.request.urlopen(url + "api/events", timeout=30)
        assert stream.readline()
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        # A client that waits for a broker may take its own time-out to let go.
        assert time.monotonic() - begun < 10
        assert process.returncode == 0, errors
        stream.close()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert "Traceback" not in errors
    assert TOKEN not in errors + said
    assert "board.topic_away" in errors
    assert "board.redis_away" in errors


def test_it_starts_without_waiting_for_torch() -> None:
    look = "import sys, workers.commands.board; sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", look], cwd=root, check=False).returncode == 0


def test_services_that_come_later_are_found() -> None:
    there = False

    def bus() -> MemoryBus:
        if not there:
            raise BusError("nobody listens")
        return MemoryBus()

    sink: Kafka = Sink(bus, retry_s=0.0)
    with pytest.raises(BusError):
        sink.get()
    there = True
    assert sink.get() is sink.get()


def test_a_service_that_is_away_is_not_asked_by_everybody_at_once() -> None:
    asked = 0

    def store() -> None:
        nonlocal asked
        asked += 1
        raise StoreError("nobody listens")

    sink = Sink(store, retry_s=60.0)
    for _ in range(5):
        with pytest.raises(StoreError):
            sink.get()
    assert asked == 1


@pytest.mark.parametrize("text", ["", "8600", ":8600", "host:", "host:x", "host:70000", "host:٣"])
def test_an_address_that_is_none_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="HOST:PORT"):
        address_of(text)


def test_a_port_that_is_taken_is_named() -> None:
    kafka: Kafka = Sink.of(MemoryBus())

    def none() -> None:
        raise StoreError("away")

    redis: Redis = Sink(none)  # type: ignore[arg-type]
    first = BoardServer(Settings(board="127.0.0.1:0"), kafka, redis)
    try:
        with pytest.raises(SettingsError, match=r"cannot listen at \S+ \(Address already in use\); choose"):
            BoardServer(Settings(board=f"127.0.0.1:{first.port}"), kafka, redis)
        assert not first.is_open
    finally:
        first.close()

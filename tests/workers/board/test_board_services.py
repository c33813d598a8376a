"""The board over a real Kafka and Redis, beside a real worker: from a frame to a label with its pictures."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.inspection import HeatmapArray
from schemas.wire import decode_label, encode
from tests.workers.board.setting import TOKEN
from tests.workers.frames import frame
from tests.workers.standin import StandInModel, inspection
from workers.board.server import BoardServer
from workers.board.sinks import Kafka, Redis, Sink
from workers.commands.local import open_bus, open_store
from workers.inspection import InspectionWorker
from workers.scan import records
from workers.settings import Settings
from workers.topics import StationMap, TopicPlan

pytestmark = pytest.mark.services

HEAT = HeatmapArray(values=np.full((4, 4), 9, np.uint8), low=0.0, high=1.0)


@dataclass
class Plant:
    """A worker that runs, a board that serves, and a producer of frames."""

    settings: Settings
    board: BoardServer
    send: Callable[[int], None]

    def ask(self, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, bytes]:
        headers = {"content-type": "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.board.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return int(error.code), error.read()

    def json(self, path: str) -> Any:
        status, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)


@pytest.fixture(scope="module")
def plant(kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("board")
    settings = Settings(
        kafka=kafka_bootstrap,
        redis=redis_url,
        topic_prefix=f"board-{time.time_ns()}",
        group=f"board-{time.time_ns()}",
        worker="w-board",
        heatmaps="all",
        board="127.0.0.1:0",
        board_token=TOKEN,
        review=folder / "review",
        log="json",
    )
    stop = threading.Event()
    model = StandInModel(lambda sample: replace(inspection(5.0), heatmap=HEAT))
    with ExitStack() as stack:
        bus = open_bus(settings)
        stack.callback(bus.close)
        stations = StationMap({"s1": 0, "s2": 1})
        TopicPlan(stations, prefix=settings.topic_prefix).apply(bus)
        worker = InspectionWorker(settings, bus, open_store(settings), model)
        thread = threading.Thread(target=worker.run, args=(stop,))
        kafka: Kafka = Sink(lambda: open_bus(settings))
        redis: Redis = Sink(lambda: open_store(settings))
        stack.callback(lambda: kafka.get().close())
        board = BoardServer(settings, kafka, redis, stations=stations)
        producer = bus.producer()

        def send(trigger: int) -> None:
            made = frame(trigger, captured_at=time.time_ns())
            producer.send(settings.topic("frames"), encode(made), key=str(made.part).encode(), partition=0)

        thread.start()
        stack.callback(thread.join, 30)
        stack.callback(stop.set)
        board.start()
        stack.callback(board.stop)
        yield Plant(settings, board, send)


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_part_is_seen_on_the_board_and_its_label_is_on_topic_and_disk(plant: Plant) -> None:
    until(lambda: bool(plant.json("api/state")["sinks"] == {"kafka": True, "redis": True}))
    assert [each["name"] for each in plant.json("api/state")["stations"]] == ["s1", "s2"]
    plant.send(1)
    until(lambda: plant.json("api/review")["waiting"] == 1)
    until(lambda: bool(plant.json("api/state")["stations"][0]["last"]))
    assert plant.json("api/state")["stations"][0]["last"]["part"] == "s1/1/1"
    until(lambda: "w-board" in [each["name"] for each in plant.json("api/state")["workers"]])
    part = plant.json("api/part/s1/1/1")
    assert (part["images"]["rgb"], part["images"]["depth"]) == (True, True)
    assert part["images"]["heatmap"]["width"] == 4
    for name in ("rgb", "depth.png", "heatmap.png"):
        status, body = plant.ask(f"api/part/s1/1/1/{name}")
        assert (status, body[:4]) == (200, b"\x89PNG"), name
    assert plant.ask("api/review/s1/1/1", {"label": "false-reject"})[0] == 401
    status, body = plant.ask("api/review/s1/1/1", {"label": "false-reject", "note": "new lot"}, token=TOKEN)
    assert status == 200, body
    assert json.loads(body)["saved"] == {"rgb": True, "depth": True, "why": None}
    bus = open_bus(plant.settings)
    try:
        found = [decode_label(each.value) for each in records(bus, plant.settings.topic("labels"))]
    finally:
        bus.close()
    assert [(str(each.part), each.label.value, each.note) for each in found] == [
        ("s1/1/1", "false-reject", "new lot")
    ]
    assert (plant.settings.review / "widget" / "s1-1-1-depth.png").is_file()
    assert plant.json("api/review")["waiting"] == 0
    assert plant.ask("health/ready")[0] == 200
    assert b"crosscheck_board_verdicts_total 1.0" in plant.ask("metrics")[1]


def test_a_board_that_starts_later_has_the_history_and_the_labels(plant: Plant, tmp_path: Path) -> None:
    plant.send(2)
    until(lambda: plant.json("api/review")["waiting"] == 1)
    plant.ask("api/review/s1/1/2", {"label": "true-reject"}, token=TOKEN)
    kafka: Kafka = Sink(lambda: open_bus(plant.settings))
    redis: Redis = Sink(lambda: open_store(plant.settings))
    settings = plant.settings.model_copy(update={"review": tmp_path})
    later = Plant(settings, BoardServer(settings, kafka, redis), plant.send)
    later.board.start()
    try:
        until(lambda: later.board.feed.verdicts >= 2)
        until(lambda: later.json("api/review")["waiting"] == 0)
        station = later.json("api/state")["stations"][0]
        assert station["counts"]["REJECT"] >= 2
        assert station["last"]["label"] == "true-reject"
        assert station["false_rejects"]["labelled"] >= 1
    finally:
        later.board.stop()
        kafka.get().close()

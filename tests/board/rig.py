"""A line behind a board: real Kafka, real Redis, the real worker with a taught bundle, the real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from inference.datasets.base import Item
from inference.datasets.synthetic import SyntheticDataset
from inference.sample import Sample
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.part import PartKey
from schemas.payload import ColourEncoding
from schemas.verdict import Verdict
from schemas.wire import decode_verdict
from tests.e2e.processes import wait_until
from workers.board.server import BoardServer
from workers.board.sinks import Sink
from workers.bus.base import Bus
from workers.bus.kafka import KafkaBus
from workers.capture.publisher import Publisher
from workers.inspection import InspectionWorker
from workers.model_folder import ModelFolder
from workers.settings import Settings
from workers.store.connection import connect
from workers.store.verdicts import VerdictStore
from workers.topics import StationMap, TopicPlan

TOKEN = "only the operators know this"
PRODUCT = "cap"
SIZE = 160
DEADLINE_S = 60.0
ANSWER_S = 30.0


def small_parts() -> SyntheticDataset:
    """Parts with defects that are plain to see, small enough to be taught in seconds."""
    return SyntheticDataset(
        train=15, validation=6, test_good=0, defects_per_kind=3, size=SIZE, lot_size=3, contrast=2.0,
        defect_size=32.0,
    )  # fmt: skip


def taught(parts: SyntheticDataset, folder: Path, *, bank: int = 300) -> Path:
    """A models folder with one product."""
    teach(parts, folder, name=PRODUCT, settings=TeachSettings(bank_size=bank, folds=3))
    return folder


@dataclass(slots=True)
class Shelf:
    """Parts to be sent, rendered when they are first asked for."""

    parts: SyntheticDataset
    _kept: dict[str, list[Item]] = field(default_factory=dict)
    _samples: dict[str, Sample] = field(default_factory=dict)

    def items(self, label: str) -> list[Item]:
        """``good``, ``colour``, ``shape`` or ``both``."""
        if not self._kept:
            # Lots that were taught: this is about the board, not about what new lots do to a threshold.
            for item in [*self.parts.train(), *self.parts.validation(), *self.parts.test()]:
                self._kept.setdefault(item.label, []).append(item)
        return self._kept[label]

    def sample(self, label: str, number: int = 0) -> Sample:
        """The ``number``-th part of a label; they come round again."""
        items = self.items(label)
        item = items[number % len(items)]
        if item.name not in self._samples:
            self._samples[item.name] = item.sample()
        return self._samples[item.name]


class BoardLine:
    """Stations, one worker on a thread of its own, and the board. Use it as a context manager.

    Attributes:
        settings: those of worker and board.
        shelf: what can be sent.
    """

    def __init__(
        self,
        *,
        kafka: str,
        redis_url: str,
        folder: Path,
        models: Path,
        parts: SyntheticDataset,
        stations: Iterable[str],
        worker: str | None = None,
    ) -> None:
        prefix = f"board-{time.time_ns()}"
        self.settings = Settings(
            kafka=kafka,
            redis=redis_url,
            topic_prefix=prefix,
            group=f"{prefix}.workers",
            worker=worker or f"{prefix}.w1",
            models=models,
            board="127.0.0.1:0",
            board_token=SecretStr(TOKEN),
            review=folder / "review",
            log="json",
        )
        self.shelf = Shelf(parts)
        self.stations = StationMap.balanced(list(stations), 2)
        self.bus = KafkaBus(kafka)
        TopicPlan(self.stations, frame_bytes=200_000, prefix=prefix).apply(self.bus)
        self.store = VerdictStore(connect(redis_url))
        self._publishers: dict[str, Publisher] = {}
        self._stop = threading.Event()
        self._worker: threading.Thread | None = None
        self._failures: list[BaseException] = []
        self.board = self.another_board()

    def another_board(self, **changes: object) -> BoardServer:
        """A board of this line that is not started; ``changes`` are settings."""
        settings = self.settings.model_copy(update=changes)

        def open_bus() -> Bus:
            return KafkaBus(settings.kafka)

        def open_store() -> VerdictStore:
            return VerdictStore(connect(settings.redis))

        return BoardServer(settings, Sink(open_bus), Sink(open_store), stations=self.stations)

    def __enter__(self) -> Self:
        self.board.start()
        worker = InspectionWorker(
            self.settings, KafkaBus(self.settings.kafka), self.store, ModelFolder(self.settings.models)
        )

        def run() -> None:
            try:
                worker.run(self._stop)
            except BaseException as error:
                self._failures.append(error)

        self._worker = threading.Thread(target=run, name="board-worker", daemon=True)
        self._worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for publisher in self._publishers.values():
            publisher.close()
        self._stop.set()
        if self._worker is not None:
            self._worker.join(30.0)
        self.board.stop()
        self.bus.close()
        if kind is None and self._failures:
            raise self._failures[0]

    # Sending

    def publisher(self, station: str, product: str = PRODUCT) -> Publisher:
        """The agent of a station."""
        name = f"{station} {product}"
        if name not in self._publishers:
            self._publishers[name] = Publisher(
                self.bus,
                station=station,
                product=product,
                station_map=self.stations,
                topic=self.settings.topic("frames"),
                deadline_s=DEADLINE_S,
                # As it was taught: JPEG changes the grain of a picture.
                colour=ColourEncoding.PNG,
                depth_scale=self.shelf.sample("good").depth_scale,
            )
        return self._publishers[name]

    def send(
        self,
        station: str,
        label: str = "good",
        number: int = 0,
        *,
        depth: bool = True,
        product: str = PRODUCT,
    ) -> PartKey:
        """One part of a station goes past its sensors."""
        agent = self.publisher(station, product)
        sample = self.shelf.sample(label, number)
        part = agent.next_part()
        agent.publish(part, rgb=sample.rgb, depth=sample.depth if depth else None).wait(10.0)
        return part

    def verdict(self, part: PartKey) -> Verdict:
        """The part's verdict, as soon as it stands."""
        found: list[bytes] = []

        def stands() -> bool:
            if self._failures:
                raise self._failures[0]
            value = self.store.standing(part)
            if value is not None:
                found.append(value)
            return value is not None

        wait_until(stands, ANSWER_S, f"a verdict of part {part}")
        return decode_verdict(found[0])

    def inspect(self, station: str, label: str = "good", number: int = 0, *, depth: bool = True) -> Verdict:
        """Send one part and wait for its verdict."""
        return self.verdict(self.send(station, label, number, depth=depth))

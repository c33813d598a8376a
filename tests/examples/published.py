"""What an example's publisher sent, read back from a bus in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.frame import Frame
from schemas.notice import Notice
from schemas.payload import ColourEncoding
from schemas.wire import decode_capture
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.memory import MemoryBus
from workers.capture import AgentLog, Publisher
from workers.topics import StationMap

FRAMES = "inspection.frames"


class Published:
    """A publisher of station s1, and what came of it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.bus = MemoryBus()
        self.bus.ensure_topics({FRAMES: TopicSpec(partitions=1)})
        self.log = folder / "triggers.jsonl"
        self.publisher = Publisher(
            self.bus,
            station="s1",
            product="cap",
            station_map=StationMap({"s1": 0}),
            colour=ColourEncoding.PNG,
            log=AgentLog(self.log),
            **settings,
        )

    def messages(self) -> list[Frame | Notice]:
        self.publisher.flush()
        consumer = self.bus.consumer(None)
        consumer.assign({TopicPartition(FRAMES, 0)})
        consumer.seek(TopicPartition(FRAMES, 0), 0)
        found = [decode_capture(record.value) for record in consumer.poll(0.0)]
        consumer.close()
        return found

    def frames(self) -> list[Frame]:
        found = self.messages()
        assert all(isinstance(each, Frame) for each in found)
        return [each for each in found if isinstance(each, Frame)]

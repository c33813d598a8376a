"""A line with an archive behind it: an in-memory bus, verdicts put on it by hand, a folder."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from schemas.frame import Frame
from schemas.heatmap import Heatmap
from schemas.images import encode_map
from schemas.part import PartKey
from schemas.verdict import Decision, Mode, Source, Verdict
from schemas.wire import encode
from tests.workers.frames import START, frame
from workers.archive.local import LocalStorage
from workers.archive.options import ArchiveOptions
from workers.archive.rows import VERDICT, Told, read_rows
from workers.archive.shifts import Shifts
from workers.archive.sink import ArchiveSink
from workers.archive.storage import Storage
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.memory import MemoryBus
from workers.clock import ManualClock

FRAMES, VERDICTS, HEATMAPS = "inspection.frames", "inspection.verdicts", "inspection.heatmaps"
GROUP = "inspection-archive"
DAY = 86_400
NIGHT, EARLY, LATE = ["06:00", "14:00", "22:00"]
SHIFTS = Shifts.parse("06:00,14:00,22:00")


def verdict(
    part: PartKey, decision: Decision = Decision.PASS, *, at: int = START, sources: tuple[Source, ...] = ()
) -> Verdict:
    """A verdict decided at that moment."""
    return Verdict(
        part=part,
        product="../../etc/passwd",
        decision=decision,
        captured_at=at,
        decided_at=at,
        deadline=at + 10**9,
        worker="w1",
        mode=Mode.FUSED,
        score=0.5 if decision is not Decision.REJECT else 2.0,
        threshold=1.0,
        coverage=1.0,
        branches={"r2": 0.5},
        bundle="cap/1",
        bundle_hash="ab" * 32,
        sources=sources,
    )


class ArchiveLine:
    """Frames, verdicts and heatmaps on a bus, and as many sinks as a test wants."""

    def __init__(self, folder: Path, *, partitions: int = 2) -> None:
        self.clock = ManualClock(START)
        self.bus = MemoryBus(self.clock)
        self.folder = folder
        self.bus.ensure_topics({n: TopicSpec(partitions=partitions) for n in (FRAMES, VERDICTS, HEATMAPS)})
        self.storage: Storage = LocalStorage(folder)
        self.producer = self.bus.producer()

    def sink(self, **options: Any) -> ArchiveSink:
        """A new process of the archive."""
        chosen: dict[str, Any] = {"shifts": SHIFTS, "format": "jsonl", "sample": 0.0, "max_age_s": 5.0}
        return ArchiveSink(
            self.bus,
            self.storage,
            ArchiveOptions(**(chosen | options)),
            group=GROUP,
            verdicts=VERDICTS,
            heatmaps=HEATMAPS,
            frames=FRAMES,
            clock=self.clock,
        )

    def send(self, topic: str, value: bytes, part: PartKey, partition: int = 0) -> Source:
        """Put one record on a topic."""
        place, offset = self.producer.send(topic, value, key=str(part).encode(), partition=partition).wait(1)
        return Source(place.topic, place.partition, offset)

    def inspected(
        self, trigger: int, decision: Decision = Decision.PASS, *, partition: int = 0, station: str = "s1"
    ) -> tuple[Frame, Verdict]:
        """A part with its frame and its verdict, as a worker would have left them now."""
        made = frame(trigger, station=station)
        source = self.send(FRAMES, encode(made), made.part, partition)
        found = verdict(made.part, decision, at=self.clock.now(), sources=(source,))
        self.send(VERDICTS, encode(found), made.part, partition)
        return made, found

    def mapped(self, part: PartKey, partition: int = 0) -> bytes:
        """A heatmap of a part; returns the bytes of its picture."""
        image = encode_map(np.arange(64, dtype=np.uint8).reshape(8, 8))
        value = encode(Heatmap(part=part, mode=Mode.FUSED, image=image, low=0.0, high=2.0))
        self.send(HEATMAPS, value, part, partition)
        return image.data

    def turn(self, sink: ArchiveSink, seconds: float = 20.0) -> None:
        """Let the sink run for so long."""
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            sink.step()
            self.clock.advance(0.1)

    def committed(self, topic: str = VERDICTS, partition: int = 0) -> int | None:
        """What the archive's group has committed."""
        consumer = self.bus.consumer(GROUP)
        try:
            return consumer.committed(TopicPartition(topic, partition))
        finally:
            consumer.close()

    # What is in the folder

    def indexes(self) -> list[dict[str, Any]]:
        """Every index, of every shift."""
        return [json.loads(path.read_bytes()) for path in sorted(self.folder.glob("shifts/*/index/*.json"))]

    def told(self) -> list[Told]:
        """Every row of every table that an index names."""
        rows: list[Told] = []
        for path in sorted(self.folder.glob("shifts/*/index/*.json")):
            named = json.loads(path.read_bytes())["rows"]
            if named is not None:
                rows += read_rows(named, (path.parents[1] / named).read_bytes())
        return rows

    def verdicts(self) -> Counter[PartKey]:
        """How often each part has a row of its verdict: once."""
        return Counter(row.part for row in self.told() if row.kind == VERDICT and row.part is not None)

    def manifests(self) -> list[dict[str, Any]]:
        """The manifests, the oldest first."""
        return [json.loads(path.read_bytes()) for path in sorted(self.folder.glob("shifts/*/manifest.json"))]

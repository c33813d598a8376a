"""What one part takes, in Redis and on the topics: measured on real messages of a real model.

    python tests/bench/sizes.py --json sizes.json

240 parts with defects and an outage of the depth sensor run through publisher, worker and gate, over a real
Redis and an in-process bus; then each key is asked for its MEMORY USAGE, and each record for its length.
Exit code 1 where a constant of ``workers/sizing.py`` is no longer within 15 % of what is found.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import redis
import torch
from rich.console import Console
from rich.table import Table

from compose.process import free_ports
from compose.redis import RedisServer
from inference.datasets.synthetic import SyntheticDataset
from inference.teach import teach
from schemas.part import PartKey
from schemas.wire import decode_verdict
from workers import sizing
from workers.bus.base import TopicPartition
from workers.bus.memory import MemoryBus
from workers.capture.published import AsPublished
from workers.demo.run import PRODUCT, STATION, run_line
from workers.demo.script import write_script
from workers.logs import configure_logs
from workers.model_folder import ModelFolder
from workers.settings import Settings
from workers.store import keys
from workers.store.connection import connect
from workers.store.verdicts import VerdictStore
from workers.topics import StationMap, TopicPlan

PARTS = 240
SIZE = 256
CLOSE = 0.15
_BATCH = 8
_WRITES = 20_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """What was found; bytes, but for the last.

    Attributes:
        verdict_key, heatmap_key: of one part, its key and value in Redis.
        gate_entry: one entry of a station's stream.
        station_keys: what a station has once: newest verdict, sensors, the list of heatmaps, and the like.
        frame_record, verdict_record, heatmap_record: on the topics.
        verdicts_per_s: that one Redis takes, eight in a call.
    """

    verdict_key: float
    gate_entry: float
    heatmap_key: float
    station_keys: float
    frame_record: float
    verdict_record: float
    heatmap_record: float
    verdicts_per_s: float


def run(folder: Path, url: str) -> Sizes:
    """Teach, run the line, ask."""
    torch.set_num_threads(1)
    configure_logs("console", level=logging.CRITICAL)
    client = connect(url)
    bus = MemoryBus()
    models = folder / "models"
    dataset = SyntheticDataset(train=96, validation=32, test_good=0, defects_per_kind=0, size=SIZE)
    teach(AsPublished(dataset), models, name=PRODUCT)
    settings = Settings(models=models, heatmaps="all", topic_prefix="sizes", group="sizes", max_batch=4)
    TopicPlan(StationMap({STATION: 0}), prefix="sizes").apply(bus)
    found = run_line(
        bus=bus,
        client=client,
        models=ModelFolder(models, parallel=2),
        settings=settings,
        script=write_script(PARTS, 0),
        rate=8.0,
        folder=folder,
        size=SIZE,
        seed=0,
        deadline_s=4.0,
        on_decision=lambda decision: None,
    )
    maps = [part for part in found.parts if client.exists(keys.heatmap(part))]
    gate = keys.gate(STATION)
    of_parts = (":verdict:", ":heatmap:", ":attempts:", ":gate")
    every = [name.decode() for name in cast(Any, client.scan_iter(match=f"{{{STATION}}}:*", count=500))]

    def usage(name: str) -> int:
        return int(cast(Any, client).memory_usage(name, samples=0) or 0)

    result = Sizes(
        verdict_key=statistics.mean(usage(keys.verdict(part)) for part in found.parts),
        gate_entry=usage(gate) / int(cast(Any, client.xlen(gate))),
        heatmap_key=statistics.mean(usage(keys.heatmap(part)) for part in maps),
        station_keys=sum(usage(name) for name in every if not any(kind in name for kind in of_parts)),
        frame_record=statistics.mean(lengths(bus, "sizes.frames")),
        verdict_record=statistics.mean(lengths(bus, "sizes.verdicts")),
        heatmap_record=statistics.mean(lengths(bus, "sizes.heatmaps")),
        verdicts_per_s=writes(client, found.parts),
    )
    bus.close()
    return result


def lengths(bus: MemoryBus, topic: str) -> Iterator[int]:
    """Bytes of each record, its key and headers with it."""
    consumer = bus.consumer(None)
    place = TopicPartition(topic, 0)
    consumer.assign({place})
    consumer.seek(place, 0)
    end = consumer.end_offsets({place})[place]
    while (consumer.position(place) or 0) < end:
        for record in consumer.poll(0.2):
            headers = sum(len(name) + len(value) for name, value in record.headers)
            yield len(record.value) + len(record.key or b"") + headers
    consumer.close()


def writes(client: redis.Redis, parts: list[PartKey]) -> float:
    """First verdicts a second, from one client, eight a call as a worker's batch."""
    store = VerdictStore(client)
    like = decode_verdict(cast(bytes, store.standing(parts[0])))
    made = time.time_ns()
    verdicts = [replace(like, part=PartKey(f"s{n % 8}", made, n)) for n in range(_WRITES)]
    started = time.perf_counter()
    for at in range(0, _WRITES, _BATCH):
        store.decide_many(verdicts[at : at + _BATCH])
    return _WRITES / (time.perf_counter() - started)


ASSUMED = {
    "verdict_key": sizing.VERDICT_KEY,
    "gate_entry": sizing.GATE_ENTRY,
    "heatmap_key": sizing.HEATMAP_KEY,
    "station_keys": sizing.STATION_KEYS,
    "verdict_record": sizing.VERDICT_RECORD,
    "heatmap_record": sizing.HEATMAP_RECORD,
}


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        (port,) = free_ports(1)
        server = RedisServer(Path(name) / "redis", port)
        (Path(name) / "redis").mkdir()
        server.start()
        try:
            found = run(Path(name), f"redis://127.0.0.1:{port}/0")
        finally:
            server.process.stop()
    table = Table(title=f"what one part takes ({SIZE} x {SIZE}, {PARTS} parts)", title_justify="left")
    for heading in ("what", "found", "planned with", ""):
        table.add_column(heading, justify="left" if heading in ("what", "") else "right")
    good = True
    for what, value in asdict(found).items():
        planned = ASSUMED.get(what)
        close = planned is None or abs(value / planned - 1) <= CLOSE
        good &= close
        table.add_row(
            what,
            f"{value:,.0f}",
            "" if planned is None else f"{planned:,}",
            "" if close else "[red]OFF[/red]",
        )
    Console().print(table)
    if args.json is not None:
        machine = {"cores": os.cpu_count(), "machine": platform.machine()}
        args.json.write_text(json.dumps(asdict(found) | machine, indent=2) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

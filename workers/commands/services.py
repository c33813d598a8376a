"""``crosscheck services`` and ``crosscheck topics``: a local Kafka and Redis, and the topics in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from compose.services import Services
from workers.commands import console
from workers.commands.local import open_bus
from workers.settings import Settings
from workers.topics import StationMap, TopicPlan


def up(folder: Path) -> None:
    """Start Kafka and Redis, or say that they are running."""
    services = Services(folder)
    endpoints = services.up(on_progress=lambda text: console.err.print(f"[dim]{text}[/dim]"))
    # Never wrapped: these lines are there to be copied.
    console.out.print(f"Kafka  {endpoints.kafka}\nRedis  {endpoints.redis_url}", soft_wrap=True)
    # Commands look in the default folder of where they are started, and in no other.
    found = services.folder == Services().folder
    hint = "The other commands find them by themselves from this folder; elsewhere set"
    if not found:
        hint = "--dir is not where the other commands look; for them set"
    console.out.print(f"\n{hint}")
    here = f"CROSSCHECK_KAFKA={endpoints.kafka} CROSSCHECK_REDIS={endpoints.redis_url}"
    console.out.print(f"  export {here}", soft_wrap=True)


def down(folder: Path) -> None:
    """Stop them."""
    was_running = Services(folder).down()
    said = "Kafka and Redis are stopped." if was_running else f"nothing was started from {folder}."
    console.out.print(said)


def status(folder: Path) -> int:
    """Say what runs; the exit code is 0 only when both answer."""
    found = Services(folder).status()
    if found.endpoints is None:
        console.out.print(f"nothing was started from {found.folder}; `crosscheck services up` starts both")
        return console.NO_SERVICE
    for name, where, running in (
        ("Kafka", found.endpoints.kafka, found.kafka),
        ("Redis", found.endpoints.redis_url, found.redis),
    ):
        console.out.print(f"{name}  {where}  {'running' if running else 'NOT running'}")
    console.out.print(f"by {found.mode}, data in {found.folder}")
    return console.OK if found.kafka and found.redis else console.NO_SERVICE


def make_topics(
    settings: Settings,
    stations: Sequence[str],
    *,
    frames_per_second: float,
    frame_bytes: int,
    retention_hours: float,
    partitions: int | None,
    out: Path,
    dry_run: bool,
) -> None:
    """Print the plan, make the topics, write the station map; stations already on it stay where they are."""
    plan = TopicPlan(
        _station_map(out, stations, partitions),
        frames_per_second=frames_per_second,
        frame_bytes=frame_bytes,
        retention_hours=retention_hours,
        prefix=settings.topic_prefix,
        largest_record=settings.largest_record,
    )
    table = Table(title="topics")
    for heading in ("topic", "partitions", "kept for", "at most", "record"):
        left = heading == "topic"
        table.add_column(heading, justify="left" if left else "right", no_wrap=left)
    for row in plan.rows():
        table.add_row(*row)
    console.out.print(table)
    for station in plan.station_map:
        console.out.print(f"station {station}: partition {plan.station_map.partition(station)}")
    if dry_run:
        console.out.print("nothing was changed (--dry-run)")
        return
    bus = open_bus(settings)
    try:
        plan.apply(bus)
    finally:
        bus.close()
    plan.station_map.save(out)
    console.out.print(f"station map: {out}")


def _station_map(out: Path, stations: Sequence[str], partitions: int | None) -> StationMap:
    if not out.exists():
        return StationMap.balanced(stations, partitions)
    known = StationMap.load(out)
    if partitions is not None and partitions != known.partitions:
        known = StationMap({name: known.partition(name) for name in known}, partitions)
    for station in stations:
        if partitions is None and station not in known:
            known = StationMap({name: known.partition(name) for name in known}, known.partitions + 1)
        known = known.with_station(station)
    return known

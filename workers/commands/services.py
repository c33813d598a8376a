"""``crosscheck services`` and ``crosscheck topics``: a local Kafka and Redis, and the topics in it."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from compose.services import Services
from workers.bus.kafka import KafkaBus
from workers.commands import console
from workers.topics import TopicPlan


def up(folder: Path) -> None:
    """Start Kafka and Redis, or say that they are running."""
    services = Services(folder)
    endpoints = services.up(on_progress=lambda text: console.err.print(f"[dim]{text}[/dim]"))
    console.out.print(f"Kafka  {endpoints.kafka}\nRedis  {endpoints.redis_url}")
    console.out.print(
        f"\nThe other commands find them by themselves from here; elsewhere set\n"
        f"  export CROSSCHECK_KAFKA={endpoints.kafka} CROSSCHECK_REDIS={endpoints.redis_url}"
    )


def down(folder: Path) -> None:
    """Stop them."""
    Services(folder).down()
    console.out.print("Kafka and Redis are stopped.")


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


def topics(plan: TopicPlan, *, bootstrap: str, out: Path | None, dry_run: bool) -> None:
    """Print the plan, make the topics, write the station map."""
    table = Table(title="topics")
    for heading in ("topic", "partitions", "retention", "bytes kept a partition", "largest record"):
        table.add_column(heading, justify="left" if heading == "topic" else "right")
    for row in plan.rows():
        table.add_row(*row)
    console.out.print(table)
    if dry_run:
        return
    bus = KafkaBus(bootstrap)
    try:
        plan.apply(bus)
    finally:
        bus.close()
    if out is not None:
        plan.station_map.save(out)
        console.out.print(f"station map: {out}")

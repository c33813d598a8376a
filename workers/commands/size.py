"""``crosscheck size``: what a line will need, before anything of it is bought."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from workers.commands import console
from workers.sizing import Line, Size


def run_size(line: Line, *, json_file: Path | None) -> None:
    """Print the plan with its arithmetic."""
    plan = Size(line)
    stations = "1 station" if line.stations == 1 else f"{line.stations:,} stations"
    table = Table(title=f"a line of {stations}", title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("how much", justify="right", no_wrap=True)
    table.add_column("from")
    for need in plan.needs():
        table.add_row(need.what, need.amount, need.how)
    console.out.print(table)
    if plan.redis_servers > 1:
        console.out.print(
            "Redis holds every verdict for --verdict-hours: CROSSCHECK_VERDICT_TTL_S lowers it; the topics"
            " and the archive keep them longer."
        )
    console.out.print("Where the constants come from, and what they leave out: docs/sizing.md")
    console.write_json(
        json_file,
        asdict(line)
        | {
            "frames_per_s": plan.frames_per_s,
            "partitions": plan.partitions,
            "in_mb_s": plan.in_mb_s,
            "broker_mb_s": plan.broker_mb_s,
            "disk_gb": plan.disk_gb,
            "brokers": plan.brokers,
            "worker_fps": plan.worker_fps,
            "workers": plan.workers,
            "fits": plan.fits,
            "redis_gb": plan.redis_gb,
            "redis_servers": plan.redis_servers,
            "buffer_mb": plan.buffer_mb,
            "lag_threshold": plan.lag_threshold,
        },
    )

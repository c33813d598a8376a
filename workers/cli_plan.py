"""The commands around a line that is not there yet: what it will need, and frames to try it with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.options import Json, Seed


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(synthetic)
    app.command()(size)


def synthetic(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the folder goes.")] = Path("synthetic"),
    good: Annotated[int, typer.Option(min=24, max=100_000, help="Good parts to teach from.")] = 96,
    bad: Annotated[int, typer.Option(min=0, max=10_000, help="Test parts with each kind of defect.")] = 6,
    seed: Seed = 0,
    pixels: Annotated[int, typer.Option(min=64, help="Of one side of a picture.")] = 256,
) -> None:
    """Write frames of a synthetic product into a folder, for `teach`, `evaluate` and `capture`."""
    from workers.commands.synthetic import run_synthetic

    run_synthetic(out, good=good, bad=bad, seed=seed, size=pixels)


def size(
    stations: Annotated[int, typer.Option(min=1, max=100_000, help="Cameras that look at a belt.")] = 40,
    fps: Annotated[float, typer.Option(min=0.01, help="Parts a second of one station.")] = 5.0,
    frame_kb: Annotated[float, typer.Option(min=1, help="Kilobytes of one frame record.")] = 200.0,
    frame_ms: Annotated[
        float, typer.Option(min=0.01, help="What one frame takes one core or GPU; measure it on yours.")
    ] = 24.0,
    cores: Annotated[int, typer.Option(min=1, help="Cores (or 1 GPU) that one worker has.")] = 4,
    retention_hours: Annotated[float, typer.Option(min=0.1, help="How long frames are kept.")] = 4.0,
    verdict_hours: Annotated[
        float, typer.Option(min=0.1, help="How long a verdict stands in Redis (CROSSCHECK_VERDICT_TTL_S).")
    ] = 168.0,
    replicas: Annotated[int, typer.Option(min=1, max=9, help="Brokers that hold each record.")] = 3,
    not_passed: Annotated[
        float, typer.Option(min=0, max=1, help="Share of parts that do not pass: they keep a heatmap.")
    ] = 0.05,
    outage_s: Annotated[
        float, typer.Option(min=0, help="Seconds without a broker that an agent's disk is to bridge.")
    ] = 600.0,
    json_file: Json = None,
) -> None:
    """Work out partitions, workers, brokers, disks and memory of a line, with the arithmetic shown."""
    from workers.commands.size import run_size
    from workers.sizing import Line

    line = Line(
        stations=stations,
        fps=fps,
        frame_bytes=round(frame_kb * 1000),
        frame_ms=frame_ms,
        cores=cores,
        retention_hours=retention_hours,
        verdict_hours=verdict_hours,
        replicas=replicas,
        not_passed=not_passed,
        outage_s=outage_s,
    )
    run_size(line, json_file=json_file)

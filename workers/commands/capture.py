"""``crosscheck capture``: a folder or the synthetic line, published at a rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from inference.datasets.synthetic import SyntheticPart
from schemas.payload import ColourEncoding
from workers.capture.agent import CaptureAgent, CaptureReport
from workers.capture.log import AgentLog
from workers.capture.publisher import Publisher
from workers.capture.sources import FolderSource, SyntheticLine
from workers.commands import console
from workers.commands.local import open_bus
from workers.errors import SettingsError
from workers.logs import configure_logs
from workers.settings import Settings
from workers.topics import StationMap


def run_capture(
    settings: Settings,
    *,
    station: str,
    product: str,
    data: Path | None,
    split: str,
    rate: float,
    count: int | None,
    loop: bool,
    deadline_s: float,
    log_file: Path,
    partitioned: StationMap,
    colour: str | None,
    separate: bool,
    same_field: bool | None,
    seed: int,
    size: int,
    json_file: Path | None,
) -> int:
    """Publish until the source ends; the exit code is not 0 when a frame did not reach the broker."""
    configure_logs(settings.log)
    encoding = _encoding(colour, folder=data is not None)
    partitioned.partition(station)  # a station that is not on the map is said before anybody is called
    source: FolderSource | SyntheticLine
    expects: Sequence[str] = ("rgb", "depth")
    if data is not None:
        source = FolderSource(data, split=split, loop=loop, limit=count, same_field=same_field)
        expects = source.expects
    else:
        source = SyntheticLine(SyntheticPart(seed, size), count=count or 100, seed=seed)
    bus = open_bus(settings, "frames")
    try:
        with AgentLog(log_file) as log:
            publisher = Publisher(
                bus,
                station=station,
                product=product,
                station_map=partitioned,
                topic=settings.topic("frames"),
                deadline_s=deadline_s,
                depth_scale=source.depth_scale,
                colour=encoding,
                expects=expects,
                log=log,
            )
            with publisher:
                agent = CaptureAgent(source, publisher, rate=rate, split=separate)
                with console.stop_on_signal() as stop:
                    report = agent.run(stop=stop)
    finally:
        bus.close()
    _show(report, log_file)
    console.write_json(
        json_file,
        {
            "triggers": report.triggers,
            "published": report.published,
            "failed": report.failed,
            "late": report.late,
            "worst_late_ms": report.worst_late_ms,
            "seconds": report.seconds,
        },
    )
    return console.OK if report.failed == 0 else console.BROKEN_PROMISE


def _encoding(name: str | None, *, folder: bool) -> ColourEncoding:
    if name is None:
        return ColourEncoding.PNG if folder else ColourEncoding.JPEG
    try:
        return ColourEncoding(name)
    except ValueError:
        known = ", ".join(encoding.value for encoding in ColourEncoding)
        raise SettingsError(f"--colour {name}: use one of {known}") from None


def _show(report: CaptureReport, log_file: Path) -> None:
    table = Table(title="captured")
    for heading in ("triggers", "published", "failed", "late", "worst delay", "seconds"):
        table.add_column(heading, justify="right")
    table.add_row(
        str(report.triggers),
        str(report.published),
        str(report.failed),
        str(report.late),
        f"{report.worst_late_ms:.1f} ms",
        f"{report.seconds:.1f}",
    )
    console.out.print(table)
    console.out.print(f"triggers are in {log_file}: give it to `crosscheck gate --parts`")

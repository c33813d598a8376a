"""``crosscheck capture``: a folder or the synthetic line, published at a rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from rich.table import Table

from inference.datasets.conventions import Conventions
from inference.datasets.synthetic import SyntheticPart
from schemas.payload import ColourEncoding
from workers.bus.base import Bus
from workers.capture.agent import CaptureAgent, CaptureReport
from workers.capture.beats import agent_name
from workers.capture.buffer import DiskBuffer, Keep
from workers.capture.debounce import Debounce
from workers.capture.log import AgentLog
from workers.capture.publisher import Publisher
from workers.capture.sources import FolderSource, SyntheticLine
from workers.commands import console
from workers.commands.local import open_bus
from workers.errors import SettingsError
from workers.logs import configure_logs
from workers.settings import Settings
from workers.telemetry.agent import watch_publisher
from workers.telemetry.assembly import Assembly
from workers.topics import StationMap
from workers.tracing.agent import AgentTrace
from workers.tracing.assembly import tracing

# A buffer that takes the last of the disk would take it from the log of triggers.
_SPARE_BYTES = 64 * 2**20


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
    buffer: Path | None = None,
    buffer_mb: float = 1024.0,
    keep: str = "newest",
    send_expired: bool = False,
    triggers_mb: float | None = None,
    debounce_s: float = 0.0,
    same_field: bool | None,
    conventions: Conventions | None = None,
    seed: int,
    size: int,
    json_file: Path | None,
) -> int:
    """Publish until the source ends; the exit code is not 0 when a frame did not reach the broker.

    With a buffer the broker may be away: what it does not have at the end stays there for the next start.
    """
    configure_logs(settings.log)
    bounce = Debounce(debounce_s)
    encoding = _encoding(colour, folder=data is not None)
    partition = partitioned.partition(station)  # one that is not on the map is said before anybody is called
    source: FolderSource | SyntheticLine
    expects: Sequence[str] = ("rgb", "depth")
    if data is not None:
        source = FolderSource(
            data, split=split, loop=loop, limit=count, same_field=same_field, conventions=conventions
        )
        console.tell(source.notes)
        expects = source.expects
    else:
        source = SyntheticLine(SyntheticPart(seed, size), count=count or 100, seed=seed)
    kept = None
    if buffer is not None:
        if keep not in ("oldest", "newest"):
            raise SettingsError(f"--keep {keep}: use oldest or newest")
        kept = DiskBuffer(
            buffer, max_bytes=round(buffer_mb * 2**20), keep=cast(Keep, keep), spare_bytes=_SPARE_BYTES
        )
    opened: list[Bus] = []
    spans: AgentTrace | None = None

    def connect() -> Bus:
        bus = open_bus(settings, "frames")
        opened.append(bus)
        if partition >= (bus.partitions(settings.topic("frames")) or 0):
            raise SettingsError(
                f"station {station!r}: partition {partition} of {settings.topic('frames')} does not exist:"
                " use the map that `crosscheck topics` wrote"
            )
        return bus if spans is None else spans.marked(bus, settings)

    rotate = None if triggers_mb is None else round(triggers_mb * 2**20)
    try:
        with (
            tracing(settings, "agent", agent_name()) as traced,
            AgentLog(log_file, rotate_bytes=rotate) as log,
        ):
            spans = None if traced is None else AgentTrace(traced)
            log.listener = spans
            publisher = Publisher(
                connect,
                station=station,
                product=product,
                station_map=partitioned,
                topic=settings.topic("frames"),
                deadline_s=deadline_s,
                depth_scale=source.depth_scale,
                colour=encoding,
                expects=expects,
                log=log,
                buffer=kept,
                expired_after_s=None if send_expired else 1.0,
                max_record_bytes=settings.max_record_bytes,
                heartbeats=settings.topic("heartbeats"),
            )
            watch = Assembly("agent", settings.metrics)
            watch_publisher(watch, publisher)
            agent = CaptureAgent(source, publisher, rate=rate, split=separate, debounce=bounce)
            watch.live("loop", agent.pulse.trouble)
            with publisher, watch.served(), console.stop_on_signal() as stop:
                watch.stopping(stop)
                report = agent.run(stop=stop)
            dropped, notices = publisher.dropped, publisher.notices
            left = publisher.close()
            # What came in while it was closing counts too.
            report = replace(report, published=publisher.published, failed=publisher.failed)
    finally:
        for bus in opened:
            bus.close()
        if kept is not None:
            kept.close()
    if bounce.bounces:
        console.out.print(f"{bounce.bounces} triggers were bounces (--debounce) and are no parts")
    _show(report, log_file, buffer=buffer, left=left, dropped=dropped, notices=notices)
    console.write_json(
        json_file,
        {
            "triggers": report.triggers,
            "published": report.published,
            "failed": report.failed,
            "late": report.late,
            "bounces": bounce.bounces,
            "worst_late_ms": report.worst_late_ms,
            "seconds": report.seconds,
            "buffered": left,
            "dropped": dropped,
            "notices": notices,
        },
    )
    if report.failed:
        return console.BROKEN_PROMISE
    return console.NO_SERVICE if left else console.OK


def _encoding(name: str | None, *, folder: bool) -> ColourEncoding:
    if name is None:
        return ColourEncoding.PNG if folder else ColourEncoding.JPEG
    try:
        return ColourEncoding(name)
    except ValueError:
        known = ", ".join(encoding.value for encoding in ColourEncoding)
        raise SettingsError(f"--colour {name}: use one of {known}") from None


def _show(
    report: CaptureReport, log_file: Path, *, buffer: Path | None, left: int, dropped: int, notices: int
) -> None:
    # One line a figure: nine columns are more than a terminal of eighty characters can show.
    table = Table(title="captured", show_header=False)
    table.add_column("what")
    table.add_column("how many", justify="right")
    for name, value in (
        ("triggers", str(report.triggers)),
        ("published", str(report.published)),
        ("failed", str(report.failed)),
        ("waiting in the buffer", str(left)),
        ("given up by the buffer", str(dropped)),
        ("told as gone (notices)", str(notices)),
        ("triggers that were late", str(report.late)),
        ("worst delay of a trigger", f"{report.worst_late_ms:.1f} ms"),
        ("seconds", f"{report.seconds:.1f}"),
    ):
        table.add_row(name, value)
    console.out.print(table)
    if buffer is not None and left:
        console.out.print(
            f"{left} records wait in {buffer}: the broker did not take them; start `crosscheck capture` with"
            " the same --buffer and they are sent first",
            soft_wrap=True,
        )
    console.out.print(f"triggers are in {log_file}: give it to `crosscheck gate --parts`")

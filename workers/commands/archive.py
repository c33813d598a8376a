"""``crosscheck archive``: verdicts, images and heatmaps into files that prove they are complete."""

from __future__ import annotations

from contextlib import ExitStack

import structlog

from workers.archive.options import ArchiveOptions
from workers.archive.rows import Format, require
from workers.archive.sink import ArchiveSink
from workers.archive.storage import open_storage
from workers.commands import console
from workers.commands.local import open_bus
from workers.errors import SettingsError
from workers.logs import configure_logs
from workers.settings import Settings
from workers.telemetry.archive import watch_archive
from workers.telemetry.assembly import Assembly

log = structlog.get_logger(__name__)


def run_archive(
    settings: Settings, options: ArchiveOptions, *, to: str, endpoint: str | None, group: str | None
) -> None:
    """Archive until SIGINT or SIGTERM; then file what is in hand.

    Raises:
        SettingsError: the place cannot be used, or pyarrow or boto3 is missing.
        ServiceError: Kafka or the store does not answer at the start.
    """
    configure_logs(settings.log)
    require(options.format)
    storage = open_storage(to, endpoint=endpoint, create=True)
    with ExitStack() as stack:
        watch = Assembly("archive", settings.metrics)
        stack.enter_context(watch.served())
        bus = open_bus(settings, "verdicts", "heatmaps", "frames")
        stack.callback(bus.close)
        sink = ArchiveSink(
            bus,
            storage,
            options,
            group=group or f"{settings.topic_prefix}-archive",
            verdicts=settings.topic("verdicts"),
            heatmaps=settings.topic("heatmaps"),
            frames=settings.topic("frames"),
        )
        stop = stack.enter_context(console.stop_on_signal())
        watch_archive(watch, sink, kafka=bus.contact, stop=stop)
        sink.run(stop)


def table_format(name: str) -> Format:
    """The format of that name. Raises SettingsError."""
    if name == "parquet":
        return "parquet"
    if name == "jsonl":
        return "jsonl"
    raise SettingsError(f"--format {name!r}: use parquet or jsonl")

"""What an archive tells Prometheus, and whether it is alive and ready."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event

from prometheus_client.core import Metric as Family

from workers.archive.sink import ArchiveSink
from workers.contact import Contact
from workers.telemetry import names
from workers.telemetry.assembly import Assembly
from workers.telemetry.families import family


@dataclass(frozen=True, slots=True)
class ArchiveCollector:
    """Reads what the sink counts."""

    sink: ArchiveSink

    def collect(self) -> Iterable[Family]:
        """The numbers now; the lag once the broker has said where the topics end."""
        yield family(names.ARCHIVE_ROWS, self.sink.rows)
        yield family(names.ARCHIVE_IMAGES, self.sink.images)
        if self.sink.lag.records is not None:
            yield family(names.ARCHIVE_LAG, self.sink.lag.records)


def watch_archive(watch: Assembly, sink: ArchiveSink, *, kafka: Contact, stop: Event) -> None:
    """Numbers and checks of one archive; its two ends are Kafka and where it files."""
    watch.collect(ArchiveCollector(sink))
    watch.live("loop", sink.trouble)
    watch.service(kafka)
    watch.ready("storage", lambda: sink.away)
    watch.stopping(stop)

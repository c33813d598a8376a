"""The collectors of one process, and their answer to Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import structlog
from prometheus_client import exposition
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector as TheirCollector

log = structlog.get_logger(__name__)


class Collector(Protocol):
    """Says the numbers of one piece of a process. Called on a thread of the scrape's: it takes no lock that
    the loop takes, asks no service, and computes little."""

    def collect(self) -> Iterable[Family]:
        """Families made by ``workers.telemetry.families``."""
        ...


class Registry(TheirCollector):
    """All of them. One that fails is told of in the log, once, and left out; the others stay."""

    def __init__(self, *collectors: Collector) -> None:
        self._collectors = list(collectors)
        self._failing: set[int] = set()

    def add(self, collector: Collector) -> None:
        """From the next scrape on, its numbers too."""
        self._collectors.append(collector)

    def collect(self) -> Iterator[Family]:
        """Everything they say now."""
        for collector in list(self._collectors):
            try:
                families = list(collector.collect())
            except Exception as error:  # whatever it is: it must not take the other numbers along
                if id(collector) not in self._failing:
                    self._failing.add(id(collector))
                    log.error(
                        "metrics.collector_failed", collector=type(collector).__name__, error=repr(error)
                    )
                continue
            self._failing.discard(id(collector))
            yield from families

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """The answer to a scrape, and its content type.

        Args:
            accept: the request's header: OpenMetrics for who asks for it, else the text format.
        """
        encode, content_type = exposition.choose_encoder(accept or "")
        return encode(self), content_type

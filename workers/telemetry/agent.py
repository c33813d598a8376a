"""What a capture agent tells Prometheus, and whether it is alive and ready.

A camera's own loop serves them beside its publisher::

    with Publisher(...) as publisher, monitored(publisher, "0.0.0.0:9102"):
        ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client.core import Metric as Family

from workers.capture.publisher import Publisher
from workers.telemetry import names
from workers.telemetry.assembly import SERVICE_S, Assembly
from workers.telemetry.families import family, histogram
from workers.telemetry.server import Monitor

FULL = 0.9
"""A buffer as full as this has no room to speak of while the broker is away."""


@dataclass(frozen=True, slots=True)
class AgentCollector:
    """Reads what the publisher counts."""

    publisher: Publisher

    def collect(self) -> Iterable[Family]:
        """The numbers now."""
        it = self.publisher
        station = (it.station,)
        yield family(names.AGENT_TRIGGERS, {station: float(it.triggers)})
        yield family(names.AGENT_PUBLISHED, {station: float(it.published)})
        yield family(names.AGENT_FAILED, {station: float(it.failed)})
        yield family(names.AGENT_NOTICES, {station: float(it.notices)})
        yield family(names.AGENT_BUFFERED_FRAMES, {station: float(it.buffered)})
        size = 0 if it.buffer is None else it.buffer.size
        yield family(names.AGENT_BUFFERED_BYTES, {station: float(size)})
        yield family(names.AGENT_OTHERS, {station: float(len(it.others))})
        yield histogram(names.AGENT_PUBLISH, it.times)


def watch_publisher(watch: Assembly, publisher: Publisher) -> None:
    """Numbers of one agent; it is ready while the broker answers, or while its buffer has room."""
    watch.collect(AgentCollector(publisher))
    watch.ready("broker", lambda: _broker(publisher))
    watch.ready("alone", lambda: publisher.trouble)


@contextmanager
def monitored(publisher: Publisher, where: str) -> Iterator[Monitor]:
    """Answer Prometheus and health checks at HOST:PORT meanwhile, for a publisher in a loop of one's own.

    Such an agent counts as alive while it answers: only its own loop knows what it waits for.

    Raises:
        SettingsError: no such address, or its port is taken.
    """
    watch = Assembly("agent", where)
    watch_publisher(watch, publisher)
    with Monitor(where, watch.registry, watch.health) as monitor:
        yield monitor


def _broker(publisher: Publisher) -> str | None:
    contact, buffer = publisher.contact, publisher.buffer
    why = "kafka was not reached yet" if contact is None else contact.trouble(SERVICE_S)
    if why is None or buffer is None:
        return why
    share = buffer.share
    return None if share < FULL else f"{why}; its buffer is {share:.0%} full"

"""Tracing of one process, put together by its settings; nothing at all where they do not ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from workers.bus.base import Bus
from workers.settings import Settings
from workers.tracing.bus import TracedBus
from workers.tracing.context import Sampler
from workers.tracing.recorder import Recorder


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where a process tells what happened, and of which parts."""

    recorder: Recorder
    sampler: Sampler

    def marked(self, bus: Bus, *topics: str, span: str) -> Bus:
        """The bus with trace context on what it sends to these topics."""
        return TracedBus(bus, frozenset(topics), span, self.sampler)


@contextmanager
def tracing(settings: Settings, process: str, name: str) -> Iterator[Tracing | None]:
    """Tracing while the process runs; None where CROSSCHECK_TRACE is not set.

    Args:
        process: worker, agent or gate.
        name: which one of them.

    Raises:
        SettingsError: OpenTelemetry is not installed, or the URL is none.
    """
    if settings.trace is None:
        yield None
        return
    # Not before it is asked for: OpenTelemetry is an extra, and its import takes time.
    from workers.tracing.export import open_exporter

    exporter = open_exporter(settings.trace, process=process, name=name, version=_version())
    recorder = Recorder(exporter)
    recorder.start()
    try:
        yield Tracing(recorder, Sampler(settings.trace_ratio))
    finally:
        recorder.close()


def _version() -> str:
    try:
        return version("crosscheck")
    except PackageNotFoundError:
        return "unknown"

"""OpenTelemetry's side: spans in its form, to a collector by OTLP over HTTP. Only this file needs it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workers.address import parsed, shown
from workers.errors import SettingsError
from workers.tracing.context import Context, context
from workers.tracing.span import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

PATH = "/v1/traces"
_FORMS = "write it as http://127.0.0.1:4318"
TIMEOUT_S = 5.0
SCOPE = "crosscheck"
_THEIR_LOG = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


class OtelExporter:
    """Hands spans to an exporter of OpenTelemetry's SDK.

    Args:
        exporter: theirs.
        resource: what the process says of itself, as ``service.name``.
        where: the collector, as failures begin.
    """

    def __init__(self, exporter: SpanExporter, resource: dict[str, str], where: str = "collector") -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._exporter = exporter
        self._where = where
        self._resource = Resource(resource)
        self._scope = InstrumentationScope(SCOPE)
        self._words = _words_of(_THEIR_LOG)

    def export(self, spans: Sequence[Span]) -> str | None:
        """See ``workers.tracing.recorder.Exporter``."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        self._words.last = ""
        result = self._exporter.export([self._theirs(span) for span in spans])
        if result is SpanExportResult.SUCCESS:
            return None
        return f"{self._where}: {self._words.last or 'it was not taken'}"

    def close(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()

    def _theirs(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
        from opentelemetry.trace.status import Status, StatusCode

        def theirs(found: Context) -> SpanContext:
            return SpanContext(found.trace, found.span, True, TraceFlags(TraceFlags.SAMPLED))

        other = None if span.link is None else Context.parse(span.link)
        return ReadableSpan(
            span.name,
            context=theirs(context(span.part, span.ident or span.name)),
            parent=None if span.parent is None else theirs(context(span.part, span.parent)),
            resource=self._resource,
            attributes={"crosscheck.part": str(span.part), "crosscheck.station": span.part.station}
            | dict(span.attributes),
            events=[Event(name, timestamp=at) for name, at in span.events],
            links=[] if other is None else [Link(theirs(other))],
            kind=SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK),
            start_time=span.start,
            # A clock that was set back meanwhile must not make a span that ends before it begins.
            end_time=max(span.start, span.end),
            instrumentation_scope=self._scope,
        )


def open_exporter(url: str, *, process: str, name: str, version: str) -> OtelExporter:
    """An exporter to a collector.

    Args:
        url: HTTP URL of the collector; ``/v1/traces`` is added where it names no path.
        process: worker, agent or gate.
        name: which one of them.

    Raises:
        SettingsError: OpenTelemetry is not installed, or it is no HTTP URL.
    """
    endpoint = endpoint_of(url)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise SettingsError(
            "CROSSCHECK_TRACE is set, and OpenTelemetry is not installed: `pip install 'crosscheck[otel]'`,"
            " or unset it"
        ) from None
    resource = {
        "service.namespace": "crosscheck",
        "service.name": f"crosscheck-{process}",
        "service.instance.id": name,
        "service.version": version,
    }
    parts = urlsplit(endpoint)  # not all of it: it may carry a password
    where = f"collector {parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    return OtelExporter(OTLPSpanExporter(endpoint=endpoint, timeout=TIMEOUT_S), resource, where)


def endpoint_of(url: str) -> str:
    """Where spans are posted. Raises SettingsError."""
    parts = parsed("CROSSCHECK_TRACE", url, _FORMS)
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise SettingsError(f"CROSSCHECK_TRACE {shown(url)!r}: no URL of a collector; {_FORMS}")
    return url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}{PATH}"


class _LastWords(logging.Handler):
    """Keeps what a library would log at each try, so that one line of ours can say it once."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()[:300]


def _words_of(name: str) -> _LastWords:
    theirs = logging.getLogger(name)
    words = next((handler for handler in theirs.handlers if isinstance(handler, _LastWords)), _LastWords())
    theirs.addHandler(words)
    theirs.propagate = False
    return words

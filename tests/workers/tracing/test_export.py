"""Spans reach a collector by OTLP over HTTP; where it or OpenTelemetry is not there, people are told."""

from __future__ import annotations

import ast
import gzip
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from compose.process import free_ports
from schemas.part import PartKey
from tests.e2e.processes import wait_until
from workers.errors import SettingsError
from workers.settings import Settings
from workers.tracing import export
from workers.tracing.assembly import tracing
from workers.tracing.context import CAPTURE, context
from workers.tracing.export import endpoint_of
from workers.tracing.span import Span

PART = PartKey("s1", 1_700_000_000_000_000_000, 7)


class Collector:
    """Takes OTLP over HTTP on loopback, as a real one does."""

    def __init__(self, status: int = 200) -> None:
        found = self
        self.requests: list[tuple[str, dict[str, str], ExportTraceServiceRequest]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                found.requests.append(
                    (self.path, {name.lower(): value for name, value in self.headers.items()}, request)
                )
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def span() -> Span:
    return Span(
        part=PART,
        name="gate",
        parent=CAPTURE,
        start=1_700_000_000_000_000_000,
        end=1_700_000_001_000_000_000,
        attributes={"crosscheck.opened": True, "crosscheck.batch.size": 4, "crosscheck.score": 0.5},
        events=(("verdict held", 1_700_000_000_500_000_000),),
        link=b"00-0000000000000000000000000000abcd-00000000000000ef-01",
    )


def test_a_collector_gets_what_happened(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=token%20of%20the%20site")
    with tracing(Settings(trace=collector.url), "gate", "s1") as traced:
        assert traced is not None
        traced.recorder.tell(lambda: [span()])
    [(path, headers, request)] = collector.requests
    assert path == "/v1/traces"
    assert headers["authorization"] == "token of the site"
    [resource] = request.resource_spans
    said = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert said["service.name"] == "crosscheck-gate"
    assert said["service.instance.id"] == "s1"
    assert said["service.namespace"] == "crosscheck"
    [found] = resource.scope_spans[0].spans
    root = context(PART, CAPTURE)
    assert int.from_bytes(found.trace_id, "big") == root.trace
    assert int.from_bytes(found.parent_span_id, "big") == root.span
    assert int.from_bytes(found.span_id, "big") == context(PART, "gate").span
    assert (found.name, found.start_time_unix_nano) == ("gate", 1_700_000_000_000_000_000)
    assert found.end_time_unix_nano - found.start_time_unix_nano == 10**9
    assert [(event.name, event.time_unix_nano) for event in found.events] == [
        ("verdict held", 1_700_000_000_500_000_000)
    ]
    assert [link.trace_id.hex() for link in found.links] == ["0000000000000000000000000000abcd"]
    attributes = {item.key: item.value for item in found.attributes}
    assert attributes["crosscheck.part"].string_value == str(PART)
    assert attributes["crosscheck.opened"].bool_value is True
    assert attributes["crosscheck.batch.size"].int_value == 4


def _unreachable() -> str:
    [port] = free_ports(1)
    return f"http://127.0.0.1:{port}"


class Kept(logging.Handler):
    """What any library logs beside us."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    # The library tries again and again within this time, and says so each time.
    monkeypatch.setattr(export, "TIMEOUT_S", 1.5)
    kept = Kept()
    logging.getLogger().addHandler(kept)
    yield kept
    logging.getLogger().removeHandler(kept)


def test_a_collector_that_is_not_there_is_one_line_of_the_log(beside: Kept) -> None:
    with (
        structlog.testing.capture_logs() as logs,
        tracing(Settings(trace=_unreachable()), "gate", "s1") as traced,
    ):
        assert traced is not None
        traced.recorder.tell(lambda: [span()])
        wait_until(lambda: bool(logs), 20.0, "the line of the log")
    assert [log["event"] for log in logs] == ["traces.collector_away"]
    assert logs[0]["error"].startswith("collector 127.0.0.1:")
    assert traced.recorder.lost == 1
    assert beside.records == []


def test_a_collector_that_refuses_is_told_with_its_answer(beside: Kept) -> None:
    collector = Collector(status=401)
    try:
        with (
            structlog.testing.capture_logs() as logs,
            tracing(Settings(trace=collector.url), "gate", "s1") as traced,
        ):
            assert traced is not None
            traced.recorder.tell(lambda: [span()])
    finally:
        collector.close()
    assert [log["event"] for log in logs] == ["traces.collector_away"]
    assert "401" in logs[0]["error"]
    assert beside.records == []


def test_nothing_is_traced_where_nobody_asks() -> None:
    with tracing(Settings(), "worker", "w1") as traced:
        assert traced is None


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://collector.example/otlp/v1/traces", "https://collector.example/otlp/v1/traces"),
    ],
)
def test_the_path_of_otlp_is_added_where_none_is_named(url: str, endpoint: str) -> None:
    assert endpoint_of(url) == endpoint


@pytest.mark.parametrize(
    "url", ["127.0.0.1:4318", "grpc://collector:4317", "http://", "http://host:port", ""]
)
def test_what_is_no_url_of_a_collector_is_said_with_an_example(url: str) -> None:
    with pytest.raises(SettingsError, match=r"CROSSCHECK_TRACE .*: .*http://127\.0\.0\.1:4318"):
        endpoint_of(url)


def test_without_opentelemetry_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with (
        pytest.raises(SettingsError, match=r"pip install 'crosscheck\[otel\]'"),
        tracing(Settings(trace="http://127.0.0.1:4318"), "worker", "w1"),
    ):
        raise AssertionError("it began all the same")


def test_nothing_of_it_is_imported_where_nobody_asks_for_it() -> None:
    root = Path(export.__file__).parents[1]
    users = {
        path.relative_to(root).as_posix(): names
        for path in root.rglob("*.py")
        if (names := _imported_at_once(ast.parse(path.read_text())))
        & {"opentelemetry", "workers.tracing.export"}
    }
    assert users == {}
    source = ast.dump(ast.parse((root / "tracing" / "assembly.py").read_text()))
    assert "workers.tracing.export" in source, "else this test looks at nothing"


def _imported_at_once(tree: ast.Module) -> set[str]:
    """What a module imports as it is imported itself: not within functions, not for types alone."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, node.module.split(".")[0]}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found

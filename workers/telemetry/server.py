"""Metrics and health over HTTP, on threads of their own: no question reaches the loop that is asked about."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import structlog

from workers.errors import SettingsError
from workers.telemetry.health import Health
from workers.telemetry.pages import page
from workers.telemetry.registry import Registry

log = structlog.get_logger(__name__)

CLIENT_S = 5.0
"""How long a client may take from its connection to the end of the answer, however it spends that."""
AT_ONCE = 16
"""Clients that are served side by side, so that hanging ones cost no memory. For one more the oldest gives
way that has not asked its question yet, or else not taken its answer."""


class Monitor:
    """Answers ``/metrics``, ``/health/live`` and ``/health/ready`` until ``close``.

    Args:
        where: HOST:PORT, ``[HOST]:PORT`` for IPv6; port 0 takes a free one.

    Raises:
        SettingsError: no such address, or its port is taken.
    """

    def __init__(self, where: str, registry: Registry, health: Health) -> None:
        host, port = _parsed(where)
        try:
            self._server = _Server(host, port, registry, health)
        except OSError as error:
            raise SettingsError(
                f"CROSSCHECK_METRICS: cannot listen at {where} ({error.strerror}); choose another port"
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="monitor", daemon=True
        )
        self._thread.start()
        log.info("metrics.listening", at=self.address)

    @property
    def address(self) -> str:
        """HOST:PORT at which it listens, with the port that was taken."""
        host, port = self._server.server_address[:2]
        name = str(host)
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    def close(self) -> None:
        """Listen no longer; clients that hang are left behind. Closing twice is allowed."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parsed(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise SettingsError(f"CROSSCHECK_METRICS: {where!r}; write it as HOST:PORT, as 127.0.0.1:9101")
    return bare, int(port)


class _State(IntEnum):
    """How far a client is; the lower gives way first."""

    ASKS = 0
    READS = 1
    WAITS = 2
    """For us: whatever that lasts is no fault of the client's."""


@dataclass(slots=True)
class _Client:
    """A connection since ``begun`` (monotonic seconds)."""

    connection: socket.socket
    begun: float
    state: _State = _State.ASKS

    def cut(self) -> None:
        """End its connection; its thread finds that out by itself."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A client that hangs does not hold the end of the process up.
    block_on_close = False
    request_queue_size = 2 * AT_ONCE

    def __init__(self, host: str, port: int, registry: Registry, health: Health) -> None:
        self.registry = registry
        self.health = health
        self._lock = threading.Lock()
        # By connection, the oldest first.
        self._clients: dict[int, _Client] = {}
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._enter(request):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def service_actions(self) -> None:
        """Several times a second: end the clients whose time is up."""
        until = time.monotonic() - CLIENT_S
        with self._lock:
            for client in self._clients.values():
                if client.begun <= until and client.state is not _State.WAITS:
                    client.cut()

    def entered(self, request: socket.socket, state: _State) -> None:
        """A client got further."""
        with self._lock:
            if (client := self._clients.get(id(request))) is not None:
                client.state = state

    def _enter(self, request: socket.socket) -> bool:
        """Take a client in, where need be in another's place."""
        with self._lock:
            if len(self._clients) >= AT_ONCE:
                key, oldest = min(self._clients.items(), key=lambda item: (item[1].state, item[1].begun))
                if oldest.state is _State.WAITS:
                    return False
                oldest.cut()
                del self._clients[key]
            self._clients[id(request)] = _Client(request, time.monotonic())
            return True

    def _leave(self, request: socket.socket) -> None:
        with self._lock:
            # Another's connection may have this one's id by now.
            if (client := self._clients.get(id(request))) is not None and client.connection is request:
                del self._clients[id(request)]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or was too slow is no event of ours."""

    def server_bind(self) -> None:
        # The parent's asks the name service for our own name, which may take long and which nobody reads.
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    # One answer a connection: a client that keeps it open would keep a thread.
    protocol_version = "HTTP/1.0"
    server_version = "crosscheck"
    sys_version = ""
    timeout = CLIENT_S

    def do_GET(self) -> None:
        accept = self.headers.get("Accept")
        self.server.entered(self.connection, _State.WAITS)
        found = page(self.path, self.server.registry, self.server.health, accept=accept)
        self.server.entered(self.connection, _State.READS)
        self.send_response(found.status)
        self.send_header("Content-Type", found.content_type)
        self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        self.wfile.write(found.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes come every few seconds: they are not worth a line each."""

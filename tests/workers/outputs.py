"""An output card behind HTTP for tests: a real server on a thread, whose answers can be spoilt."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Output:
    """Attributes:
    open_for: the part it is open for, or None.
    keys: the idempotency keys of every ``energise``, in order.
    beats: heartbeats.
    status: what it answers with.
    hold: while clear, requests wait before they are carried out.
    close_after: ends the connection behind each answer.
    """

    def __init__(self) -> None:
        self.open_for: str | None = None
        self.keys: list[str] = []
        self.beats = 0
        self.releases = 0
        self.status = 200
        self.close_after = False
        self.hold = threading.Event()
        self.hold.set()
        self.connections: list[socket.socket] = []
        self._server = self._listen(0)
        self.port = int(self._server.server_address[1])

    def is_open(self) -> bool:
        """Whether it is open for any part."""
        return self.open_for is not None

    @property
    def address(self) -> str:
        """As ``--actuator`` takes it."""
        return f"http://127.0.0.1:{self.port}/gate/1"

    def _listen(self, port: int) -> ThreadingHTTPServer:
        output = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                output.connections.append(self.connection)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                output.hold.wait(10.0)
                if output.status < 300:
                    output.carry_out(self.path, body, self.headers.get("Idempotency-Key"))
                self.send_response(output.status)
                answer = b"" if output.status == 204 else b"ok"
                self.send_header("Content-Length", str(len(answer)))
                if output.close_after:
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                return  # the gate gave the request up

        server = Server(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def carry_out(self, path: str, body: dict[str, str], key: str | None) -> None:
        """What the card does."""
        if path == "/gate/1/energise":
            assert key == body["part"]
            self.keys.append(body["part"])
            self.open_for = body["part"]
        elif path == "/gate/1/release":
            self.open_for = None
            self.releases += 1
        elif path == "/gate/1/heartbeat":
            self.beats += 1

    def stop(self) -> None:
        """Nobody listens any more."""
        self.hold.set()
        self._server.shutdown()
        for connection in self.connections:
            with suppress(OSError):  # ended by the other side already
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()
        self._server.server_close()

    def start(self) -> None:
        """Listen again, where it did before."""
        self._server = self._listen(self.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

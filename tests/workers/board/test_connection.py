"""Clients that ask slowly or never, and readers that stand still: they go, and others are answered."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Literal

import fakeredis
import pytest
import structlog

from tests.e2e.processes import wait_until
from tests.workers.board.setting import TOKEN
from workers.board import connection, reply
from workers.board.server import BoardServer
from workers.board.sinks import Sink
from workers.board.state import State
from workers.bus.memory import MemoryBus
from workers.logs import configure_logs
from workers.settings import Settings
from workers.store.verdicts import VerdictStore

ROOM = 256
SLOW_S = 0.5


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoardServer]:
    """A board that serves, and waits for nobody for long."""
    monkeypatch.setattr(connection, "REQUEST_S", SLOW_S)
    monkeypatch.setattr(connection, "READ_S", SLOW_S)
    monkeypatch.setattr(reply, "BODY_S", SLOW_S)
    settings = Settings(board="127.0.0.1:0", board_token=TOKEN, review=tmp_path, log="json")
    server = BoardServer(settings, Sink.of(MemoryBus()), Sink.of(VerdictStore(fakeredis.FakeRedis())))
    server.start()
    yield server
    server.stop()


def connected(board: BoardServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", board.port), timeout=10)


def status(board: BoardServer) -> int:
    asking = http.client.HTTPConnection("127.0.0.1", board.port, timeout=10)
    with closing(asking):
        asking.request("GET", "/health/live")
        return asking.getresponse().status


@pytest.mark.parametrize("begun", [b"", b"GET / HT"])
def test_clients_that_never_finish_their_question_do_not_keep_others_out(
    board: BoardServer, begun: bytes
) -> None:
    with ExitStack() as stack:
        for _ in range(ROOM):
            client = stack.enter_context(connected(board))
            client.sendall(begun)
        wait_until(lambda: status(board) == 200, 20.0, "an answer beside them")


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST /api/login HTTP/1.1\r\nContent-Length: 9\r\nX: "])
def test_more_clients_that_trickle_than_there_is_room_for_keep_nobody_out_for_a_moment(
    tmp_path: Path, begun: bytes
) -> None:
    settings = Settings(board="127.0.0.1:0", board_token=TOKEN, review=tmp_path, log="json")
    board = BoardServer(settings, Sink.of(MemoryBus()), Sink.of(VerdictStore(fakeredis.FakeRedis())))
    board.start()
    try:
        with ExitStack() as stack:
            clients = [stack.enter_context(connected(board)) for _ in range(ROOM + 20)]
            for _ in range(3):
                for client in clients:
                    with suppress(OSError):
                        client.sendall(begun or b"G")
                assert [status(board) for _ in range(3)] == [200] * 3
    finally:
        board.stop()


def test_an_answer_that_is_taken_byte_by_byte_is_cut_in_time(
    board: BoardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", SLOW_S)
    large = b'{"x":"' + b"x" * 2**24 + b'"}'
    monkeypatch.setattr(State, "body", lambda state, signed_in: large)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", board.port))
        client.sendall(b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.settimeout(0.1)
        taken = 0
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                piece = client.recv(64)
            except TimeoutError:
                continue
            except OSError:
                break
            if not piece:
                break
            taken += len(piece)
            time.sleep(0.01)
        else:
            pytest.fail("it is still being served")
        assert taken < len(large)


def test_a_second_question_that_never_ends_is_cut_too(board: BoardServer) -> None:
    with connected(board) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /health")
        # Its end, and not the time after which the socket gives up.
        while client.recv(65536):
            pass


def test_a_body_that_does_not_come_is_refused(board: BoardServer) -> None:
    head = b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with connected(board) as client:
        client.sendall(head + b"Content-Length: 100\r\n\r\n{")
        assert client.recv(65536).startswith(b"HTTP/1.1 408")


def test_a_stream_that_is_read_goes_on_however_long(board: BoardServer) -> None:
    with connected(board) as client:
        client.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until = time.monotonic() + 4 * SLOW_S
        while time.monotonic() < until:
            assert client.recv(65536)
        assert board.events.clients == 1


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_a_reader_that_stands_still_gives_its_place_to_another(
    board: BoardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = b'{"x":"' + b"x" * 2**20 + b'"}'
    monkeypatch.setattr(State, "body", lambda state, signed_in: large)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", board.port))
        client.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: board.events.clients == 1, 10.0, "its place taken")
        wait_until(lambda: board.events.clients == 0, 20.0, "its place given back")


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_client_that_leaves_in_the_middle_of_its_login_leaves_no_word_in_the_log(
    board: BoardServer, style: Literal["console", "json"], capfd: pytest.CaptureFixture[str]
) -> None:
    before = structlog.get_config()
    configure_logs(style)
    try:
        body = b'{"token": "' + TOKEN.encode()
        head = b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for _ in range(3):
            with connected(board) as client:
                client.sendall(head + b"Content-Length: 300\r\n\r\n" + body)
        # Each is over once the board has no request of it under way any more.
        wait_until(lambda: not board.requests, 20.0, "their end")
        assert status(board) == 200
        printed = capfd.readouterr()
    finally:
        structlog.configure(**before)
    assert printed.out + printed.err == ""

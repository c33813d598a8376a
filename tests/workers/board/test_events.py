"""The stream: a few messages a second whatever comes in; who reads slowly gets newer rows, and is told."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import encode
from tests.workers.board.setting import TOKEN
from workers.board import events as events_module
from workers.board.events import MOST_WAITING, Batch, Client, choose
from workers.board.server import BoardServer
from workers.board.sinks import Sink
from workers.bus.base import Record
from workers.bus.memory import MemoryBus
from workers.settings import Settings
from workers.store.verdicts import VerdictStore

rows = st.lists(st.sampled_from("abcdefghij"), max_size=300).map(
    lambda stations: [{"station": station, "part": str(number)} for number, station in enumerate(stations)]
)


@given(rows, st.integers(10, 60))
def test_of_too_many_rows_the_newest_of_each_station_and_the_newest_of_all_are_shown(
    rows: list[dict[str, Any]], most: int
) -> None:
    chosen = choose(rows, most)
    assert len(chosen) == min(most, len(rows))
    assert [int(row["part"]) for row in chosen] == sorted(int(row["part"]) for row in chosen)
    newest = {row["station"]: row["part"] for row in rows}
    assert set(newest.values()) <= {row["part"] for row in chosen}
    if rows:
        assert chosen[-1] is rows[-1]


def test_what_a_slow_reader_has_not_taken_is_skipped_and_counted() -> None:
    client = Client(lambda: False)
    for number in range(10):
        client.offer(Batch(b"[]", 3, number))
    assert len(client.batches) == MOST_WAITING
    waiting = sum(batch.count + batch.skipped for batch in client.batches)
    assert client.skipped + waiting == 10 * 3 + sum(range(10))
    assert client.batches[-1].skipped == 9


@pytest.fixture
def board(tmp_path: Path) -> Iterator[BoardServer]:
    """A board that serves on a port of its own."""
    settings = Settings(board="127.0.0.1:0", board_token=TOKEN, review=tmp_path, log="json")
    store = VerdictStore(fakeredis.FakeRedis())
    server = BoardServer(settings, Sink.of(MemoryBus()), Sink.of(store))
    server.start()
    yield server
    server.stop()


def feed(board: BoardServer, *triggers: int, filler: str = "") -> None:
    for trigger in triggers:
        now = time.time_ns()
        verdict = Verdict(
            part=PartKey(f"s{trigger % 4}", 1, trigger),
            product="widget",
            decision=Decision.ERROR,
            captured_at=now,
            decided_at=now,
            deadline=now,
            worker="w1",
            reason=filler or None,
        )
        board.feed.take_verdict(Record("v", 0, trigger, None, encode(verdict), (), 0), True)


class Stream:
    """A browser's event source."""

    def __init__(self, board: BoardServer, *, cookie: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", board.port, timeout=30)
        headers = {"cookie": cookie} if cookie else {}
        self._connection.request("GET", "/api/events", headers=headers)
        self.answer = self._connection.getresponse()

    def next(self) -> tuple[str, Any]:
        """The next message: its event and data."""
        event, data = "", ""
        while True:
            line = self.answer.readline()
            if not line:
                raise EOFError
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                event = text[7:]
            elif text.startswith("data: "):
                data = text[6:]
            elif not text and event:
                return event, json.loads(data)

    def of(self, event: str) -> Any:
        """The data of the next message of that kind."""
        while True:
            found, data = self.next()
            if found == event:
                return data

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_browser_is_given_what_was_last_and_then_what_comes(board: BoardServer) -> None:
    feed(board, 1, 2)
    stream = Stream(board)
    first = stream.of("verdicts")
    assert [row["part"] for row in first["rows"]] == ["s1/1/1", "s2/1/2"]
    assert stream.of("state")["stations"][0]["name"] == "s1"
    feed(board, 3)
    assert [row["part"] for row in stream.of("verdicts")["rows"]] == ["s3/1/3"]
    stream.close()
    until(lambda: board.events.clients == 0)


def test_many_verdicts_come_in_few_messages_and_none_is_unaccounted_for(board: BoardServer) -> None:
    stream = Stream(board)
    stream.of("verdicts")
    stream.of("state")
    begun = time.monotonic()
    messages = shown = skipped = sent = 0
    while shown + skipped < 2000:
        if sent < 2000:
            feed(board, *range(sent, sent + 250))
            sent += 250
        data = stream.of("verdicts")
        messages, shown, skipped = messages + 1, shown + len(data["rows"]), skipped + data["skipped"]
        assert len(data["rows"]) <= events_module.MOST_ROWS
    assert shown + skipped == 2000
    assert messages <= (time.monotonic() - begun) / events_module.BEAT_S + 1
    stream.close()


def test_a_reader_that_stands_still_costs_no_memory_and_then_gets_the_newest(
    board: BoardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "BEAT_S", 0.01)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", board.port))
    slow.sendall(b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    until(lambda: board.events.clients == 1)
    (client,) = board.events._clients
    trigger = 0

    def pressed() -> bool:
        nonlocal trigger
        feed(board, *range(trigger, trigger + 50), filler="x" * 1000)
        trigger += 50
        assert len(client.batches) <= MOST_WAITING
        return client.skipped > 0

    until(pressed)
    feed(board, trigger)
    slow.settimeout(30)
    found, skipped = b"", 0
    newest = f'"part":"s{trigger % 4}/1/{trigger}"'.encode()
    while newest not in found[-200_000:]:
        piece = slow.recv(65536)
        assert piece
        found += piece
    while b'"skipped":' not in found.rpartition(newest)[2]:
        found += slow.recv(65536)
    skipped = sum(int(each.partition(b"}")[0]) for each in found.split(b'"skipped":')[1:])
    assert skipped > 0
    slow.close()
    until(lambda: board.events.clients == 0)


def test_one_browser_too_many_is_told_to_come_again(
    board: BoardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "MOST_CLIENTS", 1)
    first = Stream(board)
    until(lambda: board.events.clients == 1)
    second = Stream(board)
    assert second.answer.status == 503
    first.close()
    second.close()
    until(lambda: board.events.clients == 0)
    third = Stream(board)
    assert third.answer.status == 200
    third.close()


def test_each_browser_is_told_whether_it_is_signed_in(board: BoardServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", board.port, timeout=30)
    headers = {"content-type": "application/json"}
    connection.request("POST", "/api/login", json.dumps({"token": TOKEN}), headers)
    answer = connection.getresponse()
    cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
    answer.read()
    inside, outside = Stream(board, cookie=cookie), Stream(board)
    assert inside.of("state")["signed_in"] is True
    assert outside.of("state")["signed_in"] is False
    for each in (inside, outside, connection):
        each.close()


def test_health_is_answered_while_every_question_waits_for_redis(
    board: BoardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, begun = threading.Event(), threading.Semaphore(0)

    def find(part: PartKey) -> None:
        begun.release()
        assert hangs.wait(20)

    monkeypatch.setattr(board.reviews, "find", find)

    def ask(path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", board.port, timeout=10)
        with closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status

    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(ask, f"/api/part/s1/1/{number}") for number in range(12)]
        try:
            for _ in range(8):
                assert begun.acquire(timeout=10)
            assert ask("/health/live") == 200
        finally:
            hangs.set()
        assert {each.result() for each in waiting} == {404}


def test_an_end_does_not_wait_for_browsers(board: BoardServer) -> None:
    streams = [Stream(board) for _ in range(3)]
    until(lambda: board.events.clients == 3)
    begun = time.monotonic()
    board.stop()
    assert time.monotonic() - begun < 5.0
    for stream in streams:
        with pytest.raises((EOFError, http.client.IncompleteRead)):
            stream.of("the end")
        stream.close()

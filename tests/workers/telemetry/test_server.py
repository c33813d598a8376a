"""Metrics and health over HTTP: whoever asks, and however badly, nobody else waits."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from prometheus_client.core import Metric as Family
from structlog.testing import capture_logs

from tests.workers.telemetry.scraping import get, health, key, scrape
from workers.errors import SettingsError
from workers.telemetry import names
from workers.telemetry.families import family
from workers.telemetry.health import Health
from workers.telemetry.pages import Page
from workers.telemetry.registry import Registry
from workers.telemetry.server import AT_ONCE, Monitor


class Held:
    def collect(self) -> Iterable[Family]:
        yield family(names.HELD, 7)


class Broken:
    def collect(self) -> Iterable[Family]:
        yield family(names.PARTITIONS, 1)
        raise ZeroDivisionError


def monitor(*collectors: Held | Broken, checks: Health | None = None) -> Monitor:
    return Monitor("127.0.0.1:0", Registry(*collectors), checks or Health("worker"))


def test_a_port_of_zero_takes_a_free_one_and_says_which() -> None:
    with monitor(Held()) as served:
        host, _, port = served.address.rpartition(":")
        assert (host, int(port) > 0) == ("127.0.0.1", True)
        assert scrape(served.address)[key("crosscheck_held_parts")] == 7


def test_a_scraper_that_wants_openmetrics_gets_it_and_others_plain_text() -> None:
    with monitor(Held()) as served:
        _, plain, text = get(served.address, "/metrics")
        _, rich, more = get(served.address, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert plain.startswith("text/plain")
    assert rich.startswith("application/openmetrics-text")
    assert more.endswith("# EOF\n")
    assert "# HELP crosscheck_held_parts " in text


def test_health_is_two_hundred_or_five_hundred_and_three_with_each_check_and_its_reason() -> None:
    trouble: list[str | None] = [None]
    checks = Health("worker", live={"loop": lambda: None}, ready={"redis": lambda: trouble[0]})
    with monitor(checks=checks) as served:
        status, found = health(served.address, "ready")
        assert (status, found["redis"]["ok"], found["loop"]["ok"]) == (200, True, True)
        trouble[0] = "no answer"
        status, found = health(served.address, "ready")
        assert (status, found["redis"]["ok"], found["redis"]["why"]) == (503, False, "no answer")
        assert health(served.address, "live")[0] == 200


def test_a_path_that_is_none_says_which_there_are() -> None:
    with monitor() as served:
        status, _, body = get(served.address, "/")
    assert (status, "/health/ready" in body) == (404, True)


def test_a_query_does_not_matter() -> None:
    with monitor(Held()) as served:
        assert get(served.address, "/metrics?name=x")[0] == 200


def test_a_collector_that_fails_is_told_of_once_and_takes_no_other_along() -> None:
    with capture_logs() as logs, monitor(Broken(), Held()) as served:
        for _ in range(3):
            found = scrape(served.address)
            assert found[key("crosscheck_held_parts")] == 7
            assert key("crosscheck_partitions") not in found
    assert [e["collector"] for e in logs if e["event"] == "metrics.collector_failed"] == ["Broken"]


@contextmanager
def trickling(address: str, count: int, begun: bytes) -> Iterator[list[socket.socket]]:
    """So many clients that say a byte again and again, and never finish; whoever is cut comes back."""
    host, _, port = address.rpartition(":")
    clients = [socket.create_connection((host, int(port)), 5) for _ in range(count)]
    for client in clients:
        with suppress(OSError):
            client.sendall(begun)
    ended = threading.Event()

    def trickle() -> None:
        while not ended.wait(0.02):
            for at, client in enumerate(clients):
                try:
                    client.sendall(b"x")
                except OSError:
                    client.close()
                    clients[at] = socket.create_connection((host, int(port)), 5)

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield clients
    finally:
        ended.set()
        thread.join()
        for client in clients:
            client.close()


@pytest.mark.parametrize("begun", [b"", b"GET /metrics HTT", b"GET /metrics HTTP/1.1\r\nX-Slow: "])
@pytest.mark.parametrize("count", [AT_ONCE - 1, AT_ONCE, 3 * AT_ONCE])
def test_clients_that_trickle_keep_nobody_from_being_answered(begun: bytes, count: int) -> None:
    with monitor(Held()) as served, trickling(served.address, count, begun):
        for _ in range(5):
            assert scrape(served.address)[key("crosscheck_held_parts")] == 7


def test_a_client_has_so_long_for_all_of_its_request_however_it_spends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.telemetry.server.CLIENT_S", 0.5)
    with monitor(Held()) as served:
        host, _, port = served.address.rpartition(":")
        with socket.create_connection((host, int(port)), 5) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
            client.settimeout(0.05)
            # Each step is quick; all of them together are not.
            for _ in range(600):
                try:
                    client.sendall(b"x")
                    if client.recv(1) == b"":
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            else:
                pytest.fail("it may go on for ever")


def test_a_client_that_does_not_take_its_answer_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Page(200, "text/plain", b"x" * 2**24)
    monkeypatch.setattr("workers.telemetry.server.page", lambda path, *_, **__: large)
    with monitor(Held()) as served, ExitStack() as stack:
        host, _, port = served.address.rpartition(":")
        for _ in range(AT_ONCE):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, int(port)))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert client.recv(1) == b"H"
        with urllib.request.urlopen(f"http://{served.address}/metrics", timeout=10) as answer:
            assert len(answer.read()) == 2**24


def test_closing_does_not_wait_for_a_client_that_hangs() -> None:
    served = monitor()
    host, _, port = served.address.rpartition(":")
    with socket.create_connection((host, int(port)), 5):
        closing = threading.Thread(target=served.close)
        closing.start()
        closing.join(3)
        assert not closing.is_alive()
    served.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), 1)


@pytest.mark.parametrize("address", ["9101", "host:", ":9101", "host:port", "127.0.0.1:99999", "127.0.0.1:²"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(SettingsError, match="CROSSCHECK_METRICS"):
        Monitor(address, Registry(), Health("gate"))


def test_a_port_that_is_taken_is_named() -> None:
    with monitor() as served, pytest.raises(SettingsError, match="choose another port"):
        Monitor(served.address, Registry(), Health("gate"))


def _six() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_an_address_of_the_newer_kind_is_listened_at_or_named() -> None:
    if not _six():
        with pytest.raises(SettingsError, match="CROSSCHECK_METRICS"):
            Monitor("[::1]:0", Registry(), Health("gate"))
        return
    with Monitor("[::1]:0", Registry(Held()), Health("gate")) as served:
        assert served.address.startswith("[::1]:")
        assert scrape(served.address)[key("crosscheck_held_parts")] == 7


def test_the_body_is_json_for_a_supervisor_that_reads_it() -> None:
    with monitor(checks=Health("gate", ready={"lock": lambda: "locked"})) as served:
        _, kind, body = get(served.address, "/health/ready")
    assert kind == "application/json"
    found = json.loads(body)
    assert found["ok"] is False
    assert set(found["checks"]["lock"]) == {"ok", "why", "since"}

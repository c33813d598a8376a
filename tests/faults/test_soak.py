"""A few faults through the soak's own rig; the whole table (`make soak`) takes twenty minutes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from compose.services import Services
from tests.faults.crew import Nursery
from tests.faults.ledger import Row
from tests.faults.proxy import Cut, Proxy
from tests.faults.rig import FaultRig
from tests.faults.soak import FAULTS, pictures_for, run_class
from tests.faults.stage import Stage

CLASSES = {fault.key: fault for fault in FAULTS}


@pytest.fixture(scope="module")
def stage(
    services: Services, kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("soak")
    nursery = Nursery(folder)
    try:
        # Only classes with the stand-in model here: no models folder is needed.
        rig = FaultRig(folder, kafka_bootstrap, redis_url, nursery, pictures_for, folder / "none")
        yield Stage(rig, services)
    finally:
        nursery.close()


def shown(row: Row) -> str:
    """What a failing row says of itself."""
    return "\n".join([str(row.to_json()), *row.notes])


@pytest.mark.services
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("key", "times"), [("storm", 4), ("poison", 6), ("retention", 2), ("redis", 1)])
def test_no_part_is_lost_and_none_passes_unseen(stage: Stage, key: str, times: int) -> None:
    row = run_class(stage, CLASSES[key].with_stand_in(), times, parts=40)
    assert row.kept, shown(row)
    assert row.times >= times
    assert row.parts >= 40
    assert row.decisions.get("PASS", 0) > row.parts // 4, shown(row)
    assert row.decisions.get("REJECT", 0) > 0, shown(row)


# The proxy itself


class Echo(threading.Thread):
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self.listener.getsockname())

    def run(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with peer:
                while data := peer.recv(65536):
                    peer.sendall(data)


@pytest.fixture
def proxied() -> Iterator[Proxy]:
    echo = Echo()
    echo.start()
    with Proxy() as proxy:
        proxy.to(echo.address)
        yield proxy
    echo.listener.shutdown(socket.SHUT_RDWR)
    echo.listener.close()
    echo.join(5.0)


def connected(proxy: Proxy, timeout: float = 5.0) -> socket.socket:
    host, _, port = proxy.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout)


def exchange_until_closed(client: socket.socket) -> None:
    for _ in range(50):
        client.sendall(b"2")
        if not client.recv(16):
            raise ConnectionError("closed")


def test_bytes_pass_the_proxy_unchanged(proxied: Proxy) -> None:
    with connected(proxied) as client:
        client.sendall(b"part")
        assert client.recv(16) == b"part"


def test_a_silent_cut_holds_bytes_back_until_it_is_restored(proxied: Proxy) -> None:
    with connected(proxied) as client:
        client.sendall(b"1")
        assert client.recv(16) == b"1"
        proxied.cut(Cut.SILENT)
        client.sendall(b"2")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(16)
        proxied.restore()
        client.settimeout(5.0)
        assert client.recv(16) == b"2"


def test_a_refused_cut_resets_connections_and_takes_no_new_ones(proxied: Proxy) -> None:
    with connected(proxied) as client:
        client.sendall(b"1")
        assert client.recv(16) == b"1"
        proxied.cut(Cut.REFUSED)
        with pytest.raises(ConnectionError):
            exchange_until_closed(client)
        with connected(proxied) as late:
            try:
                late.sendall(b"3")
                answer = late.recv(16)
            except ConnectionError:
                answer = b""
            assert answer == b""
    proxied.restore()
    with connected(proxied) as again:
        again.sendall(b"4")
        assert again.recv(16) == b"4"


def test_latency_and_bandwidth_hold_each_direction_back(proxied: Proxy) -> None:
    with connected(proxied) as client:
        proxied.latency_s = 0.1
        began = time.monotonic()
        client.sendall(b"1")
        assert client.recv(16) == b"1"
        assert time.monotonic() - began >= 0.2
        proxied.restore()
        proxied.bandwidth = 100_000
        began = time.monotonic()
        client.sendall(bytes(30_000))
        got = 0
        while got < 30_000:
            got += len(client.recv(65536))
        # Each way takes 0.3 s, and may begin before the other has ended.
        assert time.monotonic() - began >= 0.3

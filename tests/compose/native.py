"""What compose.yaml starts, as plain processes: the same commands and variables, its volumes as folders.

Kafka and Redis are given. What a service waits for is waited for here as compose does, and its health check
is the file's own, with the port at which the process listens here. Prometheus and Grafana are left out.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compose.process import free_ports
from tests.compose.containers import Service
from tests.e2e.processes import COMMAND

_STEP_S = 0.1


@dataclass(slots=True)
class Started:
    """One service as a process."""

    service: Service
    process: subprocess.Popen[bytes]
    log: Path
    healthy: bool = False

    @property
    def once(self) -> bool:
        """Whether it ends when its work is done."""
        return str(self.service.raw["restart"]) == "on-failure"

    def tail(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-2000:]


@dataclass(slots=True)
class NativeLine:
    """The services of a compose file, as far as they run our image.

    Args:
        services: those to run; a service with replicas is as many processes.
        kafka, redis_url: what runs already.
        folder: the volumes and the logs.
        extra: more variables for every process, as topics and group of its own.
    """

    services: Mapping[str, Service]
    kafka: str
    redis_url: str
    folder: Path
    extra: Mapping[str, str]
    processes: dict[str, Started] = field(default_factory=dict)
    _ports: dict[tuple[str, str], int] = field(default_factory=dict)

    def volume(self, name: str) -> Path:
        """The folder that stands for a volume."""
        path = self.folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, timeout: float) -> None:
        """Start each service as soon as what it waits for has come; return when all are healthy or done."""
        until = time.monotonic() + timeout
        while not self._settled():
            assert time.monotonic() < until, f"not up within {timeout:g} s: {self._state()}"
            for name, service in self.services.items():
                if not self._copies(name) and all(self._come(*need) for need in service.needs.items()):
                    for number in range(int(service.raw["deploy"].get("replicas", 1))):
                        self._start(f"{name}-{number + 1}", service)
            for started in self.processes.values():
                code = started.process.poll()
                assert code in (None, 0), f"{started.service.name} ended with {code}: {started.tail()}"
                assert code is None or started.once, f"{started.service.name} ended: {started.tail()}"
                if not started.once and not started.healthy:
                    started.healthy = self.check(started)
            time.sleep(_STEP_S)

    def check(self, started: Started) -> bool:
        """The health check of its service, against where the process listens here."""
        words = started.service.raw["healthcheck"]["test"]
        assert words[:3] == ["CMD", "python", "-c"]
        url = words[3].partition("urlopen('")[2].partition("'")[0]
        return self.get(started, url) is not None

    def get(self, started: Started, url: str) -> bytes | None:
        """What a process answers at the address of its container; None where it is not 200."""
        port = url.split(":")[2].partition("/")[0]
        here = url.replace(f"127.0.0.1:{port}", f"127.0.0.1:{self._port(started, port)}")
        try:
            with urllib.request.urlopen(here, timeout=3) as reply:
                return bytes(reply.read())
        except (urllib.error.URLError, OSError):
            return None

    def _port(self, started: Started, port: str) -> int:
        name = next(name for name, each in self.processes.items() if each is started)
        return self._ports[(name, port)]

    def _settled(self) -> bool:
        started = {each.service.name for each in self.processes.values()}
        done = (each.process.poll() == 0 if each.once else each.healthy for each in self.processes.values())
        return started == set(self.services) and all(done)

    def _state(self) -> str:
        found = {name: each.healthy or each.process.poll() for name, each in self.processes.items()}
        waiting = next((e for e in self.processes.values() if not e.once and not e.healthy), None)
        return f"{found}; {waiting.service.name if waiting else ''}: {waiting.tail() if waiting else ''}"

    def _copies(self, name: str) -> list[Started]:
        return [each for each in self.processes.values() if each.service.name == name]

    def _come(self, name: str, condition: str) -> bool:
        if name not in self.services:
            return True  # Kafka and Redis
        found = self._copies(name)
        if condition == "service_healthy":
            return bool(found) and all(each.healthy for each in found)
        return bool(found) and all(each.process.poll() == 0 for each in found)

    def _start(self, name: str, service: Service) -> None:
        places = [(target, str(self.volume(source))) for source, target, _ in service.mounts]

        def here(text: str) -> str:
            for target, path in places:
                if text == target or text.startswith(target + "/"):
                    return path + text[len(target) :]
            return text

        variables = {key: here(value) for key, value in service.environment.items() if value is not None}
        variables |= {"CROSSCHECK_KAFKA": self.kafka, "CROSSCHECK_REDIS": self.redis_url}
        for key, value in variables.items():
            if value.startswith("0.0.0.0:"):
                port = value.rpartition(":")[2]
                (free,) = free_ports(1)
                self._ports[(name, port)] = free
                variables[key] = f"127.0.0.1:{free}"
        if service.raw.get("entrypoint") is None:
            command = [str(COMMAND), *(here(str(word)) for word in service.raw["command"])]
        else:
            line = str(service.raw["command"][0])
            command = ["/bin/sh", "-c", " ".join(_quoted(here(word)) for word in line.split())]
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=_surroundings() | variables | dict(self.extra),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.processes[name] = Started(service, process, log)

    def stop(self, timeout: float, kind: str = "") -> dict[str, int]:
        """SIGTERM to all whose names begin so; the exit codes of those that were running.

        ``docker compose stop`` does the same, and those that wait for others first.
        """
        running = {
            name: each
            for name, each in self.processes.items()
            if name.startswith(kind) and each.process.poll() is None
        }
        for each in running.values():
            each.process.terminate()
        until = time.monotonic() + timeout
        for name, each in running.items():
            try:
                each.process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{name} did not stop in {timeout:g} s: {each.tail()}") from None
        return {name: int(each.process.returncode) for name, each in running.items()}

    def kill(self) -> None:
        """End what is left."""
        for each in self.processes.values():
            if each.process.poll() is None:
                each.process.kill()
                each.process.wait(5.0)


def _quoted(word: str) -> str:
    return (
        word
        if set(word) & set("{};&|")
        else shlex.quote(word.rstrip(";")) + (";" if word.endswith(";") else "")
    )


def _surroundings() -> dict[str, str]:
    """Ours, without settings of a developer's shell; the same ``crosscheck`` and one thread each."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CROSSCHECK_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return kept | {"PATH": path, "OMP_NUM_THREADS": "1"}

"""`crosscheck services`: a real Kafka and a real Redis on this machine, by Docker or without it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from compose.kafka import KafkaServer, broker_answers, java
from compose.process import LocalServicesError, free_ports
from compose.redis import RedisServer, redis_binary

Mode = Literal["docker", "processes"]
_COMPOSE_FILE = Path(__file__).with_name("compose.yaml")
# Another program may take a free port between the look and the start.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the two servers listen: ``kafka`` is host:port, ``redis_url`` as Redis clients take it."""

    kafka: str
    redis_url: str


@dataclass(frozen=True, slots=True)
class Status:
    """What runs: ``endpoints`` are None where nothing was started from this folder."""

    endpoints: Endpoints | None
    kafka: bool
    redis: bool
    mode: Mode | None
    folder: Path


@dataclass(frozen=True, slots=True)
class _State:
    mode: Mode
    kafka_port: int
    controller_port: int
    redis_port: int
    # Where clients are told another address than the broker's own; None: they are told the broker's.
    kafka_advertised: str | None = None
    internal_port: int | None = None


class Services:
    """Kafka and Redis with data, logs and pids in one folder; several folders may run side by side.

    Args:
        data_dir: the folder.
        kafka_advertised: host:port that the broker tells its clients in place of its own: a TCP proxy that
            stands in front of it and forwards to the port of `Endpoints.kafka`. Taken at the first `up`.
    """

    def __init__(
        self,
        data_dir: Path | str = Path(".crosscheck") / "services",
        kafka_advertised: str | None = None,
    ) -> None:
        self.folder = Path(data_dir).absolute()
        self._advertised = kafka_advertised

    def up(
        self, on_progress: Callable[[str], None] | None = None, *, docker: bool | None = None
    ) -> Endpoints:
        """Start what does not run yet and wait until both answer; calling it again changes nothing.

        Args:
            on_progress: told in words what is being done.
            docker: force or forbid Docker; by default it is used where an engine answers.

        Raises:
            LocalServicesError: neither way is open, or a server did not start.
        """
        say = on_progress or (lambda _: None)
        with self._locked():
            state = self._load()
            if state is not None:
                if self._answers(state) == (True, True):
                    say("already running")
                    return _endpoints(state)
                self._start(state, say)
                return _endpoints(state)
            if self._advertised is not None:
                if docker:
                    raise LocalServicesError(
                        "a broker in Docker cannot advertise another address: docker=False"
                    )
                docker = False
            mode: Mode = "docker" if (docker_engine() if docker is None else docker) else "processes"
            if mode == "processes":
                # Both are looked for before either is started.
                java()
                redis_binary()
            for attempt in range(1, _ATTEMPTS + 1):
                kafka, controller, redis, internal = free_ports(4)
                proxied = self._advertised is not None
                state = _State(
                    mode, kafka, controller, redis, self._advertised, internal if proxied else None
                )
                self._save(state)
                try:
                    self._start(state, say)
                    return _endpoints(state)
                except LocalServicesError as error:
                    self._stop(state)
                    self._state_file.unlink()
                    if attempt == _ATTEMPTS or "in use" not in str(error):
                        raise
            raise AssertionError("unreachable")

    def status(self) -> Status:
        """What runs now."""
        state = self._load()
        if state is None:
            return Status(None, False, False, None, self.folder)
        return Status(_endpoints(state), *self._answers(state), state.mode, self.folder)

    def down(self, *, delete: bool = False) -> bool:
        """Stop both; ``delete`` removes their data too. Whether anything was known to run from here."""
        with self._locked():
            state = self._load()
            if state is not None:
                self._stop(state, delete=delete)
                self._state_file.unlink()
        if delete:
            shutil.rmtree(self.folder, ignore_errors=True)
        return state is not None

    # For fault tests: a server goes and comes back on the same port with the same data.

    def kill_kafka(self) -> None:
        """End the broker at once."""
        state = self._started()
        if state.mode == "docker":
            self._docker(state, "kill", "kafka")
        else:
            self._kafka(state).process.kill()

    def start_kafka(self) -> None:
        """Bring the broker back."""
        self._start(self._started(), lambda _: None)

    def kill_redis(self) -> None:
        """End Redis at once."""
        state = self._started()
        if state.mode == "docker":
            self._docker(state, "kill", "redis")
        else:
            self._redis(state).process.kill()

    def start_redis(self) -> None:
        """Bring Redis back."""
        self._start(self._started(), lambda _: None)

    def pids(self) -> dict[str, int]:
        """The pids of the running servers, where they are processes of this machine."""
        state = self._started()
        if state.mode == "docker":
            return {}
        found = {"kafka": self._kafka(state).process.pid(), "redis": self._redis(state).process.pid()}
        return {name: pid for name, pid in found.items() if pid is not None}

    def direct(self) -> str:
        """host:port of the broker past the proxy that it advertises; without one, the broker's own."""
        state = self._started()
        return f"127.0.0.1:{state.internal_port or state.kafka_port}"

    def _start(self, state: _State, say: Callable[[str], None]) -> None:
        kafka_up, redis_up = self._answers(state)
        if state.mode == "docker":
            say("starting containers")
            # By name: the file holds a whole line.
            self._docker(state, "up", "--detach", "--wait", "kafka", "redis")
            return
        if not redis_up:
            redis = self._redis(state)
            redis.process.stop()
            say(f"starting Redis on 127.0.0.1:{state.redis_port}")
            redis.start()
        if not kafka_up:
            kafka = self._kafka(state)
            kafka.process.stop()
            say(f"starting Kafka on 127.0.0.1:{state.kafka_port}")
            kafka.start(say)

    def _stop(self, state: _State, *, delete: bool = False) -> None:
        if state.mode == "docker":
            self._docker(state, "down", *(["--volumes"] if delete else []))
            return
        self._kafka(state).process.stop()
        self._redis(state).process.stop()

    def _answers(self, state: _State) -> tuple[bool, bool]:
        """Whether Kafka and Redis, those of this folder and no strangers on their ports, answer."""
        kafka, redis = self._kafka(state), self._redis(state)
        if state.mode == "docker":
            return broker_answers(state.kafka_port), redis.ready()
        return (
            kafka.process.pid() is not None and kafka.ready(),
            redis.process.pid() is not None and redis.ready(),
        )

    def _kafka(self, state: _State) -> KafkaServer:
        return KafkaServer(
            self.folder,
            state.kafka_port,
            state.controller_port,
            advertised=state.kafka_advertised,
            internal_port=state.internal_port,
        )

    def _redis(self, state: _State) -> RedisServer:
        return RedisServer(self.folder, state.redis_port)

    def _docker(self, state: _State, *words: str) -> None:
        project = "crosscheck-" + hashlib.sha256(str(self.folder).encode()).hexdigest()[:10]
        ports = {
            "CROSSCHECK_KAFKA_PORT": str(state.kafka_port),
            "CROSSCHECK_REDIS_PORT": str(state.redis_port),
        }
        command = ["docker", "compose", "-p", project, "-f", str(_COMPOSE_FILE), *words]
        try:
            done = subprocess.run(
                command, env={**os.environ, **ports}, capture_output=True, text=True, timeout=600, check=False
            )
        except subprocess.TimeoutExpired:
            raise LocalServicesError(f"`{' '.join(command)}` did not end within 10 minutes") from None
        if done.returncode != 0:
            tail = "\n".join(f"  {line}" for line in done.stderr.strip().splitlines()[-10:])
            raise LocalServicesError(f"`{' '.join(command)}` failed:\n{tail}")

    @property
    def _state_file(self) -> Path:
        return self.folder / "services.json"

    def _started(self) -> _State:
        state = self._load()
        if state is None:
            raise LocalServicesError(f"nothing was started in {self.folder}: run `crosscheck services up`")
        return state

    def _load(self) -> _State | None:
        try:
            return _State(**json.loads(self._state_file.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise LocalServicesError(
                f"{self._state_file} cannot be read: stop the servers by their pid files, then delete it"
            ) from None

    def _save(self, state: _State) -> None:
        self._state_file.write_text(json.dumps(asdict(state)) + "\n")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One `up` or `down` at a time in a folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _endpoints(state: _State) -> Endpoints:
    return Endpoints(f"127.0.0.1:{state.kafka_port}", f"redis://127.0.0.1:{state.redis_port}/0")


def docker_engine() -> bool:
    """Whether a Docker engine answers; a client alone does not count."""
    if shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0

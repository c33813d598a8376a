"""A server process that outlives the command that started it: pid file, log, start, stop."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from schemas.errors import CrosscheckError

_PORTS = range(12_000, 32_000)


class LocalServicesError(CrosscheckError):
    """Kafka or Redis could not be installed, started or stopped on this machine."""

    reason = "services"


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """One server: its name, its folder, and a word of its command line by which it is known again."""

    name: str
    folder: Path
    # Part of the command line of this server and of no other, so that a stale pid is never taken for it.
    mark: str

    @property
    def log(self) -> Path:
        """Where the server writes."""
        return self.folder / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """Where the pid is kept."""
        return self.folder / f"{self.name}.pid"

    def pid(self) -> int | None:
        """The pid of the running server, or None. A pid file of another process counts as none."""
        try:
            pid = int(self.pid_file.read_text())
            process = psutil.Process(pid)
            words = process.cmdline()
            if not words:
                # One that begins has no command line yet; one that ends has lost it before its sockets close.
                time.sleep(0.1)
                words = process.cmdline()
            if process.status() != psutil.STATUS_ZOMBIE and any(self.mark in word for word in words):
                return pid
        except (OSError, ValueError, psutil.Error):
            pass
        return None

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Start the server in a session of its own, so that Ctrl-C in a terminal does not reach it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            try:
                process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
            except OSError as error:
                raise LocalServicesError(f"{self.name}: cannot run {command[0]}: {error.strerror}") from None
        self.pid_file.write_text(f"{process.pid}\n")
        # Whoever started the server may end first or last: nobody is to warn about a child left behind.
        process.returncode = 0
        return process.pid

    def wait_ready(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until the server answers.

        Raises:
            LocalServicesError: it ended or did not answer in time; the text ends with the tail of its log.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if not self._alive():
                raise LocalServicesError(f"{self.name} ended while starting.\n{self.tail()}")
            if time.monotonic() > deadline:
                raise LocalServicesError(f"{self.name} did not answer within {timeout:g} s.\n{self.tail()}")
            time.sleep(0.1)

    def stop(self, timeout: float = 15.0) -> bool:
        """Ask the server to end, then kill it; whether it was running."""
        pid = self.pid()
        if pid is None:
            self.pid_file.unlink(missing_ok=True)
            return False
        _signal(pid, signal.SIGTERM)
        if not self._gone(timeout):
            _signal(pid, signal.SIGKILL)
            self._gone(5.0)
        self.pid_file.unlink(missing_ok=True)
        return True

    def kill(self) -> None:
        """End the server at once, as a power cut would."""
        pid = self.pid()
        if pid is not None:
            _signal(pid, signal.SIGKILL)
            self._gone(5.0)

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log, with its place."""
        try:
            last = self.log.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            last = []
        return "\n".join([f"The last lines of {self.log}:", *(f"  {line}" for line in last)])

    def _alive(self) -> bool:
        """Whether the process just started still runs. Its command line is no help yet: it may change."""
        try:
            return psutil.Process(int(self.pid_file.read_text())).status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, psutil.Error):
            return False

    def _gone(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while (pid := self.pid()) is not None:
            # A child of this very process stays a zombie until it is waited for.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that are free at this moment, all different.

    They lie below those that a system gives to outgoing connections: a server that is down for a moment must
    find its port free when it comes back, and clients that try it meanwhile must not answer themselves.
    """
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            candidate = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                candidate.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise LocalServicesError(f"no {count} free ports between {_PORTS[0]} and {_PORTS[-1]} on 127.0.0.1")


def ask(port: int, question: bytes, length: int, timeout: float = 1.0) -> bytes:
    """What a server on 127.0.0.1 answers to some bytes, at most ``length`` bytes; empty if it does not."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.sendall(question)
            return connection.recv(length)
    except OSError:
        return b""

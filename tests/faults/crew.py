"""The workers of a fault line, and the supervisor that starts a dead one again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.processes import wait_until
from tests.faults.worker_process import Order

ROOT = Path(__file__).resolve().parents[2]
_RESTART_S = 0.2


class Nursery:
    """The process that workers are forked from; one for a whole soak. Closing it kills them all."""

    def __init__(self, folder: Path) -> None:
        self._errors = (folder / "nursery.err").open("ab")
        self._lock = threading.Lock()
        self._listeners: dict[str, Callable[[dict[str, Any]], None]] = {}
        self.ready = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker_process"],
            cwd=ROOT,
            # Neither loads the other's cores: each worker is one thread of arithmetic.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._listen, name="nursery", daemon=True)
        self._thread.start()
        if not self.ready.wait(120.0):
            self.close()
            raise AssertionError(f"the workers' parent did not start: see {folder / 'nursery.err'}")

    def start(self, order: Order, listener: Callable[[dict[str, Any]], None]) -> None:
        """Fork one worker; ``listener`` is told of its start and its end."""
        with self._lock:
            self._listeners[order.name] = listener
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
            self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                self.ready.set()
                continue
            with self._lock:
                listener = self._listeners.get(event["name"])
            if listener is not None:
                listener(event)

    def close(self) -> None:
        """Kill every worker that is left, and the parent."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(10.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5.0)
        self._thread.join(5.0)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()


@dataclass(slots=True)
class Member:
    """One worker process.

    Attributes:
        seat: which place in the crew it fills; its successor fills the same.
        ended_at: when it ended, nanoseconds since the epoch.
    """

    name: str
    seat: int
    log: Path
    arm: Path
    pid: int | None = None
    ended_at: int | None = None
    code: int | None = None
    stopped: bool = False
    _read: int = 0
    _held: set[int] = field(default_factory=set)

    @property
    def alive(self) -> bool:
        """Whether its process runs (or stands still under SIGSTOP)."""
        return self.pid is not None and self.ended_at is None

    def partitions(self) -> set[int]:
        """The partitions it holds, by its own log."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            return set()
        whole = data.rfind(b"\n") + 1
        self._read += whole
        for line in data[:whole].splitlines():
            if not line.startswith(b"{"):
                continue
            event = json.loads(line)
            numbers = {int(p.rpartition("[")[2].rstrip("]")) for p in event.get("partitions", ())}
            if event["event"] == "worker.assigned":
                self._held |= numbers
            elif event["event"] in ("worker.revoked", "worker.lost"):
                self._held -= numbers
        return set(self._held) if self.alive else set()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing to a worker that has ended."""
        if self.alive and self.pid is not None:
            self.stopped = (self.stopped or number is signal.SIGSTOP) and number is not signal.SIGCONT
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def die_at(self, step: str) -> None:
        """Let it kill itself the next time it reaches this step."""
        self.arm.write_text(step)
        self.signal(signal.SIGUSR1)


@dataclass(frozen=True, slots=True)
class Resources:
    """The most that one of the workers takes: resident megabytes, and open file descriptors."""

    rss_mb: float
    fds: int


class Crew:
    """Workers of one line. While ``supervised`` a worker that ended is followed by another.

    Args:
        settings: of every worker, fields of ``Settings``.
        slow_s: of the stand-in model; None for the real one.
    """

    def __init__(
        self,
        nursery: Nursery,
        folder: Path,
        settings: dict[str, Any],
        *,
        slow_s: float | None,
        poll_interval_s: float,
        prefix: str,
    ) -> None:
        self._nursery = nursery
        self._folder = folder
        self._settings = settings
        self._slow_s = slow_s
        self._poll_interval_s = poll_interval_s
        self._prefix = prefix
        self._lock = threading.RLock()
        self._count = 0
        self.supervised = True
        self.members: dict[int, Member] = {}
        self.all: list[Member] = []
        self.restarts = 0
        self.on_end: Callable[[Member], None] = lambda member: None

    def start(self, seat: int, settings: dict[str, Any] | None = None) -> Member:
        """Fill one seat with a new worker."""
        with self._lock:
            self._count += 1
            order = Order(
                f"{self._prefix}-w{seat}-{self._count}",
                str(self._folder),
                self._settings | (settings or {}),
                self._slow_s,
                self._poll_interval_s,
            )
            member = Member(order.name, seat, order.log, order.arm)
            self.members[seat] = member
            self.all.append(member)
        self._nursery.start(order, lambda event: self._heard(member, event))
        return member

    def _heard(self, member: Member, event: dict[str, Any]) -> None:
        if event["event"] == "started":
            member.pid = event["pid"]
            return
        with self._lock:
            member.ended_at, member.code = event["at"], event["code"]
            replace = self.supervised and self.members.get(member.seat) is member
        self.on_end(member)
        if replace:
            self.restarts += 1
            timer = threading.Timer(_RESTART_S, self._again, (member,))
            timer.daemon = True
            timer.start()

    def _again(self, member: Member) -> None:
        with self._lock:
            if self.supervised and self.members.get(member.seat) is member:
                self.start(member.seat)

    def living(self) -> list[Member]:
        """The workers whose process is there, by seat."""
        with self._lock:
            return [member for _, member in sorted(self.members.items()) if member.alive]

    def holder(self, partition: int) -> Member | None:
        """The worker that holds a partition, by its own log; a stopped one may still believe it does."""
        found = [m for m in self.living() if partition in m.partitions()]
        return min(found, key=lambda m: m.stopped, default=None)

    def settled(self, partitions: set[int]) -> bool:
        """Whether every partition is with exactly one of the workers that run."""
        held = [n for m in self.living() if not m.stopped for n in m.partitions()]
        return sorted(held) == sorted(partitions)

    def wait_settled(self, partitions: set[int], timeout: float) -> None:
        """Wait until the group has shared all partitions out."""
        wait_until(lambda: self.settled(partitions), timeout, "partitions shared by the workers", every=0.1)

    def resources(self) -> Resources:
        """What the living workers take."""
        rss, fds = [0.0], [0]
        for member in self.living():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(member.pid)
                rss.append(process.memory_info().rss / 1e6)
                fds.append(process.num_fds())
        return Resources(max(rss), max(fds))

    def retire(self, seat: int) -> Member | None:
        """Ask one to leave, and let nobody follow; returns it."""
        with self._lock:
            member = self.members.pop(seat, None)
        if member is not None:
            member.signal(signal.SIGCONT)
            member.signal(signal.SIGTERM)
        return member

    def stop(self, timeout: float = 12.0) -> list[Member]:
        """End all of them, killing what does not end in time; returns those that had to be killed."""
        self.supervised = False
        with self._lock:
            everyone = [member for member in self.all if member.ended_at is None]
        for member in everyone:
            member.signal(signal.SIGCONT)
            member.signal(signal.SIGTERM)
        until = time.monotonic() + timeout
        while any(member.alive for member in everyone) and time.monotonic() < until:
            time.sleep(0.05)
        stubborn = [member for member in everyone if member.alive]
        for member in stubborn:
            member.signal(signal.SIGKILL)
        return stubborn

"""The command line as a user types it: each call a process of its own, its output kept in a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).parent / "crosscheck"


def wait_until(condition: Callable[[], bool], timeout: float, what: str, every: float = 0.05) -> None:
    """Return as soon as the condition holds; an AssertionError names what did not come."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(every)


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Running:
    """One ``crosscheck`` process; what it prints goes to NAME.out and NAME.err in ``folder``."""

    def __init__(self, *words: str, folder: Path, name: str, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        # Two torches that each take every core would starve the brokers they talk to.
        limits = {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self.process = subprocess.Popen(
                [str(COMMAND), *words],
                cwd=folder,
                env={**os.environ, **limits, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send one signal to this process."""
        self.process.send_signal(number)

    def wait(self, timeout: float) -> Done:
        """Its end. Raises AssertionError with the tail of what it printed."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            tail = self._err.read_text(errors="replace")[-2000:]
            raise AssertionError(f"{self.name} did not end within {timeout:g} s:\n{tail}") from None
        return Done(code, self._out.read_text(errors="replace"), self._err.read_text(errors="replace"))

    def events(self) -> list[dict[str, Any]]:
        """What it has logged so far, with ``CROSSCHECK_LOG=json``."""
        found = []
        for line in self._err.read_text(errors="replace").splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):
                found.append(json.loads(line))
        return found

    def stop(self, timeout: float = 15.0) -> None:
        """Make sure that it is gone: asked first, then killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5.0)


def crosscheck(
    *words: str, folder: Path, timeout: float = 120.0, env: Mapping[str, str] | None = None
) -> Done:
    """Run one command to its end."""
    running = Running(*words, folder=folder, name=f"{words[0]}-{time.monotonic_ns()}", env=env)
    try:
        return running.wait(timeout)
    finally:
        running.stop()

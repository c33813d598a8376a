"""What a class of faults may lay its hands on, and how such a class is described."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

from compose.services import Services
from tests.e2e.processes import wait_until
from tests.faults.rig import FaultRig, Line, LineSetup


@dataclass(slots=True)
class Stage:
    """Where a class of faults plays: the rig, and the servers behind it.

    Attributes:
        extra: what the place added (a proxy, a cluster), by name.
    """

    rig: FaultRig
    services: Services
    extra: dict[str, object] = field(default_factory=dict)

    def end_server(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the broker ("kafka") or to "redis", and wait until it has gone."""
        pid = self.services.pids().get(name)
        if pid is None:
            # In a container, where only this can be done.
            self.services.kill_kafka() if name == "kafka" else self.services.kill_redis()
            return
        os.kill(pid, number)
        wait_until(lambda: name not in self.services.pids(), 30.0, f"end of {name}", every=0.05)


Place = Callable[[Stage], AbstractContextManager[Stage]]


@contextmanager
def here(stage: Stage) -> Iterator[Stage]:
    """The servers that every class shares."""
    yield stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One class of faults.

    Attributes:
        name: its row in the table; ``key``: its name on the command line.
        inject: puts the faults in, so many times, while the line runs; waits for each recovery.
        data_lost: Redis loses its data on the way.
        place: servers of its own, where it needs some.
        limit_s: after so many seconds no further fault is begun.
    """

    key: str
    name: str
    setup: LineSetup
    inject: Callable[[Stage, Line, int], None]
    data_lost: bool = False
    place: Place = here
    limit_s: float = 420.0

    def with_stand_in(self) -> Fault:
        """The same faults on the stand-in model."""
        return replace(self, setup=replace(self.setup, real=False))


def pace(seconds: float) -> None:
    """Let the line run for a moment: the time between two faults, not a wait for an outcome."""
    time.sleep(seconds)

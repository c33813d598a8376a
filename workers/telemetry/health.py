"""Whether a process moves, and whether it can do its work: told by what it has seen, not by asking anew.

*Live* says that the process is to be left alone: at 503 its supervisor starts it again. *Ready* says that it
can do its work now: at 503 nobody need do anything but look. A sink that is away makes a process not ready;
to start it again would not help.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog
from prometheus_client.core import Metric as Family

from workers.clock import Clock, SystemClock
from workers.telemetry import names
from workers.telemetry.families import family
from workers.telemetry.names import Process

log = structlog.get_logger(__name__)

Ask = Callable[[], str | None]
"""One check: None where all is well, else why not, in one line. It only looks at what is known already: it
neither waits nor asks a service."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one check said.

    Attributes:
        why: empty where it is well.
        since: when it last changed, integer milliseconds since the epoch.
    """

    name: str
    ok: bool
    why: str
    since: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What all of them said."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check is well."""
        return all(check.ok for check in self.checks)

    @property
    def status(self) -> int:
        """The HTTP status: 200 or 503."""
        return 200 if self.ok else 503

    @property
    def body(self) -> bytes:
        """``{"ok", "checks": {NAME: {"ok", "why", "since"}}}`` as JSON."""
        checks = {c.name: {"ok": c.ok, "why": c.why, "since": c.since} for c in self.checks}
        return json.dumps({"ok": self.ok, "checks": checks}).encode() + b"\n"


class Health:
    """The checks of one process; a collector too, of what they say and of when the process started.

    Any thread may ask. A check that fails itself counts as not ready, and as live: a mistake in the watching
    must not end who is watched.

    Args:
        process: whose they are.
        live, ready: checks by name; more may be added until the first question.
    """

    def __init__(
        self,
        process: Process,
        *,
        live: Mapping[str, Ask] | None = None,
        ready: Mapping[str, Ask] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.process: Process = process
        self._live = dict(live or {})
        self._ready = dict(ready or {})
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._since: dict[str, tuple[bool, int]] = {}
        self._started = self._clock.now() / 1e9

    def add_live(self, name: str, ask: Ask) -> None:
        """One more check, or another one of that name."""
        self._live = {**self._live, name: ask}

    def add_ready(self, name: str, ask: Ask) -> None:
        """One more check, or another one of that name."""
        self._ready = {**self._ready, name: ask}

    def live(self) -> Answer:
        """Whether the process moves."""
        return Answer(tuple(self._check(name, ask, broken=True) for name, ask in self._live.items()))

    def ready(self) -> Answer:
        """Whether it can do its work; one that does not move cannot."""
        ready = tuple(self._check(name, ask, broken=False) for name, ask in self._ready.items())
        return Answer((*self.live().checks, *ready))

    def collect(self) -> Iterable[Family]:
        """Both as gauges, and each check by itself."""
        ready = self.ready()
        yield family(names.LIVE, {(self.process,): float(self.live().ok)})
        yield family(names.READY, {(self.process,): float(ready.ok)})
        yield family(names.CHECK, {(self.process, check.name): float(check.ok) for check in ready.checks})
        yield family(names.START_TIME, {(self.process,): self._started})

    def _check(self, name: str, ask: Ask, *, broken: bool) -> Check:
        try:
            why = ask()
            ok = why is None
        except Exception as error:  # a check that fails is told of, and decides nothing about life
            why, ok = f"the check failed: {error!r}", broken
        now = self._clock.now() // 1_000_000
        with self._lock:
            before = self._since.get(name)
            since = now if before is None or before[0] is not ok else before[1]
            self._since[name] = (ok, since)
        return Check(name, ok, why or "", since)

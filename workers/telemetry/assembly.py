"""Everything that watches one process, put together: one line a piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

from workers.contact import Contact
from workers.steps.observing import Observer
from workers.telemetry.health import Ask, Health
from workers.telemetry.names import Process
from workers.telemetry.registry import Collector, Registry
from workers.telemetry.server import Monitor

SERVICE_S = 60.0
"""A service that nobody has spoken to for so long is not known to be there. A quiet process speaks to each of
its services every few seconds; one that waits for one of them may not speak to the others."""


@dataclass(slots=True)
class Assembly:
    """What watches a process, and its answers over HTTP.

    Attributes:
        process: which one it is.
        wanted: whether anybody can ask: CROSSCHECK_METRICS is set.
        observers: for ``InspectionWorker``.
    """

    process: Process
    where: str | None
    observers: list[Observer] = field(default_factory=list)
    registry: Registry = field(default_factory=Registry)
    health: Health = field(init=False)

    def __post_init__(self) -> None:
        self.health = Health(self.process)
        self.registry.add(self.health)

    @property
    def wanted(self) -> bool:
        """Whether there is an address at which anybody could ask."""
        return self.where is not None

    def collect(self, *collectors: Collector) -> None:
        """Their numbers are told too."""
        for collector in collectors:
            self.registry.add(collector)

    def observe(self, *observers: Observer) -> None:
        """They are told what the loop does; before the worker is made."""
        self.observers.extend(observers)

    def service(self, contact: Contact, within_s: float = SERVICE_S) -> None:
        """The process is not ready while this service cannot be spoken to, or was not for so many seconds."""
        self.health.add_ready(contact.service, lambda: contact.trouble(within_s))

    def until(self, name: str, why: str) -> Event:
        """The process is not ready before the event that is returned is set; ``why`` says what is missing."""
        done = Event()
        self.health.add_ready(name, lambda: None if done.is_set() else why)
        return done

    def stopping(self, stop: Event) -> None:
        """The process is not ready once it was told to stop."""
        self.health.add_ready("running", lambda: "told to stop: it ends its work" if stop.is_set() else None)

    def live(self, name: str, ask: Ask) -> None:
        """One more check of life."""
        self.health.add_live(name, ask)

    def ready(self, name: str, ask: Ask) -> None:
        """One more check of readiness."""
        self.health.add_ready(name, ask)

    @contextmanager
    def served(self) -> Iterator[Monitor | None]:
        """Answer over HTTP meanwhile; nothing where nobody can ask.

        Raises:
            SettingsError: no such address, or its port is taken.
        """
        if self.where is None:
            yield None
            return
        with Monitor(self.where, self.registry, self.health) as monitor:
            yield monitor

"""Who is told what the loop has done: metrics, drift, traces. They watch; they decide nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    # Gates and agents are watched too: they are not to load a model's library for two names.
    from workers.steps.pending import PendingPart
    from workers.steps.publishing import Outcome

log = structlog.get_logger(__name__)


class Observer(Protocol):
    """Told on the loop's own thread, so it neither waits nor computes for long, and keeps no images."""

    def batched(self, parts: Sequence[PendingPart], now: float) -> None:
        """A batch goes to the model. ``now``: monotonic seconds, as ``PendingPart.arrived``."""
        ...

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        """Both sinks have acknowledged these; a part may be told of twice after an outage."""
        ...


class Observers:
    """All of them, in order. One that fails is told of in the log and not asked again: the line goes on."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = list(observers)

    def batched(self, parts: Sequence[PendingPart], now: float) -> None:
        """Tell each observer of a batch."""
        self._tell(lambda observer: observer.batched(parts, now))

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        """Tell each observer of the answers."""
        self._tell(lambda observer: observer.answered(outcomes))

    def _tell(self, call: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                call(observer)
            except Exception as error:  # whatever it is: no part may hang on who only watches
                self._observers.remove(observer)
                log.error("worker.observer_failed", observer=type(observer).__name__, error=repr(error))

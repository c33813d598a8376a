"""What goes wrong around a worker: it crashes, Redis refuses, the result topic loses answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.bus.base import TopicPartition
from workers.errors import BusError, StoreError
from workers.inspection import InspectionWorker
from workers.steps.delivery import Delivery, Offsets, Outgoing
from workers.steps.offsets import Ticket
from workers.steps.step import Step
from workers.watchdog import Watchdog


class Crash(BaseException):
    """The process ends here, whatever it was doing."""


@dataclass
class Member:
    """A worker process: who watches it, and how it crashes next."""

    watchdog: Watchdog
    crash_at: Step | None = None
    stop_at: Step | None = None
    meanwhile: Callable[[], None] | None = None
    worker: InspectionWorker | None = None

    def on_step(self, step: Step) -> None:
        if step is self.stop_at and self.meanwhile is not None:
            self.stop_at = None
            self.meanwhile()
        if step is self.crash_at:
            self.crash_at = None
            raise Crash


@dataclass
class Sent:
    """What was sent of one part."""

    place: TopicPartition
    first_offset: int
    whole: bool = True
    notice: bool = False
    offsets: list[int] = field(default_factory=list)
    topic: int = 0
    """How often the topic had been made again when it was sent."""

    @property
    def at(self) -> tuple[int, int]:
        """Its place in the order of all that was sent to the partition."""
        return self.topic, self.first_offset


class FlakyStore:
    """Redis that refuses the next so many calls."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.refuse = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.refuse > 0:
                self.refuse -= 1
                raise StoreError("redis is away")
            return found(*args, **kwargs)

        return call


class FlakyTopic:
    """A result topic that refuses the next deliveries, or takes them and loses the answer."""

    def __init__(self, delivery: Delivery, trouble: deque[str]) -> None:
        self._delivery = delivery
        self._trouble = trouble

    def deliver(self, verdicts: Sequence[Outgoing], tickets: Sequence[Ticket]) -> Offsets:
        kind = self._trouble.popleft() if self._trouble else ""
        if kind == "refused":
            raise BusError("the broker is away")
        committed = self._delivery.deliver(verdicts, tickets)
        if kind == "lost":
            raise BusError("no answer")
        return committed

    def close(self) -> None:
        self._delivery.close()

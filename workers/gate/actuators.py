"""What moves the gate. Energise-to-pass: without power, or without a word, it is closed.

A process that is killed says no last word. What it had switched on stays on until the PLC misses the
heartbeat and closes by itself: that is the PLC's program, and no gate without it is closed when it dies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from schemas.part import PartKey


class Actuator(Protocol):
    """A solenoid, a diverter, a PLC output. Any exception means that it failed, and the gate stays closed."""

    def energise(self, part: PartKey) -> None:
        """Open for this part. Returns when the output is confirmed."""
        ...

    def release(self) -> None:
        """Close. Called more often than needed: closing a closed gate does nothing."""
        ...

    def heartbeat(self) -> None:
        """The gate process is alive. The PLC closes the gate by itself when these stop."""
        ...


class RemoteActuator(Actuator, Protocol):
    """An actuator with a connection."""

    def close(self) -> None:
        """Let go of the connection."""
        ...


def _nothing() -> None:
    return


class CallbackActuator:
    """Three functions as an actuator.

    Args:
        energise: called with the part to let through.
        release: called to close.
        heartbeat: called once in every turn of the gate's loop.
    """

    def __init__(
        self,
        energise: Callable[[PartKey], None],
        release: Callable[[], None],
        heartbeat: Callable[[], None] = _nothing,
    ) -> None:
        self._energise = energise
        self._release = release
        self._heartbeat = heartbeat

    def energise(self, part: PartKey) -> None:
        self._energise(part)

    def release(self) -> None:
        self._release()

    def heartbeat(self) -> None:
        self._heartbeat()


class RecordingActuator:
    """Remembers what it was told: for the demo and for tests.

    Attributes:
        passed: the parts it opened for, in order.
        open_for: the part it is open for now, or None while closed.
        releases, heartbeats: how often each was called.
    """

    def __init__(self) -> None:
        self.passed: list[PartKey] = []
        self.open_for: PartKey | None = None
        self.releases = 0
        self.heartbeats = 0

    def energise(self, part: PartKey) -> None:
        self.passed.append(part)
        self.open_for = part

    def release(self) -> None:
        self.releases += 1
        self.open_for = None

    def heartbeat(self) -> None:
        self.heartbeats += 1

"""Which part is in front of the gate, and when: the gate's own eyes, independent of cameras and bus."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.part import PartKey
from workers.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Arrival:
    """A part on its way to the gate.

    Attributes:
        part: the key that the trigger minted.
        triggered_at: when the photo-eye saw it; integer nanoseconds since the epoch.
        due: when it is in front of the gate: a verdict seen after this moment never opens. Same unit.
        challenge: the line says that this part is known to be bad: it never passes.
    """

    part: PartKey
    triggered_at: int
    due: int
    challenge: bool = False

    def __post_init__(self) -> None:
        if self.due < self.triggered_at:
            raise ValueError(f"part {self.part}: due {self.due} before its trigger {self.triggered_at}")


class PartSource(Protocol):
    """A photo-eye, an encoder, a PLC counter, or a simulation of one.

    A source keeps every part until the gate has said ``settled``, so that a gate that starts again sees the
    parts it had not decided.
    """

    def rewind(self) -> None:
        """Begin again with the oldest part not settled. The gate calls this once when it starts."""
        ...

    def poll(self) -> Sequence[Arrival]:
        """Arrivals since the last call, in the order of the belt, without waiting.

        Raises:
            SourceError: the source cannot be read; the next call may succeed.
        """
        ...

    def settled(self, part: PartKey) -> None:
        """The decision about this part is on disk: it need not be told of again."""
        ...

    @property
    def away(self) -> str | None:
        """Why parts may come by unseen now; None while it sees them."""
        ...

    def look(self) -> Sequence[str]:
        """What has befallen the source since the last call, each once; the gate asks twice a second."""
        ...


def travel_ns(travel_s: float) -> int:
    """Seconds from trigger to gate as nanoseconds. Raises SettingsError: no belt is that fast or slow."""
    if not 0.0 < travel_s < 86_400.0:
        raise SettingsError(
            f"travel (--travel) {travel_s:g} s: use the seconds from trigger to gate, under a day"
        )
    return round(travel_s * 1e9)


class SimulatedPartSource:
    """A photo-eye in this process: ``trigger`` is called by the line, ``poll`` by the gate, on any threads.

    Args:
        travel_s: seconds that a part takes from the trigger to the gate.
    """

    away: str | None = None

    def __init__(self, *, travel_s: float) -> None:
        self._travel = travel_ns(travel_s)
        self._parts: OrderedDict[PartKey, Arrival] = OrderedDict()
        self._fresh: list[Arrival] = []
        self._lock = threading.Lock()

    def trigger(self, part: PartKey, triggered_at: int, *, challenge: bool = False) -> None:
        """A part passed the photo-eye at ``triggered_at`` (nanoseconds since the epoch)."""
        arrival = Arrival(part, triggered_at, triggered_at + self._travel, challenge)
        with self._lock:
            self._parts.setdefault(part, arrival)
            self._fresh.append(arrival)

    def rewind(self) -> None:
        with self._lock:
            self._fresh = list(self._parts.values())

    def poll(self) -> Sequence[Arrival]:
        with self._lock:
            fresh, self._fresh = self._fresh, []
        return fresh

    def settled(self, part: PartKey) -> None:
        with self._lock:
            self._parts.pop(part, None)

    def look(self) -> Sequence[str]:
        return ()

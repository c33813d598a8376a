"""Which part is in front of the gate, and when: the gate's own eyes, independent of cameras and bus."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from schemas.errors import SchemaError
from schemas.part import PartKey
from workers.errors import SourceError

_READ_BYTES = 1 << 20
_MAX_LINE = 1 << 16


@dataclass(frozen=True, slots=True)
class Arrival:
    """A part on its way to the gate.

    Attributes:
        part: the key that the trigger minted.
        triggered_at: when the photo-eye saw it; integer nanoseconds since the epoch.
        due: when it is in front of the gate: a verdict seen after this moment never opens. Same unit.
    """

    part: PartKey
    triggered_at: int
    due: int

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


def _travel_ns(travel_s: float) -> int:
    if not 0.0 < travel_s < 86_400.0:
        raise ValueError(f"travel_s {travel_s}: expected the seconds from trigger to gate, above 0")
    return round(travel_s * 1e9)


class SimulatedPartSource:
    """A photo-eye in this process: ``trigger`` is called by the line, ``poll`` by the gate, on any threads.

    Args:
        travel_s: seconds that a part takes from the trigger to the gate.
    """

    def __init__(self, *, travel_s: float) -> None:
        self._travel = _travel_ns(travel_s)
        self._parts: OrderedDict[PartKey, Arrival] = OrderedDict()
        self._fresh: list[Arrival] = []
        self._lock = threading.Lock()

    def trigger(self, part: PartKey, triggered_at: int) -> None:
        """A part passed the photo-eye at ``triggered_at`` (nanoseconds since the epoch)."""
        arrival = Arrival(part, triggered_at, triggered_at + self._travel)
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


class LogPartSource:
    """Follows the trigger lines of a capture agent's log (``workers.capture.log``) from another process.

    Each line is a JSON object; those with ``"event": "trigger"`` carry ``part`` and ``at``. A last line
    without its newline is still being written and is left for the next call. The file may not exist yet.
    After ``rewind`` it is read from the start: the gate's journal knows which parts are decided.

    Args:
        path: the agent's log.
        station: parts of other stations in the same log are not this gate's.
        travel_s: seconds that a part takes from the trigger to the gate.
    """

    def __init__(self, path: Path, *, station: str, travel_s: float) -> None:
        self._path = path
        self._station = station
        self._travel = _travel_ns(travel_s)
        self._offset = 0
        self._rest = b""
        self.damaged_lines = 0
        """Complete lines that could not be read."""

    def rewind(self) -> None:
        self._offset, self._rest = 0, b""

    def poll(self) -> Sequence[Arrival]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_READ_BYTES)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SourceError(f"part source {self._path}: {error.strerror}; check the agent's log") from None
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_LINE:
            raise SourceError(
                f"part source {self._path}: a line of over {_MAX_LINE} bytes; this is not an agent's log"
            )
        arrivals = []
        for line in lines:
            arrival = self._read(line)
            if arrival is not None:
                arrivals.append(arrival)
        return arrivals

    def _read(self, line: bytes) -> Arrival | None:
        if not line.strip():
            return None
        try:
            raw = json.loads(line)
            if raw["event"] != "trigger":
                return None
            part, at = PartKey.parse(raw["part"]), raw["at"]
            if type(at) is not int:
                raise TypeError("at")
        except (ValueError, KeyError, TypeError, RecursionError, SchemaError):
            self.damaged_lines += 1
            return None
        return Arrival(part, at, at + self._travel) if part.station == self._station else None

    def settled(self, part: PartKey) -> None:
        """Nothing to forget: the log keeps every part."""

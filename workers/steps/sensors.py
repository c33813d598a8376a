"""Which sensors of a station can be believed: missing, frozen, down, recovering, up."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from enum import StrEnum

from schemas.part import PartKey
from workers.bus.base import TopicPartition
from workers.steps.pending import PendingPart

SENSORS = ("rgb", "depth")


class SensorState(StrEnum):
    """What the worker thinks of one sensor."""

    UP = "up"
    DOWN = "down"
    RECOVERING = "recovering"


@dataclass(slots=True)
class _Sensor:
    state: SensorState = SensorState.UP
    bad_run: int = 0
    good_run: int = 0
    digest: int | None = None
    part: PartKey | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """A sensor changed its state."""

    station: str
    sensor: str
    state: SensorState
    why: str


@dataclass(slots=True)
class SensorWatch:
    """The sensors of every station this worker serves.

    A sensor that gave nothing, or the same bytes as for the part before, was bad for that part;
    ``down_after`` bad parts in a row mark it down, and the station stops waiting for it. A sensor that is
    down is used again after ``up_after`` good parts in a row: one good frame from a loose cable proves
    nothing.
    """

    down_after: int
    up_after: int
    _stations: dict[str, dict[str, _Sensor]] = field(default_factory=dict)
    _places: dict[str, TopicPartition] = field(default_factory=dict)

    def down(self, station: str) -> frozenset[str]:
        """The sensors nobody should wait for."""
        sensors = self._stations.get(station, {})
        # One that is recovering is waited for: where it sends records of its own, only a pair that was waited
        # for can show that it is back.
        return frozenset(name for name, s in sensors.items() if s.state is SensorState.DOWN)

    def knows(self, station: str) -> bool:
        """Whether this worker has seen the station, or was told of it."""
        return station in self._stations

    def restore(
        self, station: str, sensor: str, state: SensorState, digest: int | None, part: PartKey | None
    ) -> None:
        """Take over what the worker before us knew: a frozen sensor stays frozen across a rebalance."""
        known = self._sensor(station, sensor)
        known.state, known.digest, known.part = state, digest, part
        known.bad_run = known.good_run = 0

    def remembered(self, station: str) -> dict[str, tuple[SensorState, int | None, PartKey | None]]:
        """What the next worker of the station must know, per sensor."""
        return {name: (s.state, s.digest, s.part) for name, s in self._stations.get(station, {}).items()}

    def forget(self, partitions: Set[TopicPartition]) -> list[str]:
        """Drop the stations of these partitions and name them: their new owner knows their sensors better."""
        gone = [name for name, place in self._places.items() if place in partitions]
        for station in gone:
            del self._places[station]
            self._stations.pop(station, None)
        return gone

    def observe(self, pending: PendingPart) -> list[Transition]:
        """Judge the sensors for one part: sets ``use_rgb``, ``use_depth`` and ``reasons``."""
        part = pending.part
        self._places[part.station] = pending.tickets[0].partition
        reasons: list[str] = []
        transitions: list[Transition] = []
        for name in SENSORS:
            # One that sends although nobody expects it is seen by the model too, so it is watched as well.
            if name not in pending.frame.expects and name not in pending.present:
                continue
            payload = pending.frame.rgb if name == "rgb" else pending.frame.depth
            sensor = self._sensor(part.station, name)
            why = self._bad(sensor, part, None if payload is None else payload.digest)
            state = self._step(sensor, good=why is None)
            if state is not None:
                transitions.append(Transition(part.station, name, state, why or "good again"))
            if sensor.state is not SensorState.UP:
                why = why or SensorState.RECOVERING.value
            if why is not None:
                reasons.append(f"{name}:{why}")
                if name == "rgb":
                    pending.use_rgb = False
                else:
                    pending.use_depth = False
        pending.reasons = tuple(reasons)
        return transitions

    def _sensor(self, station: str, name: str) -> _Sensor:
        return self._stations.setdefault(station, {}).setdefault(name, _Sensor())

    def _bad(self, sensor: _Sensor, part: PartKey, digest: int | None) -> str | None:
        if digest is None:
            return "missing"
        # The same part read twice is a replay; another part with the very same bytes is a frozen sensor.
        frozen = digest == sensor.digest and part != sensor.part
        sensor.digest, sensor.part = digest, part
        return "frozen" if frozen else None

    def _step(self, sensor: _Sensor, *, good: bool) -> SensorState | None:
        before = sensor.state
        if good:
            sensor.good_run += 1
            sensor.bad_run = 0
            if before is not SensorState.UP:
                up = sensor.good_run >= self.up_after
                sensor.state = SensorState.UP if up else SensorState.RECOVERING
        else:
            sensor.bad_run += 1
            sensor.good_run = 0
            if before is SensorState.RECOVERING or sensor.bad_run >= self.down_after:
                sensor.state = SensorState.DOWN
        return sensor.state if sensor.state is not before else None

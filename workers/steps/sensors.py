"""Which sensors of a station can be believed, part by part.

What is known before the model (missing, frozen, size, skew) decides which sensors it sees; what is known
after it (few, range, plane) counts for the parts that follow. The state machine is in ``condition``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

import structlog

from schemas.codes import SensorCode
from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.payload import ImagePayload
from workers.bus.base import TopicPartition
from workers.steps.condition import Condition, Limits, SensorState
from workers.steps.looking import Look
from workers.steps.pending import PendingPart, Shot
from workers.steps.usual import Usual

__all__ = ["SENSORS", "SensorState", "SensorWatch", "Transition"]

log = structlog.get_logger(__name__)

SENSORS = ("rgb", "depth")
MAX_STATIONS = 1024
IDLE_NS = 3_600_000_000_000
DOUBLE_NS = 100_000_000
"""Two parts with the same images are one part, seen twice, if no more time lies between them."""


@dataclass(slots=True)
class _Sensor:
    condition: Condition = field(default_factory=Condition)
    usual: Usual = field(default_factory=Usual)
    digest: int | None = None
    part: PartKey | None = None
    shot: Shot | None = None
    lag: int | None = None
    first: int | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """A sensor changed its state with this part."""

    station: str
    sensor: str
    before: SensorState
    state: SensorState
    why: str
    part: PartKey

    def tell(self) -> None:
        """The event, for logs."""
        log.warning(
            "worker.sensor",
            station=self.station,
            sensor=self.sensor,
            before=self.before.value,
            state=self.state.value,
            why=self.why,
            part=str(self.part),
        )


@dataclass(slots=True)
class SensorWatch:
    """The sensors of every station this worker serves. One thread calls it.

    Attributes:
        down_after: bad parts in a row that take a sensor down: the station stops waiting for it and the
            model does not see it.
        up_after: good pairs in a row that bring it up again: one good frame from a loose cable proves
            nothing.
        looks: whether ``learn`` is told what each decoded image showed. Then an image is good only when that
            look found nothing; else what is known before the model must do.
        max_skew_s: how far apart two records of a part may say that they were captured, and how far back the
            time of a later part may lie.
    """

    down_after: int
    up_after: int
    looks: bool = False
    max_skew_s: float = 0.25
    _stations: OrderedDict[str, dict[str, _Sensor]] = field(default_factory=OrderedDict)
    _heard: dict[str, int] = field(default_factory=dict)
    _places: dict[str, TopicPartition] = field(default_factory=dict)
    _gone: list[str] = field(default_factory=list)

    def down(self, station: str) -> frozenset[str]:
        """The sensors nobody should wait for."""
        sensors = self._stations.get(station, {})
        # One that is recovering is waited for: where it sends records of its own, only a pair that was waited
        # for can show that it is back.
        return frozenset(name for name, s in sensors.items() if s.condition.state is SensorState.DOWN)

    def knows(self, station: str) -> bool:
        """Whether this worker has seen the station, or was told of it."""
        return station in self._stations

    def states(self) -> dict[tuple[str, str], SensorState]:
        """The state of every sensor, by station and sensor."""
        return {
            (station, name): sensor.condition.state
            for station, sensors in self._stations.items()
            for name, sensor in sensors.items()
        }

    def condition(self, station: str, sensor: str) -> Condition | None:
        """How a sensor is, since when and why; None where nothing is known of it."""
        known = self._stations.get(station, {}).get(sensor)
        return None if known is None else known.condition

    # What is known before the model.

    def observe(self, pending: PendingPart) -> list[Transition]:
        """Judge the sensors for one part: sets ``use_rgb``, ``use_depth`` and why.

        A late record changes neither what is waited for nor what counts as missing: its part was judged when
        it left. That a sensor which is down sends again, and would be caught by waiting, is taken in.
        """
        part = pending.part
        self._hear(pending)
        double = self._double(pending)
        skewed = self._skewed(pending) if pending.late is None else set()
        pair = frozenset(pending.frame.expects) <= pending.present
        reasons: list[str] = []
        faulty: set[str] = set()
        held: set[str] = set()
        changes: list[Transition] = []
        for name in SENSORS:
            # One that sends although nobody expects it is seen by the model too, so it is watched as well.
            if name not in pending.frame.expects and name not in pending.present:
                continue
            payload = pending.frame.rgb if name == "rgb" else pending.frame.depth
            sensor = self._sensor(part.station, name)
            condition, before = sensor.condition, sensor.condition.state
            if pending.late is not None and name not in pending.late:
                why = "missing" if payload is None else None
            else:
                why = _fault(sensor, pending, payload) or ("skew" if name in skewed else None)
            if double and why == "frozen":
                # The part a second time: it says nothing of the sensor, and nothing is judged by it.
                faulty.add(name)
                why = SensorCode.DOUBLE.value
            elif pending.late is not None:
                if why is None and name in pending.late:
                    condition.rested(pending.read_at)
            elif why == "missing" and pending.hurried and before is not SensorState.DOWN:
                # Too short a wait says little about the sensor, until it goes on and on.
                faulty.add(name)
                condition.doubted(why, part, pending.read_at, self._limits)
            elif why is not None:
                faulty.add(name)
                condition.failed(why, part, pending.read_at, self._limits)
            elif not self.looks:
                condition.worked(part, pending.read_at, self._limits, pair=pair)
            changes.extend(_change(part, name, before, condition))
            if why is None and (why := _left_out(condition)) is not None:
                held.add(name)
            if why is not None:
                reasons.append(f"{name}:{why}")
                if name == "rgb":
                    pending.use_rgb = False
                else:
                    pending.use_depth = False
        pending.reasons, pending.faulty, pending.held = tuple(reasons), frozenset(faulty), frozenset(held)
        return changes

    def _double(self, pending: PendingPart) -> bool:
        """Whether this is the part before it once more: every sensor gave the same bytes, in no time.

        A photo-eye that bounces triggers twice, and the camera has one image for both. Time is counted from
        the first image of these bytes, so that a sensor that stands still is frozen soon all the same.
        """
        payloads = {"rgb": pending.frame.rgb, "depth": pending.frame.depth}
        for name in pending.present:
            sensor, payload = self._sensor(pending.part.station, name), payloads[name]
            if payload is None or payload.digest != sensor.digest or sensor.first is None:
                return False
            if not 0 < pending.frame.captured_at - sensor.first <= DOUBLE_NS:
                return False
        return pending.late is None and bool(pending.present)

    def _skewed(self, pending: PendingPart) -> set[str]:
        """The sensors whose time is not to be believed: it ran back, or is not that of the other's image."""
        bound = round(self.max_skew_s * 1e9)
        part, found = pending.part, set()
        shots = {
            name: pending.shots.get(name) or Shot(pending.frame.captured_at, pending.read_at)
            for name in SENSORS
            if name in pending.present
        }
        known = {name: self._sensor(part.station, name) for name in shots}
        for name, shot in shots.items():
            last, of = known[name].shot, known[name].part
            if last is None or of is None or of.run != part.run or part.trigger <= of.trigger:
                continue
            if last.captured_at - shot.captured_at > bound:
                found.add(name)
        times = [shot.captured_at for shot in shots.values()]
        if len(times) == 2 and abs(times[0] - times[1]) > bound and not found:
            found.add(_culprit(shots, known))
        for name, shot in shots.items():
            known[name].shot = shot
            if not found:
                known[name].lag = shot.read_at - shot.captured_at
        return found

    # What is known after it.

    def learn(self, pending: PendingPart, look: Look) -> list[Transition]:
        """Take in what the decoded images of a part showed: for its sensors, not for its verdict any more."""
        if pending.late is not None or not self.knows(pending.part.station):
            return []
        part, changes = pending.part, []
        pair = frozenset(pending.frame.expects) <= pending.present
        for name in SENSORS:
            payload = pending.frame.rgb if name == "rgb" else pending.frame.depth
            if payload is None:
                continue
            sensor = self._sensor(part.station, name)
            condition, usual = sensor.condition, sensor.usual
            usual.under(pending.frame.product, look.bundle)
            usual.size = look.expected.get(name, usual.size)
            if name in pending.faulty or name not in look.seen:
                continue  # counted already, or not looked at
            before = condition.state
            why = look.faults.get(name) or (_unusual(usual, look) if name == "depth" else None)
            if why in ("size", "plane"):
                condition.failed(why, part, pending.read_at, self._limits)
            elif why is not None:
                # A dark part or an empty belt lacks readings too, and a tall part is near: not one, but many
                # in a row speak against the sensor.
                condition.doubted(why, part, pending.read_at, self._limits)
            else:
                condition.worked(part, pending.read_at, self._limits, pair=pair)
                usual.size = usual.size or (payload.height, payload.width)
                if name == "depth":
                    usual.teach(look.share, look.distance)
            changes.extend(_change(part, name, before, condition))
        return changes

    @property
    def _limits(self) -> Limits:
        return Limits(self.down_after, self.up_after)

    # Whose stations they are.

    def restore(self, station: str, sensor: str, values: Mapping[str, str]) -> None:
        """Take over what the worker before us knew: a frozen sensor stays frozen across a rebalance.

        What another version wrote is left aside: the sensor starts afresh rather than stop the line.
        """
        try:
            restored = _from_map(values)
        except (KeyError, ValueError, SchemaError):
            return
        self._stations.setdefault(station, {})[sensor] = restored

    def remembered(self, station: str) -> dict[str, dict[str, str]]:
        """What the next worker of the station must know, per sensor."""
        return {name: _to_map(sensor) for name, sensor in self._stations.get(station, {}).items()}

    def forget(self, partitions: Set[TopicPartition]) -> list[str]:
        """Drop the stations of these partitions and name them: their new owner knows their sensors better."""
        gone = [name for name, place in self._places.items() if place in partitions]
        for station in gone:
            self._drop(station)
        return gone

    def drop_idle(self, now: int) -> list[str]:
        """Drop stations not heard of for an hour, and name those dropped since the last call.

        They are read back from Redis when they speak again. Invented names must not pile up.

        Args:
            now: integer nanoseconds since the epoch.
        """
        for station in [name for name, heard in self._heard.items() if now - heard > IDLE_NS]:
            self._drop(station)
            self._gone.append(station)
        gone, self._gone = self._gone, []
        return gone

    def _hear(self, pending: PendingPart) -> None:
        station = pending.part.station
        self._stations.setdefault(station, {})
        self._stations.move_to_end(station)
        self._heard[station] = pending.read_at
        self._places[station] = pending.tickets[0].partition
        while len(self._stations) > MAX_STATIONS:
            oldest = next(iter(self._stations))
            self._drop(oldest)
            self._gone.append(oldest)
            del self._gone[:-MAX_STATIONS]

    def _drop(self, station: str) -> None:
        self._stations.pop(station, None)
        self._heard.pop(station, None)
        self._places.pop(station, None)

    def _sensor(self, station: str, name: str) -> _Sensor:
        return self._stations.setdefault(station, {}).setdefault(name, _Sensor())


def _fault(sensor: _Sensor, pending: PendingPart, payload: ImagePayload | None) -> str | None:
    if payload is None:
        return "missing"
    # The same part read twice is a replay; another part with the very same bytes is a frozen sensor.
    frozen = payload.digest == sensor.digest and pending.part != sensor.part
    if payload.digest != sensor.digest:
        sensor.first = pending.frame.captured_at
    sensor.digest, sensor.part = payload.digest, pending.part
    if frozen:
        return "frozen"
    usual = sensor.usual
    if usual.size not in (None, (payload.height, payload.width)) and usual.product == pending.frame.product:
        return "size"
    return None


def _left_out(condition: Condition) -> str | None:
    """Why the model does not see an image with which nothing is wrong."""
    if condition.state is SensorState.DOWN:
        return condition.why or condition.state.value
    return condition.state.value if condition.state is SensorState.RECOVERING else None


def _culprit(shots: Mapping[str, Shot], known: Mapping[str, _Sensor]) -> str:
    """Whose clock has jumped: the one found out before, or whose records are suddenly older or younger."""
    for name, sensor in known.items():
        if sensor.condition.why == "skew":
            return name
    jumps = {}
    for name, shot in shots.items():
        lag = known[name].lag
        if lag is None:
            return "depth"
        jumps[name] = abs(shot.read_at - shot.captured_at - lag)
    return "rgb" if jumps["rgb"] > jumps["depth"] else "depth"


def _unusual(usual: Usual, look: Look) -> str | None:
    if look.share is not None and usual.few(look.share):
        return "few"
    # A belt in its place proves the distances, whatever stands on it.
    if look.distance is not None and look.belt is not True and usual.outside(look.distance):
        return "range"
    return None


def _change(part: PartKey, name: str, before: SensorState, condition: Condition) -> list[Transition]:
    if condition.state is before:
        return []
    return [Transition(part.station, name, before, condition.state, condition.why or "good again", part)]


def _to_map(sensor: _Sensor) -> dict[str, str]:
    c = sensor.condition
    return {
        "state": c.state.value,
        "since": str(c.since),
        "why": c.why,
        "level": str(c.level),
        "good": str(c.good),
        "patience": str(c.patience),
        "rest": str(c.rest),
        "unsure": str(c.unsure),
        "last_bad": "" if c.last_bad is None else str(c.last_bad),
        "digest": "" if sensor.digest is None else str(sensor.digest),
        "part": "" if sensor.part is None else str(sensor.part),
        **sensor.usual.to_map(),
    }


def _from_map(values: Mapping[str, str]) -> _Sensor:
    """Raises KeyError, ValueError or SchemaError: written by something else."""
    condition = Condition(
        SensorState(values["state"]),
        int(values.get("since") or 0),
        values.get("why", ""),
        int(values.get("level") or 0),
        int(values.get("good") or 0),
        max(1, int(values.get("patience") or 1)),
        int(values.get("rest") or 0),
        int(values.get("unsure") or 0),
        PartKey.parse(values["last_bad"]) if values.get("last_bad") else None,
    )
    return _Sensor(
        condition,
        Usual.from_map(values),
        int(values["digest"]) if values.get("digest") else None,
        PartKey.parse(values["part"]) if values.get("part") else None,
    )

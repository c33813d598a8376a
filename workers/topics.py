"""The plan behind `crosscheck topics`: which station is on which partition, and how large each topic is.

The partition is written down and sent explicitly. Client libraries hash keys differently, so a hash would put
one station on two partitions as soon as two languages publish, and hashing clumps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from schemas.errors import InvalidField
from schemas.part import PartKey
from schemas.regular import read_regular
from workers.bus.base import BATCH_OVERHEAD_BYTES, MAX_RECORD_BYTES, Bus, TopicSpec, largest_message
from workers.errors import BusError, SettingsError

_HOUR_MS = 3600 * 1000
# What a verdict and a heatmap take at most, bytes: their share of the retention is planned from it.
_VERDICT_BYTES = 4 * 1024
_HEATMAP_BYTES = 256 * 1024
_MIB = 2**20

SMALLER = (
    "send colour as JPEG and depth as delta16, cut the images to the region of interest, or send the two"
    " sensors apart"
)
"""What makes a frame's record smaller."""


class StationMap:
    """Which partition each station's records go to.

    Raises:
        SettingsError: no station, a name that keys cannot carry, or a partition that is not there.
    """

    def __init__(self, stations: Mapping[str, int], partitions: int | None = None) -> None:
        if not stations:
            raise SettingsError("the station map is empty: name at least one station")
        for station, partition in stations.items():
            try:
                PartKey(station, 0, 0)
            except InvalidField as error:
                raise SettingsError(str(error)) from None
            if type(partition) is not int or partition < 0:
                raise SettingsError(f"station {station!r}: partition {partition!r} is not a number from 0")
        needed = max(stations.values()) + 1
        if partitions is not None and partitions < needed:
            raise SettingsError(f"the station map uses partition {needed - 1}, the topic has {partitions}")
        self._stations = dict(stations)
        self.partitions = needed if partitions is None else partitions

    @classmethod
    def balanced(cls, stations: Sequence[str], partitions: int | None = None) -> StationMap:
        """Stations dealt out in turn, so that no partition has two more than another.

        ``partitions`` is one a station where not given.
        """
        if len(set(stations)) != len(stations):
            twice = sorted({station for station in stations if stations.count(station) > 1})
            raise SettingsError(f"stations named twice: {', '.join(twice)}")
        count = partitions or max(1, len(stations))
        return cls({station: i % count for i, station in enumerate(stations)}, count)

    def with_station(self, station: str) -> StationMap:
        """This map and one more station, on the emptiest partition; the others stay where they are."""
        if station in self._stations:
            return self
        used = list(self._stations.values())
        emptiest = min(range(self.partitions), key=used.count)
        return StationMap({**self._stations, station: emptiest}, self.partitions)

    def partition(self, station: str) -> int:
        """The partition of a station.

        Raises:
            SettingsError: the station is not on the map.
        """
        try:
            return self._stations[station]
        except KeyError:
            known = ", ".join(sorted(self._stations)[:8])
            names = ",".join([*self._stations, station])
            raise SettingsError(
                f"station {station!r} is not on the station map (it has: {known});"
                f" add it with `crosscheck topics --stations {names}`"
            ) from None

    def stations_of(self, partition: int) -> list[str]:
        """The stations on a partition."""
        return sorted(name for name, place in self._stations.items() if place == partition)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stations)

    def __len__(self) -> int:
        return len(self._stations)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StationMap):
            return NotImplemented
        return self._stations == other._stations and self.partitions == other.partitions

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"StationMap({self._stations}, partitions={self.partitions})"

    def to_json(self) -> str:
        """The map as JSON text, readable by agents in any language."""
        return (
            json.dumps({"v": 1, "partitions": self.partitions, "stations": self._stations}, indent=2) + "\n"
        )

    @classmethod
    def from_json(cls, text: str, where: str = "station map") -> StationMap:
        """The map written by `to_json`.

        Raises:
            SettingsError: it is something else; the message begins with ``where``.
        """
        try:
            content = json.loads(text)
            if content["v"] != 1:
                raise SettingsError(f"{where}: version {content['v']!r} is unknown, expected 1")
            stations, partitions = content["stations"], content["partitions"]
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"{where}: not a station map ({type(error).__name__}: {error});"
                " write it with `crosscheck topics`"
            ) from None
        if not isinstance(stations, dict) or type(partitions) is not int:
            raise SettingsError(f"{where}: not a station map; write it with `crosscheck topics`")
        try:
            return cls(stations, partitions)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from None

    def save(self, path: Path) -> None:
        """Write the map to a file, whole or not at all."""
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(self.to_json())
            part.replace(path)
        except OSError as error:
            raise SettingsError(f"station map {path}: cannot write it ({error.strerror})") from None

    @classmethod
    def load(cls, path: Path) -> StationMap:
        """Read a map from a file.

        Raises:
            SettingsError: the file is missing or is not a station map.
        """
        try:
            text = read_regular(path).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "not text"
            raise SettingsError(
                f"station map {path}: cannot read it ({said}); write it with `crosscheck topics`"
            ) from None
        return cls.from_json(text, f"station map {path}")


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """How every topic is to look, from what the line produces.

    ``frames_per_second`` and ``frame_bytes`` are those of one station. Bytes are kept for the planned rate
    with half as much again in reserve: retention by time is what should end a frame's life, and the limit in
    bytes only guards the disk. ``largest_record`` is what brokers take at most, bytes with key and headers.
    """

    station_map: StationMap
    frames_per_second: float = 10.0
    frame_bytes: int = 300_000
    retention_hours: float = 4.0
    prefix: str = "inspection"
    reserve: float = field(default=1.5, repr=False)
    largest_record: int = MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        for name in ("frames_per_second", "frame_bytes", "retention_hours"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise SettingsError(f"{name.replace('_', ' ')} {value}: expected a number above 0")
        limit = largest_message(self.largest_record)
        if self.frame_bytes > limit:
            raise SettingsError(
                f"frames of {self.frame_bytes} bytes are over the limit of {limit} bytes a frame: {SMALLER},"
                f" or raise CROSSCHECK_MAX_RECORD_BYTES (now {self.largest_record + BATCH_OVERHEAD_BYTES})"
            )

    def specs(self) -> dict[str, TopicSpec]:
        """Every topic by its full name."""
        many, one = self.station_map.partitions, 1
        frames = self._spec(many, self.retention_hours, self.frame_bytes)
        # Results outlive frames: they are small, and they are the proof.
        verdicts = self._spec(many, max(7 * 24.0, self.retention_hours), _VERDICT_BYTES, 2**20)
        heatmaps = self._spec(many, self.retention_hours, _HEATMAP_BYTES, 4 * _MIB)
        # Rare, but of any size, and somebody has to look at them after a weekend.
        week = round(7 * 24 * _HOUR_MS)
        dead = TopicSpec(partitions=one, retention_ms=week, retention_bytes=max(2**30, 64 * MAX_RECORD_BYTES))
        # What was activated last is never forgotten. What a newer command replaced stays as long as frames
        # that it speaks of: when a station changed its product is read by the time a part was captured.
        lag = max(24 * _HOUR_MS, frames.retention_ms)
        control = TopicSpec(partitions=one, retention_ms=lag, max_message_bytes=_MIB, compacted=True)
        # A few bytes a second and station; only the newest count.
        beats = TopicSpec(partitions=one, retention_ms=_HOUR_MS, max_message_bytes=64 * 1024)
        # What people said of rejects: rare and small, and worth more than the frames they are about. On one
        # partition, so that a label and the one that replaces it stay in order.
        labels = TopicSpec(
            partitions=one, retention_ms=13 * week, retention_bytes=64 * _MIB, max_message_bytes=64 * 1024
        )
        specs = {
            "frames": frames,
            "verdicts": verdicts,
            "heatmaps": heatmaps,
            "deadletter": dead,
            "control": control,
            "heartbeats": beats,
            "labels": labels,
        }
        return {
            f"{self.prefix}.{name}": replace(
                spec, max_message_bytes=min(spec.max_message_bytes, self.largest_record)
            )
            for name, spec in specs.items()
        }

    def apply(self, bus: Bus) -> None:
        """Make the topics, or widen and set those that are there.

        Raises:
            BusError: the broker cannot be reached, a topic has more partitions than the plan, or the broker
                does not take topics as planned.
        """
        specs = self.specs()
        bus.ensure_topics(specs)
        for topic, spec in specs.items():
            # Some managed brokers say yes and keep a limit of their own.
            taken = bus.largest_record(topic)
            if taken is not None and taken < spec.max_message_bytes:
                raise BusError(
                    f"{topic}: the broker keeps max.message.bytes at {taken + BATCH_OVERHEAD_BYTES} where"
                    f" {spec.max_message_bytes + BATCH_OVERHEAD_BYTES} was asked for: set"
                    f" CROSSCHECK_MAX_RECORD_BYTES={taken + BATCH_OVERHEAD_BYTES} for `crosscheck topics`,"
                    " agents and workers, or raise the broker's limit"
                )

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """One row a topic: name, partitions, retention, bytes kept a partition, largest record."""
        return [
            (
                topic,
                str(spec.partitions),
                _duration(spec.retention_ms) + (", newest of each key for good" if spec.compacted else ""),
                _size(spec.retention_bytes),
                _size(spec.max_message_bytes),
            )
            for topic, spec in self.specs().items()
        ]

    def _spec(
        self, partitions: int, hours: float, bytes_each: int, limit: int = MAX_RECORD_BYTES
    ) -> TopicSpec:
        busiest = max(len(self.station_map.stations_of(i)) for i in range(self.station_map.partitions))
        kept = bytes_each * self.frames_per_second * busiest * hours * 3600 * self.reserve
        return TopicSpec(
            partitions=partitions,
            retention_ms=round(hours * _HOUR_MS),
            # Never less than a handful of the largest records.
            retention_bytes=max(round(kept), 8 * limit),
            max_message_bytes=limit,
        )


def _duration(milliseconds: int) -> str:
    hours = milliseconds / _HOUR_MS
    return f"{hours / 24:g} d" if hours >= 48 else f"{hours:g} h"


def _size(count: int) -> str:
    if count < 0:  # as Kafka writes it
        return "no limit"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if size >= 1000 else f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"

"""What a worker leaves behind about a station's sensors: a frozen one stays frozen across a rebalance."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.errors import SchemaError
from schemas.part import PartKey
from workers.steps.sensors import SENSORS, SensorState, SensorWatch
from workers.store.verdicts import VerdictStore


class SensorMemory:
    """Sensor states in Redis, one hash a station and sensor."""

    def __init__(self, store: VerdictStore) -> None:
        self._store = store

    def remember(self, watch: SensorWatch, stations: Iterable[str]) -> None:
        """Write the states of these stations. Raises StoreError."""
        for station in stations:
            for sensor, (state, digest, part) in watch.remembered(station).items():
                mapping = {
                    "state": state.value,
                    "digest": "" if digest is None else str(digest),
                    "part": "" if part is None else str(part),
                }
                self._store.set_sensor(station, sensor, mapping)

    def restore(self, watch: SensorWatch, station: str) -> None:
        """Read what the worker before us left; nothing there means every sensor is up. Raises StoreError."""
        for sensor in SENSORS:
            known = self._store.get_sensor(station, sensor)
            if not known:
                continue
            try:
                state = SensorState(known.get("state", "up"))
                part = PartKey.parse(known["part"]) if known.get("part") else None
                digest = int(known["digest"]) if known.get("digest") else None
            except (ValueError, SchemaError):
                continue  # written by another version: start afresh rather than stop the line
            watch.restore(station, sensor, state, digest, part)

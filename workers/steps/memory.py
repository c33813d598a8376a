"""What a worker leaves behind about a station's sensors: the next one goes on where this one stopped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from workers.steps.sensors import SENSORS, SensorWatch
from workers.steps.skew import Skews
from workers.store.verdicts import VerdictStore

PAIR = "pair"
"""Beside the station's sensors in Redis: what holds for both together."""
CHANGED = 0.2
"""The usual skew is written anew when it has changed by this share, and by a millisecond."""


class SensorMemory:
    """Sensor states in Redis, one hash a station and sensor.

    A sensor is written when anything of it changed. While parts come that is each batch: a sensor that
    freezes just when the partition moves is known by the bytes of its last image alone.
    """

    def __init__(self, store: VerdictStore, skews: Skews | None = None) -> None:
        self._store = store
        self._skews = skews
        self._written: dict[str, dict[str, Mapping[str, str]]] = {}

    def remember(self, watch: SensorWatch, stations: Iterable[str]) -> None:
        """Write what changed of these stations, in one round trip or none. Raises StoreError."""
        changed: dict[tuple[str, str], Mapping[str, str]] = {}
        for station in stations:
            known = self._written.get(station, {})
            for name, values in (watch.remembered(station) | self._pair(station)).items():
                if values != known.get(name):
                    changed[station, name] = values
        if not changed:
            return
        self._store.set_sensors_many(changed)
        for (station, name), values in changed.items():
            self._written.setdefault(station, {})[name] = values
        for station in [name for name in self._written if not watch.knows(name)]:
            del self._written[station]

    def restore(self, watch: SensorWatch, station: str) -> None:
        """Read what the worker before us left; nothing there means every sensor is up. Raises StoreError."""
        names = (*SENSORS, PAIR)
        found = dict(zip(names, self._store.get_sensors_many(station, names), strict=True))
        # What we wrote ourselves may have been written over since: nothing of it is taken for granted.
        self._written.pop(station, None)
        for sensor in SENSORS:
            if found[sensor]:
                watch.restore(station, sensor, found[sensor])
        if self._skews is not None:
            try:
                self._skews.restore(station, float(found[PAIR].get("skew_ms", "nan")) / 1e3)
            except ValueError:
                return  # written by another version

    def _pair(self, station: str) -> dict[str, Mapping[str, str]]:
        usual = None if self._skews is None else self._skews.usual(station)
        if usual is None:
            return {}
        before = self._written.get(station, {}).get(PAIR)
        if before is not None:
            last = float(before["skew_ms"]) / 1e3
            if abs(usual - last) <= max(0.001, CHANGED * last):
                return {PAIR: before}
        return {PAIR: {"skew_ms": f"{usual * 1e3:.3f}"}}

"""What is followed of one product at one station: its scores by mode, its brightness, its belt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.sketch import Level, Sketches
from schemas.verdict import Mode
from workers.drift.alarm import Alarm
from workers.drift.levels import BRIGHTNESS_FLOOR, DISTANCE_FLOOR, LevelSeries
from workers.drift.reading import DriftReading, Kind, Reference
from workers.drift.scores import ScoreDrift, ScoreSeries
from workers.drift.window import Pace

SLOWER = 10
"""Scores are followed twice: a jump shows soon in few parts, a creep among lots in many only."""
_DAMAGED = (ValueError, KeyError, TypeError, OverflowError)


@dataclass(frozen=True, slots=True)
class Seen:
    """What drift keeps of one part until it is counted: numbers, no image.

    Attributes:
        station, product: whose.
        bundle: digest of the bundle that judged.
        mode: which sensors the score rests on.
        score: as in the verdict.
        brightness, distance, shift, tolerance, sketches: as in ``Look``.
    """

    station: str
    product: str
    bundle: str
    mode: Mode
    score: float
    brightness: float | None = None
    distance: float | None = None
    shift: float | None = None
    tolerance: float | None = None
    sketches: Sketches | None = None


@dataclass(slots=True)
class ScoreWatch:
    """Scores of one mode, over the last parts and over ten times as many."""

    fast: ScoreSeries
    slow: ScoreSeries
    alarms: tuple[Alarm, Alarm] = field(default_factory=lambda: (Alarm(), Alarm()))
    looks: list[ScoreDrift | None] = field(default_factory=lambda: [None, None])

    def add(self, seen: Seen, now: int) -> bool:
        """One part; whether the warning began or ended with it."""
        was = self.since is not None
        for at, series in enumerate((self.fast, self.slow)):
            if series.add(seen.score):
                self.look(at, series)
                look = self.looks[at]
                if look is not None:
                    self.alarms[at].see(look.excess, now)
        return was != (self.since is not None)

    def look(self, at: int, series: ScoreSeries) -> None:
        """Compare anew."""
        self.looks[at] = series.look()

    @property
    def since(self) -> int | None:
        """When it began to warn."""
        return min((alarm.since for alarm in self.alarms if alarm.since is not None), default=None)

    def reading(self, station: str, product: str, mode: str, now: int) -> DriftReading:
        """Of the one that warns, or is nearer to it."""
        series, look = self.fast, self.looks[0]
        slow = self.looks[1]
        warns = self.alarms[1].on and not self.alarms[0].on
        if slow is not None and (warns or (look is not None and slow.excess > look.excess)):
            series, look = self.slow, slow
        return DriftReading(
            station=station,
            product=product,
            mode=mode,
            kind="scores",
            value=None if look is None else look.ks,
            limit=None if look is None else look.ks_limit,
            psi=None if look is None else look.psi,
            shift=None if look is None else look.shift,
            reference="bundle" if series.learnt is None else "bundle+station",
            warning=self.since is not None,
            since=self.since,
            parts=series.parts,
            at=now,
        )

    def to_map(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "fast": self.fast.to_map(),
            "slow": self.slow.to_map(),
            "alarms": [alarm.to_map() for alarm in self.alarms],
        }

    @classmethod
    def restore(cls, values: Mapping[str, Any], fresh: ScoreWatch) -> ScoreWatch:
        """Back from :meth:`to_map`, with the sketch of ``fresh``; that one where the state is another's."""
        try:
            series = [
                ScoreSeries.from_map(values[name], one.sketch, one.pace)
                for name, one in (("fast", fresh.fast), ("slow", fresh.slow))
            ]
            alarms = [Alarm.from_map(one) for one in values["alarms"]]
            watch = cls(series[0], series[1], (alarms[0], alarms[1]))
        except (*_DAMAGED, IndexError):
            return fresh
        watch.look(0, watch.fast)
        watch.look(1, watch.slow)
        return watch


@dataclass(slots=True)
class LevelWatch:
    """Brightness, or the belt. ``relative``: told as a share of the reference."""

    kind: Kind
    series: LevelSeries
    relative: bool = False
    alarm: Alarm = field(default_factory=Alarm)

    def add(self, value: float, now: int) -> bool:
        """One part; whether the warning began or ended with it."""
        if not self.series.add(value):
            return False
        look = self.series.look()
        return look is not None and self.alarm.see(look.excess, now)

    def reading(self, station: str, product: str, now: int) -> DriftReading:
        """As the board shows it."""
        look = self.series.look()
        unit = max(abs(look.base), 1e-9) if look is not None and self.relative else 1.0
        reference: Reference = "learning" if self.series.learning else "bundle"
        return DriftReading(
            station=station,
            product=product,
            mode="",
            kind=self.kind,
            value=None if look is None else look.change / unit,
            limit=None if look is None else look.limit / unit,
            reference=reference if look is None else look.against,
            warning=self.alarm.on,
            since=self.alarm.since,
            parts=self.series.parts,
            at=now,
        )

    def to_map(self) -> dict[str, Any]:
        """Plain values."""
        return {"series": self.series.to_map(), "alarm": self.alarm.to_map()}

    def restore(self, values: object) -> LevelWatch:
        """Take the state that :meth:`to_map` gave; as before where it is something else's."""
        if isinstance(values, Mapping):
            fresh = LevelSeries(self.series.taught, self.series.floor, self.series.exact, self.series.pace)
            try:
                self.series = fresh.restore(values["series"])
                self.alarm = Alarm.from_map(values["alarm"])
            except (*_DAMAGED, IndexError):
                self.series = LevelSeries(fresh.taught, fresh.floor, fresh.exact, fresh.pace)
        return self


@dataclass(slots=True)
class ProductDrift:
    """Everything followed of one product under one bundle at one station.

    Attributes:
        bundle: digest of its manifest.
        sketches: what the bundle says of good parts.
        stored: what another worker left of it, by series; taken up as each is first seen.
        at: nanoseconds since the epoch of the last part.
    """

    station: str
    product: str
    bundle: str
    sketches: Sketches
    pace: Pace
    stored: Mapping[str, Any] = field(default_factory=dict)
    at: int = 0
    scores: dict[Mode, ScoreWatch | None] = field(default_factory=dict)
    levels: dict[str, LevelWatch] = field(default_factory=dict)

    def see(self, seen: Seen, now: int) -> Iterator[DriftReading]:
        """Count one part; gives the readings whose warning began or ended with it."""
        self.at = now
        watch = self._score_watch(seen.mode)
        if watch is not None and watch.add(seen, now):
            yield watch.reading(self.station, self.product, seen.mode.value, now)
        for level, value in self._values(seen):
            if level.add(value, now):
                yield level.reading(self.station, self.product, now)

    def _score_watch(self, mode: Mode) -> ScoreWatch | None:
        if mode not in self.scores:
            sketch = self.sketches.scores.get(mode)
            watch = None
            if sketch is not None:
                slower = self.pace.slower(SLOWER)
                watch = ScoreWatch(ScoreSeries(sketch, self.pace), ScoreSeries(sketch, slower))
                values = self.stored.get(mode.value)
                if isinstance(values, Mapping):
                    watch = ScoreWatch.restore(values, watch)
            self.scores[mode] = watch
        return self.scores[mode]

    def _values(self, seen: Seen) -> Iterator[tuple[LevelWatch, float]]:
        if seen.brightness is not None and seen.mode is not Mode.DEPTH:
            level = self._level("brightness", "brightness", self.sketches.brightness, -BRIGHTNESS_FLOOR)
            yield level, seen.brightness
        if seen.mode is Mode.RGB:
            return
        if seen.shift is not None and seen.tolerance is not None:
            # Half of what would have its parts held back: a warning before that.
            there = Level(0.0, 0.0, 1, 1, 1.0)
            yield self._level("shift", "belt", there, max(seen.tolerance / 2, 1e-6), exact=True), seen.shift
        elif seen.distance is not None and seen.tolerance is None:
            yield self._level("distance", "belt", self.sketches.distance, -DISTANCE_FLOOR), seen.distance

    def _level(
        self, name: str, kind: Kind, taught: Level | None, floor: float, *, exact: bool = False
    ) -> LevelWatch:
        if name not in self.levels:
            series = LevelSeries(taught, floor, exact, self.pace)
            watch = LevelWatch(kind, series, relative=name == "brightness")
            self.levels[name] = watch.restore(self.stored.get(name))
        return self.levels[name]

    def readings(self, now: int) -> Iterator[DriftReading]:
        """Of every series."""
        for mode, watch in self.scores.items():
            if watch is not None:
                yield watch.reading(self.station, self.product, mode.value, now)
            else:
                yield DriftReading(
                    station=self.station,
                    product=self.product,
                    mode=mode.value,
                    kind="scores",
                    value=None,
                    limit=None,
                    reference="no calibration",
                    at=now,
                )
        for level in self.levels.values():
            yield level.reading(self.station, self.product, now)

    def to_map(self) -> dict[str, Any]:
        """Plain values."""
        series: dict[str, Any] = dict(self.stored)
        series |= {mode.value: watch.to_map() for mode, watch in self.scores.items() if watch is not None}
        series |= {name: watch.to_map() for name, watch in self.levels.items()}
        return {"bundle": self.bundle, "at": self.at, "series": series}

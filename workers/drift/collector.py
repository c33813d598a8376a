"""Drift for Prometheus: the last look at each station's current product."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client.core import Metric as Family

from workers.drift.watch import DriftWatch
from workers.store.verdicts import VerdictStore
from workers.telemetry import names
from workers.telemetry.assembly import Assembly
from workers.telemetry.families import family


class DriftCollector:
    """Reads the watch's last readings; any thread may ask."""

    def __init__(self, watch: DriftWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterable[Family]:
        """The five metrics of drift."""
        psi: dict[tuple[str, str, str], float] = {}
        ks: dict[tuple[str, str, str], float] = {}
        brightness: dict[tuple[str], float] = {}
        belt: dict[tuple[str], float] = {}
        warning: dict[tuple[str, str], float] = {}
        for station, readings in self._watch.readings.items():
            current = readings[0].product if readings else ""
            for one in readings:
                if one.product != current:
                    continue  # not on the line now: its last look is not news
                key = (station, str(one.kind))
                warning[key] = max(warning.get(key, 0.0), float(one.warning))
                if one.value is None:
                    continue
                if one.kind == "scores":
                    ks[station, one.product, one.mode] = one.value
                    psi[station, one.product, one.mode] = one.psi or 0.0
                elif one.kind == "brightness":
                    brightness[(station,)] = one.value
                else:
                    belt[(station,)] = one.value
        yield family(names.DRIFT_PSI, psi)
        yield family(names.DRIFT_KS, ks)
        yield family(names.BRIGHTNESS_SHIFT, brightness)
        yield family(names.BELT_SHIFT, belt)
        yield family(names.DRIFT_WARNING, warning)


@contextmanager
def watch_drift(assembly: Assembly, store: VerdictStore, worker: str) -> Iterator[None]:
    """Follow drift meanwhile: before the worker is made, since its observers are given to it then."""
    watch = DriftWatch(store, worker)
    assembly.observe(watch)
    assembly.collect(DriftCollector(watch))
    with watch.running():
        yield

"""The drift of one station: its last products, each under the bundle that judges it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from inference.sketch import Sketches
from workers.drift.reading import DriftReading
from workers.drift.series import ProductDrift, Seen
from workers.drift.window import Pace

PRODUCTS = 4
"""So many products of a station are remembered; the one that was longest not seen goes."""
MAX_STATE = 256 * 1024
"""Bytes of a state that is read."""


class StationDrift:
    """Counts the parts of one station. One thread calls it.

    Args:
        station: its name.
        state: what another worker left, as :meth:`state` gave it; damaged, it is begun anew.
    """

    def __init__(self, station: str, state: bytes | None = None, *, pace: Pace | None = None) -> None:
        self._station = station
        self._pace = pace or Pace()
        self._products: dict[str, ProductDrift] = {}
        self._stored: dict[str, dict[str, Any]] = _read(state)

    def see(self, seen: Seen, now: int) -> Iterator[DriftReading]:
        """Count one part at ``now``; gives the readings whose warning began or ended with it."""
        drift = self._products.get(seen.product)
        if drift is None or drift.bundle != seen.bundle:
            drift = self._begin(seen)
        yield from drift.see(seen, now)

    def _begin(self, seen: Seen) -> ProductDrift:
        stored = self._stored.pop(seen.product, {})
        series = stored.get("series") if stored.get("bundle") == seen.bundle else None
        drift = ProductDrift(
            self._station,
            seen.product,
            seen.bundle,
            seen.sketches or Sketches(),
            self._pace,
            series if isinstance(series, Mapping) else {},
        )
        self._products[seen.product] = drift
        if len(self._products) > PRODUCTS:
            oldest = min(self._products.values(), key=lambda one: one.at if one is not drift else 2**63)
            del self._products[oldest.product]
        return drift

    def readings(self, now: int) -> list[DriftReading]:
        """Of every product that this worker has seen, the last one first."""
        products = sorted(self._products.values(), key=lambda one: -one.at)
        return [reading for drift in products for reading in drift.readings(now)]

    def state(self) -> bytes:
        """All of it, for the next worker: some ten kilobytes a product."""
        products = dict(self._stored) | {name: drift.to_map() for name, drift in self._products.items()}
        kept = sorted(products, key=lambda name: -_at(products[name]))[:PRODUCTS]
        return json.dumps({name: products[name] for name in kept}, separators=(",", ":")).encode()


def _read(state: bytes | None) -> dict[str, dict[str, Any]]:
    if state is None or len(state) > MAX_STATE:
        return {}
    try:
        found = json.loads(state)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: values for name, values in found.items() if isinstance(values, dict)}


def _at(values: Mapping[str, Any]) -> int:
    at = values.get("at")
    return at if isinstance(at, int) else 0

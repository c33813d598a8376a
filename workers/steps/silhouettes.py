"""Where a station's parts were last seen well: what tells a part from the belt when depth is missing.

Only a part that PASSed with both sensors and was read well teaches its place, and only parts of the same
product under the same bundle are told of it. A copy stays in Redis for the worker after us; it is a help and
never holds a part up: without it the model takes the next best foreground, and the verdict says which.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import structlog
from numpy.typing import NDArray

from inference.inspection import Inspection
from inference.sample import SILHOUETTE, Sample
from schemas.verdict import Decision, Mode
from workers.errors import StoreError
from workers.store.verdicts import VerdictStore

log = structlog.get_logger(__name__)

Mask = NDArray[np.bool_]

NAME = "silhouette"
"""Beside the station's sensors in Redis."""
LEAST_COVERAGE = 0.9
"""Of the part, for its silhouette to be believed."""
_CHANGED = 0.02  # share of cells that differ before the copy in Redis is written anew
_ANEW = 500  # good parts after which it is written anyway: Redis forgets what nobody writes for a day
_BYTES = SILHOUETTE[0] * SILHOUETTE[1] // 8


@dataclass(frozen=True, slots=True)
class Known:
    """The last good silhouette of a station, and what it is good for."""

    product: str
    bundle_hash: str
    mask: Mask


class Silhouettes:
    """Of the stations whose frames this worker reads. One thread calls it."""

    def __init__(self, store: VerdictStore) -> None:
        self._store = store
        self._known: dict[str, Known] = {}
        self._kept: dict[str, Known] = {}
        self._asked: set[str] = set()
        self._gone: set[str] = set()
        self._since: dict[str, int] = {}

    def recall(self, station: str) -> None:
        """Read, once, what the worker before us left for the station; a Redis that is away left nothing."""
        if station in self._asked:
            return
        self._asked.add(station)
        self._gone.discard(station)
        try:
            found = _unpacked(self._store.get_sensor(station, NAME))
        except StoreError as error:
            log.warning("worker.silhouette_not_read", station=station, error=str(error))
            return
        if found is not None:
            self._known[station] = self._kept[station] = found

    def lend(self, station: str, product: str, bundle_hash: str, sample: Sample) -> Sample:
        """The sample with the station's silhouette, where one of this product under this bundle is known.

        Samples with depth get it too: whether depth can be used is for the model to find out.
        """
        known = self._known.get(station)
        if known is None or (known.product, known.bundle_hash) != (product, bundle_hash):
            return sample
        return replace(sample, silhouette=known.mask)

    def learn(
        self, station: str, product: str, bundle_hash: str, inspection: Inspection, decision: Decision
    ) -> None:
        """Remember where this part lay, if it was seen with both sensors, seen well, and good."""
        if decision is not Decision.PASS or inspection.mode is not Mode.FUSED:
            return
        if station in self._gone:
            return  # it went to another worker while the model ran
        if inspection.silhouette is None or not inspection.coverage >= LEAST_COVERAGE:
            return
        self._known[station] = Known(product, bundle_hash, inspection.silhouette)
        self._since[station] = self._since.get(station, 0) + 1

    def keep(self, stations: Iterable[str]) -> None:
        """Leave a copy in Redis of what changed noticeably or was left long ago; tried again later."""
        for station in stations:
            known = self._known.get(station)
            if known is None:
                continue
            if not _differ(known, self._kept.get(station)) and self._since.get(station, 0) < _ANEW:
                continue
            try:
                self._store.set_sensor(station, NAME, _packed(known))
            except StoreError as error:
                log.warning("worker.silhouette_not_kept", station=station, error=str(error))
                return
            self._kept[station] = known
            self._since[station] = 0

    def forget(self, stations: Iterable[str]) -> None:
        """Drop stations that another worker has now: what it sees is newer."""
        # Only the last ones: no model runs longer than it takes for the next to go.
        self._gone = set(stations)
        for station in self._gone:
            self._known.pop(station, None)
            self._kept.pop(station, None)
            self._since.pop(station, None)
            self._asked.discard(station)


def _differ(one: Known, other: Known | None) -> bool:
    if other is None or (one.product, one.bundle_hash) != (other.product, other.bundle_hash):
        return True
    return float(np.mean(one.mask ^ other.mask)) > _CHANGED


def _packed(known: Known) -> dict[str, str | int | float]:
    bits = base64.b64encode(np.packbits(known.mask).tobytes()).decode("ascii")
    return {"product": known.product, "bundle": known.bundle_hash, "bits": bits}


def _unpacked(values: dict[str, str]) -> Known | None:
    """None where nothing is there, or what another version wrote."""
    try:
        raw = base64.b64decode(values["bits"], validate=True)
        product, bundle_hash = values["product"], values["bundle"]
    except (KeyError, binascii.Error, ValueError):
        return None
    if len(raw) != _BYTES:
        return None
    mask = np.unpackbits(np.frombuffer(raw, np.uint8)).reshape(SILHOUETTE) > 0
    return Known(product, bundle_hash, mask)

"""What drift says of a station, as it is kept in Redis for the board and for the next worker."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from workers.store import keys
from workers.store.connection import guarded
from workers.store.verdicts import VerdictStore

Kind = Literal["scores", "brightness", "belt"]
Reference = Literal["bundle", "bundle+station", "station", "learning", "no calibration"]
READINGS = "readings"
"""Field of the hash that holds them, a JSON list."""
_KINDS = get_args(Kind)
_REFERENCES = get_args(Reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReading:
    """One series of a station against its reference.

    Attributes:
        station, product: whose.
        mode: of the scores; empty for brightness and belt.
        kind: "scores", "brightness" or "belt".
        value: what to show: the KS distance of scores (0 to 1), the relative change of brightness (-0.1 is
            ten per cent darker), the belt's shift in depth counts (positive: further away).
        limit: the size of ``value`` at which it warns, for as many parts as were seen; None while too few.
        psi: population stability index of the scores; None for the others.
        shift: of the scores, in standard deviations of the calibration; None for the others.
        reference: what it is measured against: the "bundle", the "station"'s own first good parts, both
            together ("bundle+station"), "learning" while those are gathered and there is nothing else, or
            "no calibration" where the bundle has no scores to compare with.
        warning: whether it warns now.
        since: nanoseconds since the epoch when it began to warn; None where it does not.
        parts: parts in the window, weighed by age.
        at: nanoseconds since the epoch of the reading.
    """

    station: str
    product: str
    mode: str
    kind: Kind
    value: float | None
    limit: float | None
    psi: float | None = None
    shift: float | None = None
    reference: Reference
    warning: bool = False
    since: int | None = None
    parts: int = 0
    at: int = 0

    def to_map(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> DriftReading:
        """Back from :meth:`to_map`. Raises ValueError: written by something else."""
        try:
            numbers = {name: _number(values[name]) for name in ("value", "limit", "psi", "shift")}
            since = values["since"]
            reading = cls(
                station=str(values["station"]),
                product=str(values["product"]),
                mode=str(values["mode"]),
                kind=values["kind"],
                reference=values["reference"],
                warning=values["warning"] is True,
                since=None if since is None else int(since),
                parts=int(values["parts"]),
                at=int(values["at"]),
                **numbers,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no drift reading: {error!r}") from None
        if reading.kind not in _KINDS or reading.reference not in _REFERENCES:
            raise ValueError(f"no drift reading: kind {reading.kind!r}, reference {reading.reference!r}")
        return reading


def read_drift(store: VerdictStore, station: str) -> list[DriftReading]:
    """What drift last said of a station, warnings first; empty where nothing is known or it is too old.

    What cannot be read is left out. Raises StoreError where Redis does not answer.
    """
    with guarded(store.client, f"read the drift of {station}"):
        raw = store.client.hget(keys.drift(station), READINGS)
    return [] if raw is None else readings_from(raw if isinstance(raw, bytes) else b"")


def readings_from(raw: bytes) -> list[DriftReading]:
    """The readings of the hash's field; what is none is left out."""
    try:
        found = json.loads(raw)
    except ValueError:
        return []
    out = []
    for values in found if isinstance(found, list) else ():
        if isinstance(values, dict):
            try:
                out.append(DriftReading.from_map(values))
            except ValueError:
                continue
    return sorted(out, key=lambda one: (not one.warning, one.product, one.kind, one.mode))


def _number(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"no drift reading: {value!r} is no finite number")
    return float(value)

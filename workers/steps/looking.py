"""What an image says of its sensor once it is decoded, whether the model used it or not.

A sensor that recovers is not seen by the model, but whether its belt lies where it should must be known
before it is: its image is decoded and looked at all the same, without a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from inference.errors import NoReading
from inference.inspection import Inspection
from inference.inspector import BELT_OFF
from inference.prepare import Preparation
from inference.sample import Sample
from inference.sketch import Sketches, brightness, readings
from schemas.errors import SchemaError
from schemas.images import decode_colour, decode_depth
from schemas.verdict import Mode
from workers.models import Model
from workers.steps.pending import PendingPart

FEW = frozenset({"invalid", "constant"})
"""The inspector's codes for an image without enough to read in it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found out about the sensors of one part.

    Attributes:
        bundle: digest of the manifest that judged; empty where nobody did.
        seen: the sensors that were looked at.
        faults: by sensor: "few", "size" or "plane".
        expected: by sensor, the (height, width) that the bundle was taught on, where it says so.
        belt: whether the belt lies in its place; None where nobody could tell.
        share: valid readings of the depth image, 0 to 1.
        distance: their median, counts; None without readings.
        brightness: mean luminance of the colour image, 0 to 255; None without one.
        shift: of the belt against the station's calibration, counts; None where nobody could tell.
        sketches: what the bundle that judged knows of good parts; None where it is no bundle.
        tolerance: of ``shift``, counts; None where the station was not calibrated.
    """

    bundle: str
    seen: frozenset[str] = frozenset()
    faults: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    belt: bool | None = None
    share: float | None = None
    distance: float | None = None
    brightness: float | None = None
    shift: float | None = None
    sketches: Sketches | None = field(default=None, repr=False)
    tolerance: float | None = None


def look(pending: PendingPart, sample: Sample, model: Model, inspection: Inspection) -> Look:
    """Look at every image of a part.

    An image that the model used costs a few readings and the place of the belt, well under a millisecond;
    one of a sensor that is to recover is decoded here, and shown to the checks before the networks.

    Args:
        sample: what the model was given.
        model: who judged; one without ``preparation`` says nothing about sizes and the belt.
        inspection: what it said. Never raises for a bad image.
    """
    faults: dict[str, str] = {}
    whole = replace(
        sample,
        rgb=_colour(pending, faults) if sample.rgb is None else sample.rgb,
        depth=_depth(pending, faults) if sample.depth is None else sample.depth,
    )
    here = frozenset(n for n, image in (("rgb", whole.rgb), ("depth", whole.depth)) if image is not None)
    codes = list(inspection.degraded)
    expected: dict[str, tuple[int, int]] = {}
    belt: bool | None = None
    prepared = getattr(model, "preparation", None)
    if isinstance(prepared, Preparation):
        expected = _taught(prepared)
        faults.update(dict.fromkeys(_wrong_size(whole, expected), "size"))
        if "size" not in faults.values() and (pending.held & here or inspection.error is not None):
            codes.extend(_asked(prepared, whole))
        belt, why = _belt(prepared, whole, None if sample.depth is None else inspection)
        codes.extend([] if why is None else [why])
    elif BELT_OFF in codes:
        belt = False
    for code in codes:
        name, _, why = code.partition(":")
        if why in FEW and name in here:
            faults.setdefault(name, "few")
    if belt is False:
        faults.setdefault("depth", "plane")
    if inspection.error is not None and not faults:
        # It failed for a reason that is not its sensors': nothing can be said for or against them.
        return Look(model.bundle_hash, expected=expected)
    share, distance = (None, None) if whole.depth is None else readings(whole.depth)
    offset, tolerance = _shift(prepared, inspection)
    sketches = getattr(model, "sketches", None)
    return Look(
        model.bundle_hash,
        here | frozenset(faults),
        faults,
        expected,
        belt,
        share,
        distance,
        None if whole.rgb is None else brightness(whole.rgb),
        offset,
        sketches if isinstance(sketches, Sketches) else None,
        tolerance,
    )


def _shift(prepared: object, inspection: Inspection) -> tuple[float | None, float | None]:
    """How far the belt lies from its place, and how far it may; as the inspector found it."""
    found = inspection.belt
    station = prepared.station if isinstance(prepared, Preparation) else None
    if found is None or found.inliers == 0.0 or station is None or station.tolerance is None:
        return None, None
    return found.offset, station.tolerance.offset


def _taught(prepared: Preparation) -> dict[str, tuple[int, int]]:
    """By sensor, the (height, width) that frames of the product must have."""
    sizes = {"rgb": prepared.rgb_size, "depth": prepared.depth_size}
    return {name: size for name, size in sizes.items() if size is not None}


def _wrong_size(whole: Sample, expected: Mapping[str, tuple[int, int]]) -> list[str]:
    found = {"rgb": whole.rgb_size, "depth": whole.depth_size}
    return [name for name, size in expected.items() if found[name] not in (None, size)]


def _asked(prepared: Preparation, whole: Sample) -> tuple[str, ...]:
    """What the bundle's own checks say of each image."""
    try:
        return prepared.sensors(whole).degraded
    except NoReading:
        # Neither shows anything: each has been refused.
        return ("rgb:constant", "depth:invalid")


def _belt(prepared: Preparation, whole: Sample, said: Inspection | None) -> tuple[bool | None, str | None]:
    """Whether the belt lies in its place, and the code of an image that shows none of it.

    Args:
        said: by the model on this very depth image; None where it was not shown.
    """
    station = prepared.station
    if station is None or whole.depth is None or whole.depth_size != station.depth_size:
        return None, None
    if said is not None and said.mode in (Mode.FUSED, Mode.DEPTH) and BELT_OFF not in said.degraded:
        # The inspector has found it in its place: looking again would cost as much as all of the rest here.
        return (None if station.tolerance is None else True), None
    drift = station.drift(whole.depth)
    if drift is None:
        return None, None
    # No plane at all: readings lack, and the part may be why.
    return (None, "depth:invalid") if drift.inliers == 0.0 else (drift.within, None)


def _colour(pending: PendingPart, faults: dict[str, str]) -> NDArray[np.uint8] | None:
    if pending.frame.rgb is None or "rgb" not in pending.held:
        return None
    try:
        return decode_colour(pending.frame.rgb)
    except SchemaError:
        faults["rgb"] = "few"
        return None


def _depth(pending: PendingPart, faults: dict[str, str]) -> NDArray[np.uint16] | None:
    if pending.frame.depth is None or "depth" not in pending.held:
        return None
    try:
        return decode_depth(pending.frame.depth)
    except SchemaError:
        faults["depth"] = "few"
        return None

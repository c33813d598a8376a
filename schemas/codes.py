"""The codes in a verdict's ``reason`` and ``degraded``: readers may rely on them, and leave others alone.

A reason is a code, alone or followed by ``": "`` and words for people. An entry of ``degraded`` is a sensor,
a colon and a code.
"""

from __future__ import annotations

from enum import StrEnum


class ReasonCode(StrEnum):
    """Why a part was not simply passed or rejected; an ERROR has the code of its error instead."""

    COVERAGE = "coverage"
    """REVIEW: too little of the part has valid readings."""
    BETWEEN = "between"
    """REVIEW: above every good part that was seen, or that is likely; below what good parts cannot reach."""
    DEGRADED = "degraded"
    """REVIEW: scored by fewer sensors than the station has, which may not pass parts alone."""
    DEADLINE = "deadline"
    """STALE: its deadline was gone when it reached the worker."""
    SHED = "shed"
    """STALE: it could not be in time any more and gave way to parts that can."""
    ATTEMPTS = "attempts"
    """ERROR: workers ended while they had this part; it is not tried again."""
    NOT_FINITE = "not_finite"
    """ERROR: the score is no number."""
    NOTICE = "notice"
    """MISSING: the agent says that no frame comes; its words follow."""
    GAP = "gap"
    """MISSING: the frame was deleted before it was read, or lies where nobody can read it."""


class SensorCode(StrEnum):
    """Why a sensor was not used, or not fully believed."""

    MISSING = "missing"
    """It sent nothing for this part."""
    ABSENT = "absent"
    """The model was given no image of it."""
    FROZEN = "frozen"
    """The same bytes as for the part before."""
    DOUBLE = "double"
    """The same bytes as for the part before, of every sensor and within a tenth of a second: one part, seen
    twice."""
    SIZE = "size"
    """Another size than usual."""
    SKEW = "skew"
    """Its time does not belong to this part."""
    FEW = "few"
    """Hardly any readings, or one value everywhere."""
    RANGE = "range"
    """Readings at another distance than usual."""
    PLANE = "plane"
    """The belt lies elsewhere than when the station was calibrated."""
    CONSTANT = "constant"
    """One value over the whole image."""
    INVALID = "invalid"
    """Too few readings, or none through which a plane goes."""
    LOAD = "load"
    """Left out to be in time."""
    DOWN = "down"
    """It failed on the parts before, and is not used until it has proven itself."""
    RECOVERING = "recovering"
    """It works again and is not yet believed."""


_RGB_ONLY = frozenset({SensorCode.LOAD})
_DEPTH_ONLY = frozenset({SensorCode.PLANE, SensorCode.INVALID, SensorCode.RANGE})

DEGRADED: tuple[str, ...] = tuple(
    f"{sensor}:{code.value}"
    for sensor, others in (("rgb", _DEPTH_ONLY), ("depth", _RGB_ONLY))
    for code in SensorCode
    if code not in others
)
"""Every entry that ``degraded`` can have."""

"""Every error that teaching and inspection raise on purpose.

CrosscheckError                 see schemas/errors.py
└── InferenceError              arrays in, evidence out: something in between cannot be right
    ├── BadSample               one frame cannot be inspected
    │   ├── NoReading           neither sensor gave anything to look at
    │   ├── NoPart              an empty belt where a part should lie
    │   ├── DepthUnusable       too few depth readings, or none that a plane goes through
    │   ├── WrongSize           not the image size that the bundle was taught on
    │   └── NotFinite           a value on the way to the score is NaN or infinite
    ├── RoiError                a region of interest that is no box inside the frame
    ├── DatasetError            a folder of frames that cannot be taught or evaluated
    ├── StationError            a station's file, or frames from which none can be calibrated
    ├── EncoderError            settings of an encoder or a lattice that contradict each other
    │   └── WeightsError        a file of weights is missing, another one, or not of this model
    ├── TeachError              these normals cannot make a bundle
    ├── GrantRefused            a mode may not pass parts alone: its miss rate is not shown to be low enough
    ├── ReportError             the page of an evaluation cannot be written
    └── BundleError             a bundle is missing, damaged, or not for this version
"""

from __future__ import annotations

from typing import ClassVar

from schemas.errors import CrosscheckError


class InferenceError(CrosscheckError):
    """Base of the errors of ``inference``."""

    reason: ClassVar[str] = "inference"


class BadSample(InferenceError):
    """One frame cannot be inspected; its neighbours can."""

    reason = "sample"


class NoReading(BadSample):
    """Neither sensor gave anything to look at."""

    reason = "no_reading"


class NoPart(BadSample):
    """Nothing stands out of the belt where a part should lie: there is nothing to inspect, and no PASS."""

    reason = "no_part"


class DepthUnusable(BadSample):
    """The depth image has too few readings, or readings through which no plane goes."""

    reason = "depth"


class WrongSize(BadSample):
    """The image does not have the size that the bundle was taught on."""

    reason = "size"


class NotFinite(BadSample):
    """A value on the way to the score is NaN or infinite; it must never read as a low score."""

    reason = "not_finite"


class RoiError(InferenceError):
    """A region of interest is no box inside the frame, or cannot be sought in these frames."""

    reason = "roi"


class DatasetError(InferenceError):
    """A folder of frames is missing, empty, or not laid out as its reader expects."""

    reason = "dataset"


class UnmarkedDefect(DatasetError):
    """The mask of a frame that is labelled as a defect marks nothing."""


class StationError(InferenceError):
    """A station's file is missing or damaged, or the reference frames cannot calibrate one."""

    reason = "station"


class TeachError(InferenceError):
    """These normals cannot make a bundle: too few, of mixed sizes, or without a validation split."""

    reason = "teach"


class GrantRefused(InferenceError):
    """A mode may not pass parts with the other sensor down: its miss rate is not shown to be low enough."""

    reason = "grant"


class ReportError(InferenceError):
    """The page of an evaluation cannot be written."""

    reason = "report"


class BundleError(InferenceError):
    """A bundle is missing, damaged, or written for another version."""

    reason = "bundle"


class EncoderError(InferenceError):
    """Settings of an encoder, its groups or its grid contradict each other."""

    reason = "encoder"


class WeightsError(EncoderError):
    """A file of weights is missing, has another digest, or does not hold the tensors of its model."""

    reason = "weights"

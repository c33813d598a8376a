"""What was decided about one part, and every piece of evidence it was decided on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from schemas.errors import InvalidField
from schemas.fields import Fields, check
from schemas.part import PartKey

MAX_REGIONS = 32
MAX_SOURCES = 16
FOREGROUNDS = ("depth", "silhouette", "region", "belt", "frame")
"""What told the part from the belt: its own depth, the station's last good silhouette, a fixed region, a
colour model of the belt, or nothing (the whole frame was inspected)."""
MAX_LABEL = 32


class Decision(StrEnum):
    """What happens to the part. Only ``PASS`` opens the gate."""

    PASS = "PASS"
    REJECT = "REJECT"
    REVIEW = "REVIEW"
    """Scored, not to be trusted alone: degraded mode without permission, low coverage, uncertainty band."""
    STALE = "STALE"
    """Its deadline was gone when it reached the worker."""
    ERROR = "ERROR"
    """It could not be scored."""
    MISSING = "MISSING"
    """The line saw a part and no frame came, or its frames expired unread."""


class Mode(StrEnum):
    """Which sensors the score rests on."""

    FUSED = "FUSED"
    RGB = "RGB"
    DEPTH = "DEPTH"


class SeenBy(StrEnum):
    """Which sensors show a defect region."""

    COLOUR_ONLY = "colour-only"
    SHAPE_ONLY = "shape-only"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Region:
    """One defect region: a box in pixels of the inspected colour image (or depth image in DEPTH mode).

    Attributes:
        seen_by: which sensors show it; None where only one sensor looked. Readers
            leave a label they do not know alone: it informs, and no decision rests on it.

    Raises:
        InvalidField: a label that is empty or longer than 32 characters.
    """

    x: int
    y: int
    width: int
    height: int
    score: float
    seen_by: str | None = None

    def __post_init__(self) -> None:
        if self.seen_by is not None:
            check(
                0 < len(self.seen_by) <= MAX_LABEL, f"region.seen_by: {self.seen_by!r} is not a short label"
            )

    def to_map(self) -> dict[str, Any]:
        """The map that travels."""
        return {
            "x": self.x,
            "y": self.y,
            "width": self.width,
            "height": self.height,
            "score": self.score,
            "seen_by": None if self.seen_by is None else str(self.seen_by),
        }

    @classmethod
    def from_raw(cls, raw: object) -> Region:
        """Read a region. Raises InvalidField."""
        fields = Fields(raw, "region")
        x, y, width, height = (fields.integer(n, 0, 2**20) for n in ("x", "y", "width", "height"))
        return cls(x, y, width, height, fields.number("score"), fields.optional("seen_by", fields.text))


@dataclass(frozen=True, slots=True)
class Source:
    """Where a record of this part lay in Kafka: evidence, not identity."""

    topic: str
    partition: int
    offset: int

    def to_map(self) -> dict[str, Any]:
        """The map that travels."""
        return {"topic": self.topic, "partition": self.partition, "offset": self.offset}

    @classmethod
    def from_raw(cls, raw: object) -> Source:
        """Read a source. Raises InvalidField."""
        fields = Fields(raw, "source")
        return cls(fields.text("topic"), fields.integer("partition"), fields.integer("offset"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The one answer for a part.

    Attributes:
        product: which product it was judged as; "unknown" where nothing of the record could be read.
        decision: what happens to the part; only PASS opens the gate.
        captured_at, decided_at, deadline: integer nanoseconds since the epoch.
        worker: who decided it.
        mode: which sensors the score rests on; None where nothing was scored.
        heatmap_key: the key in Redis under which its heatmap is; None where none was kept.
        score: on the fused scale of ``mode``.
        threshold: on the same scale; a score above it is REJECT.
        pass_limit: on the same scale; a score above it is never PASS, and between it and the threshold the
            part is REVIEW. Absent in verdicts of before there were two limits: there it is the threshold.
        degraded: why fewer sensors than the station has were used, or why trust is reduced; codes.
        coverage: share of the inspected region with valid readings, 0 to 1.
        foreground: what told the part from the belt: its own ``depth``, the station's last good
            ``silhouette``, a fixed ``region``, a colour model of the ``belt``, or nothing (the whole
            ``frame`` was inspected); None where nothing was asked.
        branches: calibrated score of each branch.
        bundle, bundle_hash: which model, and the digest of its manifest.
        sources: the records it was made from.
        attempt: 1 on the first try.
        reason: a code that says why, for everything but a plain PASS or REJECT.
        timings: milliseconds per step.

    Raises:
        InvalidField: a value out of range, or a PASS that its own evidence does not carry.
    """

    KIND: ClassVar[str] = "verdict"

    part: PartKey
    product: str
    decision: Decision
    captured_at: int
    decided_at: int
    deadline: int
    worker: str
    mode: Mode | None = None
    score: float | None = None
    threshold: float | None = None
    pass_limit: float | None = None
    degraded: tuple[str, ...] = ()
    coverage: float = 0.0
    branches: dict[str, float] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    bundle: str | None = None
    bundle_hash: str | None = None
    sources: tuple[Source, ...] = ()
    attempt: int = 1
    reason: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    heatmap_key: str | None = None
    foreground: str | None = None

    def __post_init__(self) -> None:
        if self.pass_limit is None:
            object.__setattr__(self, "pass_limit", self.threshold)
        for name in ("score", "threshold", "pass_limit"):
            value = getattr(self, name)
            check(value is None or math.isfinite(value), f"verdict {self.part}: {name} {value} is not finite")
        check(
            0.0 <= self.coverage <= 1.0,
            f"verdict {self.part}: coverage {self.coverage} is not between 0 and 1",
        )
        check(len(self.regions) <= MAX_REGIONS, f"verdict {self.part}: more than {MAX_REGIONS} regions")
        check(len(self.sources) <= MAX_SOURCES, f"verdict {self.part}: more than {MAX_SOURCES} sources")
        if self.foreground is not None:
            check(
                0 < len(self.foreground) <= MAX_LABEL,
                f"verdict {self.part}: foreground {self.foreground!r} is not a short label",
            )
        if self.decision is Decision.PASS:
            # A PASS is the only thing that opens the gate: it must carry its own proof.
            proof = (self.mode, self.score, self.threshold, self.bundle, self.bundle_hash)
            if any(item is None for item in proof):
                raise InvalidField(f"verdict {self.part}: PASS without mode, score, threshold and bundle")
            assert self.score is not None
            assert self.threshold is not None
            assert self.pass_limit is not None
            limit = min(self.pass_limit, self.threshold)
            check(self.score <= limit, f"verdict {self.part}: PASS with score {self.score} above {limit}")

    def to_map(self) -> dict[str, Any]:
        """The map that travels."""
        return {
            "product": self.product,
            "decision": self.decision.value,
            "mode": None if self.mode is None else self.mode.value,
            "score": self.score,
            "threshold": self.threshold,
            "pass_limit": self.pass_limit,
            "degraded": list(self.degraded),
            "coverage": self.coverage,
            "branches": dict(self.branches),
            "regions": [region.to_map() for region in self.regions],
            "bundle": self.bundle,
            "bundle_hash": self.bundle_hash,
            "sources": [source.to_map() for source in self.sources],
            "worker": self.worker,
            "attempt": self.attempt,
            "reason": self.reason,
            "captured_at": self.captured_at,
            "decided_at": self.decided_at,
            "deadline": self.deadline,
            "timings": dict(self.timings),
            "heatmap_key": self.heatmap_key,
            "foreground": self.foreground,
        }

    @classmethod
    def from_map(cls, part: PartKey, fields: Fields) -> Verdict:
        """Read a verdict. Raises InvalidField."""
        return cls(
            part=part,
            product=fields.text("product", 128),
            decision=fields.choice("decision", Decision),
            mode=fields.choice("mode", Mode) if fields.has("mode") else None,
            score=fields.optional("score", fields.number),
            threshold=fields.optional("threshold", fields.number),
            pass_limit=fields.optional("pass_limit", fields.number),
            degraded=fields.texts("degraded"),
            coverage=fields.number("coverage"),
            branches=fields.numbers("branches"),
            regions=tuple(Region.from_raw(raw) for raw in fields.items("regions", MAX_REGIONS)),
            bundle=fields.optional("bundle", fields.text),
            bundle_hash=fields.optional("bundle_hash", fields.text),
            sources=tuple(Source.from_raw(raw) for raw in fields.items("sources", MAX_SOURCES)),
            worker=fields.text("worker"),
            attempt=fields.integer("attempt", 1),
            reason=fields.optional("reason", lambda name: fields.text(name, 1024)),
            captured_at=fields.integer("captured_at"),
            decided_at=fields.integer("decided_at"),
            deadline=fields.integer("deadline"),
            timings=fields.numbers("timings"),
            heatmap_key=fields.optional("heatmap_key", fields.text),
            foreground=fields.optional("foreground", fields.text),
        )

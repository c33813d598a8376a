"""What a person says of a part that was kept out: a true reject, or a good part that was rejected falsely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from schemas.fields import INT64_MAX, Fields, check
from schemas.part import PartKey
from schemas.verdict import Decision, Mode

MAX_NOTE = 500
MAX_BY = 64


class LabelKind(StrEnum):
    """What the part really is."""

    TRUE_REJECT = "true-reject"
    """It has a defect."""
    FALSE_REJECT = "false-reject"
    """It is good: a confirmed normal."""
    WITHDRAWN = "withdrawn"
    """What was said of it is taken back: as if nobody had said anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One person's word on one part, and what the verdict was that it is about.

    Attributes:
        part: the part's identity.
        product: as the verdict names it.
        decision: what the part ended in: REJECT or REVIEW.
        label: what it really is, or that an earlier label is taken back.
        at: integer nanoseconds since the epoch, when it was said.
        by: who said it.
        note: free text.
        revision: 1 for the first label of a part, one more each time it is replaced or taken back; the
            highest holds.
        mode, score, threshold, bundle: of the verdict.

    Raises:
        InvalidField: a decision that nobody reviews, or a value out of range.
    """

    KIND: ClassVar[str] = "label"

    part: PartKey
    product: str
    decision: Decision
    label: LabelKind
    at: int
    by: str
    note: str = ""
    revision: int = 1
    mode: Mode | None = None
    score: float | None = None
    threshold: float | None = None
    bundle: str | None = None

    def __post_init__(self) -> None:
        what = f"label {self.part}"
        check(1 <= len(self.product) <= 128, f"{what}: product has 1 to 128 characters")
        check(
            self.decision in (Decision.REJECT, Decision.REVIEW),
            f"{what}: it ended in {self.decision.value}; only REJECT and REVIEW are reviewed",
        )
        check(1 <= len(self.by) <= MAX_BY, f"{what}: by has 1 to {MAX_BY} characters")
        check(len(self.note) <= MAX_NOTE, f"{what}: its note has {len(self.note)} of at most {MAX_NOTE}")
        check(0 <= self.at <= INT64_MAX, f"{what}: at {self.at} is not a time")
        check(1 <= self.revision <= INT64_MAX, f"{what}: revision {self.revision} is not above 0")
        for name, value in (("score", self.score), ("threshold", self.threshold)):
            check(value is None or math.isfinite(value), f"{what}: {name} {value} is not finite")

    def to_map(self) -> dict[str, Any]:
        """The map that travels."""
        return {
            "product": self.product,
            "decision": self.decision.value,
            "label": self.label.value,
            "at": self.at,
            "by": self.by,
            "note": self.note,
            "revision": self.revision,
            "mode": None if self.mode is None else self.mode.value,
            "score": self.score,
            "threshold": self.threshold,
            "bundle": self.bundle,
        }

    @classmethod
    def from_map(cls, part: PartKey, fields: Fields) -> Label:
        """Read a label. Raises InvalidField."""
        return cls(
            part=part,
            product=fields.text("product", 128),
            decision=fields.choice("decision", Decision),
            label=fields.choice("label", LabelKind),
            at=fields.integer("at"),
            by=fields.text("by", MAX_BY),
            note=fields.text("note", MAX_NOTE),
            revision=fields.integer("revision", 1),
            mode=fields.choice("mode", Mode) if fields.has("mode") else None,
            score=fields.optional("score", fields.number),
            threshold=fields.optional("threshold", fields.number),
            bundle=fields.optional("bundle", fields.text),
        )

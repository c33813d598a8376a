"""What an agent says of a part whose frame will never come: it was seen, and its images are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from schemas.fields import Fields, check, check_origin
from schemas.part import PartKey

MAX_WHY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A part without a frame; it travels where its frame would have, and ends in MISSING.

    Attributes:
        part: the part's identity.
        product: the product its frame would have named.
        captured_at: integer nanoseconds since the epoch, when the trigger fired.
        deadline: integer nanoseconds since the epoch, as a frame's.
        why: a short reason for people and metrics ("buffer full", "no sensor", ...).

    Raises:
        InvalidField: a deadline before the trigger, or a value out of range.
    """

    KIND: ClassVar[str] = "notice"

    part: PartKey
    product: str
    captured_at: int
    deadline: int
    why: str

    def __post_init__(self) -> None:
        check_origin(self.product, self.captured_at, self.deadline)
        check(1 <= len(self.why) <= MAX_WHY, f"notice {self.part}: why has 1 to {MAX_WHY} characters")

    def to_map(self) -> dict[str, Any]:
        """The map that travels."""
        return {
            "product": self.product,
            "captured_at": self.captured_at,
            "deadline": self.deadline,
            "why": self.why,
        }

    @classmethod
    def from_map(cls, part: PartKey, fields: Fields) -> Notice:
        """Read a notice. Raises InvalidField."""
        return cls(
            part=part,
            product=fields.text("product", 128),
            captured_at=fields.integer("captured_at"),
            deadline=fields.integer("deadline"),
            why=fields.text("why", MAX_WHY),
        )

"""Where on the part the score comes from. Best effort: it never holds a commit back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from schemas.fields import Fields, check
from schemas.part import PartKey
from schemas.payload import ImagePayload
from schemas.verdict import Mode


class HeatmapEncoding(StrEnum):
    """How the 8-bit map is written."""

    PNG8 = "png8"
    """A PNG file: one channel of 8 bits, not interlaced."""
    RAW8 = "raw8"
    """height x width bytes, row by row from the top left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmap:
    """An 8-bit map with its scale: value = low + byte / 255 * (high - low), on the scale of the score.

    Attributes:
        mode: which sensors the score rests on.
        image: the map; it covers the inspected image, whatever its own size.
        low, high: the score at byte 0 and at byte 255.

    Raises:
        InvalidField: a scale that is not finite or is upside down.
    """

    KIND: ClassVar[str] = "heatmap"

    part: PartKey
    mode: Mode
    image: ImagePayload
    low: float
    high: float

    def __post_init__(self) -> None:
        check(
            math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high,
            f"heatmap {self.part}: scale {self.low} to {self.high}",
        )

    def to_map(self) -> dict[str, Any]:
        """The map that travels."""
        return {"mode": self.mode.value, "low": self.low, "high": self.high, "image": self.image.to_map()}

    @classmethod
    def from_map(cls, part: PartKey, fields: Fields) -> Heatmap:
        """Read a heatmap. Raises InvalidField."""
        return cls(
            part=part,
            mode=fields.choice("mode", Mode),
            image=ImagePayload.from_fields(fields.nested("image"), HeatmapEncoding),
            low=fields.number("low"),
            high=fields.number("high"),
        )

"""What a capture agent publishes for one part: its colour image, its depth image, or one of the two."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from schemas.errors import InvalidField
from schemas.fields import INT64_MAX, Fields, check, check_origin
from schemas.part import PartKey
from schemas.payload import ColourEncoding, DepthEncoding, ImagePayload


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One part as its sensors saw it.

    Attributes:
        part: the part's identity, minted by the trigger source.
        product: which product's bundle judges it.
        captured_at: integer nanoseconds since the epoch, when the sensors fired.
        deadline: integer nanoseconds since the epoch; a verdict after it is too late for the gate.
        rgb, depth: the encoded images; None where the sensor gave nothing. A frame may carry one of two.
        depth_scale: metres per depth count; None where the sensor has no metric scale (disparity).
        encoder: belt position in encoder counts, where there is one.
        calibration: id of the station's calibration.
        expects: which sensors the station has ("rgb", "depth"); a pair is complete when they are all there.

    Raises:
        InvalidField: neither image, a deadline before the capture, or a value out of range.
    """

    KIND: ClassVar[str] = "frame"

    part: PartKey
    product: str
    captured_at: int
    deadline: int
    rgb: ImagePayload | None = None
    depth: ImagePayload | None = None
    depth_scale: float | None = None
    encoder: int | None = None
    calibration: str | None = None
    expects: tuple[str, ...] = ("rgb", "depth")

    def __post_init__(self) -> None:
        check_origin(self.product, self.captured_at, self.deadline)
        check(self.rgb is not None or self.depth is not None, f"frame {self.part}: neither rgb nor depth")
        check(
            set(self.expects) <= {"rgb", "depth"} and len(self.expects) == len(set(self.expects)) > 0,
            f"expects {self.expects!r}: name 'rgb', 'depth' or both",
        )
        if self.depth_scale is not None and not (math.isfinite(self.depth_scale) and self.depth_scale > 0):
            raise InvalidField(f"depth_scale {self.depth_scale!r}: expected metres per count, above 0")

    def to_map(self) -> dict[str, Any]:
        """The map that travels."""
        return {
            "product": self.product,
            "captured_at": self.captured_at,
            "deadline": self.deadline,
            "depth_scale": self.depth_scale,
            "encoder": self.encoder,
            "calibration": self.calibration,
            "expects": list(self.expects),
            "rgb": None if self.rgb is None else self.rgb.to_map(),
            "depth": None if self.depth is None else self.depth.to_map(),
        }

    @classmethod
    def from_map(cls, part: PartKey, fields: Fields) -> Frame:
        """Read a frame. Raises InvalidField."""
        return cls(
            part=part,
            product=fields.text("product", 128),
            captured_at=fields.integer("captured_at"),
            deadline=fields.integer("deadline"),
            depth_scale=fields.optional("depth_scale", fields.number),
            encoder=fields.optional("encoder", lambda name: fields.integer(name, -INT64_MAX)),
            calibration=fields.optional("calibration", fields.text),
            expects=fields.texts("expects", 2) if fields.has("expects") else ("rgb", "depth"),
            rgb=ImagePayload.from_fields(fields.nested("rgb"), ColourEncoding) if fields.has("rgb") else None,
            depth=ImagePayload.from_fields(fields.nested("depth"), DepthEncoding)
            if fields.has("depth")
            else None,
        )

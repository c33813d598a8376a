"""What teaching may be told."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from inference.errors import TeachError
from inference.profiles.reference import PRECISIONS, ReferenceSettings
from inference.rules import CALIBRATED, RULES


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachSettings:
    """What teaching may be told.

    Attributes:
        seed: of the bank's projection and the folds.
        bank_size: rows of the nearest-neighbour bank.
        roi: whether to look for a region of interest.
        foreground: whether to tell the part from the belt around it.
        tile_pixels: frames whose region is longer than this become overlapping tiles.
        tile_overlap: share of a tile's side that neighbours have in common.
        folds: of the teaching frames, by group, each scored by what the others taught; 0 sets thresholds on
            validation frames alone. None takes 5, and 0 where heads are trained: they would be trained anew
            for each fold.
        false_reject: share of good frames that may be rejected.
        review_share: further share of good frames that may be held for review.
        least_coverage: depth with fewer valid readings than this share of the region counts as absent.
        fusion: the rule that decides: "calibrated", "cmdr", "modulated" or "dual".
        profile: "compact" or "reference".
        precision: of the compact profile's colour network, "float32" or "bfloat16".
        reference: what decides the reference profile's tokens.
        epochs, learning_rate: of trained heads (reference).
        version: of the bundle; None takes the next whole number.
        device: of the network.

    Raises:
        TeachError: a value out of range; the message names it.
    """

    seed: int = 0
    bank_size: int = 1000
    roi: bool = True
    foreground: bool = True
    tile_pixels: int = 640
    tile_overlap: float = 0.125
    folds: int | None = None
    false_reject: float = 0.01
    review_share: float = 0.04
    least_coverage: float = 0.2
    fusion: str = CALIBRATED
    profile: str = "compact"
    precision: str = "float32"
    reference: ReferenceSettings = field(default_factory=ReferenceSettings)
    epochs: int = 50
    learning_rate: float = 1e-3
    version: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.fusion not in RULES:
            raise TeachError(f"teach setting fusion is {self.fusion!r}: expected {', '.join(RULES)}")
        if self.folds == 1:
            raise TeachError("teach setting folds is 1: expected 0, or 2 to 20")
        if self.precision not in PRECISIONS:
            raise TeachError(f"teach setting precision is {self.precision!r}: expected float32 or bfloat16")
        for name, low, high in (
            ("seed", 0, 2**31 - 1),
            ("bank_size", 16, 100_000),
            ("tile_pixels", 64, 16_384),
            ("tile_overlap", 0.0, 0.5),
            ("folds", 0, 20),
            ("false_reject", 1e-4, 0.1),
            ("review_share", 0.0, 0.2),
            ("least_coverage", 0.0, 1.0),
            ("epochs", 1, 10_000),
            ("learning_rate", 1e-7, 1.0),
        ):
            value = self.calibration_folds if name == "folds" else getattr(self, name)
            if not low <= value <= high:
                raise TeachError(f"teach setting {name} is {value}: expected {low} to {high}")

    @property
    def calibration_folds(self) -> int:
        """``folds``, or what the profile takes."""
        if self.folds is not None:
            return self.folds
        return 0 if self.profile == "reference" else 5

    def to_map(self) -> dict[str, object]:
        """Plain values for the manifest, without what changes no number: version and device."""
        names = [one.name for one in fields(self) if one.name not in ("version", "device", "reference")]
        return {name: getattr(self, name) for name in names} | {"reference": self.reference.to_map()}

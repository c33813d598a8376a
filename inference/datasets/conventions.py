"""How the numbers in a folder's files are to be understood, where the files cannot say it themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from inference.errors import DatasetError

UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6}
"""Names of lengths, in metres."""
KEYS = ("depth_scale", "depth_unit", "no_reading", "colour_bits", "same_field")
"""The keys of a dataset.json that are read here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conventions:
    """What a person says about a folder, in a dataset.json or on the command line; None: nothing is said.

    Attributes:
        depth_scale: metres in a count of the samples' depth.
        depth_unit: metres in one unit of depth that is stored as floats, or of a cloud.
        no_reading: values of depth files that stand for no reading, beside 0, NaN and infinity. Empty: there
            are none, and 65535 is a distance.
        colour_bits: of colour samples that are stored in 16 bits: 12 for Mono12, 16 for the full range.
        same_field: whether a depth image of another size shows the same field as its colour image.

    Raises:
        DatasetError: a value that cannot be one.
    """

    depth_scale: float | None = None
    depth_unit: float | None = None
    no_reading: tuple[float, ...] | None = None
    colour_bits: int | None = None
    same_field: bool | None = None

    def __post_init__(self) -> None:
        for name in ("depth_scale", "depth_unit"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise DatasetError(f"{name} {value!r}: expected metres, above 0")
        if self.colour_bits is not None and (
            not _is_number(self.colour_bits) or self.colour_bits not in range(8, 17)
        ):
            raise DatasetError(f"colour_bits {self.colour_bits!r}: expected 8 to 16, such as 12 for Mono12")
        if any(not _is_number(value) for value in self.no_reading or ()):
            raise DatasetError(f"no_reading {list(self.no_reading or ())}: expected numbers, such as 65535")

    @classmethod
    def of(cls, described: Mapping[str, object], place: Path) -> Self:
        """What a dataset.json says. Raises DatasetError naming the file."""
        given = {key: described[key] for key in KEYS if described.get(key) is not None}
        if "depth_unit" in given and isinstance(given["depth_unit"], str):
            given["depth_unit"] = parse_unit(given["depth_unit"], f"{place}: depth_unit")
        if "no_reading" in given:
            value = given["no_reading"]
            given["no_reading"] = tuple(value) if isinstance(value, list) else (value,)
        if "same_field" in given:
            given["same_field"] = bool(given["same_field"])
        try:
            return cls(**given)  # type: ignore[arg-type]
        except DatasetError as error:
            raise DatasetError(f"{place}: {error}") from None

    def over(self, other: Self) -> Self:
        """What is said here, and where nothing is, what ``other`` says."""
        said = {key: value for key in KEYS if (value := getattr(self, key)) is not None}
        return replace(other, **said)


def parse_unit(text: str, option: str) -> float:
    """Metres in a unit such as "mm" or "0.001". Raises DatasetError naming ``option``."""
    try:
        value = UNITS[text.lower()] if text.lower() in UNITS else float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise DatasetError(f"{option} {text!r}: use {', '.join(UNITS)}, or metres in one unit, above 0")
    return value


def parse_no_reading(texts: list[str] | None, option: str) -> tuple[float, ...] | None:
    """The values of a repeated option; "none" says that there is no such value. Raises DatasetError."""
    if not texts:
        return None
    if [text.lower() for text in texts] == ["none"]:
        return ()
    try:
        return tuple(float(text) for text in texts)
    except ValueError:
        raise DatasetError(f"{option} {' '.join(texts)}: expected a number such as 65535, or none") from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

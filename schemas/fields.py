"""Typed reads out of a decoded map: each refusal names the field and what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from schemas.errors import InvalidField, SchemaError

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

INT64_MAX = 2**63 - 1


class Fields:
    """One decoded map, read field by field; unknown keys are left alone."""

    __slots__ = ("_map", "_what")

    def __init__(self, raw: object, what: str) -> None:
        if not isinstance(raw, Mapping):
            raise InvalidField(f"{what}: expected a map, found {type(raw).__name__}")
        self._map = raw
        self._what = what

    def _get(self, name: str, kinds: type | tuple[type, ...], expected: str) -> object:
        if name not in self._map:
            raise InvalidField(f"{self._what}.{name}: missing")
        value = self._map[name]
        # bool is an int to Python; on the wire it is not.
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise InvalidField(f"{self._what}.{name}: expected {expected}, found {type(value).__name__}")
        return value

    def has(self, name: str) -> bool:
        """Whether the field is there and not nil."""
        return self._map.get(name) is not None

    def integer(self, name: str, low: int = 0, high: int = INT64_MAX) -> int:
        """An integer in [low, high]."""
        value = self._get(name, int, "an integer")
        assert isinstance(value, int)
        if not low <= value <= high:
            raise InvalidField(f"{self._what}.{name}: {value} is not in [{low}, {high}]")
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        value = self._get(name, (int, float), "a number")
        assert isinstance(value, int | float)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise InvalidField(f"{self._what}.{name}: {value} is not finite")
        return number

    def text(self, name: str, limit: int = 256) -> str:
        """A string of at most ``limit`` characters."""
        value = self._get(name, str, "a string")
        assert isinstance(value, str)
        if len(value) > limit:
            raise InvalidField(f"{self._what}.{name}: {len(value)} characters, at most {limit}")
        return value

    def binary(self, name: str) -> bytes:
        """Raw bytes."""
        value = self._get(name, bytes, "bytes")
        assert isinstance(value, bytes)
        return value

    def choice(self, name: str, kind: type[E]) -> E:
        """A member of a string enumeration."""
        text = self.text(name)
        try:
            return kind(text)
        except ValueError:
            names = ", ".join(member.value for member in kind)
            raise InvalidField(f"{self._what}.{name}: {text!r} is none of {names}") from None

    def items(self, name: str, limit: int) -> Sequence[object]:
        """A list of at most ``limit`` items."""
        value = self._get(name, (list, tuple), "a list")
        assert isinstance(value, list | tuple)
        if len(value) > limit:
            raise InvalidField(f"{self._what}.{name}: {len(value)} items, at most {limit}")
        return value

    def texts(self, name: str, limit: int = 64) -> tuple[str, ...]:
        """A list of strings."""
        items = self.items(name, limit)
        for item in items:
            if not isinstance(item, str):
                raise InvalidField(f"{self._what}.{name}: expected strings, found {type(item).__name__}")
        return tuple(str(item) for item in items)

    def numbers(self, name: str, limit: int = 64) -> dict[str, float]:
        """A map from strings to finite numbers."""
        inner = self._get(name, Mapping, "a map")
        assert isinstance(inner, Mapping)
        if len(inner) > limit:
            raise InvalidField(f"{self._what}.{name}: {len(inner)} entries, at most {limit}")
        fields = Fields(inner, f"{self._what}.{name}")
        for key in inner:
            if not isinstance(key, str):
                raise InvalidField(f"{self._what}.{name}: keys must be strings")
        return {key: fields.number(key) for key in inner}

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        """``read(name)``, or None where the field is absent or nil."""
        return read(name) if self.has(name) else None

    def nested(self, name: str) -> Fields:
        """A map inside this one."""
        return Fields(self._get(name, Mapping, "a map"), f"{self._what}.{name}")


def check(ok: bool, message: str, error: type[SchemaError] = InvalidField) -> None:
    """Raise ``error(message)`` unless ``ok``."""
    if not ok:
        raise error(message)


def check_origin(product: str, captured_at: int, deadline: int) -> None:
    """What a frame and a notice both say of their part: product, and times in nanoseconds since the epoch.

    Raises:
        InvalidField: a product without a name, no time, or a deadline before the capture.
    """
    check(1 <= len(product) <= 128, f"product {product!r}: expected 1 to 128 characters")
    check(0 <= captured_at <= INT64_MAX, f"captured_at {captured_at}: not a time")
    check(captured_at <= deadline <= INT64_MAX, f"deadline {deadline}: before captured_at {captured_at}")

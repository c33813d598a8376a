"""JSON of files that people can edit: every number in it is one that arithmetic can go on with."""

from __future__ import annotations

import json
from typing import Any, NoReturn

LARGEST = 1e30
"""Beyond it a 32-bit float overflows, and nothing that is measured here comes near it."""


def loads(raw: bytes | str) -> Any:
    """The value.

    Raises:
        ValueError: no JSON, nested too deep, or a number that is infinite, NaN or beyond ``LARGEST``.
    """
    try:
        if isinstance(raw, bytes):
            raw = raw.decode("utf-8-sig")
        return json.loads(raw, parse_constant=_refuse, parse_int=_whole, parse_float=_real)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number to reckon with")


def _real(text: str) -> float:
    value = float(text)
    if not abs(value) <= LARGEST:
        _refuse(text if len(text) < 30 else f"{text[:27]}...")
    return value


def _whole(text: str) -> int:
    _real(text)
    return int(text)

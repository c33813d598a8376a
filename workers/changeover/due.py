"""The product that is due at a station, as Redis has it: when the PLC is known to have said which.

The hash ``{STATION}:product`` is written as a whole after each reading of the PLC. What counts in it is the
list of spans: from the end of one reading to the beginning of a later one the PLC said this product, and in
every reading between. A part belongs to a product only where one span covers its capture, so whatever fails
(the PLC, the network, Redis, this process) fails to "not known": a span that is not written does not grow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.errors import InvalidField
from schemas.fields import check

MAX_SPANS = 32
"""Older ones are dropped: their parts have left the line, or are not passed."""
_MAX_NAME = 128


@dataclass(frozen=True, slots=True)
class Span:
    """The PLC said ``product`` from ``first`` to ``last``, both within; nanoseconds since the epoch.

    A span whose ``last`` is before its ``first`` covers nothing: the product was read once, and not again.
    """

    product: str
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is known of one station. All times are integer nanoseconds since the epoch.

    Attributes:
        product: the product due now, or None where nobody knows.
        number: what the PLC's register held at the last reading; None before the first.
        since: when the product before was last known to be due.
        issued_at: from when on the product is known to be due.
        seen_at: up to when the PLC's word is known; parts captured later are not passed yet.
        why: why the product is not known, in words; empty where it is.
        spans: oldest first.

    Raises:
        InvalidField: a product without a name, or too many spans.
    """

    product: str | None
    number: int | None
    since: int
    issued_at: int
    seen_at: int
    why: str = ""
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        names = [span.product for span in self.spans] + ([] if self.product is None else [self.product])
        for name in names:
            check(0 < len(name) <= _MAX_NAME, f"product {name[:140]!r}: expected 1 to {_MAX_NAME} characters")
        check(len(self.spans) <= MAX_SPANS, f"product: more than {MAX_SPANS} spans")

    def covers(self, product: str, first: int, last: int) -> bool:
        """Whether the PLC is known to have said ``product`` from ``first`` to ``last`` without a break."""
        return any(
            span.product == product and span.first <= first and last <= span.last for span in self.spans
        )

    def at(self, moment: int) -> str | None:
        """The product that was due at that moment, or None where nobody knows."""
        for span in self.spans:
            if span.first <= moment <= span.last:
                return span.product
        return None

    def settled(self, moment: int) -> bool:
        """Whether the PLC was read after that moment: what is known of it will not change any more."""
        return moment <= self.seen_at

    def to_map(self) -> dict[str, str | int]:
        """As the hash has it."""
        return {
            "product": self.product or "",
            "number": "" if self.number is None else self.number,
            "since": self.since,
            "issued_at": self.issued_at,
            "seen_at": self.seen_at,
            "why": self.why,
            "spans": json.dumps([[s.product, s.first, s.last] for s in self.spans], separators=(",", ":")),
        }

    @classmethod
    def from_map(cls, raw: Mapping[str, str]) -> Due:
        """Back from the hash. Raises InvalidField: something in it is missing or is none of this."""
        try:
            spans = tuple(
                Span(str(product), _integer(first), _integer(last))
                for product, first, last in json.loads(raw["spans"])
            )
            return cls(
                product=raw["product"] or None,
                number=int(raw["number"]) if raw["number"] else None,
                since=int(raw["since"]),
                issued_at=int(raw["issued_at"]),
                seen_at=int(raw["seen_at"]),
                why=raw["why"],
                spans=spans,
            )
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise InvalidField(
                f"product of a station: not readable ({type(error).__name__}: {error})"
            ) from None


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value

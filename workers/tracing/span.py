"""One span of a part, before OpenTelemetry knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.part import PartKey

Value = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that happened to a part. Times are integer nanoseconds since the epoch.

    Attributes:
        part: whose trace it belongs to.
        name: what happened.
        ident: what its id is made from; its name where not given.
        parent: the ident of the span that it hangs under; None for the first of its trace.
        error: why it failed; empty where it did not.
        events: moments within it.
        link: a ``traceparent`` of another trace that it continues.
    """

    part: PartKey
    name: str
    start: int
    end: int
    ident: str = ""
    parent: str | None = None
    attributes: Mapping[str, Value] = field(default_factory=dict)
    error: str = ""
    events: tuple[tuple[str, int], ...] = ()
    link: bytes | None = None

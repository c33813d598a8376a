"""Text that is used and never shown."""

from __future__ import annotations


class Secret(str):
    """Text that shows as ``***`` wherever a dict or an error that holds it is printed.

    Clients write their whole configuration to their logs at the level DEBUG.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __str__(self) -> str:
        return "***"

    def __format__(self, _: str) -> str:
        return "***"

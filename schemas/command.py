"""What an operator or a PLC asks of the workers, on the control topic."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from schemas.errors import InvalidField
from schemas.fields import Fields, check


class Action(StrEnum):
    """What to do."""

    ACTIVATE = "activate"
    """Score ``product`` with the bundle ``value`` from now on."""
    THRESHOLD = "threshold"
    """Set the threshold of ``product`` and mode: ``value`` is ``MODE=NUMBER``."""
    PRODUCT = "product"
    """The next part of ``station`` is of product ``value``."""
    DRAIN = "drain"
    """Finish what is in flight, commit, leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One instruction. ``target`` is a worker or station name, or ``*`` for all.

    Raises:
        InvalidField: an action that needs a product or a value and has none.
    """

    KIND: ClassVar[str] = "command"

    id: str
    action: Action
    issued_at: int
    target: str = "*"
    product: str | None = None
    value: str | None = None

    def __post_init__(self) -> None:
        check(1 <= len(self.id) <= 128, f"command id {self.id!r}: expected 1 to 128 characters")
        if self.action is not Action.DRAIN and not self.value:
            raise InvalidField(f"command {self.action.value}: needs a value")
        if self.action in (Action.ACTIVATE, Action.THRESHOLD) and not self.product:
            raise InvalidField(f"command {self.action.value}: needs a product")

    def to_map(self) -> dict[str, Any]:
        """The map that travels."""
        return {
            "id": self.id,
            "action": self.action.value,
            "issued_at": self.issued_at,
            "target": self.target,
            "product": self.product,
            "value": self.value,
        }

    @classmethod
    def from_map(cls, fields: Fields) -> Command:
        """Read a command. Raises InvalidField."""
        return cls(
            id=fields.text("id", 128),
            action=fields.choice("action", Action),
            issued_at=fields.integer("issued_at"),
            target=fields.text("target"),
            product=fields.optional("product", fields.text),
            value=fields.optional("value", fields.text),
        )

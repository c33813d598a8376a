"""What an operator or a PLC asks of the workers, on the control topic.

The topic is compacted by :attr:`Command.key`: of each key the newest record stays for good, and so a worker
that reads it from its begin knows what holds. What each action means and which fields it takes:

========= ================== ============ ========================= =============================
action    key                target       value                     besides
========= ================== ============ ========================= =============================
ACTIVATE  activate/PRODUCT   ``*``        version                   product, previous, digest
THRESHOLD threshold/PRODUCT/ ``*``        ``MODE=NUMBER@VERSION``   product
          MODE                            or ``MODE=taught@...``
PRODUCT   product/STATION    the station  the product that is next  since
DRAIN     drain/TARGET       worker, ``*``
========= ================== ============ ========================= =============================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from schemas.errors import InvalidField
from schemas.fields import INT64_MAX, Fields, check
from schemas.part import checked_station
from schemas.verdict import Mode

TAUGHT = "taught"
"""In place of a threshold's number: the one that the bundle was taught with."""
MAX_PREVIOUS = 16
MAX_PRODUCT = 128
"""Characters, as in a frame."""


class Action(StrEnum):
    """What to do."""

    ACTIVATE = "activate"
    """Score ``product`` with the version ``value`` of its bundle from now on."""
    THRESHOLD = "threshold"
    """Set a threshold of ``product``: ``value`` is ``MODE=NUMBER@VERSION``, for that version only."""
    PRODUCT = "product"
    """The next part of the station ``target`` is of product ``value``."""
    DRAIN = "drain"
    """Finish what is in flight, commit, leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdSetting:
    """What the value of a THRESHOLD command says.

    Attributes:
        mode: whose threshold.
        number: on the fused score's scale; None: the one that the bundle was taught with.
        version: the only version of the product's bundle that it holds for.
    """

    mode: Mode
    number: float | None
    version: str

    def __str__(self) -> str:
        return f"{self.mode.value}={TAUGHT if self.number is None else repr(self.number)}@{self.version}"

    @classmethod
    def parse(cls, text: str) -> ThresholdSetting:
        """Back from its text. Raises InvalidField: not ``MODE=NUMBER@VERSION`` with a finite number."""
        name, _, rest = text.partition("=")
        number, _, version = rest.partition("@")
        try:
            mode = Mode(name)
            value = None if number == TAUGHT else float(number)
        except ValueError:
            raise InvalidField(
                f"threshold {text!r}: expected MODE=NUMBER@VERSION, MODE one of {', '.join(Mode)}"
            ) from None
        check(value is None or math.isfinite(value), f"threshold {text!r}: {number} is not finite")
        check(bool(version), f"threshold {text!r}: the version that it holds for is missing")
        return cls(mode=mode, number=value, version=version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One instruction.

    Attributes:
        id: names it in logs.
        action: what to do.
        issued_at: nanoseconds since the epoch. Of ``product``: when the line first said the new product;
            parts captured from then on are judged by its bundle.
        target: of ``drain`` a worker's name or ``*``; of ``product`` a station; else ``*``.
        product: whose bundle; ``product`` names the new one in ``value``.
        value: of ``activate`` the version; of ``threshold`` MODE=NUMBER@VERSION, or MODE=taught@VERSION; of
            ``product`` the product that is next; None of ``drain``.
        since: of ``product``, nanoseconds since the epoch: when the line last said the old product. Parts
            captured from then until ``issued_at`` could be of either and are not passed. None: as
            ``issued_at``.
        previous: of ``activate``, the versions that were active before, the newest first: what a rollback
            takes.
        digest: of ``activate``, sha256 (hex) of the manifest that is meant; None: whatever has that version.

    Raises:
        InvalidField: an action that needs a product, a value or a station and has none, a product that no
            frame could name, or ``since`` behind ``issued_at``.
    """

    KIND: ClassVar[str] = "command"

    id: str
    action: Action
    issued_at: int
    target: str = "*"
    product: str | None = None
    value: str | None = None
    since: int | None = None
    previous: tuple[str, ...] = ()
    digest: str | None = None

    def __post_init__(self) -> None:
        check(1 <= len(self.id) <= 128, f"command id {self.id!r}: expected 1 to 128 characters")
        if self.action is not Action.DRAIN and not self.value:
            raise InvalidField(f"command {self.action.value}: needs a value")
        if self.action in (Action.ACTIVATE, Action.THRESHOLD) and not self.product:
            raise InvalidField(f"command {self.action.value}: needs a product")
        product = self.product
        if self.action is Action.PRODUCT:
            checked_station(self.target)
            product = self.value
        check(
            product is None or len(product) <= MAX_PRODUCT,
            f"command {self.action.value}: a product has at most {MAX_PRODUCT} characters",
        )
        check(
            self.since is None or 0 <= self.since <= self.issued_at <= INT64_MAX,
            f"command {self.action.value}: since {self.since} is not before issued_at {self.issued_at}",
        )
        check(len(self.previous) <= MAX_PREVIOUS, f"command: more than {MAX_PREVIOUS} previous versions")

    @property
    def key(self) -> bytes:
        """What it sets: the key of its record. The newest record of a key is the one that holds.

        Raises:
            InvalidField: a THRESHOLD whose value cannot be read.
        """
        match self.action:
            case Action.ACTIVATE:
                text = f"activate/{self.product}"
            case Action.THRESHOLD:
                mode = ThresholdSetting.parse(self.value or "").mode.value
                text = f"threshold/{self.product}/{mode}"
            case Action.PRODUCT:
                text = f"product/{self.target}"
            case Action.DRAIN:
                text = f"drain/{self.target}"
        return text.encode()

    def to_map(self) -> dict[str, Any]:
        """The map that travels."""
        return {
            "id": self.id,
            "action": self.action.value,
            "issued_at": self.issued_at,
            "target": self.target,
            "product": self.product,
            "value": self.value,
            "since": self.since,
            "previous": list(self.previous),
            "digest": self.digest,
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
            since=fields.optional("since", fields.integer),
            previous=fields.optional("previous", lambda name: fields.texts(name, MAX_PREVIOUS)) or (),
            digest=fields.optional("digest", lambda name: fields.text(name, 64)),
        )

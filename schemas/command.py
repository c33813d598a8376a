"""What an operator or a PLC asks of the workers, on the control topic.

The topic is compacted by :attr:`Command.key`: of each key the newest record stays for good, and so a worker
that reads it from its begin knows what holds. What each action means and which fields it takes:

========= ================== ============ ========================= =============================
action    key                target       value                     besides
========= ================== ============ ========================= =============================
ACTIVATE  activate/PRODUCT   ``*``        version                   product, previous, digest
THRESHOLD threshold/PRODUCT/ ``*``        ``MODE=NUMBER@VERSION``,  product
          MODE                            ``MODE=PASS..NUMBER@..``
                                          or ``MODE=taught@...``
CONFIRM   confirm/PART       the part     ``MODE=SCORE@VERSION`` or product, digest
                                          ``MODE=withdrawn@...``
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
from schemas.part import PartKey, checked_station
from schemas.verdict import Mode

TAUGHT = "taught"
"""In place of a threshold's number: the limits that the bundle was taught with."""
WITHDRAWN = "withdrawn"
"""In place of a confirmed part's score: what was said of it is taken back."""
MAX_PREVIOUS = 16
MAX_PRODUCT = 128
"""Characters, as in a frame."""


class Action(StrEnum):
    """What to do."""

    ACTIVATE = "activate"
    """Score ``product`` with the version ``value`` of its bundle from now on."""
    THRESHOLD = "threshold"
    """Set the limits of ``product``: ``value`` is ``MODE=NUMBER@VERSION``, for that version only; with
    ``PASS..NUMBER`` parts between the two go to REVIEW."""
    CONFIRM = "confirm"
    """A person has looked at the part ``target``, which had this score, and says that it is good."""
    PRODUCT = "product"
    """The next part of the station ``target`` is of product ``value``."""
    DRAIN = "drain"
    """Finish what is in flight, commit, leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdSetting:
    """What the value of a THRESHOLD command says.

    Attributes:
        mode: whose threshold.
        number: on the fused score's scale: above it a part is rejected; None: the limits that the bundle was
            taught with.
        version: the only version of the product's bundle that it holds for.
        pass_limit: on the same scale, at most ``number``: up to it a part passes; None: up to ``number``.

    Raises:
        InvalidField: a number that is not finite, or a pass limit above it.
    """

    mode: Mode
    number: float | None
    version: str
    pass_limit: float | None = None

    def __post_init__(self) -> None:
        for value in (self.number, self.pass_limit):
            check(value is None or math.isfinite(value), f"threshold {self}: {value} is not finite")
        if self.pass_limit is not None:
            check(
                self.number is not None and self.pass_limit <= self.number,
                f"threshold {self}: the pass limit is above the reject limit",
            )

    def __str__(self) -> str:
        number = TAUGHT if self.number is None else repr(self.number)
        between = "" if self.pass_limit is None else f"{self.pass_limit!r}.."
        return f"{self.mode.value}={between}{number}@{self.version}"

    @classmethod
    def parse(cls, text: str) -> ThresholdSetting:
        """Back from its text. Raises InvalidField: not ``MODE=NUMBER@VERSION`` or ``PASS..NUMBER``."""
        name, _, rest = text.partition("=")
        numbers, _, version = rest.partition("@")
        low, dots, number = numbers.rpartition("..")
        try:
            mode = Mode(name)
            value = None if number == TAUGHT else float(number)
            pass_limit = float(low) if dots else None
        except ValueError:
            raise InvalidField(
                f"threshold {text!r}: expected MODE=NUMBER@VERSION or MODE=PASS..NUMBER@VERSION,"
                f" MODE one of {', '.join(Mode)}"
            ) from None
        check(bool(version), f"threshold {text!r}: the version that it holds for is missing")
        return cls(mode=mode, number=value, version=version, pass_limit=pass_limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What the value of a CONFIRM command says.

    Attributes:
        mode: that the part was scored in.
        score: that it had; None: what was said of the part is taken back.
        version: of the bundle that scored it.
    """

    mode: Mode
    score: float | None
    version: str

    def __str__(self) -> str:
        return f"{self.mode.value}={WITHDRAWN if self.score is None else repr(self.score)}@{self.version}"

    @classmethod
    def parse(cls, text: str) -> Confirmation:
        """Back from its text. Raises InvalidField: not ``MODE=SCORE@VERSION`` with a finite score."""
        name, _, rest = text.partition("=")
        number, _, version = rest.partition("@")
        try:
            mode = Mode(name)
            score = None if number == WITHDRAWN else float(number)
        except ValueError:
            raise InvalidField(
                f"confirmation {text!r}: expected MODE=SCORE@VERSION, MODE one of {', '.join(Mode)}"
            ) from None
        check(score is None or math.isfinite(score), f"confirmation {text!r}: {number} is not finite")
        check(bool(version), f"confirmation {text!r}: the version of the bundle is missing")
        return cls(mode=mode, score=score, version=version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One instruction.

    Attributes:
        id: names it in logs.
        action: what to do.
        issued_at: nanoseconds since the epoch. Of ``product``: when the line first said the new product;
            parts captured from then on are judged by its bundle.
        target: of ``drain`` a worker's name or ``*``; of ``product`` a station; of ``confirm`` a part key;
            else ``*``.
        product: whose bundle; ``product`` names the new one in ``value``.
        value: of ``activate`` the version; of ``threshold`` MODE=NUMBER@VERSION,
            MODE=PASS..NUMBER@VERSION or MODE=taught@VERSION; of ``confirm`` MODE=SCORE@VERSION or
            MODE=withdrawn@VERSION; of ``product`` the product that is next; None of ``drain``.
        since: of ``product``, nanoseconds since the epoch: when the line last said the old product. Parts
            captured from then until ``issued_at`` could be of either and are not passed. None: as
            ``issued_at``.
        previous: of ``activate``, the versions that were active before, the newest first: what a rollback
            takes.
        digest: of ``activate``, sha256 (hex) of the manifest that is meant; None: whatever has that version.
            Of ``confirm``, that of the bundle that scored the part.

    Raises:
        InvalidField: an action that needs a product, a value or a station and has none, a product that no
            frame could name, a part key that is none, or ``since`` behind ``issued_at``.
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
        if self.action in (Action.ACTIVATE, Action.THRESHOLD, Action.CONFIRM) and not self.product:
            raise InvalidField(f"command {self.action.value}: needs a product")
        product = self.product
        if self.action is Action.CONFIRM:
            PartKey.parse(self.target)
            check(bool(self.digest), "command confirm: needs the digest of the bundle that scored the part")
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
            case Action.CONFIRM:
                text = f"confirm/{self.target}"
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

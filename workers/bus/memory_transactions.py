"""The transaction coordinator of the in-memory broker: who may write under an id, and what is open."""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.bus.base import TopicPartition
from workers.bus.membership import Group
from workers.errors import Fenced


@dataclass(slots=True, eq=False)
class Transaction:
    """One open transaction: the partitions it has written to, and the offsets that go with it."""

    deadline: float
    places: set[TopicPartition] = field(default_factory=set)
    offsets: list[tuple[Group, dict[TopicPartition, int]]] = field(default_factory=list)


@dataclass(slots=True)
class _Identity:
    epoch: int = 0
    open: Transaction | None = None


class Coordinator:
    """Transactional ids, the epoch of each, and its open transaction. The broker's lock guards every call."""

    def __init__(self) -> None:
        self._identities: dict[str, _Identity] = {}

    def enter(self, name: str) -> tuple[int, Transaction | None]:
        """A new producer of that id: its epoch, and what its predecessor left open, to be aborted."""
        identity = self._identities.setdefault(name, _Identity())
        identity.epoch += 1
        left, identity.open = identity.open, None
        return identity.epoch, left

    def require(self, name: str, epoch: int) -> None:
        """Refuse a producer that is no longer the one of its id.

        Raises:
            Fenced: another one is, or its transaction took too long.
        """
        if self._identities[name].epoch != epoch:
            raise Fenced.producer(name)

    def begin(self, name: str, transaction: Transaction) -> Transaction | None:
        """Open a transaction under an id; what could not be aborted before is returned, to be aborted."""
        left, self._identities[name].open = self._identities[name].open, transaction
        return left

    def end(self, name: str) -> None:
        """The id's transaction is over."""
        self._identities[name].open = None

    def unsettled(self, group: Group) -> set[TopicPartition]:
        """The partitions for which an open transaction holds offsets of a group."""
        return {
            place
            for identity in self._identities.values()
            if identity.open is not None
            for of, offsets in identity.open.offsets
            if of is group
            for place in offsets
        }

    def overdue(self, now: float) -> list[Transaction]:
        """Fence the producers whose transaction took too long; what they had open, to be aborted."""
        found: list[Transaction] = []
        for identity in self._identities.values():
            if identity.open is not None and now >= identity.open.deadline:
                found.append(identity.open)
                identity.open = None
                identity.epoch += 1
        return found

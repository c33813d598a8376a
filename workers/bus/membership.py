"""A consumer group of the in-memory broker: who is a member, who holds what, what was committed.

Partitions move as with Kafka's cooperative sticky assignor: members keep what they hold, only what must move
is revoked, and a partition reaches its new owner only after the old one has let go of it or was removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from workers.bus.base import TopicPartition


@dataclass(slots=True)
class Member:
    """One consumer as the group sees it; times are the broker's monotonic seconds."""

    name: str
    topics: frozenset[str]
    session_timeout: float
    max_poll_interval: float
    last_poll: float
    # Set once the process behind the member was killed or suspended: from then on no heartbeats come.
    silent_since: float | None = None
    owned: set[TopicPartition] = field(default_factory=set)
    target: set[TopicPartition] = field(default_factory=set)
    # A static member never leaves: one that does not poll only stops its heartbeats.
    static: bool = False

    def expired(self, now: float) -> bool:
        """Whether the broker has given this member up."""
        if self.silent_since is not None and now - self.silent_since >= self.session_timeout:
            return True
        patience = self.max_poll_interval + (self.session_timeout if self.static else 0.0)
        return now - self.last_poll >= patience


class Group:
    """Members, their partitions, and committed offsets. The broker's lock guards every call."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.committed: dict[TopicPartition, int] = {}
        self.generation = 0
        self._topics: dict[str, int] = {}

    def join(self, member: Member, topics: Mapping[str, int]) -> None:
        """Take a member in; it holds nothing until its next poll.

        The new consumer of a static member takes the place of the old one, and nobody else notices.
        """
        before = self.members.get(member.name)
        self.members[member.name] = member
        if before is not None and before.topics == member.topics:
            member.target = before.target
        else:
            self.rebalance(topics)

    def leave(self, member: Member, topics: Mapping[str, int]) -> None:
        """Let a member go: what it held is free at once."""
        if self.members.pop(member.name, None) is not None:
            self.rebalance(topics)

    def evict(self, now: float, topics: Mapping[str, int]) -> bool:
        """Remove the members that are past their session; whether there were any."""
        dead = [member for member in self.members.values() if member.expired(now)]
        for member in dead:
            del self.members[member.name]
        if dead:
            self.rebalance(topics)
        return bool(dead)

    def rebalance(self, topics: Mapping[str, int]) -> None:
        """Compute anew who is to hold what."""
        self.generation += 1
        self._topics = dict(topics)
        held = {partition: name for name, member in self.members.items() for partition in member.owned}
        subscriptions = {name: member.topics for name, member in self.members.items()}
        targets = balance(subscriptions, topics, held)
        for name, member in self.members.items():
            member.target = targets[name]

    def refresh(self, topics: Mapping[str, int]) -> None:
        """Rebalance if topics were created or grew."""
        if self._topics != topics:
            self.rebalance(topics)

    def to_revoke(self, member: Member) -> set[TopicPartition]:
        """What a member holds and must let go of."""
        return member.owned - member.target

    def to_assign(self, member: Member) -> set[TopicPartition]:
        """What a member may take now: its target, less what others still hold."""
        taken = {
            partition for other in self.members.values() if other is not member for partition in other.owned
        }
        return member.target - member.owned - taken


def balance(
    subscriptions: Mapping[str, AbstractSet[str]],
    topics: Mapping[str, int],
    held: Mapping[TopicPartition, str],
) -> dict[str, set[TopicPartition]]:
    """Spread every partition over the members subscribed to its topic, moving as few as balance allows.

    Args:
        subscriptions: topics of each member, in the order in which they joined.
        topics: number of partitions of each topic.
        held: the present owner of each partition.
    """
    targets: dict[str, set[TopicPartition]] = {name: set() for name in subscriptions}

    def eligible(partition: TopicPartition) -> list[str]:
        return [name for name, wanted in subscriptions.items() if partition.topic in wanted]

    def lightest(names: Iterable[str]) -> str:
        return min(names, key=lambda name: len(targets[name]))

    partitions = [TopicPartition(topic, i) for topic in sorted(topics) for i in range(topics[topic])]
    free: list[TopicPartition] = []
    for partition in partitions:
        owner = held.get(partition)
        if owner in targets and partition.topic in subscriptions[owner]:
            targets[owner].add(partition)
        else:
            free.append(partition)
    for partition in free:
        if names := eligible(partition):
            targets[lightest(names)].add(partition)
    moved = True
    while moved:
        moved = False
        # Last partitions go first, so that a member keeps the low ones, whatever the order of joining.
        for partition in reversed(partitions):
            names = eligible(partition)
            if not names:
                continue
            owner = next(name for name in names if partition in targets[name])
            taker = lightest(names)
            if len(targets[owner]) - len(targets[taker]) > 1:
                targets[owner].remove(partition)
                targets[taker].add(partition)
                moved = True
    return targets

"""Repairs of how kafka-python (3.0.12) joins a group again.

They show when a member does something between its polls, as every worker does that runs a model. A join that
completes meanwhile is thrown away and begun anew, time after time: two busy members keep each other
rebalancing for as long as they are unlucky. One whose reason has gone meanwhile is never finished: heartbeats
stay off, and the member is removed without noticing. And a member that was removed claims what it held before
when it comes back: the leader takes it from whoever holds it now.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any


class _Unread:
    """A join that is over and that nobody has looked at: the client looks only at one that is not."""

    is_done = False

    def __init__(self, join: Any) -> None:
        self._join = join

    def add_callback(self, call: Callable[..., Any]) -> None:
        self._join.add_callback(call)

    def add_errback(self, call: Callable[..., Any]) -> None:
        self._join.add_errback(call)

    def __await__(self) -> Generator[Any, Any, Any]:
        outcome: Generator[Any, Any, Any] = self._join.__await__()
        return outcome


def keep_joins(coordinator: Any) -> None:
    """Let a join that completes between two polls count at the second of them, and each be finished."""
    client_join, client_need = coordinator.join_group_async, coordinator.need_rejoin

    def need_rejoin() -> bool:
        return bool(coordinator.rejoining or client_need())

    async def join_group(timeout_ms: float | None = None) -> Any:
        join = coordinator._join_task
        # Of a membership that is lost meanwhile the outcome says nothing any more.
        if join is not None and join.is_done and not coordinator._generation.is_lost():
            coordinator._join_task = _Unread(join)
        return await client_join(timeout_ms=timeout_ms)

    coordinator.join_group_async = join_group
    coordinator.need_rejoin = need_rejoin


def know_topics(coordinator: Any) -> None:
    """Let the first join count: the leader would begin another, once it hears of the topics it assigned."""
    coordinator._handle_metadata_update(coordinator._cluster)


def claim_nothing(coordinator: Any) -> None:
    """Let a member that has lost its partitions say so when it joins again."""
    for assignor in coordinator._assignors.values():
        assignor.member_assignment = None

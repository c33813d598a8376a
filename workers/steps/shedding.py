"""What gives way when more comes in than can be scored in time: a named policy, never silent.

Every part still gets a verdict, and the verdict says why it is what it is:

* ``none``: parts are scored in their turn; those whose deadline goes meanwhile are STALE or come late.
* ``late-first``: parts that cannot make their deadline any more are answered STALE before the model, so that
  those behind them still make theirs. First come, first served would make every part a little late.
* ``degrade``: under pressure the colour network, the branch that costs most, is skipped for parts with both
  sensors, and the verdict says ``rgb:load``. Such a part is judged in DEPTH mode with that mode's own
  threshold and its own permission to pass: without the permission its best answer is REVIEW. Where that is
  not enough either, ``late-first`` on top.

Decisions rest on the batch, on how many parts wait behind it, on the time, and on the measured service time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from statistics import median_high
from typing import Protocol

import structlog

from schemas.codes import ReasonCode, SensorCode
from schemas.part import PartKey
from workers.errors import SettingsError
from workers.steps.pending import PendingPart
from workers.steps.service import ServiceTime

log = structlog.get_logger(__name__)

SHED = f"{ReasonCode.SHED}: late-first"
"""Reason of a STALE verdict that was given up for the sake of the parts behind it."""
LOAD = f"rgb:{SensorCode.LOAD}"
"""Degraded reason of a part whose colour image was not looked at, for want of time."""
POLICIES = ("none", "late-first", "degrade")
QUIET_S = 5.0
"""Shedding is over once nothing was shed for so many seconds."""
TRY_S = 1.0
"""A service time that keeps a kind of work from being done is tried once in so many seconds: what nothing
tests any more would never be found wrong."""

Cost = Callable[[int], float]
"""Seconds that so many parts take in one batch."""
More = Callable[[int], list[PendingPart]]
"""At most so many of the parts that wait behind a batch; those of a station in their order."""


@dataclass(frozen=True, slots=True)
class Round:
    """Parts that are answered together, in this order.

    Attributes:
        parts: all of them.
        shed: those that are STALE without the model, for the reason ``SHED``.
        without_rgb: those whose colour image the model is not to see.
    """

    parts: tuple[PendingPart, ...]
    shed: frozenset[PartKey] = frozenset()
    without_rgb: frozenset[PartKey] = frozenset()

    def begin(self) -> list[PendingPart]:
        """The parts, told what they are not to use."""
        for pending in self.parts:
            if pending.part in self.without_rgb and pending.use_rgb:
                pending.use_rgb = False
                pending.reasons = (*pending.reasons, LOAD)
        return list(self.parts)


def nothing_more(parts: int) -> list[PendingPart]:
    """Nothing waits."""
    return []


class Shedding(Protocol):
    """Decides what becomes of a batch when there is too much to do. One thread owns it."""

    @property
    def name(self) -> str:
        """The policy's name in the settings."""
        ...

    def observe(self, parts: Sequence[PendingPart], seconds: float) -> None:
        """These parts went through the model together; so long from there to their published verdicts."""
        ...

    def plan(
        self, batch: Sequence[PendingPart], *, backlog: int, now: int, more: More = nothing_more
    ) -> list[Round]:
        """The batch in rounds, to be answered one after the other; every part is in exactly one.

        Args:
            batch: parts in the order in which they are to be answered.
            backlog: how many parts wait behind the batch.
            now: nanoseconds since the epoch.
            more: where the places of parts that are shed are filled from; what it gives is in a round too.
        """
        ...


def fit(
    batch: Sequence[PendingPart],
    *,
    backlog: int,
    now: int,
    cost: Cost,
    try_one: bool = False,
    more: More = nothing_more,
) -> list[Round]:
    """The batch without the parts that cannot make their deadline.

    While no more waits behind the batch than is in it, it may be cut: parts with near deadlines go first, in
    rounds that are short enough for them. With more behind it, it goes as a whole without the parts that such
    a batch makes late, the nearest deadlines first, and their places are filled: short rounds, and batches
    with empty places, would cost those behind their time.

    Parts whose deadline is gone already are neither counted nor shed. Where all others would be, ``try_one``
    keeps the one with the most time.
    """
    alive = _alive(batch, now)
    if not alive or _slack(min(p.frame.deadline for p in alive), now) >= cost(len(alive)):
        return [Round(tuple(batch))] if batch else []
    rounds = _whole(batch, now, cost, more) if backlog > len(batch) else _cut(batch, now, cost)
    alive = _alive([p for r in rounds for p in r.parts], now)
    if not try_one or sum(len(r.shed) for r in rounds) < len(alive):
        return rounds
    tried = max(alive, key=lambda p: p.frame.deadline).part
    return [Round(r.parts, r.shed - {tried}) for r in rounds]


def _whole(batch: Sequence[PendingPart], now: int, cost: Cost, more: More) -> list[Round]:
    parts, room = list(batch), len(_alive(batch, now))
    while True:
        shed = _too_late(_alive(parts, now), now, cost)
        empty = room - (len(_alive(parts, now)) - len(shed))
        extra = more(empty) if empty > 0 else []
        if not extra:
            break
        parts.extend(extra)
    # What is shed need not wait for the model, unless a part before it in its station does.
    held: set[str] = set()
    first: list[PendingPart] = []
    rest: list[PendingPart] = []
    for pending in parts:
        if pending.part in shed and pending.part.station not in held:
            first.append(pending)
        else:
            held.add(pending.part.station)
            rest.append(pending)
    return [Round(tuple(half), shed.intersection(_keys(half))) for half in (first, rest) if half]


def _too_late(alive: Sequence[PendingPart], now: int, cost: Cost) -> frozenset[PartKey]:
    by_deadline = sorted(alive, key=lambda p: p.frame.deadline)
    shed: set[PartKey] = set()
    for index, pending in enumerate(by_deadline):
        if _slack(pending.frame.deadline, now) >= cost(len(by_deadline) - index):
            break
        shed.add(pending.part)
    return frozenset(shed)


def _alive(parts: Sequence[PendingPart], now: int) -> list[PendingPart]:
    return [p for p in parts if p.frame.deadline >= now]


def _cut(batch: Sequence[PendingPart], now: int, cost: Cost) -> list[Round]:
    rounds: list[Round] = []
    parts: list[PendingPart] = []
    shed: set[PartKey] = set()
    begins, ends_by, scored = 0.0, inf, 0
    for pending in _by_deadline(batch):
        slack = _slack(pending.frame.deadline, now)
        if slack < 0.0:
            parts.append(pending)
            continue
        if scored and begins + cost(scored + 1) > min(ends_by, slack):
            begins += cost(scored)
            rounds.append(Round(tuple(parts), frozenset(shed)))
            parts, shed, ends_by, scored = [], set(), inf, 0
        parts.append(pending)
        if begins + cost(scored + 1) > min(ends_by, slack):
            shed.add(pending.part)
        else:
            scored += 1
            ends_by = min(ends_by, slack)
    return [*rounds, Round(tuple(parts), frozenset(shed))]


def _by_deadline(batch: Sequence[PendingPart]) -> list[PendingPart]:
    """Nearest deadline first; a part that others of its station stand behind is as urgent as they are."""
    urgency: dict[int, int] = {}
    nearest: dict[str, int] = {}
    for index in range(len(batch) - 1, -1, -1):
        part, deadline = batch[index].part, batch[index].frame.deadline
        nearest[part.station] = urgency[index] = min(deadline, nearest.get(part.station, deadline))
    return [batch[index] for index in sorted(range(len(batch)), key=lambda i: urgency[i])]


def _slack(deadline: int, now: int) -> float:
    return (deadline - now) / 1e9


class NoShedding:
    """``none``: every part in its turn."""

    name = "none"

    def observe(self, parts: Sequence[PendingPart], seconds: float) -> None:
        """Nothing rests on it."""

    def plan(
        self, batch: Sequence[PendingPart], *, backlog: int, now: int, more: More = nothing_more
    ) -> list[Round]:
        """One round."""
        return [Round(tuple(batch))] if batch else []


class _GiveWay:
    """``fit``, again and again: says when parts begin to be shed, and when that is over."""

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self._since: int | None = None
        self._last = 0
        self._scored = 0
        self._lately = 0
        self.total = 0

    def rounds(
        self, batch: Sequence[PendingPart], *, backlog: int, now: int, cost: Cost, more: More
    ) -> list[Round]:
        try_one = now - self._scored > TRY_S * 1e9
        rounds = fit(batch, backlog=backlog, now=now, cost=cost, try_one=try_one, more=more)
        shed = sum(len(r.shed) for r in rounds)
        if shed < sum(len(_alive(r.parts, now)) for r in rounds):
            self._scored = now
        self._note(shed, now)
        return rounds

    def _note(self, shed: int, now: int) -> None:
        if shed:
            self.total += shed
            self._lately += shed
            self._last = now
            if self._since is None:
                self._since = now
                log.warning("worker.shedding", policy=self._policy, what="stale", active=True, shed=shed)
        elif self._since is not None and now - self._last > QUIET_S * 1e9:
            log.info(
                "worker.shedding",
                policy=self._policy,
                what="stale",
                active=False,
                shed=self._lately,
                seconds=round((self._last - self._since) / 1e9, 3),
            )
            self._since, self._lately = None, 0


class LateFirst:
    """``late-first``: what cannot be in time any more gives way to what can."""

    name = "late-first"

    def __init__(self) -> None:
        self._service = ServiceTime()
        self._give_way = _GiveWay(self.name)

    @property
    def shed(self) -> int:
        """Parts shed so far."""
        return self._give_way.total

    def observe(self, parts: Sequence[PendingPart], seconds: float) -> None:
        """Measure the service time."""
        self._service.observe(len(parts), seconds)

    def plan(
        self, batch: Sequence[PendingPart], *, backlog: int, now: int, more: More = nothing_more
    ) -> list[Round]:
        """``fit`` by the measured service time."""
        return self._give_way.rounds(batch, backlog=backlog, now=now, cost=self._service.of, more=more)


class Degrade:
    """``degrade``: under pressure parts with both sensors are judged by their depth alone."""

    name = "degrade"

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._full = ServiceTime()
        self._light = ServiceTime()
        self._give_way = _GiveWay(self.name)
        self._tried = 0
        self.active = False
        self.degraded = 0

    @property
    def shed(self) -> int:
        """Parts shed so far, where skipping the colour network was not enough."""
        return self._give_way.total

    def observe(self, parts: Sequence[PendingPart], seconds: float) -> None:
        """Measure the service time, with and without the colour network."""
        (self._full if any(map(_coloured, parts)) else self._light).observe(len(parts), seconds)

    def plan(
        self, batch: Sequence[PendingPart], *, backlog: int, now: int, more: More = nothing_more
    ) -> list[Round]:
        """Without colour while there is pressure; ``fit`` by the service time that then holds."""
        self._feel(batch, backlog, now)
        skip = self.active and now - self._tried <= TRY_S * 1e9
        if not skip:
            self._tried = now
        coloured = any(_coloured(p) and not (skip and _both(p)) for p in batch)
        service = self._full if coloured or not self._light.known else self._light
        rounds = self._give_way.rounds(batch, backlog=backlog, now=now, cost=service.of, more=more)
        if not skip:
            return rounds
        rounds = [replace(r, without_rgb=_keys(filter(_both, r.parts)) - r.shed) for r in rounds]
        self.degraded += sum(len(r.without_rgb) for r in rounds)
        return rounds

    def _feel(self, batch: Sequence[PendingPart], backlog: int, now: int) -> None:
        """Pressure: with the colour network, what waits would take longer than a part in hand still has."""
        slacks = [_slack(p.frame.deadline, now) for p in batch if p.frame.deadline >= now]
        if not slacks:
            return
        wait, slack = self._full.wait(len(slacks) + backlog, self._max_batch), median_high(slacks)
        # Under half: whoever leaves at the edge comes back at once.
        active = wait > (slack / 2 if self.active else slack)
        if active != self.active:
            self.active, self._tried = active, now
            tell = log.warning if active else log.info
            tell(
                "worker.shedding",
                policy=self.name,
                what=LOAD,
                active=active,
                wait_s=round(wait, 4),
                slack_s=round(slack, 4),
            )


def _both(pending: PendingPart) -> bool:
    return pending.use_rgb and pending.use_depth and pending.present == {"rgb", "depth"}


def _coloured(pending: PendingPart) -> bool:
    return pending.use_rgb and "rgb" in pending.present


def _keys(parts: Iterable[PendingPart]) -> frozenset[PartKey]:
    return frozenset(pending.part for pending in parts)


def shedding(name: str, *, max_batch: int) -> Shedding:
    """The policy of that name, for batches of at most ``max_batch`` parts.

    Raises:
        SettingsError: there is none.
    """
    if name == "none":
        return NoShedding()
    if name == "late-first":
        return LateFirst()
    if name == "degrade":
        return Degrade(max_batch)
    raise SettingsError(f"CROSSCHECK_SHEDDING: no policy {name!r}; use one of {', '.join(POLICIES)}")

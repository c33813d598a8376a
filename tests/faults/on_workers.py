"""Faults of workers: killed at a step, stopped for too long, killed by a frame, slow, coming and going."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections import Counter

from tests.e2e.processes import wait_until
from tests.faults.crew import Member
from tests.faults.rig import Line, LineSetup
from tests.faults.shots import Stamp
from tests.faults.stage import Fault, Stage, pace
from workers.steps.step import Step

SESSION_S = 6.0
REAL_RATE = 2.0
"""Parts a second and station that one worker can judge alone while the others are gone."""


def killed_at_each_step(stage: Stage, line: Line, times: int) -> None:
    """SIGKILL at each numbered step in turn; all workers but one at a time."""
    steps = itertools.cycle(Step)
    while left := line.wants(times):
        # Whoever survives changes from round to round.
        spared = len(line.injections) % len(line.crew.living())
        victims = [m for n, m in enumerate(line.crew.living()) if n != spared][:left]
        held = {victim.name: line.stations_of(victim) for victim in victims}
        armed = {victim.name: next(steps) for victim in victims}
        for victim in victims:
            victim.die_at(armed[victim.name].value)
        wait_until(lambda: not any(v.alive for v in victims), 20.0, "workers dead at their steps")  # noqa: B023
        done = []
        for victim in victims:
            assert victim.code == -signal.SIGKILL, f"{victim.name} ended with {victim.code}"
            what = f"step {armed[victim.name]}"
            done.append(line.injected(what, held[victim.name], victim.ended_at, victim.name))
        for injection in done:
            line.recovered(injection)
        line.crew.wait_settled(line.partitions, 60.0)
        pace(0.3)


def stopped_and_continued(stage: Stage, line: Line, times: int) -> None:
    """SIGSTOP for longer than the session, SIGCONT when others have its partitions."""
    while left := line.wants(times):
        living = line.crew.living()
        spared = len(line.injections) % len(living)
        victims = [m for n, m in enumerate(living) if n != spared][:left]
        done = []
        for victim in victims:
            held = line.stations_of(victim)
            victim.signal(signal.SIGSTOP)
            done.append(line.injected("SIGSTOP", held, victim=victim.name))
        stopped = time.monotonic()
        for injection in done:
            line.recovered(injection)
        pace(max(0.0, SESSION_S + 1.0 - (time.monotonic() - stopped)))
        for victim in victims:
            victim.signal(signal.SIGCONT)
        line.crew.wait_settled(line.partitions, 60.0)
        pace(0.3)


def killed_by_a_frame(stage: Stage, line: Line, times: int) -> None:
    """A frame whose inspection kills the process; the third try is not made."""
    while left := line.wants(times):
        lethal = []
        for station in sorted(line.stations)[:left]:
            part = line.traffic.send(station, Stamp.LETHAL)
            line.exempt.add(part)
            lethal.append(line.injected("lethal frame", frozenset({station})))
        for injection in lethal:
            line.recovered(injection, 150.0)
        line.crew.wait_settled(line.partitions, 60.0)


def slow_batches(stage: Stage, line: Line, times: int) -> None:
    """A batch that takes longer than the session and than the longest time between two polls."""
    while left := line.wants(times):
        slow = []
        for member in line.crew.living()[:left]:
            station = min(line.stations_of(member))
            line.traffic.send(station, Stamp.SLOW)
            slow.append(line.injected("slow batch", line.stations_of(member)))
        for injection in slow:
            line.recovered(injection)
    evicted = evictions(line.crew.all)
    if evicted:
        line.notes.append(f"evicted while inspecting: {dict(evicted)}")
        raise AssertionError(f"workers were put out of their group by a slow batch: {dict(evicted)}")


def evictions(members: list[Member]) -> Counter[str]:
    """How often each worker was told that its partitions are gone."""
    found: Counter[str] = Counter()
    for member in members:
        for text in member.log.read_text().splitlines():
            if text.startswith("{") and json.loads(text)["event"] == "worker.lost":
                found[member.name] += 1
    return found


def rebalance_storm(stage: Stage, line: Line, times: int) -> None:
    """A worker comes or goes every second; now and then one without a word."""
    extra = itertools.count(100)
    guests: list[int] = []
    while line.wants(times):
        number = len(line.injections)
        if number % 8 == 7 and guests:
            # Its seat is given up first: nobody is to follow it.
            guest = line.crew.members.pop(guests.pop(0))
            guest.signal(signal.SIGKILL)
            line.injected("killed")
        elif number % 2 and guests:
            line.crew.retire(guests.pop(0))
            line.injected("left")
        else:
            guests.append(next(extra))
            line.crew.start(guests[-1])
            line.injected("joined")
        pace(1.0)
    for guest_seat in guests:
        line.crew.retire(guest_seat)
    for injection in line.injections:
        line.recovered(injection)
    line.crew.wait_settled(line.partitions, 60.0)


FAULTS = (
    Fault(
        key="kill",
        name="worker killed at each step",
        setup=LineSetup(real=True, workers=4, rate=REAL_RATE),
        inject=killed_at_each_step,
    ),
    Fault(
        key="stop",
        name="worker stopped past its session, continued",
        setup=LineSetup(real=True, workers=4, rate=REAL_RATE),
        inject=stopped_and_continued,
    ),
    Fault(
        key="storm",
        name="rebalance storm",
        setup=LineSetup(workers=2),
        inject=rebalance_storm,
    ),
    Fault(
        key="slow-batch",
        name="batch longer than session and poll interval",
        setup=LineSetup(workers=3, slow_s=8.0, poll_interval_s=7.0),
        inject=slow_batches,
    ),
    Fault(
        key="lethal",
        name="frame that kills its worker",
        setup=LineSetup(workers=4, to_gate_s=150.0),
        inject=killed_by_a_frame,
    ),
)

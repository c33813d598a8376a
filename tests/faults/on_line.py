"""Faults of what comes in: poison, wrong clocks, full disks, topics made anew, records deleted unread."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.verdict import Decision
from tests.e2e.processes import wait_until
from tests.faults.on_network import behind_proxies, links_of
from tests.faults.poison import LIMIT_BYTES, Poison
from tests.faults.proxy import Cut
from tests.faults.rig import Injection, Line, LineSetup
from tests.faults.stage import Fault, Stage, pace
from tests.faults.traffic import OffsetClock
from workers.bus._client import KafkaAdminClient
from workers.bus.base import TopicPartition
from workers.capture.buffer import DiskBuffer
from workers.gate import audit

SHARES = (0.001, 0.01, 0.1)
TIMES = {0.001: 0.1, 0.01: 1.0, 0.1: 4.0}
"""How many spoilt records of each share, by how many were asked for."""
WRONG_S = 5.0
SMALL_DISK = 1 << 20


# Poison


def poisoned(stage: Stage, line: Line, times: int) -> None:
    """0.1, 1 and 10 % of the records spoilt, in seven ways, until each share has had its turn."""
    rng = random.Random(7)
    names = sorted(line.stations)
    line.traffic.pause()
    # One spoilt record at 0.1 % takes a thousand parts: too many where few faults are asked for.
    shares = SHARES if times >= 15 else SHARES[-1:]
    for share in shares:
        spoilt = max(1, round(times * TIMES[share])) if len(shares) > 1 else times
        bad_of = set(rng.sample(range(round(spoilt / share)), spoilt))
        done: list[Injection] = []
        next_at = time.monotonic()
        for number in range(round(spoilt / share)):
            name = names[number % len(names)]
            if number in bad_of:
                kind = list(Poison)[len(line.injections) % len(Poison)]
                line.exempt.add(line.traffic.send_spoilt(name, kind, rng))
                done.append(line.injected(f"{share:.1%} {kind.value}", frozenset({name})))
            else:
                line.traffic.send(name)
            next_at = max(next_at + 1 / 120, time.monotonic() - 0.1)
            pace(max(0.0, next_at - time.monotonic()))
            while line.backlog() > 200:
                pace(0.05)
        for name in names:
            line.traffic.send(name)
        for injection in done:
            line.recovered(injection)
    line.traffic.start()


# Clocks

_clocks = [OffsetClock() for _ in range(16)]


def clocks_off(stage: Stage, line: Line, times: int) -> None:
    """Every other agent's clock set five seconds ahead, the others' five behind, one by one."""
    passed_by: Counter[str] = Counter()
    hit: dict[str, tuple[int, float]] = {}
    stations = sorted(line.stations, key=line.map.partition)
    for name in stations[:times]:
        number = line.map.partition(name)
        offset = WRONG_S if number % 2 else -WRONG_S
        fault = line.injected(f"{offset:+g} s", frozenset({name}))
        _clocks[number].offset_s = offset
        hit[name] = (fault.at, offset)
        line.recovered(fault)
        pace(0.3)
    pace(6.0)
    line.traffic.pause()
    line.excused_failures = True
    wait_until(lambda: line.backlog() <= 0, 30.0, "a decision for every part")
    for name, (at, offset) in hit.items():
        # Its heartbeats need a moment to prove it.
        for entry in audit(line.agent_log(name), line.journal(name), station=name).decided.values():
            if entry.triggered_at > at + 5_000_000_000:
                passed_by[f"{offset:+g} s: {entry.decision.decision.value}"] += 1
    line.notes.append(f"5 s and more after the clock was set: {dict(passed_by)}")
    passed = sum(count for what, count in passed_by.items() if what.endswith(Decision.PASS.value))
    for clock in _clocks:
        clock.offset_s = 0.0
    line.traffic.start()
    assert not passed, f"{passed} parts passed by deadlines of a clock that is known to be wrong"


# Topics


def topic_made_anew(stage: Stage, line: Line, times: int) -> None:
    """The frames topic deleted under the workers and made again; what lay in it is MISSING."""
    line.excused_failures = True
    while line.wants(times):
        began = time.time_ns()
        with line.offsets.blind():
            admin = KafkaAdminClient(**line.bus.settings.common())
            try:
                admin.delete_topics([line.frames])
            finally:
                admin.close()
            wait_until(lambda: line.bus.partitions(line.frames) is None, 20.0, "the topic gone")
            line.make_topics()
            fault = line.injected("topic made anew", at=began)
            line.recovered(fault, 60.0)
            pace(0.5)


def overtaken_by_retention(stage: Stage, line: Line, times: int) -> None:
    """Workers stand still while retention deletes what they have not read: MISSING, no jump unseen."""
    while left := line.wants(times):
        partitions = sorted(line.partitions)[:left]
        names = frozenset(name for name in line.stations if line.map.partition(name) in partitions)
        began = time.time_ns()
        members = line.crew.living()
        for member in members:
            member.signal(signal.SIGSTOP)
        pace(2.0)
        places = [TopicPartition(line.frames, number) for number in partitions]
        ends = line._watch.end_offsets(set(places))
        done = []
        for place in places:
            line.bus.delete_before(place, ends[place])
            name = next(name for name in names if line.map.partition(name) == place.partition)
            done.append(line.injected("retention", frozenset({name})))
        for member in members:
            member.signal(signal.SIGCONT)
        _excuse(line, names, began - 2_000_000_000, time.time_ns())
        for injection in done:
            line.recovered(injection)
        line.crew.wait_settled(line.partitions, 60.0)


def _excuse(line: Line, names: frozenset[str], since: int, until: int) -> None:
    """Parts triggered in these moments may be MISSING: their frames are gone."""
    for part in line.traffic.parts:
        at = line.traffic.triggered_at(part)
        if part.station in names and since <= at <= until:
            line.exempt.add(part)


# Disks


@contextmanager
def small_disk(stage: Stage) -> Iterator[Stage]:
    """A file system of a megabyte under the agents' buffers, where this machine lets us mount one."""
    folder = stage.rig.folder / "small"
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "crosscheck-faults", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        with behind_proxies(stage) as proxied:
            rig = proxied.rig.elsewhere(disk=folder)
            yield Stage(rig, proxied.services, proxied.extra | {"mounted": mounted})
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def _buffer(folder: Path) -> DiskBuffer:
    # Bounded too, for machines on which the disk cannot be made small.
    return DiskBuffer(folder, max_bytes=SMALL_DISK // 6, reserve_bytes=16 * 1024, keep="newest")


def disk_full(stage: Stage, line: Line, times: int) -> None:
    """The broker away until the agents' disks are full; what they gave up is told, and MISSING."""
    links = links_of(stage)
    line.excused_failures = True
    while line.wants(times):
        number = len(line.injections)
        before = line.traffic.dropped
        fault = line.injected("full file system" if stage.extra["mounted"] else "full buffer")
        links.kafka.cut(list(Cut)[number % 2])
        try:
            wait_until(lambda: line.traffic.dropped > before, 30.0, "a buffer full")  # noqa: B023
        finally:
            links.kafka.restore()
        line.over(fault)
        line.recovered(fault, 60.0)
        pace(0.5)
    line.notes.append(f"{line.traffic.dropped} parts given up by the buffers")
    told = _missing(line)
    line.notes.append(f"{told} MISSING at the gates")


def _missing(line: Line) -> int:
    found = 0
    for name in line.stations:
        decided = audit(line.agent_log(name), line.journal(name), station=name).decided
        found += sum(entry.decision.decision is Decision.MISSING for entry in decided.values())
    return found


FAULTS = (
    Fault(
        key="poison",
        name="poison at 0.1, 1 and 10 %",
        setup=LineSetup(workers=2, to_gate_s=30.0, settings={"max_record_bytes": LIMIT_BYTES}),
        inject=poisoned,
    ),
    Fault(
        key="clock",
        name="agent clocks off by 5 s",
        setup=LineSetup(
            workers=2,
            stations=16,
            rate=2.0,
            to_gate_s=3.0,
            heartbeats=True,
            clocks=lambda number: _clocks[number],
        ),
        inject=clocks_off,
    ),
    Fault(
        key="topic",
        name="frames topic deleted and made again",
        setup=LineSetup(workers=2, to_gate_s=15.0),
        inject=topic_made_anew,
    ),
    Fault(
        key="retention",
        name="retention overtakes a paused group",
        setup=LineSetup(workers=2, to_gate_s=15.0),
        inject=overtaken_by_retention,
    ),
    Fault(
        key="disk",
        name="disk of the capture buffer full",
        setup=LineSetup(workers=2, to_gate_s=30.0, rate=6.0, buffers=_buffer),
        inject=disk_full,
        place=small_disk,
    ),
)

"""A running gate while its real Redis is killed, emptied and trimmed."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from compose.process import free_ports
from compose.redis import RedisServer
from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import decode_verdict
from tests.workers.gate_line import STATION, key, verdict
from workers.clock import SystemClock
from workers.gate import (
    Gate,
    GateDecision,
    Journal,
    Reason,
    RecordingActuator,
    SimulatedPartSource,
    events,
)
from workers.gate.journal import Entry
from workers.store import VerdictStore, connect, keys

TRAVEL_S = 1.0


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20.0
    while not done():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


class Running:
    """A gate on its own thread in real time, and a Redis of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clients: list[redis.Redis] = []
        self.redis = RedisServer(folder, free_ports(1)[0])
        self.redis.start()
        self.worker = VerdictStore(self.client())
        self.source = SimulatedPartSource(travel_s=TRAVEL_S)
        self.recorder = RecordingActuator()
        self.clock = SystemClock()
        self.decided: dict[PartKey, GateDecision] = {}
        self.twice: list[PartKey] = []
        self.alarms: list[str] = []
        self.triggers = 0
        self.stop = threading.Event()
        self.begin()

    def client(self) -> redis.Redis:
        made = connect(f"redis://127.0.0.1:{self.redis.port}/0", timeout_s=0.5, retries=0)
        self.clients.append(made)
        return made

    def begin(self, client: redis.Redis | None = None) -> None:
        """The gate's process starts."""
        self.journal = Journal(self.folder / "gate.journal")
        self.stop.clear()
        self.gate = Gate(
            VerdictStore(client or self.client()),
            self.source,
            self.recorder,
            self.journal,
            station=STATION,
            hold_s=5.0,
            retry_s=0.05,
            # From the trigger on: a machine that stands still for a moment is not what is tested.
            check_before_s=TRAVEL_S,
            alarm=lambda name, _: self.alarms.append(name),
            on_decision=self._note,
        )
        self.thread = threading.Thread(target=self.gate.run, args=(self.stop,))
        self.thread.start()

    def end(self) -> None:
        """The gate's process ends."""
        self.stop.set()
        self.thread.join(20.0)
        assert not self.thread.is_alive()
        self.journal.close()

    def _note(self, decision: GateDecision, entry: Entry) -> None:
        if entry.part in self.decided:
            self.twice.append(entry.part)
        self.decided[entry.part] = decision

    def part(self, decision: Decision | None = Decision.PASS) -> PartKey:
        """One part, triggered now; with None nobody judges it."""
        part = key(self.triggers)
        self.triggers += 1
        self.source.trigger(part, self.clock.now())
        if decision is not None:
            self.worker.decide(verdict(part, decision))
        return part

    def reason(self, part: PartKey) -> Reason:
        """Why the gate did what it did, once it has."""
        until(lambda: part in self.decided, f"a decision about {part}")
        return self.decided[part].reason

    def standing(self, part: PartKey) -> Decision | None:
        raw = self.worker.standing(part)
        return None if raw is None else decode_verdict(raw).decision

    def close(self) -> None:
        self.end()
        for client in self.clients:
            client.close()
        self.redis.process.kill()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    try:
        yield running
    finally:
        running.close()


@pytest.mark.parametrize("data", ["kept", "lost", "lost, and its clock set back"])
def test_a_redis_that_dies_and_comes_back_closes_for_the_parts_between_and_for_no_other(
    line: Running, data: str
) -> None:
    client = line.client()
    client.config_set("appendfsync", "always")
    if data.endswith("back"):
        # Ids of a stream follow its server's clock: the new stream's are older than all that was read.
        client.xadd(keys.gate(STATION), {"x": "1"}, id=f"{line.clock.now() // 10**6 + 3_600_000}-0")
    before = line.part()
    assert line.reason(before) is Reason.PASS
    on_its_way = line.part()
    until(lambda: line.gate._feed.held(on_its_way) is not None, "the verdict is held")
    line.redis.process.kill()
    during = line.part(None)
    assert line.reason(on_its_way) is Reason.PASS, "held before Redis went"
    assert line.reason(during) is Reason.MISSING
    if data != "kept":
        shutil.rmtree(line.folder / "redis-data")
    line.redis.start()
    until(lambda: not line.gate._feed.down and not line.gate.unwritten, "the gate hears the new Redis")
    after = [line.part(decision) for decision in (Decision.PASS, Decision.REJECT, Decision.PASS)]
    assert [line.reason(part) for part in after] == [Reason.PASS, Reason.REJECT, Reason.PASS]
    assert line.recorder.passed == [before, on_its_way, after[0], after[2]]
    assert line.standing(during) is Decision.MISSING
    assert line.standing(before) is (Decision.PASS if data == "kept" else None)
    assert line.alarms.count(events.ALARM_STORE_DOWN) == 1
    assert line.twice == []


def test_a_gate_that_starts_while_redis_is_away_decides_closed_and_tells_it_later(line: Running) -> None:
    first = line.part()
    assert line.reason(first) is Reason.PASS
    line.client().config_set("appendfsync", "always")
    line.end()
    waiting = line.part()
    client = line.client()
    line.redis.process.kill()
    line.begin(client)
    assert line.reason(waiting) is Reason.MISSING
    during = line.part(None)
    assert line.reason(during) is Reason.MISSING
    line.redis.start()
    until(lambda: not line.gate.unwritten, "MISSING is written")
    assert line.standing(during) is Decision.MISSING
    assert line.standing(waiting) is Decision.PASS, "it stands, and the gate could not know"
    assert line.recorder.passed == [first]
    assert line.twice == []


def test_a_stream_that_is_trimmed_away_under_it_costs_no_part(line: Running) -> None:
    client = line.client()
    parts = []
    for _ in range(20):
        parts.append(line.part())
        client.xtrim(keys.gate(STATION), maxlen=0, approximate=False)
    client.delete(keys.gate(STATION))
    assert [line.reason(part) for part in parts] == [Reason.PASS] * 20
    assert line.recorder.passed == parts
    assert line.alarms == []

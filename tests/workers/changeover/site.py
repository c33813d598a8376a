"""A PLC, a station's changeover and the workers' heartbeats, on a clock set by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import fakeredis

from schemas.command import Command
from schemas.wire import decode_command
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.memory import MemoryBus
from workers.changeover import Changeover, ChangeoverSettings, Due
from workers.clock import ManualClock
from workers.errors import PlcError, StoreError
from workers.store.verdicts import VerdictStore

STATION = "s1"
CONTROL = "inspection.control"
PRODUCTS = {1: "cap", 2: "lid"}
START = 1_700_000_000_000_000_000


@dataclass
class Register:
    """A register whose changes are planned ahead; reading it takes time, as over a network."""

    clock: ManualClock
    values: list[tuple[int, int]] = field(default_factory=lambda: [(0, 1)])
    """From when on (nanoseconds since the epoch), which number; ascending."""
    latency_s: float = 0.0
    away: bool = False
    acks: list[int] = field(default_factory=list)

    def at(self, moment: int) -> int:
        return [number for since, number in self.values if since <= moment][-1]

    def change(self, number: int, delay_s: float = 0.0) -> None:
        self.values.append((self.clock.now() + round(delay_s * 1e9), number))

    def read(self) -> int:
        self.clock.advance(self.latency_s / 2)
        value = self.at(self.clock.now())
        self.clock.advance(self.latency_s / 2)
        if self.away:
            raise PlcError("PLC modbus://test: no answer")
        return value

    def acknowledge(self, number: int) -> None:
        if self.away:
            raise PlcError("PLC modbus://test: no answer")
        self.acks.append(number)


class WatchedStore(VerdictStore):
    """Redis as the changeover sees it; it can be away for it alone."""

    away = False

    def product(self, station: str) -> dict[str, str]:
        self._look()
        return super().product(station)

    def set_product(self, station: str, state: Mapping[str, str | int]) -> None:
        self._look()
        super().set_product(station, state)

    def _look(self) -> None:
        if self.away:
            raise StoreError("redis: away")


class Site:
    """One station's changeover; ``run`` turns it every 20 ms."""

    def __init__(self, clock: ManualClock | None = None, server: fakeredis.FakeServer | None = None) -> None:
        self.clock = clock or ManualClock(START)
        self.redis = fakeredis.FakeRedis(server=server or fakeredis.FakeServer())
        self.store = WatchedStore(self.redis)
        self.bus = MemoryBus(self.clock)
        self.bus.ensure_topics({CONTROL: TopicSpec(partitions=1)})
        self.plc = Register(self.clock)
        self.alarms: list[str] = []
        self.settings = ChangeoverSettings(station=STATION, products=PRODUCTS, margin_s=0.1)
        self.begin()

    def begin(self) -> Changeover:
        """A new process."""
        self.watch = Changeover(
            self.plc,
            self.store,
            self.bus.producer(),
            self.settings,
            topic=CONTROL,
            clock=self.clock,
            alarm=lambda name, _: self.alarms.append(name),
        )
        return self.watch

    def run(self, seconds: float, every_s: float = 0.02) -> None:
        until = self.clock.now() + round(seconds * 1e9)
        while self.clock.now() < until:
            self.watch.step()
            self.clock.advance(every_s)

    def set_clock(self, seconds: float) -> None:
        """Somebody sets the wall clock; the monotonic one goes on."""
        self.clock._now += round(seconds * 1e9)
        self.clock._origin += round(seconds * 1e9)

    def due(self) -> Due:
        """What Redis says."""
        return Due.from_map(VerdictStore(self.redis).product(STATION))

    def commands(self) -> list[tuple[bytes | None, Command]]:
        """What is on the control topic, with its keys."""
        consumer = self.bus.consumer(None)
        place = TopicPartition(CONTROL, 0)
        consumer.assign({place})
        consumer.seek(place, 0)
        found = []
        while batch := consumer.poll(0):
            found += [(record.key, decode_command(record.value)) for record in batch]
        consumer.close()
        return found

    def worker_takes(
        self, name: str = "w1", *, issued_at: int | None = None, bundles: str = "cap/1@ab,lid/2@cd"
    ) -> None:
        """A worker's heartbeat says that it acts on the newest command, or on another."""
        newest = self.commands()[-1][1].issued_at if issued_at is None else issued_at
        self.store.beat(name, {"due": f"s7:5,{STATION}:{newest}", "bundles": bundles})

"""The parts of a fault line: a steady stream on every station, through the publisher that agents use."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from schemas.part import PartKey
from schemas.payload import ColourEncoding
from tests.faults.poison import Poison, frame_of, spoilt
from tests.faults.shots import PRODUCT, Picture, Stamp
from workers.bus.base import Bus
from workers.capture.buffer import DiskBuffer
from workers.capture.entry import Entry
from workers.capture.log import AgentLog
from workers.capture.publisher import Publisher
from workers.capture.sources import SyntheticLine
from workers.clock import Clock, SystemClock
from workers.errors import BusError
from workers.topics import StationMap

MAX_BACKLOG = 240


@dataclass(slots=True)
class OffsetClock:
    """The clock of an agent's machine: right but for ``offset_s`` seconds."""

    offset_s: float = 0.0

    def now(self) -> int:
        return time.time_ns() + round(self.offset_s * 1e9)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        SystemClock().sleep(seconds)


class TrueLog(AgentLog):
    """The trigger log as the photo-eye at the gate would keep it: by the gate's clock, not the agent's."""

    def trigger(self, part: PartKey, at: int, facts: object = None) -> None:
        super().trigger(part, time.time_ns(), None)


@dataclass(slots=True)
class Station:
    """One station's camera: its publisher, what comes next, and what came."""

    name: str
    partition: int
    publisher: Publisher
    at: int = 0


class Traffic:
    """Sends parts until told to stop. ``send`` may also be called between, for one part at a time.

    Args:
        rate: parts a second on each station.
        deadline_s: from trigger to gate, as the frames say it.
        clock: of a station's agent.

    Attributes:
        backlog: how many parts wait for their decision. A machine that cannot keep up is given time: no more
            than ``MAX_BACKLOG`` parts are ever on their way.
    """

    def __init__(
        self,
        bus: Bus,
        stations: StationMap,
        pictures: Sequence[Picture],
        *,
        topic: str,
        log_of: Callable[[str], Path],
        rate: float,
        deadline_s: float,
        clocks: Callable[[str], Clock] = lambda station: SystemClock(),
        delivery_timeout_s: float = 60.0,
        heartbeats: str | None = None,
        buffers: Callable[[str], DiskBuffer | None] = lambda station: None,
    ) -> None:
        self._pictures = pictures
        self._topic = topic
        self._deadline_s = deadline_s
        self._bare = bus.producer()
        self.backlog: Callable[[], int] = lambda: 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.rate = rate
        self.parts: dict[PartKey, Stamp] = {}
        self._at: dict[PartKey, int] = {}
        self.stations: dict[str, Station] = {}
        for name in stations:
            publisher = Publisher(
                bus,
                station=name,
                product=PRODUCT,
                station_map=stations,
                topic=topic,
                deadline_s=deadline_s,
                # As the model was taught: without the traces that JPEG leaves.
                colour=ColourEncoding.PNG,
                depth_scale=SyntheticLine.depth_scale,
                clock=clocks(name),
                log=TrueLog(log_of(name)),
                delivery_timeout_s=delivery_timeout_s,
                buffer=buffers(name),
                heartbeats=heartbeats,
            )
            at = len(self.stations) * 7 % len(pictures)
            self.stations[name] = Station(name, stations.partition(name), publisher, at)

    @property
    def sent(self) -> int:
        """Parts triggered so far."""
        return len(self.parts)

    @property
    def failed(self) -> int:
        """Parts whose frame never reached the broker."""
        return sum(station.publisher.failed for station in self.stations.values())

    @property
    def dropped(self) -> int:
        """Parts whose images the agents' buffers gave up."""
        return sum(station.publisher.dropped for station in self.stations.values())

    def triggered_at(self, part: PartKey) -> int:
        """When a part was triggered, nanoseconds since the epoch."""
        return self._at[part]

    def send(self, name: str, stamp: Stamp | None = None) -> PartKey:
        """One part now; ``stamp`` in place of the one it would have had (stand-in frames only)."""
        with self._lock:
            station = self.stations[name]
            picture = self._pictures[station.at % len(self._pictures)]
            station.at += 1
            if stamp is not None:
                picture = picture.stamped(stamp)
            part = station.publisher.next_part()
            self._at[part] = time.time_ns()
            self.parts[part] = stamp or (Stamp.BAD if picture.bad else Stamp.GOOD)
            station.publisher.publish(part, picture.rgb, picture.depth)
            return part

    def send_spoilt(self, name: str, kind: Poison, rng: random.Random) -> PartKey:
        """One part whose record is not what it should be, in its place among the station's."""
        with self._lock:
            station = self.stations[name]
            part = station.publisher.next_part()
            self._at[part] = time.time_ns()
            self.parts[part] = Stamp.BAD
            frame = frame_of(part, self._pictures[0], at=time.time_ns(), deadline_s=self._deadline_s)
            value = spoilt(frame, kind, rng)
            if kind is Poison.KEYLESS:
                self._bare.send(self._topic, value, partition=station.partition)
            else:
                # Behind the publisher's frames, on its own connection: nothing may overtake them.
                station.publisher._way.post(Entry.of_frame(frame, "rgb+depth"), value)
            return part

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Send nothing more until ``start``."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30.0)
            assert not self._thread.is_alive(), "the traffic does not stop: a publisher holds it"
            self._thread = None

    def _run(self) -> None:
        due = {name: time.monotonic() + n / self.rate / 8 for n, name in enumerate(self.stations)}
        while not self._stop.is_set():
            now = time.monotonic()
            crowded = self.backlog() >= MAX_BACKLOG
            for name in self.stations:
                if crowded:
                    due[name] = max(due[name], now + 0.05)
                if due[name] <= now:
                    self.send(name)
                    # A machine that fell behind does not catch up in a burst.
                    due[name] = max(due[name] + 1 / self.rate, now - 1 / self.rate)
            self._stop.wait(max(0.001, min(due.values()) - time.monotonic()))

    def settle(self, timeout: float) -> None:
        """Wait until the broker has acknowledged or lost every frame."""
        until = time.monotonic() + timeout
        for station in self.stations.values():
            with suppress(BusError):
                station.publisher.flush(max(0.1, until - time.monotonic()))

    def close(self) -> None:
        """Stop, and let go of the broker."""
        self.pause()
        for station in self.stations.values():
            station.publisher.close(2.0)
        self._bare.close(2.0)

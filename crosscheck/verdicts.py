"""Verdicts as they are decided, for programs that listen: an MES, a lamp, a data base."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Self

import structlog

from schemas.errors import SchemaError
from schemas.part import PartKey, checked_station
from schemas.verdict import Verdict
from schemas.wire import decode_verdict
from workers.board.tail import Tail
from workers.bus.base import Bus, Record
from workers.errors import BusError
from workers.topics import StationMap

_log = structlog.get_logger(__name__)

POLL_S = 0.5
RETRY_S = 1.0


class Verdicts:
    """Iterate over the verdicts of a line, each part once.

        for verdict in Verdicts("broker:9092", stations=["s1"]):
            print(verdict.part, verdict.decision)

    The topic is at-least-once: a worker that died may tell a verdict twice. The first one of a part is given,
    later ones are not. Order holds within a station. A verdict here does not move the gate, and a program
    that stops or lags holds nothing up; what is decided while it is not running is given only as far as
    ``history`` reaches.

    Args:
        bus: Kafka bootstrap servers as text, a bus, or a function that opens one (``open_kafka``).
        stations: only these; all where not given.
        station_map: the stations must be on it, so that a name that was mistyped does not wait for ever.
        topic: where workers tell verdicts.
        history: about how many earlier verdicts of each partition are given first.
        remember: how many parts are remembered for being told once.

    Raises:
        InvalidField: a name that no station can have.
        SettingsError: a station that is not on the map.
    """

    def __init__(
        self,
        bus: Bus | str | Callable[[], Bus],
        *,
        stations: Collection[str] | None = None,
        station_map: StationMap | None = None,
        topic: str = "inspection.verdicts",
        history: int = 0,
        remember: int = 100_000,
    ) -> None:
        if isinstance(stations, str):
            raise TypeError(f"stations={stations!r}: give a list of names, as [{stations!r}]")
        if history < 0 or remember < 1:
            raise ValueError(f"history {history} and remember {remember}: expected from 0, and from 1")
        self._stations = None if stations is None else {checked_station(name) for name in stations}
        if station_map is not None:
            for name in sorted(self._stations or ()):
                station_map.partition(name)
        self._opened: Bus | None = None if callable(bus) or isinstance(bus, str) else bus
        self._owns = self._opened is None
        self._connect = bus
        self._records: deque[Record] = deque()
        self._tail = Tail(self._bus, topic, lambda record, _: self._records.append(record), history=history)
        self._seen: OrderedDict[PartKey, None] = OrderedDict()
        self._remember = remember
        self._closed = False
        self.unreadable = 0
        """Records of the topic that are no verdict this version can read; each is logged and left out."""

    def _bus(self) -> Bus:
        if self._opened is None:
            if isinstance(self._connect, str):
                from workers.bus.kafka import KafkaBus

                self._opened = KafkaBus(self._connect)
            else:
                assert callable(self._connect)
                self._opened = self._connect()
        return self._opened

    def poll(self, timeout_s: float = 0.5) -> list[Verdict]:
        """What came within ``timeout_s`` seconds; often nothing.

        The first call begins at the topic's end (less ``history``).

        Raises:
            BusError: the broker is away or has no such topic; the next call tries again, and goes on where
                this reader was.
        """
        if self._closed:
            raise ValueError("these verdicts are closed")
        try:
            self._tail.read(timeout_s)
        except BusError:
            self._tail.close()
            raise
        found = []
        while self._records:
            verdict = self._read(self._records.popleft())
            if verdict is not None:
                found.append(verdict)
        return found

    def _read(self, record: Record) -> Verdict | None:
        try:
            verdict = decode_verdict(record.value)
        except SchemaError as error:
            self.unreadable += 1
            _log.warning(
                "verdicts.unreadable", partition=record.partition, offset=record.offset, error=str(error)
            )
            return None
        if self._stations is not None and verdict.part.station not in self._stations:
            return None
        if verdict.part in self._seen:
            return None
        self._seen[verdict.part] = None
        if len(self._seen) > self._remember:
            self._seen.popitem(last=False)
        return verdict

    def __iter__(self) -> Iterator[Verdict]:
        """Verdicts without end: while the broker is away it is tried again each second, which is logged."""
        away = False
        while not self._closed:
            try:
                found = self.poll(POLL_S)
            except BusError as error:
                if not away:
                    _log.warning("verdicts.broker_away", error=str(error))
                away = True
                time.sleep(RETRY_S)
                continue
            if away:
                _log.info("verdicts.reading")
            away = False
            yield from found

    def close(self) -> None:
        """Let go of the broker; a bus that was given stays open. Closing twice is allowed."""
        self._closed = True
        self._tail.close()
        if self._owns and self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

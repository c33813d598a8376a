"""The in-memory broker keeps the bus contract, with time set by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.contract.suite import BusContract
from workers.bus.base import Bus, Producer
from workers.bus.memory import MemoryBus
from workers.clock import ManualClock


class TestMemoryBus(BusContract):
    @pytest.fixture
    def bus(self) -> Iterator[MemoryBus]:
        self.time = ManualClock()
        bus = MemoryBus(self.time)
        yield bus
        bus.close()

    def pass_time(self, seconds: float) -> None:
        self.time.advance(seconds)

    @contextmanager
    def unacknowledged(self, bus: Bus) -> Iterator[Producer]:
        assert isinstance(bus, MemoryBus)
        producer = bus.producer(max_in_flight_bytes=1000, max_block=0.2)
        bus.interrupt()
        yield producer
        bus.restore()
